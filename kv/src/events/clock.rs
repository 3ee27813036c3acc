//! The machine's monotonic clock, which all processes of a machine share: the one order of what happens in them.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment before the machine's processes began.
#[must_use]
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}
