//! Why a direction of a link is cut: it stays so as long as there is a reason.

/// Why nothing goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A partition.
    Partition,
    /// A session that is to end.
    LostSession,
}
