//! R16: what stands behind a read.

use kv_core::{Body, Epoch, Input, Level, Refused, Reply, Timer};

use crate::harness::Cluster;
use crate::harness::network::Link;
use crate::harness::story::{cluster, message, n, version};

#[test]
fn r16_a_lease_read_is_served_at_once_while_the_lease_holds() {
    let mut cluster = cluster(3, 2);
    cluster.must_write(n(1));
    cluster.set_lease(n(1), true);
    cluster.isolate(n(1), Link::Cut);
    let read = cluster.read(n(1), Level::Lease, None);
    assert_eq!(cluster.served(read), Some((Level::Lease, version(1, 2))));
}

#[test]
fn r16_a_lease_read_without_a_lease_asks_the_others() {
    let mut cluster = cluster(3, 2);
    cluster.set_lease(n(1), true);
    cluster.set_lease(n(1), false);
    let read = cluster.read(n(1), Level::Lease, None);
    assert_eq!(cluster.served(read), None);
    cluster.settle();
    assert_eq!(cluster.served(read), Some((Level::Quorum, version(1, 1))));
}

#[test]
fn r16_the_lease_goes_with_the_session_under_which_the_writer_was_published() {
    let mut cluster = cluster(1, 1);
    cluster.input(n(1), Input::Lease(true));
    cluster.input(n(1), Input::Session(None));
    assert_lease_is_gone(cluster);
    let mut cluster = crate::harness::story::cluster(1, 1);
    cluster.input(n(1), Input::Session(None));
    cluster.input(n(1), Input::Lease(true)); // A pong of the old session.
    assert_lease_is_gone(cluster);
}

fn assert_lease_is_gone(mut cluster: Cluster) {
    cluster.open_session(n(1));
    cluster.settle();
    assert_eq!(cluster.role_at(n(1)), Some(Epoch(2)));
    let read = cluster.read(n(1), Level::Lease, None);
    assert_eq!(
        cluster.served(read),
        Some((Level::Quorum, version(2, 2))),
        "no lease in this session yet"
    );
}

#[test]
fn r16_a_confirmation_of_an_older_epoch_proves_nothing() {
    let mut cluster = cluster(3, 2);
    cluster.read(n(1), Level::Quorum, None);
    cluster.settle();
    cluster.open_session(n(1));
    cluster.settle();
    assert_eq!(
        cluster.role_at(n(1)),
        Some(Epoch(2)),
        "n1 is elected again, and counts from 1 again"
    );
    let read = cluster.read(n(1), Level::Quorum, None);
    cluster.inject(n(2), n(1), message(1, Body::Confirmed { round: 1 }));
    assert_eq!(cluster.served(read), None);
    cluster.settle();
    assert!(cluster.served(read).is_some());
}

#[test]
fn r16_a_writer_that_was_deposed_without_knowing_serves_no_quorum_read() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    cluster.cut_off.insert(n(1));
    cluster.depose(n(1));
    let writer = cluster.writer().unwrap();
    cluster.must_write(writer);
    cluster.rejoin(n(1));
    let read = cluster.read(n(1), Level::Quorum, None);
    cluster.settle();
    assert_eq!(
        cluster.served(read),
        None,
        "n2 and n3 have promised a higher epoch"
    );
    cluster.assert_fine();
}

#[test]
fn r16_a_confirmation_of_an_earlier_batch_proves_nothing() {
    let mut cluster = cluster(3, 2);
    let first = cluster.read(n(1), Level::Quorum, None);
    let later = cluster.read(n(1), Level::Quorum, None);
    cluster.inject(n(2), n(1), message(1, Body::Confirmed { round: 1 }));
    assert!(cluster.served(first).is_some());
    cluster.inject(n(3), n(1), message(1, Body::Confirmed { round: 1 }));
    assert_eq!(
        cluster.served(later),
        None,
        "n3 may have promised since it said that"
    );
    cluster.settle();
    assert!(cluster.served(later).is_some());
}

#[test]
fn r16_a_quorum_read_that_waits_through_a_rollback_is_asked_again_in_the_new_epoch() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Held);
    cluster.write_one(n(1));
    let read = cluster.read(n(1), Level::Quorum, None);
    cluster.settle();
    cluster.fire(n(1), Timer::Rollback);
    cluster.settle();
    cluster.inject(n(2), n(1), message(1, Body::Confirmed { round: 1 }));
    assert_eq!(
        cluster.served(read),
        None,
        "it was confirmed in an epoch that is over"
    );
    cluster.rejoin(n(1));
    cluster.settle();
    assert_eq!(cluster.served(read), Some((Level::Quorum, version(2, 2))));
    cluster.assert_fine();
}

#[test]
fn a_replica_read_with_a_token_waits_until_that_is_applied() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(1), n(3), Link::Held);
    cluster.must_write(n(1));
    let token = Some(version(1, 2));
    let read = cluster.read(n(3), Level::Replica, token);
    let impatient = cluster.read(n(3), Level::Replica, token);
    cluster.input(n(3), Input::Abandon(impatient));
    assert_eq!(
        cluster.reply(impatient),
        Some(Reply::Refused(Refused::Behind))
    );
    assert_eq!(cluster.served(read), None);
    cluster.network.heal(n(1), n(3));
    cluster.settle();
    assert_eq!(cluster.served(read), Some((Level::Replica, version(1, 2))));
}
