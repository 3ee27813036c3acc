//! How much processor time this process has used.

use std::time::Duration;

/// The kernel counts in hundredths of a second.
const TICKS_PER_SECOND: u64 = 100;

/// The time of all threads so far, those that have ended too; nothing, where the system does not tell it this way.
#[must_use]
pub(crate) fn used() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11); // utime and stime are the 14th and the 15th field (proc(5)).
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system) * 1000 / TICKS_PER_SECOND,
    ))
}
