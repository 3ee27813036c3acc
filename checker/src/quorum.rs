//! Quorum guarantees: what the nodes recorded, held against what the clients were told.
//!
//! - [`durability`]: a quorum had synced and committed each write before its `ok`;
//! - [`connectivity`]: nothing is acknowledged while no quorum is connected;
//! - [`lost_write`]: after healing, every acknowledged write is still there;
//! - [`one_log`]: all members commit the same entries, and an epoch has one writer;
//! - [`convergence`]: after a silence, all live members hold the same;
//! - [`recovery`]: after the last fault, each shard takes writes again in time.
//!
//! All read the nodes' own [`records`]. [`durability`] and [`lost_write`] look entries up by name, (shard, epoch, offset), there. So first of all one name must
//! be one write: two `ok` writes of a shard with one version are a violation of whichever of the two is asked for,
//! since one entry cannot hold both.

pub mod connectivity;
pub mod convergence;
pub mod durability;
pub mod lost_write;
pub mod one_log;
pub mod records;
pub mod recovery;

use crate::{history::History, verdict::Verdict, versions::Claims};

/// Two acknowledged writes under one name, as a verdict.
fn one_name_for_two_writes(history: &History, claims: &Claims<'_>) -> Option<Verdict> {
    let found = claims.twins()?;
    let witnesses = found
        .operations
        .iter()
        .map(|operation| history.witness(operation))
        .collect();
    Some(Verdict::violated(found.why.clone(), witnesses))
}
