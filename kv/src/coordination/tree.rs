//! The coordination service as a pure state machine: znodes, sessions, one-shot watches, and a queue of events for each
//! session. It has no clock (time is handed in), no socket and no file.
//!
//! Both the embedded and the simulated service run this one, so there is one meaning of every call. A `multi` works on a
//! copy that takes the original's place when all of it held: the tree of a cluster is a few dozen small znodes.
//!
//! What is durable is a part of it ([`Persistent`]): the znodes that no session owns, and the counter of session ids.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kv_core::SessionId;
use serde::{Deserialize, Serialize};

use crate::coordination::{Change, Changed, CoordinationError, CreateMode, Znode};

/// The service: everything it knows.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    znodes: BTreeMap<String, Stored>,
    sessions: BTreeMap<SessionId, SessionState>,
    sessions_opened: u64,
    /// Who waits for the coming into being, the change or the end of a znode.
    data_watches: BTreeMap<String, BTreeSet<SessionId>>,
    /// Who waits for a change of the list of a znode's children.
    child_watches: BTreeMap<String, BTreeSet<SessionId>>,
    revision: u64,
}

/// A znode as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    data: Vec<u8>,
    version: u64,
    owner: Option<SessionId>,
    /// How many sequential children it has had.
    sequence: u64,
}

/// What is known of a session that lives.
#[derive(Clone, Debug, Default)]
struct SessionState {
    /// When it ends unless it is heard of before; nothing for never.
    deadline: Option<Duration>,
    /// Paths that changed, numbered from 1, not yet acknowledged.
    events: VecDeque<(u64, String)>,
    event_count: u64,
}

/// What survives the end of the service's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persistent {
    /// How many sessions there have been: no id is used twice.
    pub sessions_opened: u64,
    /// The znodes that no session owns, by path.
    pub znodes: BTreeMap<String, PersistentZnode>,
}

/// One znode of [`Persistent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistentZnode {
    /// What it holds.
    pub data: Data,
    /// How often it has been set.
    pub version: u64,
    /// How many sequential children it has had.
    pub sequence: u64,
}

