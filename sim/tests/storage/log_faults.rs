//! The log on a disk that fails: it stops and says why, and never serves what it cannot vouch for.

use kv::wal::WalError;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sim::disk::{DirtyPages, SimDisk};

use crate::disk;
use crate::log::Life;

fn life_with_entries(disk: &SimDisk, rng: &mut StdRng) -> Life {
    let mut life = Life::begin(disk).unwrap();
    for _ in 0..3 {
        life.append(rng, 2);
        life.promise(rng);
        life.settle();
    }
    assert_eq!(life.synced(), life.now());
    life
}

#[test]
fn a_failed_sync_stops_the_writer_for_ever() {
    let disk = disk(1);
    let mut rng = StdRng::seed_from_u64(1);
    let mut life = life_with_entries(&disk, &mut rng);
    let synced = life.synced().clone();
    let syncs = disk.counters().syncs;
    disk.fail_next_sync(DirtyPages::Kept);
    life.append(&mut rng, 1);
    life.settle();
    let error = life.error.as_ref().unwrap();
    assert!(
        matches!(error, WalError::Io { doing: "sync", .. }),
        "{error}"
    );
    life.append(&mut rng, 1);
    life.settle();
    assert_eq!(life.synced(), &synced, "nothing is reported any more");
    assert_eq!(disk.counters().syncs, syncs, "the sync is not tried again");
}

#[test]
fn a_full_disk_stops_the_writer_and_loses_nothing_that_was_synced() {
    let mut cut = 0;
    for seed in 0..100 {
        let disk = disk(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut life = life_with_entries(&disk, &mut rng);
        disk.fill_up(seed);
        life.append(&mut rng, 4);
        life.settle();
        let error = life.error.as_ref().unwrap().to_string();
        assert!(error.contains("no space left"), "{error}");
        disk.kill();
        let mut next = Life::begin(&disk).unwrap();
        assert!(life.may_become(next.now()), "seed {seed}");
        cut += usize::from(next.now() == life.synced());
        disk.free_space();
        next.append(&mut rng, 4);
        next.settle();
        disk.power_loss();
        let last = Life::begin(&disk).unwrap();
        assert_eq!(last.now(), next.now(), "seed {seed}");
    }
    assert!(cut > 10, "vacuous: the partial write was cut {cut} times");
}

/// Every bit of a log that was synced counts: if one flips, the node does not start, whichever it is.
#[test]
fn a_flipped_bit_in_what_was_synced_is_never_overlooked() {
    let (mut certain, mut uncertain) = (0, 0);
    for seed in 0..400 {
        let disk = disk(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        drop(life_with_entries(&disk, &mut rng));
        disk.power_loss();
        let flip = disk.flip_bit("wal-").unwrap();
        let error = Life::begin(&disk).err();
        let line = error.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(
            line.contains(&flip.file) && line.contains("at byte "),
            "{line}"
        );
        match error {
            Some(WalError::Damaged { byte, .. }) => {
                assert!(byte <= flip.byte);
                certain += 1;
            }
            Some(WalError::DamagedTail { byte, .. }) => {
                assert!(byte <= flip.byte);
                uncertain += 1;
            }
            Some(WalError::Header { .. }) => assert!(flip.byte < 64),
            other => panic!("seed {seed}: byte {} was overlooked: {other:?}", flip.byte),
        }
    }
    assert!(certain > 50 && uncertain > 50, "{certain} {uncertain}");
}

/// What stands in a file after which another one was begun was synced for certain, to its last byte.
#[test]
fn damage_in_a_file_before_the_last_one_is_certain() {
    for seed in 0..200 {
        let disk = disk(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut life = life_with_entries(&disk, &mut rng);
        for _ in 0..8 {
            life.append(&mut rng, 4);
            life.settle();
        }
        drop(life);
        disk.power_loss();
        let files = disk.mount().list("").unwrap();
        assert!(files.len() > 2, "vacuous: {files:?}");
        let flip = disk
            .flip_bit(&files[seed as usize % (files.len() - 1)])
            .unwrap();
        match Life::begin(&disk).err() {
            Some(WalError::Damaged { file, byte, .. }) => {
                assert_eq!(file, flip.file);
                assert!(byte <= flip.byte, "{byte} {flip:?}");
            }
            Some(WalError::Header { file }) => assert!(file == flip.file && flip.byte < 64),
            other => panic!("seed {seed}: {flip:?} was overlooked: {other:?}"),
        }
    }
}

/// A file before the last one that has lost its end, at a record, is found by what the next one says of it.
#[test]
fn a_file_that_lost_its_end_is_found_by_the_next_one() {
    let disk = disk(3);
    let mut rng = StdRng::seed_from_u64(3);
    let mut life = life_with_entries(&disk, &mut rng);
    for _ in 0..8 {
        life.append(&mut rng, 4);
        life.settle();
    }
    drop(life);
    let folder = disk.mount();
    let first = folder.list("").unwrap().remove(0);
    folder.open(&first).unwrap().set_len(64).unwrap();
    let error = Life::begin(&disk).err();
    let is_named = |file: &String, byte: &u64| *file == first && *byte == 64;
    assert!(
        matches!(&error, Some(WalError::Damaged { file, byte, .. }) if is_named(file, byte)),
        "{error:?}"
    );
}

/// The planted bug has teeth: on a disk that lies about syncs, something that was reported synced is lost.
#[test]
fn a_lying_disk_loses_what_was_reported_synced() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut life = Life::begin_in_one_file(&disk).unwrap();
        life.append(&mut rng, 4);
        life.settle();
        disk.lose_syncs(true);
        life.append(&mut rng, 4);
        life.settle();
        assert_eq!(life.synced(), life.now());
        disk.power_loss();
        lost += usize::from(Life::begin_in_one_file(&disk).unwrap().now() != life.now());
    }
    assert!(lost > 10, "lost in {lost} of 50 seeds");
}
