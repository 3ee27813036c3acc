//! A fair lock: the ephemeral-sequential recipe of the ZooKeeper paper (§2.4, "Simple Locks without Herd Effect").
//!
//! Everyone who wants the lock makes a child `x<session>-<number>` of the lock's znode. The lowest number holds the lock;
//! everyone else watches only the child before its own. The session stands in the name, so that a child whose making went
//! unanswered is recognised and not made twice.

use kv_core::SessionId;

use crate::coordination::{Change, CoordinationError, CreateMode, Session};

/// Where a session stands in a lock's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It holds the lock.
    Holder,
    /// It waits behind this path, which is being watched.
    Behind(String),
    /// It is not in the queue.
    Absent,
}

/// Looks where the session stands, and gets in line if it is nowhere. `Behind` leaves a watch on the one before.
///
/// # Errors
/// Those of the session; after `Unknown` it may be in line, and the next call finds that out.
pub async fn enter(session: &dyn Session, lock: &str) -> Result<Place, CoordinationError> {
    loop {
        match look(session, lock).await? {
            Place::Absent => {}
            place => return Ok(place),
        }
        let create = Change::Create {
            path: format!("{lock}/x{}-", session.id().0),
            data: Vec::new(),
            mode: CreateMode::EphemeralSequential,
        };
        session.multi(vec![create]).await?;
    }
}

/// Gives the lock back, or the place in line.
///
/// # Errors
/// Those of the session: then it has to be done again.
pub async fn leave(session: &dyn Session, lock: &str) -> Result<(), CoordinationError> {
    for (_, name) in queue(session, lock).await? {
        if owner_of(&name) == Some(session.id()) {
            let path = format!("{lock}/{name}");
            let delete = Change::Delete {
                path,
                version: None,
            };
            match session.multi(vec![delete]).await {
                Ok(_) | Err(CoordinationError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The session that holds the lock, if any does. It leaves a watch on the queue.
///
/// # Errors
/// Those of the session.
pub async fn holder(
    session: &dyn Session,
    lock: &str,
) -> Result<Option<SessionId>, CoordinationError> {
    let queue = queue(session, lock).await?;
    Ok(queue.first().and_then(|(_, name)| owner_of(name)))
}

async fn look(session: &dyn Session, lock: &str) -> Result<Place, CoordinationError> {
    loop {
        let queue = queue(session, lock).await?;
        let own = queue
            .iter()
            .position(|(_, name)| owner_of(name) == Some(session.id()));
        let Some(own) = own else {
            return Ok(Place::Absent);
        };
        let Some(before) = own.checked_sub(1) else {
            return Ok(Place::Holder);
        };
        let path = format!("{lock}/{}", queue[before].1);
        if session.read(&path).await?.is_some() {
            return Ok(Place::Behind(path));
        } // It has gone meanwhile: look again.
    }
}

/// The children of the lock, by number.
async fn queue(session: &dyn Session, lock: &str) -> Result<Vec<(u64, String)>, CoordinationError> {
    let names = session.children(lock).await?.into_iter();
    let mut queue: Vec<(u64, String)> = names
        .filter_map(|name| Some((name.rsplit_once('-')?.1.parse().ok()?, name)))
        .collect();
    queue.sort();
    Ok(queue)
}

fn owner_of(name: &str) -> Option<SessionId> {
    let (session, _) = name.strip_prefix('x')?.rsplit_once('-')?;
    session.parse().ok().map(SessionId)
}
