//! Bytes that claim to be a snapshot.

use std::sync::Arc;

use kv::engine::{EngineKind, Options};
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::store::snapshot::{Reader, Snapshot, load};
use kv::store::{Generation, inspect};

/// Whatever is read to its end can be loaded if it says where it stands, and the engine then says the same; nothing else can be loaded.
pub(crate) fn snapshot(bytes: &[u8]) {
    let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
    let name = "snapshot-fuzzed";
    let file = folder.open(name).expect("a folder in memory never fails");
    file.write_at(0, bytes).expect("nor do its files");
    let Ok(mut reader) = Reader::open(file, name) else {
        return;
    };
    let at = reader.at();
    let is_whole = loop {
        match reader.next_frame() {
            Ok(Some(_)) => {}
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let snapshot = Snapshot {
        at,
        name: name.to_owned(),
        bytes: bytes.len() as u64,
    };
    let generation = Generation {
        kind: EngineKind::Memory,
        number: 1,
    };
    if let Ok(position) = load(&folder, &snapshot, generation, Options::default()) {
        assert!(is_whole, "only what is whole is loaded");
        assert_eq!(position.names.end(), at);
        let (held, _) = inspect(&folder, generation, Options::default()).expect("it was loaded");
        assert_eq!(held, position);
    }
}