/// A znode's data: readable in the file where it is text, which it is wherever the store writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Data {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Tree {
    /// The service as it was, without the sessions and what they owned.
    #[must_use]
    pub fn restore(persistent: Persistent) -> Self {
        let znodes = persistent.znodes.into_iter().map(|(path, znode)| {
            let data = match znode.data {
                Data::Text(text) => text.into_bytes(),
                Data::Bytes(bytes) => bytes,
            };
            let stored = Stored {
                data,
                version: znode.version,
                owner: None,
                sequence: znode.sequence,
            };
            (path, stored)
        });
        Self {
            znodes: znodes.collect(),
            sessions_opened: persistent.sessions_opened,
            ..Self::default()
        }
    }

    /// What has to be durable before the last change is answered.
    #[must_use]
    pub fn persistent(&self) -> Persistent {
        let znodes = self.znodes.iter().filter(|(_, z)| z.owner.is_none());
        Persistent {
            sessions_opened: self.sessions_opened,
            znodes: znodes
                .map(|(path, stored)| {
                    let data = match String::from_utf8(stored.data.clone()) {
                        Ok(text) => Data::Text(text),
                        Err(error) => Data::Bytes(error.into_bytes()),
                    };
                    let (version, sequence) = (stored.version, stored.sequence);
                    let znode = PersistentZnode {
                        data,
                        version,
                        sequence,
                    };
                    (path.clone(), znode)
                })
                .collect(),
        }
    }

    /// Grows whenever [`Tree::persistent`] changes.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Opens a session, which ends at `deadline` unless it is heard of before.
    pub fn open_session(&mut self, deadline: Option<Duration>) -> SessionId {
        self.sessions_opened += 1;
        self.revision += 1;
        let session = SessionId(self.sessions_opened);
        let state = SessionState {
            deadline,
            ..SessionState::default()
        };
        self.sessions.insert(session, state);
        session
    }

    /// The sessions that live.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    /// A session was heard of: it lives until `deadline`.
    ///
    /// # Errors
    /// `Expired`, if it is over.
    pub fn keep_session(
        &mut self,
        session: SessionId,
        deadline: Option<Duration>,
    ) -> Result<(), CoordinationError> {
        self.living(session)?.deadline = deadline;
        Ok(())
    }

    /// Ends a session: its ephemeral znodes go, and whoever watched them is told.
    pub fn end_session(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_none() {
            return;
        }
        for watches in [&mut self.data_watches, &mut self.child_watches] {
            watches.retain(|_, watchers| {
                watchers.remove(&session);
                !watchers.is_empty()
            });
        }
        let owned: Vec<String> = self
            .znodes
            .iter()
            .filter(|(_, znode)| znode.owner == Some(session))
            .map(|(path, _)| path.clone())
            .collect();
        let mut touched = Touched::default();
        for path in owned {
            self.znodes.remove(&path);
            touched.deleted(&path);
        }
        self.fire(&touched);
    }

    /// Ends the sessions whose deadline has come, and returns them.
    pub fn expire(&mut self, now: Duration) -> Vec<SessionId> {
        let is_over = |state: &SessionState| state.deadline.is_some_and(|at| at <= now);
        let over = self.sessions.iter().filter(|(_, state)| is_over(state));
        let over: Vec<SessionId> = over.map(|(session, _)| *session).collect();
        for session in &over {
            self.end_session(*session);
        }
        over
    }

    /// When [`Tree::expire`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.sessions.values().filter_map(|s| s.deadline).min()
    }

    /// Reads a znode and watches it, in one step.
    ///
    /// # Errors
    /// `Expired`, if the session is over.
    pub fn read(
        &mut self,
        session: SessionId,
        path: &str,
    ) -> Result<Option<Znode>, CoordinationError> {
        self.living(session)?;
        assert_valid(path);
        watch(&mut self.data_watches, path, session);
        Ok(self.peek(path))
    }

    /// What a znode holds, as an onlooker sees it: no session, no watch.
    #[must_use]
    pub fn peek(&self, path: &str) -> Option<Znode> {
        self.znodes.get(path).map(|stored| Znode {
            data: stored.data.clone(),
            version: stored.version,
            owner: stored.owner,
        })
    }

    /// The names of a znode's children, as an onlooker sees them.
    pub fn peek_children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        children_of(&self.znodes, path)
    }

    /// Lists the names of a znode's children and watches the list, in one step.
    ///
    /// # Errors
    /// `Expired`, if the session is over.
    pub fn children(
        &mut self,
        session: SessionId,
        path: &str,
    ) -> Result<Vec<String>, CoordinationError> {
        self.living(session)?;
        assert_valid(path);
        watch(&mut self.child_watches, path, session);
        Ok(children_of(&self.znodes, path)
            .map(str::to_string)
            .collect())
    }

    /// Does all of the changes or none, and tells whoever watched.
    ///
    /// # Errors
    /// `Expired`, if the session is over; `Conflict`, if a check did not hold.
    pub fn multi(
        &mut self,
        session: SessionId,
        changes: Vec<Change>,
    ) -> Result<Vec<Changed>, CoordinationError> {
        self.living(session)?;
        let mut draft = Draft {
            znodes: self.znodes.clone(),
            touched: Touched::default(),
            durable: false,
        };
        let changed = changes
            .into_iter()
            .map(|change| draft.apply(session, change))
            .collect::<Result<Vec<Changed>, CoordinationError>>()?;
        self.znodes = draft.znodes;
        self.revision += u64::from(draft.durable);
        self.fire(&draft.touched);
        Ok(changed)
    }

    /// The events that a session has not acknowledged yet, oldest first, each with its number.
    #[must_use]
    pub fn events(&self, session: SessionId) -> Vec<(u64, String)> {
        self.sessions
            .get(&session)
            .map(|state| state.events.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// A session has the events up to that number.
    pub fn acknowledge(&mut self, session: SessionId, upto: u64) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.events.retain(|(number, _)| *number > upto);
        }
    }

    /// Whether the session lives.
    #[must_use]
    pub fn lives(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    fn living(&mut self, session: SessionId) -> Result<&mut SessionState, CoordinationError> {
        self.sessions
            .get_mut(&session)
            .ok_or(CoordinationError::Expired)
    }

    /// Uses up the watches that saw something of this, with one event for each session and path.
    fn fire(&mut self, touched: &Touched) {
        let mut told: BTreeSet<(SessionId, &String)> = BTreeSet::new();
        for path in &touched.data {
            let watchers = self.data_watches.remove(path).unwrap_or_default();
            told.extend(watchers.into_iter().map(|session| (session, path)));
        }
        for path in &touched.children {
            let watchers = self.child_watches.remove(path).unwrap_or_default();
            told.extend(watchers.into_iter().map(|session| (session, path)));
        }
        for (session, path) in told {
            if let Some(state) = self.sessions.get_mut(&session) {
                state.event_count += 1;
                state.events.push_back((state.event_count, path.clone()));
            }
        }
    }
}

/// A `multi` that is under way.
struct Draft {
    znodes: BTreeMap<String, Stored>,
    touched: Touched,
    /// Whether what survives the process is changed.
    durable: bool,
}

