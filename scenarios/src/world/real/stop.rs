//! Ctrl-C and SIGTERM, for worlds that have something to take down.

use tokio::signal::unix::{SignalKind, signal};

/// Waits until somebody wants the program to end.
pub async fn requested() {
    let interrupt = signal(SignalKind::interrupt());
    let terminate = signal(SignalKind::terminate());
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        return std::future::pending().await; // Then the signals do what they do by themselves.
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
