//! One test or more per rule of `docs/protocol.md`, named as the rule: each tells the short story of how it would be broken.
//!
//! The cluster is n1 to n3 with a write quorum of two, unless a test says otherwise. n1 is the writer of epoch 1, whose
//! `EpochStart` is the entry 1.1. Of R18 only a disk that lost something is the core's yet; R20 is not.

#![allow(
    clippy::unwrap_used,
    reason = "a harness is a test; what it unwraps must be there"
)]

#[path = "claims/catch_up.rs"]
mod catch_up;
#[path = "claims/commit.rs"]
mod commit;
#[path = "claims/elections.rs"]
mod elections;
#[path = "claims/hand_over.rs"]
mod hand_over;
#[allow(dead_code, reason = "each test binary uses a part of the harness")]
#[path = "harness/cluster.rs"]
mod harness;
#[path = "claims/liveness.rs"]
mod liveness;
#[path = "claims/log.rs"]
mod log;
#[path = "claims/promises.rs"]
mod promises;
#[path = "claims/reads.rs"]
mod reads;
#[path = "claims/rollback.rs"]
mod rollback;
