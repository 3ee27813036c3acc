//! R2 and R3: messages count in their epoch, and a promise is durable before anybody hears of it.

use kv_core::{Body, Epoch, Offset, Timer};

use crate::harness::network::Link;
use crate::harness::story::{cluster, entry, message, n, prepare, version};

#[test]
fn r2_an_answer_of_an_older_epoch_does_not_count() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(1), n(3), Link::Cut);
    cluster.network.set(n(2), n(1), Link::Held);
    cluster.write_one(n(1));
    cluster.settle(); // n2 has synced 1.2; its answer is on the way.
    cluster.network.set(n(1), n(2), Link::Cut);
    cluster.fire(n(1), Timer::Rollback);
    cluster.settle();
    assert_eq!(cluster.end_at(n(1)), version(2, 2));
    let claim = Body::Prepared {
        upto: Offset(2),
        committed: Offset(1),
    };
    assert!(cluster.is_sent(n(2), n(1), |body| *body == claim));
    cluster.network.heal(n(2), n(1));
    cluster.settle();
    assert_eq!(
        cluster.committed_at(n(1)),
        Offset(1),
        "n2 has 1.2 at that place, not 2.2"
    );
    cluster.assert_fine();
}

#[test]
fn r2_a_voter_that_is_heard_twice_is_one_voter() {
    let mut cluster = cluster(4, 3);
    cluster.isolate(n(1), Link::Cut);
    let request = cluster.write_one(n(1));
    cluster.settle();
    for _ in 0..3 {
        let (upto, committed) = (Offset(2), Offset(2));
        cluster.inject(n(2), n(1), message(1, Body::Prepared { upto, committed }));
    }
    assert_eq!(cluster.committed_at(n(1)), Offset(1));
    assert!(!cluster.is_written(request));
}

#[test]
fn r3_a_seal_is_answered_when_the_promise_is_synced_and_not_before() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(2));
    cluster.inject(n(3), n(2), message(2, Body::Seal));
    assert!(
        cluster.network.on_link(n(2), n(3)).is_empty(),
        "a crash would forget the promise"
    );
    cluster.sync(n(2), 1);
    let sealed = |body: &Body| matches!(body, Body::Sealed { .. });
    assert!(cluster.is_sent(n(2), n(3), sealed));
    cluster.assert_fine();
}

#[test]
fn r3_what_is_below_the_promise_is_refused_even_after_a_crash() {
    let mut cluster = cluster(3, 2);
    cluster.inject(n(3), n(2), message(2, Body::Seal));
    cluster.settle();
    cluster.crash(n(2));
    cluster.start(n(2));
    cluster.settle();
    cluster.inject(
        n(1),
        n(2),
        prepare(1, version(1, 1), vec![entry(1, 2, "2")], 1),
    );
    assert_eq!(cluster.end_at(n(2)), version(1, 1));
    let stale = Body::Stale { promised: Epoch(2) };
    assert!(cluster.is_sent(n(2), n(1), |body| *body == stale));
}

#[test]
fn r3_an_equal_seal_is_answered_again_since_answers_get_lost() {
    let mut cluster = cluster(3, 2);
    for _ in 0..2 {
        cluster.inject(n(3), n(2), message(2, Body::Seal));
        cluster.sync(n(2), 1);
        assert_eq!(cluster.network.on_link(n(2), n(3)).len(), 1);
        cluster.network.flights.clear();
    }
}

#[test]
fn r3_neither_prepared_nor_refused_nor_committed_leaves_before_the_promise_is_synced() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(2));
    cluster.inject(n(3), n(2), prepare(2, version(1, 1), Vec::new(), 1));
    cluster.inject(n(3), n(2), prepare(2, version(2, 9), Vec::new(), 1));
    cluster.inject(n(3), n(2), message(2, Body::Commit { upto: Offset(1) }));
    assert!(cluster.network.on_link(n(2), n(3)).is_empty());
    cluster.sync(n(2), 1);
    assert_eq!(
        cluster.network.on_link(n(2), n(3)).len(),
        2,
        "Refused, and Prepared with committed"
    );
    cluster.assert_fine();
}

#[test]
fn r3_a_writer_that_promises_a_higher_epoch_is_a_writer_no_longer() {
    let mut cluster = cluster(3, 2);
    cluster.inject(n(3), n(1), message(2, Body::Seal));
    assert_eq!(cluster.role_at(n(1)), None);
    let request = cluster.write_one(n(1));
    assert!(
        cluster
            .reply(request)
            .is_some_and(kv_core::Reply::may_repeat)
    );
}
