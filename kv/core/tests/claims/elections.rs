//! R11 to R15 and R17: who may be the writer, and how there comes to be another one.

use kv_core::{Body, Epoch, Input, NodeId, Offset, Refused, Reply, SetResult, Timer};

use crate::harness::Cluster;
use crate::harness::network::Link;
use crate::harness::service::{Fate, Question};
use crate::harness::story::{cluster, message, n, version};

fn recorded_writer(cluster: &Cluster) -> Option<NodeId> {
    cluster.service.record.writer.map(|writer| writer.node)
}

#[test]
fn r11_another_session_of_the_same_node_is_no_writer() {
    let mut cluster = cluster(3, 2);
    cluster.open_session(n(1)); // The old session is over, the process is the same.
    cluster.take_session_news(n(1));
    assert_eq!(cluster.role_at(n(1)), None, "Expired demotes");
    cluster.take_session_news(n(1));
    assert_eq!(
        cluster.role_at(n(1)),
        None,
        "the record names the old session"
    );
    cluster.settle();
    assert_eq!(cluster.service.record.epoch, Epoch(2));
    cluster.assert_fine();
}

#[test]
fn r12_nobody_raises_the_epoch_while_the_writers_session_lives() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    cluster.input(n(2), Input::Lock(true));
    cluster.input(n(2), Input::Timer(Timer::Backoff));
    cluster.settle();
    assert_eq!(cluster.service.record.epoch, Epoch(1));
}

#[test]
fn r12_of_two_electors_one_gets_the_epoch() {
    let mut cluster = cluster(3, 2);
    cluster.end_session(n(1));
    cluster.slow_disks.extend([n(1), n(2), n(3)]);
    for id in [n(2), n(3)] {
        cluster.input(id, Input::Record(cluster.service.observe()));
        cluster.input(id, Input::Lock(true)); // The lock is only a courtesy.
        cluster.input(id, Input::Record(cluster.service.observe()));
    }
    let sets = cluster.service.questions.iter();
    let sets = sets.filter(|(_, question)| matches!(question, Question::Set { .. }));
    assert_eq!(sets.count(), 2, "both have asked for epoch 2");
    cluster.slow_disks.clear();
    cluster.settle();
    cluster.pass_rounds(20);
    assert!(cluster.writer().is_some());
    cluster.assert_fine();
}

#[test]
fn r12_an_epoch_whose_set_has_an_unknown_outcome_is_not_taken_for_granted() {
    for fate in [Fate::AnswerLost, Fate::Lost, Fate::Late] {
        let mut cluster = cluster(3, 2);
        cluster.end_session(n(1));
        let set = serve_until_set(&mut cluster);
        cluster.serve_question(set, fate);
        cluster.settle();
        if !cluster.service.late.is_empty() {
            cluster.set_late(0);
        }
        cluster.pass_rounds(20);
        assert!(cluster.writer().is_some(), "{fate:?}");
        cluster.assert_fine();
    }
}

/// Everything happens but the answer to the next conditional set.
fn serve_until_set(cluster: &mut Cluster) -> usize {
    loop {
        let questions = &cluster.service.questions;
        let set = questions
            .iter()
            .position(|(_, question)| matches!(question, Question::Set { .. }));
        if let Some(set) = set {
            return set;
        }
        assert!(cluster.settle_one(), "somebody asks for a set");
    }
}

#[test]
fn r12_an_elector_that_was_overtaken_does_not_seal_the_epoch_of_another() {
    let mut cluster = cluster(3, 2);
    let (elector, other) = (n(3), n(2));
    cluster.isolate(n(1), Link::Cut);
    cluster.cut_off.insert(other);
    cluster.end_session(n(1));
    let set = serve_until_set(&mut cluster);
    assert_eq!(cluster.service.questions[set].0, elector);
    cluster.cut_off.clear();
    cluster.serve_question(set, Fate::Answered); // Epoch 2 is raised; the answer is slow.
    let done = cluster.node(elector).inbox.pop_back().unwrap();
    assert!(matches!(done, Input::Set(SetResult::Done(_))));
    cluster.cut_off.insert(elector);
    cluster.input(other, Input::Record(cluster.service.observe()));
    cluster.input(other, Input::Lock(true)); // The lock is only a courtesy.
    let set = serve_until_set(&mut cluster);
    cluster.serve_question(set, Fate::Answered); // The other one raises epoch 3...
    cluster.input(elector, Input::Record(cluster.service.observe()));
    cluster.input(elector, done); // ...and the news of that overtake the slow answer.
    cluster.settle();
    let writer = cluster.writer().unwrap();
    cluster.must_write(writer);
    assert_eq!(cluster.role_at(writer), Some(Epoch(3)));
    cluster.cut_off.insert(writer); // The writer does not know that its session ends.
    cluster.end_session(writer);
    cluster.cut_off.remove(&elector);
    cluster.settle();
    cluster.pass_rounds(20);
    cluster.assert_fine();
    assert!(
        cluster.service.record.epoch > Epoch(3),
        "epoch 3 has its writer"
    );
}