impl Draft {
    fn apply(&mut self, session: SessionId, change: Change) -> Result<Changed, CoordinationError> {
        match change {
            Change::Create { path, data, mode } => self.create(session, path, data, mode),
            Change::Set {
                path,
                data,
                version,
            } => {
                let stored = self.existing(&path, version)?;
                stored.data = data;
                stored.version += 1;
                let version = stored.version;
                self.durable |= stored.owner.is_none();
                self.touched.set(&path);
                Ok(Changed { path, version })
            }
            Change::Delete { path, version } => {
                let owner = self.existing(&path, version)?.owner;
                if children_of(&self.znodes, &path).next().is_some() {
                    return Err(CoordinationError::Conflict);
                }
                self.znodes.remove(&path);
                self.durable |= owner.is_none();
                self.touched.deleted(&path);
                Ok(Changed { path, version: 0 })
            }
        }
    }

    fn create(
        &mut self,
        session: SessionId,
        mut path: String,
        data: Vec<u8>,
        mode: CreateMode,
    ) -> Result<Changed, CoordinationError> {
        assert_valid(&path);
        self.create_parents(&path)?;
        if mode == CreateMode::EphemeralSequential {
            let parent = parent_of(&path).and_then(|parent| self.znodes.get_mut(parent));
            let parent = parent.expect("a sequential znode has a parent, which counts");
            path = format!("{path}{:010}", parent.sequence);
            parent.sequence += 1;
            self.durable = true;
        }
        if self.znodes.contains_key(&path) {
            return Err(CoordinationError::Conflict);
        }
        let owner = (mode != CreateMode::Persistent).then_some(session);
        self.durable |= owner.is_none();
        self.insert(path.clone(), data, owner);
        Ok(Changed { path, version: 0 })
    }

