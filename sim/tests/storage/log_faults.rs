//! The log on a disk that fails: it stops and says why, and never serves what it cannot vouch for.

use kv::wal::WalError;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sim::disk::{DirtyPages, SimDisk};

use crate::disk;
use crate::log::Life;

fn life_with_entries(disk: &SimDisk, rng: &mut StdRng) -> Life {
    with_entries(Life::begin(disk).unwrap(), rng)
}

fn with_entries(mut life: Life, rng: &mut StdRng) -> Life {
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
    let mut life = with_entries(Life::begin_in_one_file(&disk).unwrap(), &mut rng);
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

/// Every bit of a log that was synced counts: if one flips, the node does not start, or its log is suspect, whichever it is.
#[test]
fn a_flipped_bit_in_what_was_synced_is_never_overlooked() {
    let (mut certain, mut uncertain) = (0, 0);
    for seed in 0..400 {
        let disk = disk(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let life = life_with_entries(&disk, &mut rng);
        disk.power_loss();
        let flip = disk.flip_bit("wal/").unwrap();
        match Life::begin(&disk) {
            Err(error @ (WalError::Damaged { .. } | WalError::Header { .. })) => {
                let line = error.to_string();
                assert!(line.contains(&flip.file) && line.contains("at byte "));
                let is_before = |byte| byte <= flip.byte;
                assert!(!matches!(error, WalError::Damaged { byte, .. } if !is_before(byte)));
                certain += 1;
            }
            Ok(next) => {
                let (file, byte) = next.suspect.clone().expect("damage is noticed");
                assert!(file == flip.file && byte <= flip.byte, "{flip:?}");
                assert!(life.was_once(next.now()), "seed {seed}");
                check_suspicion_stays(&disk, next, &mut rng);
                uncertain += 1;
            }
            Err(other) => panic!("seed {seed}: {flip:?} was taken for another fault: {other}"),
        }
    }
    assert!(certain > 50 && uncertain > 50, "{certain} {uncertain}");
}

/// A suspect log can be written to, and stays suspect until somebody says that it is whole.
fn check_suspicion_stays(disk: &SimDisk, mut life: Life, rng: &mut StdRng) {
    let suspect = life.suspect.clone();
    for _ in 0..3 {
        life.append(rng, 2);
        life.settle();
        let now = life.now().clone();
        disk.power_loss();
        life = Life::begin(disk).unwrap();
        assert_eq!((&life.suspect, life.now()), (&suspect, &now));
    }
    life.declare_whole();
    life.settle();
    disk.power_loss();
    assert_eq!(Life::begin(disk).unwrap().suspect, None);
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
        let files = disk.mount().list("wal").unwrap();
        assert!(files.len() > 2, "vacuous: {files:?}");
        let file = &files[seed as usize % (files.len() - 1)];
        let flip = disk.flip_bit(&format!("wal/{file}")).unwrap();
        match Life::begin(&disk).err() {
            Some(WalError::Damaged { file, byte, .. }) => {
                assert_eq!(file, flip.file);
                assert!(byte <= flip.byte, "{byte} {flip:?}");
            }
            Some(WalError::Header { file }) => assert_eq!(file, flip.file),
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
    let first = format!("wal/{}", folder.list("wal").unwrap()[0]);
    folder.open(&first).unwrap().set_len(80).unwrap();
    let error = Life::begin(&disk).err();
    let is_named = |file: &String, byte: &u64| *file == first && *byte == 80;
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