#[test]
fn r13_a_voter_answers_the_end_of_its_synced_log() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(1), n(3), Link::Cut);
    cluster.slow_disks.insert(n(2));
    cluster.write_one(n(1));
    cluster.settle();
    cluster.inject(n(3), n(2), message(2, Body::Seal));
    cluster.sync(n(2), 1); // 1.2 is on the disk, the promise is not.
    assert!(cluster.network.on_link(n(2), n(3)).is_empty());
    cluster.sync(n(2), 1);
    let told = |body: &Body| matches!(body, Body::Sealed { end, .. } if *end == version(1, 2));
    assert!(cluster.is_sent(n(2), n(3), told));
    cluster.assert_fine();
}

#[test]
fn r14_the_highest_epoch_and_offset_wins_and_never_the_offset_alone() {
    let mut cluster = cluster(3, 2);
    // n2 gets 1.2 to 1.5, which nobody else keeps.
    cluster.slow_disks.insert(n(1));
    cluster.isolate(n(3), Link::Cut);
    cluster.write(n(1), "k", 4);
    cluster.settle();
    cluster.isolate(n(2), Link::Cut);
    cluster.rejoin(n(3));
    cluster.isolate(n(2), Link::Cut);
    cluster.crash(n(1));
    cluster.slow_disks.clear();
    cluster.start(n(1));
    cluster.open_session(n(1));
    cluster.settle();
    cluster.pass_rounds(20); // n1 and n3 go on without n2.
    let old = cluster.writer().unwrap();
    let kept = [n(1), n(3)].into_iter().find(|id| *id != old).unwrap();
    assert_eq!(cluster.end_at(n(2)), version(1, 5));
    assert!(cluster.end_at(kept).offset < Offset(5));
    cluster.rejoin(n(2));
    cluster.isolate(old, Link::Cut);
    cluster.depose(old);
    cluster.pass_rounds(20);
    assert_eq!(cluster.writer(), Some(kept));
    cluster.assert_fine();
}

#[test]
fn r14_with_fewer_than_e_sealed_there_is_no_choice() {
    let mut cluster = cluster(3, 2);
    cluster.must_write(n(1));
    cluster.isolate(n(1), Link::Cut);
    cluster.isolate(n(3), Link::Cut);
    cluster.depose(n(1));
    cluster.pass_rounds(20);
    assert_eq!(
        recorded_writer(&cluster),
        None,
        "n2 alone may have missed what n1 and n3 have"
    );
    cluster.rejoin(n(3));
    cluster.pass_rounds(20);
    assert!(cluster.writer().is_some());
    cluster.assert_fine();
}

#[test]
fn r15_a_new_writer_serves_and_acknowledges_nothing_before_its_start_is_committed() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    cluster.end_session(n(1));
    while cluster.role_at(n(2)).is_none() && cluster.role_at(n(3)).is_none() {
        cluster.settle_one();
    }
    let writer = [n(2), n(3)]
        .into_iter()
        .find(|id| cluster.role_at(*id).is_some())
        .unwrap();
    cluster.isolate(writer, Link::Cut);
    cluster.network.flights.clear();
    cluster.settle();
    for level in [
        kv_core::Level::Local,
        kv_core::Level::Lease,
        kv_core::Level::Quorum,
    ] {
        let read = cluster.read(writer, level, None);
        assert_eq!(cluster.reply(read), Some(Reply::Refused(Refused::NotReady)));
    }
    let write = cluster.write_one(writer);
    cluster.settle();
    assert_eq!(cluster.reply(write), None);
    cluster.assert_fine();
}

#[test]
fn r15_what_the_election_found_is_rolled_forward() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(1), n(3), Link::Cut);
    cluster.network.set(n(2), n(1), Link::Cut);
    cluster.write_one(n(1));
    cluster.settle();
    cluster.isolate(n(1), Link::Cut);
    cluster.depose(n(1));
    assert_eq!(cluster.writer(), Some(n(2)), "it alone has 1.2");
    assert_eq!(cluster.end_at(n(3)), version(2, 3));
    assert_eq!(
        cluster.replica(n(3)).log().version_at(Offset(2)),
        Some(version(1, 2))
    );
    cluster.assert_fine();
}

#[test]
fn r17_a_writer_without_q_voters_gets_out_of_the_way_and_is_not_chosen_again() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(2), n(1), Link::Cut); // It is heard, and hears nobody.
    cluster.network.set(n(3), n(1), Link::Cut);
    cluster.fire(n(1), Timer::Release);
    assert_eq!(cluster.role_at(n(1)), None, "it stops before it asks");
    cluster.settle();
    cluster.rejoin(n(1));
    cluster.pass_rounds(20);
    assert_ne!(cluster.writer(), Some(n(1)));
    assert!(cluster.writer().is_some());
    cluster.assert_fine();
}

#[test]
fn r17_a_released_writer_is_chosen_again_where_nobody_else_can_be() {
    let mut cluster = cluster(3, 3); // One sealed voter is enough, and only n1 has 1.2.
    cluster.isolate(n(1), Link::Cut);
    cluster.write_one(n(1));
    cluster.settle();
    for id in [n(2), n(3)] {
        cluster.end_session(id);
    }
    cluster.settle();
    cluster.fire(n(1), Timer::Release);
    cluster.pass_rounds(20);
    assert_eq!(recorded_writer(&cluster), Some(n(1)));
    cluster.assert_fine();
}
