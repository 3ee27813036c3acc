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
        // The runtime is shutting down, or the work panicked: whoever waits is on its way out, too.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}