    /// Makes what is missing above a path. An ephemeral znode has no children.
    fn create_parents(&mut self, path: &str) -> Result<(), CoordinationError> {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            match self.znodes.get(parent) {
                Some(stored) if stored.owner.is_some() => return Err(CoordinationError::Conflict),
                Some(_) => {}
                None => {
                    self.durable = true;
                    self.insert(parent.to_string(), Vec::new(), None);
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: String, data: Vec<u8>, owner: Option<SessionId>) {
        self.touched.created(&path);
        let stored = Stored {
            data,
            version: 0,
            owner,
            sequence: 0,
        };
        self.znodes.insert(path, stored);
    }

    fn existing(
        &mut self,
        path: &str,
        version: Option<u64>,
    ) -> Result<&mut Stored, CoordinationError> {
        assert_valid(path);
        self.znodes
            .get_mut(path)
            .filter(|stored| version.is_none_or(|version| version == stored.version))
            .ok_or(CoordinationError::Conflict)
    }
}

/// The paths whose watches a change uses up.
#[derive(Default)]
struct Touched {
    data: BTreeSet<String>,
    children: BTreeSet<String>,
}

impl Touched {
    fn set(&mut self, path: &str) {
        self.data.insert(path.to_string());
    }

    /// A znode comes into being: the znode, the (empty) list of its children, and the list that it stands in.
    fn created(&mut self, path: &str) {
        self.set(path);
        self.children.insert(path.to_string());
        self.children
            .extend(parent_of(path).map(ToString::to_string));
    }

    fn deleted(&mut self, path: &str) {
        self.created(path);
    }
}

fn watch(watches: &mut BTreeMap<String, BTreeSet<SessionId>>, path: &str, session: SessionId) {
    watches.entry(path.to_string()).or_default().insert(session);
}

fn parent_of(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

/// The names right below a path, sorted.
fn children_of<'a>(
    znodes: &'a BTreeMap<String, Stored>,
    path: &str,
) -> impl Iterator<Item = &'a str> {
    let prefix = format!("{path}/");
    znodes
        .range(prefix.clone()..)
        .map_while(move |(path, _)| path.strip_prefix(&prefix))
        .filter(|rest| !rest.contains('/'))
}

fn assert_valid(path: &str) {
    assert!(
        path.split('/').all(|name| !name.is_empty()),
        "a path is names joined by slashes"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(path: &str, data: &str, mode: CreateMode) -> Change {
        Change::Create {
            path: path.to_string(),
            data: data.as_bytes().to_vec(),
            mode,
        }
    }

    fn set(path: &str, data: &str) -> Change {
        Change::Set {
            path: path.to_string(),
            data: data.as_bytes().to_vec(),
            version: None,
        }
    }

    fn delete(path: &str) -> Change {
        Change::Delete {
            path: path.to_string(),
            version: None,
        }
    }

    fn paths(tree: &Tree, session: SessionId) -> Vec<String> {
        let events = tree.events(session).into_iter();
        events.map(|(_, path)| path).collect()
    }

    #[test]
    fn only_what_no_session_owns_survives_the_process() {
        let mut tree = Tree::default();
        let session = tree.open_session(None);
        let changes = vec![
            create("nodes/1", "here", CreateMode::Ephemeral),
            create("shards/0", "record", CreateMode::Persistent),
            create("shards/1", "\u{0}", CreateMode::Persistent),
            set("shards/0", "record 2"),
        ];
        tree.multi(session, changes).unwrap();
        let json = serde_json::to_string(&tree.persistent()).unwrap();
        let mut restored = Tree::restore(serde_json::from_str(&json).unwrap());
        assert_eq!(restored.peek("nodes/1"), None);
        assert_eq!(restored.peek("shards/0"), tree.peek("shards/0"));
        assert_eq!(restored.peek("shards/1"), tree.peek("shards/1"));
        assert!(restored.peek("nodes").is_some());
        assert!(restored.open_session(None) > session);
    }

    #[test]
    fn a_change_of_ephemeral_znodes_alone_needs_no_disk() {
        let mut tree = Tree::default();
        let session = tree.open_session(None);
        let first = create("leases/1", "", CreateMode::Ephemeral);
        tree.multi(session, vec![first]).unwrap();
        let revision = tree.revision();
        let again = create("leases/2", "", CreateMode::Ephemeral);
        tree.multi(
            session,
            vec![again, set("leases/1", "1"), delete("leases/2")],
        )
        .unwrap();
        assert_eq!(tree.revision(), revision);
        tree.multi(session, vec![set("leases", "")]).unwrap();
        assert!(tree.revision() > revision);
    }

    #[test]
    fn a_failed_multi_leaves_no_trace() {
        let mut tree = Tree::default();
        let session = tree.open_session(None);
        tree.read(session, "a").unwrap();
        let changes = vec![create("a", "", CreateMode::Persistent), set("b", "")];
        assert_eq!(
            tree.multi(session, changes),
            Err(CoordinationError::Conflict)
        );
        assert_eq!(tree.peek("a"), None);
        assert!(tree.events(session).is_empty());
    }

    #[test]
    fn a_session_that_is_not_heard_of_ends_at_its_deadline() {
        let mut tree = Tree::default();
        let second = Duration::from_secs(1);
        let quiet = tree.open_session(Some(second));
        let other = tree.open_session(None);
        let mine = create("nodes/1", "", CreateMode::Ephemeral);
        tree.multi(quiet, vec![mine]).unwrap();
        tree.read(other, "nodes/1").unwrap();
        tree.children(other, "nodes").unwrap();
        assert_eq!(tree.next_deadline(), Some(second));
        assert!(tree.expire(second / 2).is_empty());
        tree.keep_session(quiet, Some(second * 2)).unwrap();
        assert!(tree.expire(second).is_empty());
        assert_eq!(tree.expire(second * 2), [quiet]);
        assert_eq!(paths(&tree, other), ["nodes", "nodes/1"]);
        assert_eq!(tree.read(quiet, "nodes"), Err(CoordinationError::Expired));
        assert_eq!(tree.next_deadline(), None);
    }

    #[test]
    fn events_stay_until_they_are_acknowledged() {
        let mut tree = Tree::default();
        let session = tree.open_session(None);
        for path in ["a", "b"] {
            tree.read(session, path).unwrap();
            let made = create(path, "", CreateMode::Persistent);
            tree.multi(session, vec![made]).unwrap();
        }
        assert_eq!(tree.events(session).len(), 2);
        tree.acknowledge(session, 1);
        assert_eq!(tree.events(session), [(2, "b".to_string())]);
    }

    #[test]
    fn a_znode_with_children_stays_and_an_ephemeral_one_gets_none() {
        let mut tree = Tree::default();
        let session = tree.open_session(None);
        let made = create("a/b", "", CreateMode::Ephemeral);
        tree.multi(session, vec![made]).unwrap();
        let refused = tree.multi(session, vec![delete("a")]);
        assert_eq!(refused, Err(CoordinationError::Conflict));
        let below = create("a/b/c", "", CreateMode::Persistent);
        assert_eq!(
            tree.multi(session, vec![below]),
            Err(CoordinationError::Conflict)
        );
        tree.multi(session, vec![delete("a/b"), delete("a")])
            .unwrap();
        assert_eq!(tree.peek("a"), None);
    }
}
