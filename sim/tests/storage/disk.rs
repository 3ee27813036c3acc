//! What the simulated disk keeps and what it loses.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use kv::fs::{File, FileSystem};
use sim::disk::DirtyPages;

use crate::{disk, finish, poll_at_most};

fn content(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let count = file.read_at(0, &mut bytes).unwrap();
    assert_eq!(count, bytes.len());
    bytes
}

/// A file whose name and whose first bytes are durable.
fn durable_file(folder: &Arc<dyn FileSystem>, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = folder.open(name).unwrap();
    file.write_at(0, bytes).unwrap();
    finish(file.sync()).unwrap();
    finish(folder.sync_names()).unwrap();
    file
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    let disk = disk(1);
    finish(kv::fs::conformance::check(&|| disk.mount()));
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_a_torn_prefix_of_the_rest() {
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let disk = disk(seed);
        let file = durable_file(&disk.mount(), "a", b"safe");
        file.write_at(4, b"123").unwrap();
        file.write_at(7, b"456").unwrap();
        disk.power_loss();
        let folder = disk.mount();
        let left = content(folder.open("a").unwrap().as_ref());
        assert!(
            left.starts_with(b"safe") && b"safe123456".starts_with(&left[..]),
            "{left:?}"
        );
        let counters = disk.counters();
        assert_eq!(counters.operations_lost > 0, left.len() < 10);
        assert_eq!(counters.writes_torn > 0, ![4, 7, 10].contains(&left.len()));
        seen.insert(left.len());
    }
    assert_eq!(seen, (4..=10).collect(), "every length is possible");
}

#[test]
fn a_kill_loses_nothing_and_makes_nothing_durable() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let file = durable_file(&disk.mount(), "a", b"safe");
        file.write_at(4, b"more").unwrap();
        disk.kill();
        let folder = disk.mount();
        let file = folder.open("a").unwrap();
        assert_eq!(content(file.as_ref()), b"safemore");
        disk.power_loss();
        let folder = disk.mount();
        lost += usize::from(content(folder.open("a").unwrap().as_ref()) == b"safe");
    }
    assert!((5..45).contains(&lost), "lost in {lost} of 50 seeds");
}

#[test]
fn a_sync_covers_what_was_written_before_it_and_only_when_it_returns() {
    let (mut cut_short, mut afterwards) = (0, 0);
    for seed in 0..50 {
        let first = disk(seed);
        let file = durable_file(&first.mount(), "a", b"");
        file.write_at(0, b"x").unwrap();
        assert!(poll_at_most(1, file.sync()).is_none(), "a sync takes time");
        first.power_loss();
        let folder = first.mount();
        cut_short += usize::from(folder.open("a").unwrap().is_empty().unwrap());

        let second = disk(seed);
        let file = durable_file(&second.mount(), "a", b"");
        file.write_at(0, b"x").unwrap();
        let mut sync = file.sync();
        assert!(poll_at_most(1, &mut sync).is_none());
        file.write_at(1, b"y").unwrap();
        finish(sync).unwrap();
        second.power_loss();
        let folder = second.mount();
        let left = content(folder.open("a").unwrap().as_ref());
        assert_eq!(left[0], b'x');
        afterwards += usize::from(left.len() == 1);
    }
    assert!((5..45).contains(&cut_short), "lost in {cut_short} of 50");
    assert!((5..45).contains(&afterwards), "lost in {afterwards} of 50");
}

#[test]
fn names_survive_only_once_they_are_synced() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = disk(seed);
        let folder = disk.mount();
        durable_file(&folder, "a", b"1");
        durable_file(&folder, "b", b"2");
        let new = folder.open("new").unwrap();
        new.write_at(0, b"3").unwrap();
        finish(new.sync()).unwrap();
        folder.rename("new", "a").unwrap();
        folder.remove("b").unwrap();
        disk.power_loss();
        let folder = disk.mount();
        let names = folder.list("").unwrap();
        let a = content(folder.open("a").unwrap().as_ref());
        seen.insert((names.join(" "), a));
    }
    let expected = [("a", "3"), ("a b", "1"), ("a b", "3"), ("a b new", "1")];
    let expected = expected.map(|(names, a)| (names.to_owned(), a.as_bytes().to_vec()));
    assert_eq!(seen, expected.into_iter().collect());
}

