//! Every bound and time ratio that is not a choice of the user.

/// The largest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// The most entries that one `Prepare` carries.
pub const BATCH_ENTRIES_MAX: u64 = 256;
/// The most bytes of entries that one `Prepare` carries, unless a single entry is larger.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most entries that are on their way to a follower before the writer starts over from what it has.
pub const IN_FLIGHT_ENTRIES_MAX: u64 = 64 * BATCH_ENTRIES_MAX;
/// The most members of a shard.
pub const REPLICATION_FACTOR_MAX: usize = 15;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX < BATCH_BYTES_MAX);
