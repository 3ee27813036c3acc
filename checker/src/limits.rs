//! How much a search may cost before the answer is `unknown`.

/// Bounds of the search for a linearization. Everything else is cheap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Search states per key.
    pub states_max: usize,
    /// What the remembered states of one key may take.
    pub memo_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            states_max: 500_000,
            memo_bytes_max: 128 << 20,
        }
    }
}

/// How far from its event a change of links may really have come about, unless the event says otherwise: the nemesis
/// acts a little before or after it writes, and what is under way when a link is cut may still arrive.
pub const LINK_GRACE_NS: u64 = 200_000_000;
