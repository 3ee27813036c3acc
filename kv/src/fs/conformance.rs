//! What every [`FileSystem`] must do, as one test that each implementation calls.
//!
//! What survives a crash is checked only where a crash can be made: on the simulated disk.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{File, FileSystem};

/// Checks an implementation. Each call of `open` opens the same folder, empty at first, as another holder would.
///
/// # Panics
/// When the implementation breaks the contract of [`FileSystem`] or [`File`].
pub async fn check(open: &(dyn Fn() -> Arc<dyn FileSystem> + Sync)) {
    let folder = open();
    assert!(!folder.describe().is_empty(), "a folder says where it is");
    check_names(folder.as_ref()).await;
    check_bytes(folder.as_ref()).await;
    check_lock(open);
}

async fn check_names(folder: &dyn FileSystem) {
    let names = || folder.list("").expect("a folder can be listed");
    assert_eq!(names(), [""; 0], "the folder is empty at first");
    for name in ["b", "a", "c"] {
        let file = folder.open(name).expect("a missing file is created");
        assert!(file.is_empty().expect("it has a length"), "and is empty");
        file.write_at(0, name.as_bytes())
            .expect("it can be written");
    }
    assert_eq!(names(), ["a", "b", "c"], "every file is listed, sorted");
    assert_eq!(
        content(folder, "b"),
        b"b",
        "opening an existing file keeps what is in it"
    );
    folder.rename("a", "c").expect("a target may exist");
    assert_eq!(names(), ["b", "c"], "the target was replaced");
    assert_eq!(content(folder, "c"), b"a", "by the renamed file");
    folder.remove("b").expect("a file can be removed");
    folder
        .sync_names()
        .await
        .expect("the names can be made durable");
    folder
        .sync_names_now()
        .expect("the names can be made durable at once");
    assert_eq!(names(), ["c"], "a removed file is gone");
    for result in [folder.remove("b"), folder.rename("b", "d")] {
        let error = result.expect_err("there is no such file any more");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    folder.remove("c").expect("a file can be removed");
    check_folders(folder);
}

fn check_folders(folder: &dyn FileSystem) {
    let list = |name| folder.list(name).expect("a folder can be listed");
    assert_eq!(list("x"), [""; 0], "a missing folder has nothing in it");
    for name in ["x/b", "x/a", "y/c", "d"] {
        let file = folder.open(name).expect("a missing file is created");
        file.write_at(0, name.as_bytes())
            .expect("it can be written");
    }
    assert_eq!(list(""), ["d", "x", "y"], "files and folders are listed");
    assert_eq!(list("x"), ["a", "b"]);
    folder
        .rename("x/a", "y/a")
        .expect("a file can change folders");
    assert_eq!(
        (list("x"), list("y")),
        (vec!["b".into()], vec!["a".into(), "c".into()])
    );
    assert_eq!(content(folder, "y/a"), b"x/a");
    folder.remove("x/b").expect("a file can be removed");
    assert_eq!(list("x"), [""; 0]);
    folder.remove("y").expect("a folder can be removed");
    assert_eq!(list("y"), [""; 0], "with all that was in it");
    // Whether an empty folder is there is nobody's business.
    let _ = folder.remove("x");
    folder.remove("d").expect("a file can be removed");
    assert_eq!(list(""), [""; 0]);
}

async fn check_bytes(folder: &dyn FileSystem) {
    let file = folder.open("bytes").expect("a missing file is created");
    file.write_at(0, b"hello world").expect("it can be written");
    file.write_at(6, b"there").expect("it can be overwritten");
    assert_eq!(read(file.as_ref(), 0, 100), b"hello there");
    assert_eq!(
        read(file.as_ref(), 6, 3),
        b"the",
        "a read stops where asked"
    );
    assert_eq!(
        read(file.as_ref(), 11, 3),
        b"",
        "there is nothing at the end"
    );
    assert_eq!(read(file.as_ref(), 500, 3), b"", "nor behind it");
    file.sync().await.expect("it can be synced");

    file.set_len(5).expect("it can be cut");
    assert_eq!(read(file.as_ref(), 0, 100), b"hello");
    file.set_len(8).expect("it can be grown");
    assert_eq!(
        read(file.as_ref(), 0, 100),
        b"hello\0\0\0",
        "with zeros, not with what stood there before"
    );
    file.write_at(10, b"x")
        .expect("it can be written past its end");
    assert_eq!(read(file.as_ref(), 5, 100), b"\0\0\0\0\0x");
    assert_eq!(file.len().expect("it has a length"), 11);

    let other = folder.open("bytes").expect("it can be opened twice");
    other.write_at(0, b"J").expect("it can be written");
    assert_eq!(
        read(file.as_ref(), 0, 5),
        b"Jello",
        "both handles see one file"
    );
    file.sync().await.expect("it can be synced");
    file.sync_now().expect("it can be synced at once");
    folder.remove("bytes").expect("it can be removed");
}

fn check_lock(open: &(dyn Fn() -> Arc<dyn FileSystem> + Sync)) {
    let (mine, other) = (open(), open());
    let guard = mine.lock().expect("a free folder can be locked");
    let Err(error) = other.lock() else {
        panic!("a locked folder cannot be locked again");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(
        mine.list("").expect("a folder can be listed"),
        [""; 0],
        "the lock is not one of the files"
    );
    drop(guard);
    drop(other.lock().expect("a released folder can be locked"));
}

fn read(file: &dyn File, position: u64, count: usize) -> Vec<u8> {
    let mut buffer = vec![0xEE; count];
    let count = file.read_at(position, &mut buffer).expect("it can be read");
    buffer.truncate(count);
    buffer
}

fn content(folder: &dyn FileSystem, name: &str) -> Vec<u8> {
    let file = folder.open(name).expect("it can be opened");
    read(file.as_ref(), 0, 100)
}
