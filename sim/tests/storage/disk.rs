//! What the simulated disk keeps and what it loses.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use kv::fs::{File, FileSystem};
use sim::disk::{Counted, DirtyPages, PAGE_BYTES, Part, SimDisk};

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
fn a_power_loss_in_order_keeps_what_was_synced_and_a_torn_prefix_of_the_rest() {
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let disk = disk(seed);
        disk.keep_order(true);
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

/// The content of a file after a power loss that came after these writes, in many seeds.
fn left_by(writes: &[(u64, Vec<u8>)], mut see: impl FnMut(&[u8], &SimDisk)) {
    for seed in 0..1000 {
        let disk = disk(seed);
        let file = durable_file(&disk.mount(), "a", b"");
        for (position, bytes) in writes {
            file.write_at(*position, bytes).unwrap();
        }
        disk.power_loss();
        let folder = disk.mount();
        see(&content(folder.open("a").unwrap().as_ref()), &disk);
    }
}

#[test]
fn pages_survive_independently_of_each_other() {
    let (mut seen, mut out_of_order) = (BTreeSet::new(), 0);
    let pages = [1_u8, 2, 3].map(|page| vec![page; PAGE_BYTES]);
    let whole = vec![(0, pages.concat())];
    left_by(&whole, |left, disk| {
        let mut left = left.to_vec();
        left.resize(3 * PAGE_BYTES, 0);
        let there = pages.iter().zip(left.chunks(PAGE_BYTES));
        let there = there.map(|(page, left)| page == left).collect::<Vec<_>>();
        let is_hole = there.windows(2).any(|pair| pair == [false, true]);
        assert!(!is_hole || disk.counters().files_out_of_order == 1);
        out_of_order += usize::from(is_hole);
        seen.insert(there);
    });
    assert_eq!(seen.len(), 8, "every subset of three pages is possible");
    assert!(out_of_order > 50, "vacuous: {out_of_order} of 1000");
}

#[test]
fn a_page_is_there_as_it_was_at_some_moment() {
    let mut seen = BTreeSet::new();
    let versions = [1_u8, 2, 3].map(|version| (0, vec![version; 8]));
    left_by(&versions, |left, _| {
        // A write is torn at one byte: behind it stands what stood there before.
        let mut bytes = left.to_vec();
        bytes.dedup();
        assert!(
            bytes.windows(2).all(|pair| pair[0] == pair[1] + 1),
            "{left:?}"
        );
        seen.insert(bytes);
    });
    for expected in [
        vec![],
        vec![0],
        vec![1],
        vec![2],
        vec![3],
        vec![2, 1],
        vec![3, 2],
    ] {
        assert!(seen.contains(&expected), "{expected:?} is never left");
    }
}

#[test]
fn a_length_may_be_there_without_its_data_and_data_without_its_length() {
    let (mut hollow, mut hidden) = (0, 0);
    let long = vec![(0, vec![7; 3]), (3, vec![7; 3])];
    left_by(&long, |left, disk| {
        let data = left.iter().take_while(|byte| **byte == 7).count();
        assert!(left[data..].iter().all(|byte| *byte == 0), "{left:?}");
        assert_eq!(disk.counters().hollow_bytes as usize, left.len() - data);
        hollow += usize::from(data < left.len());
        let counters = disk.counters();
        hidden += usize::from(left.is_empty() && counters.operations_lost == 2);
    });
    assert!(hollow > 50 && hidden > 50, "vacuous: {hollow} {hidden}");
}

/// What was cut off does not come back behind a length that was given later.
#[test]
fn a_cut_takes_effect_with_its_length() {
    let (mut grown, mut uncut) = (0, 0);
    for seed in 0..500 {
        let disk = disk(seed);
        let file = durable_file(&disk.mount(), "a", b"secret");
        file.set_len(2).unwrap();
        file.set_len(6).unwrap();
        disk.power_loss();
        let folder = disk.mount();
        match content(folder.open("a").unwrap().as_ref()).as_slice() {
            b"secret" => uncut += 1,
            b"se" => {}
            b"se\0\0\0\0" => grown += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(grown > 50 && uncut > 50, "vacuous: {grown} {uncut}");
}

#[test]
fn a_strict_power_loss_takes_all_that_was_not_synced() {
    for seed in 0..100 {
        let disk = disk(seed);
        let folder = disk.mount();
        let file = durable_file(&folder, "a", b"safe");
        file.write_at(4, &[1; 3 * PAGE_BYTES]).unwrap();
        folder.open("b").unwrap();
        disk.strict_power_loss();
        let folder = disk.mount();
        assert_eq!(folder.list("").unwrap(), ["a"]);
        assert_eq!(content(folder.open("a").unwrap().as_ref()), b"safe");
        assert_eq!(disk.counters().names_undone, 1);
    }
}

#[test]
fn a_sync_that_blocks_makes_durable_and_takes_no_time() {
    let disk = disk(1);
    let folder = disk.mount();
    durable_file(&folder, "a", b"");
    // Nobody could wait here: there is no clock.
    let day = std::time::Duration::from_secs(86_400);
    disk.set_sync_latency(day..=day);
    let file = folder.open("a").unwrap();
    file.write_at(0, b"safe").unwrap();
    file.sync_now().unwrap();
    file.write_at(4, b"lost").unwrap();
    disk.strict_power_loss();
    let folder = disk.mount();
    assert_eq!(content(folder.open("a").unwrap().as_ref()), b"safe");
    assert_eq!(disk.counters().syncs, 2);
}

/// Two files are changed in six operations. Wherever the power goes, exactly those before are done.
#[test]
fn the_power_goes_after_the_operation_that_it_was_told() {
    let work = |disk: &SimDisk| -> usize {
        let folder = disk.mount();
        let steps: [&dyn Fn() -> std::io::Result<()>; 6] = [
            &|| folder.open("x-new").map(drop),
            &|| folder.open("x-new")?.write_at(0, b"12"),
            &|| finish(folder.open("x-new")?.sync()),
            &|| folder.rename("x-new", "x"),
            &|| finish(folder.sync_names()),
            &|| folder.remove("y"),
        ];
        let done = steps.iter().take_while(|step| step().is_ok()).count();
        assert!(disk.is_off() || done == 6);
        if done < 6 {
            assert!(folder.list("").is_err() && folder.lock().is_err());
        }
        done
    };
    for (counted, dones) in [
        (Counted::Everything, &[1, 2, 3, 4, 5, 6][..]),
        // A rename is of the name that it gives, and removing counts for whoever removes it.
        (Counted::OfFiles("x".to_owned()), &[1, 2, 3, 4]),
        (Counted::OfFiles("y".to_owned()), &[6]),
        (Counted::OfCheckpoints, &[6]),
    ] {
        for (after, done) in (1..).zip(dones) {
            let disk = disk(after);
            durable_file(&disk.mount(), "y", b"y");
            let watch = disk.watch();
            disk.power_off_after(after, counted.clone());
            assert_eq!(work(&disk), *done, "{counted:?} {after}");
            assert!(disk.is_off() && watch.has_changed().unwrap());
            assert_eq!(disk.counters().power_cuts, 1);
            // To kill what has no power is to lose what was not synced.
            disk.kill();
            assert_eq!(disk.counters().power_losses, 1);
            assert!(!disk.is_off());
            let names = disk.mount().list("").unwrap();
            assert!(*done < 5 || names.contains(&"x".to_owned()));
        }
        let disk = disk(9);
        durable_file(&disk.mount(), "y", b"y");
        disk.power_off_after(dones.len() as u64 + 1, counted);
        assert_eq!(work(&disk), 6);
        disk.power_stays();
        disk.mount().open("z").unwrap();
        assert_eq!(disk.counters().power_cuts, 0);
    }
}

#[test]
fn the_power_goes_in_the_middle_of_a_write() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let disk = disk(seed);
        let folder = disk.mount();
        let (other, file) = (
            folder.open("b").unwrap(),
            durable_file(&folder, "a", b"safe"),
        );
        disk.power_off_in_write("a");
        other.write_at(0, b"another file").unwrap();
        file.write_at(4, b"1").expect("one byte cannot be torn");
        file.write_at(5, b"23456").unwrap();
        assert!(file.write_at(10, b"7").is_err() && finish(file.sync()).is_err());
        disk.power_loss();
        let folder = disk.mount();
        let left = content(folder.open("a").unwrap().as_ref());
        assert!(b"safe12345".starts_with(&left[..]) && left.len() > 5);
        assert_eq!(disk.counters().power_cuts, 1);
        assert!(disk.counters().writes_torn >= 1, "it is torn in every seed");
        seen.insert(left.len());
    }
    assert_eq!(seen, (6..=9).collect(), "at any byte");
}

/// Zeros that are written ahead, alone or behind a batch, are not what is torn.
#[test]
fn a_write_is_torn_before_the_zeros_at_its_end() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = disk(seed);
        let file = durable_file(&disk.mount(), "a", b"safe");
        disk.power_off_in_write("a");
        file.write_at(4, &[0; 100]).unwrap();
        assert!(!disk.is_off(), "zeros cannot be torn");
        let mut batch = b"123".to_vec();
        batch.resize(100, 0);
        file.write_at(4, &batch).unwrap();
        assert!(disk.is_off());
        disk.power_loss();
        let folder = disk.mount();
        let left = content(folder.open("a").unwrap().as_ref());
        let end = left.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        assert!(b"safe123".starts_with(&left[..end]));
        seen.insert(end);
    }
    assert_eq!(seen, [5, 6].into(), "some of it is there, and not all");
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
        let is_lost = content(folder.open("a").unwrap().as_ref()) != b"x";
        assert_eq!(disk.counters().promised_lost, u64::from(is_lost));
        lost += usize::from(is_lost);
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

