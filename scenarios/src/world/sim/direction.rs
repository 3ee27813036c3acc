//! A directed run in the simulated world: nothing happens but what a cue asks for.
//!
//! What could happen by itself is in the hands of `sim`: messages between nodes are held, the coordination service tells nobody
//! anything, syncs wait. Timers cannot be stopped, but they can be long: those that no cue asks for longer than a directed
//! run takes, the others so long that the run waits for them and not they for the run. So can sessions, whatever the file says.

use std::collections::BTreeMap;
use std::time::Duration;

use kv::config::Timing;
use kv_core::{Body, NodeId, SessionId};
use sim::network::Held;
use tokio::time::{sleep, timeout};

use super::SimWorld;
use super::parcels::choose;
use crate::scenario::{Cue, Scenario, What};
use crate::world::Direction;

/// How long after a cue the world is quiet again: several round trips to the coordination service, and syncs.
const SETTLE: Duration = Duration::from_millis(300);
/// How long a message may take until it is sent: a few heartbeats.
const SENT_WITHIN: Duration = Duration::from_secs(2);
/// How long a node may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// A timer that a cue waits for.
const ASKED: Duration = Duration::from_secs(20);
/// Any other timer, longer than a run takes.
const UNASKED: Duration = Duration::from_secs(200);
/// Sessions end by a cue, and no node reads again unasked what it has read.
const SESSION: Duration = Duration::from_secs(600);
/// When everything goes its way again, how long until everybody has heard what happened.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// How often is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long things take in a directed run.
pub(super) fn timing(scenario: &Scenario) -> Timing {
    let asked = |is_it: fn(&What) -> bool| match scenario.cues.iter().any(|cue| is_it(&cue.what)) {
        true => ASKED,
        false => UNASKED,
    };
    Timing {
        session_timeout: SESSION,
        rollback: asked(|what| matches!(what, What::Rollback(_))),
        release: asked(|what| matches!(what, What::Release(_))),
        seal: asked(|what| matches!(what, What::Hurry(_))),
        election: UNASKED,
        backoff: asked(|what| matches!(what, What::Retry(_))),
        ..Timing::default()
    }
}

impl SimWorld {
    pub(super) async fn follow(&self, direction: &Direction) -> Result<(), String> {
        match direction {
            Direction::Begin { retries } => self.begin(*retries).await,
            Direction::Cue(cue) => return self.give(cue).await,
            Direction::End => self.end().await,
        }
        Ok(())
    }

    async fn begin(&self, retries: bool) {
        sleep(SETTLE).await;
        let cluster = self.cluster.lock().await;
        cluster.coordination().direct();
        if retries {
            cluster.coordination().hold_turns();
        }
        let mut sessions = self.sessions.lock().await;
        for node in cluster.nodes() {
            sessions.extend(self.coordination.session_of(node).map(|it| (node, it)));
            if let Some(disk) = cluster.disk(node) {
                disk.be_strict(true);
            }
        }
    }

    async fn end(&self) {
        let cluster = self.cluster.lock().await;
        cluster.network().hold_no_longer();
        cluster.coordination().direct_no_longer();
        for node in cluster.nodes() {
            if let Some(disk) = cluster.disk(node) {
                disk.hold_syncs(false);
                disk.be_strict(false);
            }
        }
        drop(cluster);
        sleep(HEARD_WITHIN).await;
    }

