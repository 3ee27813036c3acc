//! R6, R7, R8, R19: when an entry is committed, who learns of it, and what a client may conclude.

use kv_core::{Body, Input, Offset, Refused, Reply, Timer};

use crate::harness::network::{Flight, Link};
use crate::harness::story::{cluster, message, n, prepare, version};

#[test]
fn r6_the_writer_counts_once_its_own_disk_has_synced() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(1));
    cluster.network.set(n(1), n(3), Link::Cut);
    let request = cluster.write_one(n(1));
    cluster.settle();
    assert_eq!(
        cluster.committed_at(n(1)),
        Offset(1),
        "one copy is on a disk, that of n2"
    );
    cluster.sync(n(1), 1);
    cluster.settle();
    assert!(cluster.is_written(request));
}

#[test]
fn r6_a_writer_applies_nothing_that_its_own_disk_could_lose() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(1));
    cluster.write_one(n(1));
    cluster.settle(); // n2 and n3 have synced it.
    cluster.node(n(1)).flush();
    cluster.crash(n(1));
    cluster.start(n(1)); // Its engine must not be ahead of its log.
    assert_eq!(cluster.committed_at(n(1)), Offset(1));
    cluster.assert_fine();
}

#[test]
fn r6_entries_of_an_older_epoch_are_not_committed_by_counting() {
    let mut cluster = cluster(3, 2);
    cluster.network.batch = Some(1);
    cluster.network.set(n(1), n(3), Link::Cut);
    cluster.network.set(n(2), n(1), Link::Cut);
    cluster.write_one(n(1));
    cluster.settle(); // 1.2 is on n1 and n2, and nobody knows that.
    cluster.isolate(n(1), Link::Cut);
    cluster.end_session(n(1));
    while cluster.end_at(n(3)) != version(1, 2) {
        assert!(cluster.settle_one()); // n2 becomes the writer and sends n3 1.2...
    }
    cluster.network.set(n(2), n(3), Link::Cut);
    let lost = |flight: &Flight| flight.from == n(2);
    cluster.network.flights.retain(|flight| !lost(flight));
    cluster.settle(); // ...but not 2.3.
    assert_eq!(cluster.end_at(n(2)), version(2, 3));
    assert_eq!(cluster.end_at(n(3)), version(1, 2));
    assert_eq!(
        cluster.committed_at(n(2)),
        Offset(1),
        "Raft, figure 8: 1.2 may still be overwritten"
    );
    cluster.network.heal(n(2), n(3));
    cluster.fire(n(2), Timer::Heartbeat);
    cluster.settle();
    assert_eq!(
        cluster.committed_at(n(2)),
        Offset(3),
        "with 2.3, all below is committed"
    );
    cluster.assert_fine();
}

#[test]
fn r7_a_commit_that_overtakes_its_prepare_commits_only_what_is_verified_and_synced() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(1), n(3), Link::Held);
    cluster.must_write(n(1));
    cluster.inject(n(1), n(3), message(1, Body::Commit { upto: Offset(2) }));
    assert_eq!(cluster.committed_at(n(3)), Offset(1), "n3 does not have it");
    cluster.slow_disks.insert(n(3));
    cluster.network.heal(n(1), n(3));
    cluster.settle();
    assert_eq!(
        cluster.committed_at(n(3)),
        Offset(1),
        "its disk does not have it"
    );
    cluster.sync(n(3), 1);
    assert_eq!(cluster.committed_at(n(3)), Offset(2));
}

#[test]
fn r7_what_an_older_epoch_verified_is_not_committed_by_a_commit_of_this_one() {
    let mut cluster = cluster(3, 2);
    let other = crate::harness::story::entry(1, 2, "2");
    cluster.inject(n(1), n(3), prepare(1, version(1, 1), vec![other], 1));
    cluster.sync(n(3), 1);
    cluster.inject(n(2), n(3), prepare(2, version(1, 1), Vec::new(), 1));
    cluster.sync(n(3), 1);
    // In epoch 2 the entry at offset 2 is another one, whose Prepare was overtaken by this.
    cluster.inject(n(2), n(3), message(2, Body::Commit { upto: Offset(2) }));
    assert_eq!(cluster.committed_at(n(3)), Offset(1));
}

#[test]
fn r7_an_idle_writer_lets_its_members_learn_what_is_committed() {
    let mut cluster = cluster(3, 2);
    cluster.write_one(n(1));
    while cluster.committed_at(n(1)) == Offset(1) {
        cluster.settle_one();
    }
    cluster.network.flights.clear(); // The Commits are lost.
    cluster.settle();
    assert_eq!(cluster.committed_at(n(3)), Offset(1));
    cluster.fire(n(1), Timer::Heartbeat);
    cluster.settle();
    assert_eq!(cluster.committed_at(n(3)), Offset(2));
}

#[test]
fn r8_ok_waits_until_q_voters_have_committed_and_not_only_prepared() {
    let mut cluster = cluster(3, 2);
    let request = cluster.write_one(n(1));
    while cluster.committed_at(n(1)) == Offset(1) {
        cluster.settle_one();
    }
    assert!(!cluster.is_written(request), "it is readable on one member");
    cluster.settle();
    assert!(cluster.is_written(request));
    assert!(cluster.committed_at(n(2)) == Offset(2) || cluster.committed_at(n(3)) == Offset(2));
}

#[test]
fn r8_too_late_is_info_and_stays_so() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    let request = cluster.write_one(n(1));
    cluster.settle();
    cluster.input(n(1), Input::Abandon(request));
    assert_eq!(cluster.reply(request), Some(Reply::Unknown));
    cluster.rejoin(n(1));
    cluster.fire(n(1), Timer::Heartbeat);
    cluster.settle();
    assert_eq!(
        cluster.committed_at(n(1)),
        Offset(2),
        "it happened after all"
    );
    cluster.assert_fine();
}

#[test]
fn r19_only_what_was_definitely_refused_may_be_sent_again() {
    assert!(Reply::Refused(Refused::NotReady).may_repeat());
    assert!(Reply::Refused(Refused::RolledBack).may_repeat());
    assert!(
        !Reply::Unknown.may_repeat(),
        "it may happen yet, and then twice"
    );
    assert!(!Reply::Written(version(1, 1)).may_repeat());
}
