//! Work that waits for a device, off the tasks that must not wait.

/// Runs work on a thread of its own; in the simulator, at once.
///
/// # Panics
/// When the work does.
#[allow(
    deprecated,
    reason = "the simulator's build marks it as deprecated; there it runs at once, which is what is wanted"
)]
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => panic!("the work panicked; its message is above"),
        // The runtime is shutting down: whoever waits is on its way out, too.
        Err(_) => std::future::pending().await,
    }
}
