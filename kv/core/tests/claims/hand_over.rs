//! R17: a writer that is asked to go leaves nothing behind.

use kv_core::{Fencing, Input, Level, Refused, Reply};

use crate::harness::network::Link;
use crate::harness::story::{cluster, cluster_of, n};

#[test]
fn a_writer_that_is_asked_to_go_acknowledges_what_it_has_begun_and_refuses_what_comes_later() {
    let mut cluster = cluster(3, 2);
    let begun = cluster.write_one(n(1));
    cluster.input(n(1), Input::HandOver);
    let later = cluster.write_one(n(1));
    assert_eq!(
        cluster.reply(later),
        Some(Reply::Refused(Refused::NotReady)),
        "it got no offset, so it never happens"
    );
    assert_eq!(
        cluster.role_at(n(1)).map(|epoch| epoch.0),
        Some(1),
        "it stays until the last of its writes is acknowledged"
    );
    cluster.settle();
    assert!(matches!(cluster.reply(begun), Some(Reply::Written(_))));
    let writer = cluster.writer();
    assert!(writer == Some(n(2)) || writer == Some(n(3)));
    assert_eq!(cluster.service.record.epoch.0, 2, "one election is enough");
    let write = cluster.write_one(writer.unwrap());
    cluster.settle();
    assert!(matches!(cluster.reply(write), Some(Reply::Written(_))));
    cluster.assert_fine();
}

#[test]
fn a_writer_that_goes_serves_no_read_afterwards() {
    let mut cluster = cluster(3, 2);
    cluster.set_lease(n(1), true);
    cluster.input(n(1), Input::HandOver);
    let read = cluster.read(n(1), Level::Lease, None);
    assert!(
        cluster.served(read).is_none(),
        "its lease has not ended, its role has"
    );
    cluster.settle();
    cluster.assert_fine();
}

#[test]
fn a_writer_whose_writes_cannot_be_committed_does_not_go() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    let stuck = cluster.write_one(n(1));
    cluster.input(n(1), Input::HandOver);
    cluster.settle();
    assert!(cluster.role_at(n(1)).is_some());
    cluster.input(n(1), Input::Abandon(stuck));
    assert!(
        cluster.role_at(n(1)).is_none(),
        "nobody waits for that write any more"
    );
    cluster.rejoin(n(1));
    cluster.settle();
    assert!(cluster.writer().is_some());
    cluster.assert_fine();
}

#[test]
fn the_plain_writer_goes_too() {
    let mut cluster = cluster_of(3, 2, Fencing::None);
    let begun = cluster.write_one(n(1));
    cluster.input(n(1), Input::HandOver);
    cluster.settle();
    cluster.pass_rounds(5);
    assert!(matches!(cluster.reply(begun), Some(Reply::Written(_))));
    assert!(cluster.writer().is_some());
}

#[test]
fn whoever_is_no_writer_has_nothing_to_hand_over() {
    let mut cluster = cluster(3, 2);
    cluster.input(n(2), Input::HandOver);
    cluster.settle();
    assert_eq!(cluster.writer(), Some(n(1)));
    assert_eq!(cluster.service.record.epoch.0, 1);
}