/// A log of two files and an engine, all of it durable but the last bytes of the log.
fn data_folder(disk: &SimDisk, first: &str, last: &str) -> Arc<dyn FileSystem> {
    let folder = disk.mount();
    durable_file(&folder, first, &[1; 300]);
    durable_file(&folder, "engine-1", &[1; 300]);
    durable_file(&folder, "snapshot-1", &[1; 300]);
    durable_file(&folder, &format!("{last}.new"), &[1; 300]);
    let file = durable_file(&folder, last, &[1; 300]);
    file.set_len(1000).unwrap();
    finish(file.sync()).unwrap();
    file.write_at(300, &[1; 50]).unwrap();
    folder
}

#[test]
fn a_bit_flips_in_the_part_that_was_chosen() {
    for (first, last) in [("wal-01", "wal-02"), ("wal/01", "wal/02")] {
        for (part, file, bytes) in [
            (Part::SealedSegment, first, 0..300),
            (Part::LogTail, last, 284..300),
            (Part::Engine, "engine-1", 0..300),
        ] {
            let mut seen = BTreeSet::new();
            for seed in 0..200 {
                let disk = disk(seed);
                assert!(!disk.has(part) && disk.flip_bit_of(part).is_none());
                let folder = data_folder(&disk, first, last);
                assert!(disk.has(part));
                let flip = disk.flip_bit_of(part).unwrap();
                assert_eq!(flip.file, file);
                let now = content(folder.open(file).unwrap().as_ref());
                assert_ne!(now[flip.byte as usize], 1);
                assert_eq!(disk.counters().bits_flipped, 1);
                seen.insert(flip.byte);
            }
            assert!(seen.iter().all(|byte| bytes.contains(byte)), "{seen:?}");
            assert!(seen.len() > 10, "vacuous: {seen:?}");
        }
    }
}

#[test]
fn a_log_without_a_sealed_file_or_a_record_has_no_such_part() {
    let disk = disk(1);
    let folder = disk.mount();
    durable_file(&folder, "wal/01", &[1; 64]);
    durable_file(&folder, "wal/02.new", &[1; 64]);
    for part in [Part::SealedSegment, Part::LogTail, Part::Engine] {
        assert!(!disk.has(part), "{part:?}");
    }
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
