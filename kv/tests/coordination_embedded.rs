//! The embedded coordination service passes the conformance suite, and what it has answered survives a crash.
#![allow(clippy::unwrap_used, reason = "this file is a test")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kv::coordination::conformance;
use kv::coordination::embedded::{Embedded, OpenError};
use kv::coordination::{Change, Coordination, CoordinationError, CreateMode};
use kv::fs::{File, FileSystem};

const TIMEOUT: Duration = Duration::from_millis(200);

/// A folder that keeps, besides what is written, what is durable.
#[derive(Clone, Default)]
struct Folder {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, Arc<Contents>>,
    durable_names: BTreeMap<String, Arc<Contents>>,
    is_broken: bool,
}

#[derive(Default)]
struct Contents {
    written: Mutex<Vec<u8>>,
    durable: Mutex<Vec<u8>>,
}

struct Open {
    contents: Arc<Contents>,
    folder: Folder,
}

impl Folder {
    /// What a new process finds after a power loss.
    fn after_a_crash(&self) -> Self {
        let state = self.state.lock().unwrap();
        let names = state.durable_names.iter().map(|(name, contents)| {
            let durable = contents.durable.lock().unwrap().clone();
            let contents = Contents {
                written: Mutex::new(durable.clone()),
                durable: Mutex::new(durable),
            };
            (name.clone(), Arc::new(contents))
        });
        let names: BTreeMap<_, _> = names.collect();
        let state = State {
            durable_names: names.clone(),
            names,
            is_broken: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn break_syncing(&self) {
        self.state.lock().unwrap().is_broken = true;
    }

    fn check(&self) -> io::Result<()> {
        match self.state.lock().unwrap().is_broken {
            true => Err(io::Error::other("the disk is broken")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl FileSystem for Folder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock().unwrap();
        let contents = state.names.entry(name.to_string()).or_default().clone();
        let folder = self.clone();
        Ok(Arc::new(Open { contents, folder }))
    }

    fn list(&self, _folder: &str) -> io::Result<Vec<String>> {
        Ok(self.state.lock().unwrap().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let names = &mut self.state.lock().unwrap().names;
        let contents = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.to_string(), contents);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state.lock().unwrap().names.remove(name);
        Ok(())
    }

    async fn sync_names(&self) -> io::Result<()> {
        tokio::task::yield_now().await;
        self.sync_names_now()
    }

    fn sync_names_now(&self) -> io::Result<()> {
        self.check()?;
        let mut state = self.state.lock().unwrap();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }

    fn describe(&self) -> String {
        "memory".to_string()
    }

    fn real_folder(&self, _name: &str) -> io::Result<std::path::PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[async_trait]
impl File for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.contents.written.lock().unwrap().len() as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let written = self.contents.written.lock().unwrap();
        let rest = written.get(position as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.contents.written.lock().unwrap();
        let end = position as usize + bytes.len();
        let len = written.len().max(end);
        written.resize(len, 0);
        written[position as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.contents
            .written
            .lock()
            .unwrap()
            .resize(len as usize, 0);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        tokio::task::yield_now().await;
        self.sync_now()
    }

    fn sync_now(&self) -> io::Result<()> {
        self.folder.check()?;
        let written = self.contents.written.lock().unwrap().clone();
        *self.contents.durable.lock().unwrap() = written;
        Ok(())
    }
}

fn create(path: &str, data: &[u8], mode: CreateMode) -> Vec<Change> {
    vec![Change::Create {
        path: path.to_string(),
        data: data.to_vec(),
        mode,
    }]
}

async fn check_conformance(service: Embedded) {
    let administrator = service.clone();
    let expire: conformance::Expire = Arc::new(move |session| {
        let administrator = administrator.clone();
        Box::pin(async move { administrator.expire(session).await })
    });
    conformance::check(Arc::new(service), expire).await;
}

#[tokio::test]
async fn the_embedded_service_in_memory_conforms() {
    check_conformance(Embedded::in_memory(TIMEOUT)).await;
}

#[tokio::test]
async fn the_embedded_service_in_a_folder_conforms() {
    let folder = Arc::new(Folder::default());
    check_conformance(Embedded::open(TIMEOUT, folder).unwrap()).await;
}

#[tokio::test]
async fn what_was_answered_survives_a_crash_and_the_sessions_do_not() {
    let folder = Folder::default();
    let service = Embedded::open(TIMEOUT, Arc::new(folder.clone())).unwrap();
    let session = service.connect().await.unwrap();
    let persistent = CreateMode::Persistent;
    session
        .multi(create("shards/0", b"text", persistent))
        .await
        .unwrap();
    session
        .multi(create("shards/1", &[0xff, 0], persistent))
        .await
        .unwrap();
    session
        .multi(create("nodes/1", b"", CreateMode::Ephemeral))
        .await
        .unwrap();

    let folder = folder.after_a_crash();
    let service = Embedded::open(TIMEOUT, Arc::new(folder)).unwrap();
    let next = service.connect().await.unwrap();
    assert!(next.id() > session.id(), "an id is not used twice");
    let shards = next.children("shards").await.unwrap();
    assert_eq!(shards, ["0", "1"]);
    let data = next.read("shards/1").await.unwrap().unwrap().data;
    assert_eq!(data, [0xff, 0]);
    assert_eq!(next.read("nodes/1").await.unwrap(), None);
}

#[tokio::test]
async fn a_call_that_is_given_up_half_way_is_saved_by_the_next_one() {
    let folder = Folder::default();
    let service = Embedded::open(TIMEOUT, Arc::new(folder.clone())).unwrap();
    let session = service.connect().await.unwrap();
    let mut call = session.multi(create("a", b"", CreateMode::Persistent));
    assert!(
        futures::poll!(&mut call).is_pending(),
        "it waits for the disk"
    );
    drop(call);
    assert!(session.read("a").await.unwrap().is_some());

    let service = Embedded::open(TIMEOUT, Arc::new(folder.after_a_crash())).unwrap();
    let next = service.connect().await.unwrap();
    assert!(
        next.read("a").await.unwrap().is_some(),
        "what was seen is durable"
    );
}

#[tokio::test]
async fn after_a_failed_sync_nothing_more_is_answered() {
    let folder = Folder::default();
    let service = Embedded::open(TIMEOUT, Arc::new(folder.clone())).unwrap();
    let session = service.connect().await.unwrap();
    folder.break_syncing();
    let failed = session
        .multi(create("a", b"", CreateMode::Persistent))
        .await;
    assert_eq!(failed, Err(CoordinationError::Unknown));
    let after = session.read("a").await;
    assert_eq!(after, Err(CoordinationError::Unreachable));
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_name() {
    let folder = Folder::default();
    let service = Embedded::open(TIMEOUT, Arc::new(folder.clone())).unwrap();
    let session = service.connect().await.unwrap();
    session
        .multi(create("a", b"here", CreateMode::Persistent))
        .await
        .unwrap();
    let file = folder.open("coordination.json").unwrap();
    let middle = file.len().unwrap() / 2;
    file.write_at(middle, b"#").unwrap();
    let refused = Embedded::open(TIMEOUT, Arc::new(folder)).err().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }));
    assert!(refused.to_string().contains("coordination.json in memory"));
}
