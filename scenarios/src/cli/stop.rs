//! Ctrl-C and SIGTERM ask a long command to come to an end. The second one ends the program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What a shell reports of a program that a signal ended is this and the number of the signal.
const KILLED: i32 = 128;

/// Becomes true when somebody asks.
pub(super) fn requested() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down, and only then raises it.
        flag::register_conditional_shutdown(signal, KILLED + signal, asked.clone())?;
        flag::register(signal, asked.clone())?;
    }
    Ok(asked)
}