#[test]
fn what_an_earlier_life_holds_is_dead() {
    let disk = disk(1);
    let folder = disk.mount();
    let file = durable_file(&folder, "a", b"1");
    let lock = folder.lock().unwrap();
    let sync = file.sync();
    disk.kill();
    let mount = disk.mount();
    let new_lock = mount.lock().unwrap();
    assert!(file.write_at(0, b"2").is_err());
    assert!(file.set_len(0).is_err());
    assert!(file.len().is_err());
    assert!(finish(sync).is_err());
    assert!(folder.open("b").is_err());
    assert!(folder.rename("a", "b").is_err());
    assert!(folder.remove("a").is_err());
    assert!(folder.lock().is_err());
    drop(lock);
    assert!(
        mount.lock().is_err(),
        "an old guard does not free a new lock"
    );
    drop(new_lock);
    assert!(mount.lock().is_ok());
    assert_eq!(mount.list("").unwrap(), ["a"]);
    assert_eq!(content(mount.open("a").unwrap().as_ref()), b"1");
}

#[test]
fn a_failed_sync_may_drop_the_pages() {
    let disk = disk(1);
    let file = durable_file(&disk.mount(), "a", b"safe");
    file.write_at(4, b"gone").unwrap();
    disk.fail_next_sync(DirtyPages::Dropped);
    assert!(finish(file.sync()).is_err());
    assert_eq!(content(file.as_ref()), b"safegone", "it still reads well");
    finish(file.sync()).expect("only one sync fails");
    disk.power_loss();
    let folder = disk.mount();
    assert_eq!(content(folder.open("a").unwrap().as_ref()), b"safe");
    assert_eq!(disk.counters().syncs_failed, 1);

    let file = folder.open("a").unwrap();
    file.write_at(4, b"kept").unwrap();
    disk.fail_next_sync(DirtyPages::Kept);
    assert!(finish(file.sync()).is_err());
    finish(file.sync()).unwrap();
    disk.power_loss();
    let folder = disk.mount();
    assert_eq!(content(folder.open("a").unwrap().as_ref()), b"safekept");
}

#[test]
fn a_full_disk_cuts_a_growing_write_short() {
    let disk = disk(1);
    let file = durable_file(&disk.mount(), "a", b"1234");
    disk.fill_up(2);
    let error = file.write_at(3, b"xyzuvw").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.to_string().contains("disk/a"), "{error}");
    assert_eq!(content(file.as_ref()), b"123xyz");
    file.write_at(0, b"abc").expect("there is space already");
    assert_eq!(disk.counters().writes_refused, 1);
    disk.free_space();
    file.write_at(6, b"uvw").unwrap();
    assert_eq!(content(file.as_ref()), b"abcxyzuvw");
    assert_eq!(disk.used_bytes(), 9);
}

#[test]
fn a_lying_disk_says_that_it_synced() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let file = durable_file(&disk.mount(), "a", b"");
        disk.lose_syncs(true);
        file.write_at(0, b"x").unwrap();
        finish(file.sync()).unwrap();
        assert_eq!(disk.counters().syncs_lied, 1);
        disk.power_loss();
        let folder = disk.mount();
        lost += usize::from(folder.open("a").unwrap().is_empty().unwrap());
    }
    assert!((5..45).contains(&lost), "lost in {lost} of 50 seeds");
}

#[test]
fn a_flipped_bit_is_one_bit_of_what_was_durable() {
    let disk = disk(1);
    assert_eq!(disk.flip_bit("a"), None);
    let folder = disk.mount();
    durable_file(&folder, "a-1", &[0; 10]);
    let file = durable_file(&folder, "a-2", &[0; 10]);
    durable_file(&folder, "b", &[0; 10]);
    let flip = disk.flip_bit("a").unwrap();
    assert_eq!(flip.file, "a-2");
    let bytes = content(file.as_ref());
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_ne!(bytes[flip.byte as usize], 0);
    assert_eq!(disk.counters().bits_flipped, 1);
}

#[test]
fn the_same_seed_does_the_same() {
    let run = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk.mount(), "a", b"safe");
        for position in 0..20 {
            file.write_at(position * 10, b"0123456789").unwrap();
        }
        disk.power_loss();
        let folder = disk.mount();
        (content(folder.open("a").unwrap().as_ref()), disk.counters())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[tokio::test]
async fn a_slow_disk_takes_its_time() {
    let disk = disk(1);
    let folder = disk.mount();
    let file = folder.open("a").unwrap();
    let slow = std::time::Duration::from_millis(20);
    disk.set_sync_latency(slow..=slow * 2);
    let before = tokio::time::Instant::now();
    file.sync().await.unwrap();
    assert!(before.elapsed() >= slow);
}
