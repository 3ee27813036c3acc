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
            states_max: 1_000_000,
            memo_bytes_max: 256 << 20,
        }
    }
}
