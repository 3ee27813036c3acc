//! R18, R20: a member that is too far behind for the log, and one whose disk has lost what it had synced.

use kv_core::{Body, Epoch, Notable, Offset};

use crate::harness::Cluster;
use crate::harness::network::Link;
use crate::harness::story::{cluster, entry, message, n, prepare, version};

/// The disk of a node loses all above so many entries and its promises; the node comes up again under a new session.
fn lose_and_return(cluster: &mut Cluster, id: kv_core::NodeId, kept: usize) {
    cluster.crash(id);
    cluster.rot(id, kept, Epoch(0));
    cluster.start(id);
    cluster.open_session(id);
    cluster.settle();
}

/// n1 has acknowledged three writes that n3 lacks, and has only its engine left of them.
fn trimmed() -> Cluster {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(3), Link::Cut);
    for _ in 0..3 {
        cluster.must_write(n(1));
    }
    cluster.node(n(1)).flush();
    cluster.node(n(1)).trimmed = Offset(4);
    cluster.must_write(n(1));
    cluster
}

#[test]
fn a_member_that_is_too_far_behind_takes_over_a_snapshot_and_then_the_log() {
    let mut cluster = trimmed();
    cluster.rejoin(n(3));
    cluster.pass_rounds(3);
    let installed = Notable::Installed(version(1, 4));
    assert!(cluster.has_noted(n(3), |notable| *notable == installed));
    assert_eq!(cluster.end_at(n(3)), version(1, 5));
    assert_eq!(cluster.committed_at(n(3)), Offset(5));
    cluster.assert_fine();
}

#[test]
fn a_crash_before_the_new_log_is_synced_finds_the_snapshot_and_not_the_old_log() {
    let mut cluster = trimmed();
    cluster.rejoin(n(3));
    cluster.slow_disks.insert(n(3));
    cluster.pass_rounds(2);
    assert_eq!(cluster.nodes[&n(3)].disk.entries.len(), 1);
    cluster.crash(n(3));
    cluster.start(n(3));
    assert_eq!(cluster.end_at(n(3)), version(1, 4));
    assert_eq!(cluster.committed_at(n(3)), Offset(4));
    cluster.assert_fine();
}

#[test]
fn r5_a_snapshot_takes_nothing_back_that_is_committed() {
    let mut cluster = trimmed();
    let old = cluster.nodes[&n(1)].entries[..2].to_vec();
    cluster.node(n(2)).fetched = Some(old);
    let before = (cluster.end_at(n(2)), cluster.committed_at(n(2)));
    assert!(!cluster.install(n(2)), "n2 knows more");
    let after = (cluster.end_at(n(2)), cluster.committed_at(n(2)));
    assert_eq!(before, after);
    cluster.assert_fine();
}

#[test]
fn a_snapshot_leaves_what_stands_above_it_in_a_log_that_holds_it() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(1));
    cluster.write(n(1), "k", 2);
    cluster.settle(); // n2 and n3 have synced 1.2 and 1.3, and nobody knows that they are committed.
    let held = cluster.nodes[&n(2)].entries[..2].to_vec();
    cluster.node(n(2)).fetched = Some(held);
    cluster.install(n(2));
    assert_eq!(
        cluster.end_at(n(2)),
        version(1, 3),
        "n1 counts on 1.3 at n2"
    );
    assert_eq!(cluster.committed_at(n(2)), Offset(2));
    cluster.assert_fine();
}

#[test]
fn r18_a_suspect_answers_no_seal_until_it_holds_what_it_can_have_lost() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(3), Link::Cut);
    cluster.must_write(n(1)); // On the disks of n1 and n2.
    cluster.crash(n(1));
    lose_and_return(&mut cluster, n(2), 1); // Now only on that of n1, which is down.
    cluster.rejoin(n(3));
    cluster.end_session(n(1));
    cluster.pass_rounds(30);
    assert_eq!(
        cluster.writer(),
        None,
        "n2 and n3 would forget an acknowledged write"
    );
    cluster.start(n(1));
    cluster.open_session(n(1));
    cluster.pass_rounds(30);
    assert_eq!(cluster.writer(), Some(n(1)));
    assert!(!cluster.replica(n(2)).is_suspect(), "it is repaired");
    assert!(cluster.has_noted(n(2), |notable| *notable == Notable::Whole));
    assert!(!cluster.nodes[&n(2)].disk.suspect);
    assert_eq!(cluster.end_at(n(2)), cluster.end_at(n(1)));
    cluster.assert_fine();
}

#[test]
fn r18_a_suspect_is_repaired_by_a_writer_that_had_counted_it_in_the_same_epoch() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(3), Link::Cut);
    cluster.must_write(n(1));
    cluster.must_write(n(1));
    lose_and_return(&mut cluster, n(2), 1);
    let late = Body::Prepared {
        upto: Offset(3),
        committed: Offset(3),
    };
    cluster.pass_round();
    cluster.inject(n(2), n(1), message(1, late)); // What n2 had said before it lost it.
    cluster.pass_rounds(3);
    assert_eq!(cluster.role_at(n(1)), Some(Epoch(1)));
    assert_eq!(cluster.end_at(n(2)), version(1, 3));
    assert!(!cluster.replica(n(2)).is_suspect());
    cluster.assert_fine();
}

#[test]
fn r18_a_suspect_listens_to_nobody_before_it_has_promised_what_the_record_names() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Held);
    cluster.depose(n(1)); // n2 and n3 promise epoch 2; n1 does not know.
    assert!(cluster.replica(n(2)).promised() >= Epoch(2));
    cluster.crash(n(2));
    cluster.rot(n(2), 1, Epoch(1));
    cluster.start(n(2));
    let write = prepare(1, version(1, 1), vec![entry(1, 2, "lost")], 1);
    cluster.inject(n(1), n(2), write.clone());
    assert_eq!(
        cluster.end_at(n(2)),
        version(1, 1),
        "n1 would acknowledge what the writer of epoch 2 has never seen"
    );
    cluster.open_session(n(2));
    cluster.settle();
    assert!(cluster.replica(n(2)).promised() >= Epoch(2));
    cluster.inject(n(1), n(2), write);
    let has_it = |cluster: &Cluster| cluster.replica(n(2)).log().holds(version(1, 2));
    assert!(!has_it(&cluster));
    cluster.assert_fine();
}

#[test]
fn r18_an_answer_to_an_earlier_life_does_not_clear_a_suspect() {
    let mut cluster = cluster(3, 2);
    cluster.must_write(n(1));
    cluster.network.set(n(1), n(2), Link::Held);
    lose_and_return(&mut cluster, n(2), 1);
    let session = kv_core::SessionId(1);
    assert_ne!(cluster.replica(n(2)).session(), Some(session));
    let (prev, end) = (version(1, 1), Offset(1));
    cluster.inject(n(1), n(2), prepare(1, prev, Vec::new(), 1));
    cluster.inject(n(1), n(2), message(1, Body::Extent { session, end }));
    assert!(cluster.replica(n(2)).is_suspect());
    let session = cluster.replica(n(2)).session().unwrap();
    cluster.inject(n(1), n(2), message(1, Body::Extent { session, end }));
    assert!(!cluster.replica(n(2)).is_suspect());
}
