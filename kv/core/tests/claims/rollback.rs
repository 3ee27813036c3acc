//! R9 and R10: giving writes up, and when that is a definite answer.

use kv_core::{Epoch, Notable, Offset, Refused, Reply, Timer};

use crate::harness::Cluster;
use crate::harness::network::Link;
use crate::harness::service::Fate;
use crate::harness::story::{cluster, n, version};

/// A write that n1 could not send to anybody, and the rollback timer has fired.
fn rolling_back() -> (Cluster, kv_core::RequestId) {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    let request = cluster.write_one(n(1));
    cluster.settle();
    cluster.fire(n(1), Timer::Rollback);
    (cluster, request)
}

#[test]
fn r9_what_is_committed_by_the_time_of_truncating_is_not_given_up() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Held);
    cluster.cut_off.insert(n(1));
    let request = cluster.write_one(n(1));
    cluster.settle();
    cluster.fire(n(1), Timer::Rollback); // The new epoch is asked for while 1.2 waits...
    cluster.rejoin(n(1));
    cluster.settle();
    assert!(
        cluster.is_written(request),
        "...and is acknowledged before the answer is there"
    );
    cluster.cut_off.clear();
    cluster.settle();
    assert_eq!(cluster.role_at(n(1)), Some(Epoch(2)));
    assert_eq!(cluster.end_at(n(1)), version(2, 3));
    assert_eq!(
        cluster.replica(n(1)).log().version_at(Offset(2)),
        Some(version(1, 2))
    );
    cluster.assert_fine();
}

#[test]
fn r9_the_epoch_start_of_the_own_epoch_stays() {
    let (mut cluster, _) = rolling_back();
    cluster.settle();
    assert_eq!(cluster.end_at(n(1)), version(2, 2));
    cluster.write_one(n(1));
    cluster.settle();
    cluster.fire(n(1), Timer::Rollback);
    cluster.settle();
    let log = cluster.replica(n(1)).log();
    assert_eq!(
        log.version_at(Offset(2)),
        Some(version(2, 2)),
        "others may have it already"
    );
    assert_eq!(log.end(), version(3, 3));
    cluster.assert_fine();
}

#[test]
fn r9_no_message_of_the_new_epoch_leaves_before_the_promise_and_the_truncation_are_synced() {
    let (mut cluster, _) = rolling_back();
    cluster.rejoin(n(1));
    cluster.slow_disks.insert(n(1));
    cluster.settle();
    let heard = |cluster: &Cluster| cluster.replica(n(2)).promised();
    assert_eq!(cluster.role_at(n(1)), Some(Epoch(2)));
    cluster.fire(n(1), Timer::Heartbeat);
    cluster.settle();
    assert_eq!(heard(&cluster), Epoch(1));
    cluster.sync(n(1), 1); // The promise; the truncation is not on the disk yet.
    cluster.settle();
    assert_eq!(
        heard(&cluster),
        Epoch(1),
        "after a crash n1 would hold 1.2 below the new epoch"
    );
    cluster.sync(n(1), 1);
    cluster.settle();
    assert_eq!(heard(&cluster), Epoch(2));
    cluster.assert_fine();
}

#[test]
fn r9_a_rollback_whose_session_is_over_makes_nobody_the_writer() {
    let (mut cluster, request) = rolling_back();
    let set = cluster.service.questions.iter();
    let set = set.clone().position(|(id, _)| *id == n(1)).unwrap();
    cluster.serve_question(set, Fate::Late);
    cluster.end_session(n(1));
    cluster.set_late(0); // The record names the old session in epoch 2 now.
    cluster.settle();
    assert_eq!(cluster.reply(request), Some(Reply::Unknown));
    assert_eq!(cluster.role_at(n(1)), None);
    assert_eq!(cluster.writer(), Some(n(2)));
    cluster.assert_fine();
}

#[test]
fn r9_replicas_drop_the_old_suffix_when_the_new_epoch_reaches_them() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(2), n(1), Link::Cut);
    cluster.network.set(n(1), n(3), Link::Cut);
    let request = cluster.write_one(n(1));
    cluster.settle();
    assert_eq!(cluster.end_at(n(2)), version(1, 2));
    cluster.fire(n(1), Timer::Rollback);
    cluster.rejoin(n(1));
    cluster.settle();
    assert_eq!(cluster.end_at(n(2)), version(2, 2));
    assert_eq!(
        cluster.reply(request),
        Some(Reply::Refused(Refused::RolledBack))
    );
    cluster.assert_fine();
}

#[test]
fn r10_fail_is_told_when_the_epoch_start_of_the_rollback_is_committed_and_not_before() {
    let (mut cluster, request) = rolling_back();
    cluster.settle();
    assert!(cluster.has_noted(n(1), |notable| matches!(
        notable,
        Notable::RolledBack { .. }
    )));
    assert_eq!(
        cluster.reply(request),
        None,
        "another member may still hold 1.2, and win"
    );
    cluster.rejoin(n(1));
    cluster.fire(n(1), Timer::Heartbeat);
    cluster.settle();
    assert_eq!(
        cluster.reply(request),
        Some(Reply::Refused(Refused::RolledBack))
    );
    cluster.assert_fine();
}

#[test]
fn r10_promises_of_q_voters_are_not_enough() {
    let (mut cluster, request) = rolling_back();
    cluster.settle();
    for (from, number) in [(n(2), 2), (n(3), 3)] {
        let (upto, committed) = (Offset(1), Offset(1));
        let prepared = kv_core::Body::Prepared { upto, committed };
        cluster.inject(from, n(1), crate::harness::story::message(2, prepared));
        assert_eq!(
            cluster.reply(request),
            None,
            "n{number} has promised, and not the start"
        );
    }
}

#[test]
fn r10_an_earlier_rollback_proves_nothing_for_a_later_one() {
    let (mut cluster, first) = rolling_back();
    cluster.settle();
    cluster.network.set(n(2), n(1), Link::Held);
    cluster.network.heal(n(1), n(2));
    cluster.fire(n(1), Timer::Heartbeat); // n2 gets 2.2; its answer is on the way.
    cluster.settle();
    cluster.isolate(n(1), Link::Cut);
    let second = cluster.write_one(n(1));
    cluster.settle();
    cluster.fire(n(1), Timer::Rollback);
    cluster.settle();
    cluster.network.heal(n(2), n(1));
    cluster.settle();
    assert_eq!(
        cluster.reply(second),
        None,
        "2.2 is on two disks, 3.3 is not"
    );
    assert_eq!(cluster.reply(first), None);
    cluster.rejoin(n(1));
    cluster.fire(n(1), Timer::Heartbeat);
    cluster.settle();
    let rolled_back = Some(Reply::Refused(Refused::RolledBack));
    assert_eq!(
        (cluster.reply(first), cluster.reply(second)),
        (rolled_back, rolled_back)
    );
    cluster.assert_fine();
}

#[test]
fn r10_a_writer_that_is_deposed_says_info() {
    let (mut cluster, request) = rolling_back();
    cluster.settle();
    cluster.depose(n(1));
    assert_eq!(cluster.reply(request), Some(Reply::Unknown));
    cluster.assert_fine();
}
