//! What a model checker leaves out of a replica makes no difference: the shard goes on as it would have.

#![allow(
    clippy::unwrap_used,
    reason = "a harness is a test; what it unwraps must be there"
)]

#[allow(dead_code, reason = "each test binary uses a part of the harness")]
#[path = "harness/cluster.rs"]
mod harness;

use harness::network::Link;
use harness::story::{cluster, n};
use kv_core::SessionId;

#[test]
fn a_follower_catches_up_though_the_writer_believes_that_it_has_sent_everything() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(3), Link::Cut);
    cluster.depose(n(1));
    cluster.open_session(n(1));
    cluster.pass_rounds(20);
    let writer = cluster.writer().unwrap();
    cluster.must_write(writer);
    let unsent: Vec<_> = cluster.replica(writer).unsent().collect();
    assert_eq!(unsent, [n(3)], "it has not answered, and is probed");
    let replica = cluster.replica(writer).having_sent(&unsent);
    assert_eq!(replica.unsent().count(), 0);
    assert_ne!(replica, *cluster.replica(writer));
    cluster.node(writer).replica = Some(replica);
    cluster.heal_everything();
    cluster.pass_rounds(3);
    assert_eq!(cluster.end_at(n(3)), cluster.end_at(writer));
    cluster.assert_fine();
}

#[test]
fn who_has_forgotten_an_ended_session_goes_on_as_before() {
    let mut cluster = cluster(3, 2);
    cluster.depose(n(1));
    for node in [n(1), n(2), n(3)] {
        let over: Vec<SessionId> = cluster.replica(node).ended().map(|(_, it)| it).collect();
        assert_eq!(
            over.len(),
            1,
            "{node} knows that the session of n1 has ended"
        );
        let replica = cluster.replica(node).forgetting(&over);
        assert_eq!(replica.ended().count(), 0);
        assert!(!replica.has_heard_in(over[0]));
        cluster.node(node).replica = Some(replica);
    }
    let writer = cluster.writer().unwrap();
    cluster.must_write(writer);
    cluster.open_session(n(1));
    cluster.depose(writer);
    cluster.pass_rounds(20);
    let writer = cluster.writer().unwrap();
    cluster.must_write(writer);
    cluster.assert_fine();
}