    async fn give(&self, cue: &Cue) -> Result<(), String> {
        if cue.slow {
            self.hold_syncs(cue.node(), true).await;
        }
        match &cue.what {
            What::Write(_) | What::Read(..) => {} // A client does it.
            What::Deliver(parcel) => {
                let sent = self
                    .wait_for(SENT_WITHIN, |held| choose(held, parcel))
                    .await;
                let sent = sent.ok_or("no such message was sent")?;
                for message in sent {
                    if !self.cluster.lock().await.network().hand_over(message) {
                        return Err("nobody listens there".to_owned());
                    }
                    sleep(SETTLE).await;
                }
            }
            What::Sync(node) => self.hold_syncs(*node, false).await,
            What::LoseSession {
                node,
                seen_by,
                early,
            } => {
                self.lose_session(*node, *early).await;
                self.learn(*seen_by).await;
            }
            What::Expire(node) => {
                let session = self.session(*node).await;
                self.coordination.open_blind(true);
                self.coordination.expire_session(session);
                self.coordination.tell(session, true);
                let back = self.wait_until_back(*node).await;
                self.coordination.open_blind(false);
                back?;
            }
            What::Learn(node) => self.learn(*node).await,
            What::Crash(node) => self.crash(*node).await?,
            What::Rollback(node) => {
                self.wait_for_timer(*node, "the rollback timer did nothing")
                    .await?;
            }
            What::Release(node) => {
                self.wait_for_timer(*node, "the release timer did nothing")
                    .await?;
            }
            What::Retry(node) => {
                // Its turn for the lock may have come; else its next attempt is due.
                let session = self.session(*node).await;
                let sets = self.coordination.sets_of(session);
                self.coordination.take_turn(session);
                self.learn(*node).await;
                if self.coordination.sets_of(session) == sets {
                    self.wait_for_timer(*node, "it did not try again").await?;
                }
            }
            What::Hurry(node) => {
                // With too few answers it comes to nothing yet.
                let _ = self.wait_for_timer(*node, "").await;
            }
            What::Set(node) => {
                if !self.coordination.let_sets(self.session(*node).await) {
                    return Err("no conditional set waits".to_owned());
                }
            }
        }
        sleep(SETTLE).await;
        Ok(())
    }

    /// The present session of a node, or its last one.
    async fn session(&self, node: NodeId) -> SessionId {
        let sessions = self.sessions.lock().await;
        sessions.get(&node).copied().unwrap_or_default()
    }

    async fn hold_syncs(&self, node: NodeId, hold: bool) {
        if let Some(disk) = self.cluster.lock().await.disk(node) {
            disk.hold_syncs(hold);
        }
    }

    /// The session ends. A lease has ended before, if the node's clock is any good.
    async fn lose_session(&self, node: NodeId, early: bool) {
        if !early && let Some(clock) = self.cluster.lock().await.clock(node) {
            clock.jump(self.settings.timing.session_timeout);
        }
        self.coordination.expire_session(self.session(node).await);
    }

    async fn learn(&self, node: NodeId) {
        let session = self.session(node).await;
        self.coordination.tell(session, true);
        sleep(SETTLE).await;
        self.coordination.tell(session, false);
    }

    async fn crash(&self, node: NodeId) -> Result<(), String> {
        let session = self.session(node).await;
        self.cluster.lock().await.power_loss(node);
        self.hold_syncs(node, false).await;
        self.coordination.expire_session(session);
        self.cluster.lock().await.restart(node);
        self.wait_until_back(node).await
    }

    /// Waits until a node is registered under another session than before.
    async fn wait_until_back(&self, node: NodeId) -> Result<(), String> {
        let before = self.session(node).await;
        let is_back = async {
            loop {
                let now = self.coordination.session_of(node);
                if let Some(now) = now.filter(|now| *now != before) {
                    return now;
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let back = timeout(BACK_WITHIN, is_back).await;
        let session = back.map_err(|_| "the node did not come back".to_owned())?;
        self.sessions.lock().await.insert(node, session);
        Ok(())
    }

    /// Waits until a timer of a node has made it set the record, or give up writes in the plain protocol.
    async fn wait_for_timer(&self, node: NodeId, why_not: &str) -> Result<(), String> {
        let session = self.session(node).await;
        let sets = self.coordination.sets_of(session);
        let rollbacks = |held: &[Held]| {
            let is_rollback = |held: &&Held| {
                held.from == node && matches!(held.message.body, Body::Rollback { .. })
            };
            held.iter().filter(is_rollback).count()
        };
        let before = rollbacks(&self.cluster.lock().await.network().held());
        let has_fired = |held: &[Held]| {
            let fired = self.coordination.sets_of(session) > sets || rollbacks(held) > before;
            fired.then_some(())
        };
        let fired = self.wait_for(2 * ASKED, has_fired).await;
        fired.ok_or_else(|| why_not.to_owned())
    }

    async fn wait_for<T>(
        &self,
        within: Duration,
        find: impl Fn(&[Held]) -> Option<T>,
    ) -> Option<T> {
        let found = async {
            loop {
                let held = self.cluster.lock().await.network().held();
                if let Some(found) = find(&held) {
                    return found;
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(within, found).await.ok()
    }
}

/// The sessions under which the nodes are, or were last, registered.
pub(super) type Sessions = BTreeMap<NodeId, SessionId>;
