//! States from which the protocol must find its way out again: each of these once did not, or looked as if it might not.

use kv_core::{Input, Level, NodeId, Refused, Reply, Timer};

use crate::harness::network::Link;
use crate::harness::service::{Fate, Question};
use crate::harness::story::{cluster, n};

#[test]
fn a_member_whose_session_is_over_is_not_elected_again_and_again() {
    let mut cluster = cluster(3, 2);
    cluster.cut_off.insert(n(1)); // The others reach it; the coordination service does not.
    cluster.end_session(n(1));
    cluster.settle();
    let writer = cluster.writer();
    assert!(writer == Some(n(2)) || writer == Some(n(3)));
    assert!(
        cluster.service.record.epoch.0 <= 3,
        "without a long row of elections"
    );
    cluster.assert_fine();
}

#[test]
fn an_abandoned_batch_of_reads_does_not_hold_up_the_next_one() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    let first = cluster.read(n(1), Level::Quorum, None);
    let second = cluster.read(n(1), Level::Quorum, None);
    cluster.rejoin(n(1));
    cluster.input(n(1), Input::Abandon(first));
    assert_eq!(
        cluster.reply(first),
        Some(Reply::Refused(Refused::Unconfirmed))
    );
    cluster.pass_round();
    assert!(cluster.served(second).is_some());
}

#[test]
fn the_lock_that_a_new_session_got_for_an_old_election_is_given_back() {
    let mut cluster = cluster(3, 2);
    for id in [n(1), n(3)] {
        cluster.cut_off.insert(id);
        cluster.end_session(id);
    }
    cluster.open_session(n(2)); // The driver has a new session; the replica does not know.
    cluster.input(n(2), Input::Record(cluster.service.observe()));
    cluster.take_news(n(2), 0);
    assert_eq!(
        cluster.service.lock,
        Some(n(2)),
        "it is the new session that holds it"
    );
    cluster.settle();
    cluster.pass_rounds(20);
    assert_eq!(
        cluster.writer(),
        Some(n(2)),
        "n2 did not wait for its own lock"
    );
    cluster.assert_fine();
}

#[test]
fn a_rollback_that_was_refused_is_tried_again() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    let request = cluster.write_one(n(1));
    cluster.settle();
    cluster.fire(n(1), Timer::Rollback);
    let questions = cluster.service.questions.iter();
    let set = questions
        .clone()
        .position(|(_, question)| matches!(question, Question::Set { .. }));
    cluster.serve_question(set.unwrap(), Fate::Lost);
    cluster.settle();
    assert!(
        cluster.nodes[&n(1)].timers.contains_key(&Timer::Rollback),
        "it still waits"
    );
    cluster.fire(n(1), Timer::Rollback);
    cluster.rejoin(n(1));
    cluster.settle();
    assert_eq!(
        cluster.reply(request),
        Some(Reply::Refused(Refused::RolledBack))
    );
}

#[test]
fn a_writer_that_stepped_down_while_the_record_still_names_it_releases_the_role() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    cluster.write_one(n(1));
    cluster.settle();
    cluster.fire(n(1), Timer::Rollback); // A set is under way...
    cluster.fire(n(1), Timer::Release); // ...so that the role cannot be released now.
    assert_eq!(cluster.role_at(n(1)), None);
    let questions = cluster.service.questions.iter();
    let set = questions
        .clone()
        .position(|(_, question)| matches!(question, Question::Set { .. }));
    cluster.serve_question(set.unwrap(), Fate::Lost);
    cluster.settle();
    cluster.pass_rounds(20);
    let writer = cluster.writer();
    assert!(writer == Some(n(2)) || writer == Some(n(3)));
    cluster.assert_fine();
}

#[test]
fn an_elector_that_published_a_member_whose_session_ended_meanwhile_elects_again() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(3), Link::Cut);
    cluster.cut_off.insert(n(3));
    cluster.open_session(n(1));
    cluster.take_session_news(n(1));
    cluster.take_session_news(n(1));
    cluster.cut_off.insert(n(1)); // n2 alone can elect, and chooses n1 in its new session.
    let done = loop {
        let publishes = |(id, question): &(NodeId, Question)| {
            *id == n(2)
                && matches!(question, Question::Set { record, .. } if record.writer.is_some())
        };
        if let Some(set) = cluster.service.questions.iter().position(publishes) {
            cluster.serve_question(set, Fate::Answered);
            break cluster.node(n(2)).inbox.pop_back().unwrap();
        }
        assert!(cluster.settle_one());
    };
    assert_eq!(
        cluster.service.record.writer.map(|writer| writer.node),
        Some(n(1))
    );
    cluster.end_session(n(1));
    let seen = cluster.service.observe();
    cluster.input(n(2), Input::Record(seen)); // That this session is over overtakes the answer.
    cluster.service.questions.clear();
    cluster.input(n(2), done);
    cluster.pass_rounds(20);
    assert_eq!(cluster.writer(), Some(n(2)));
    cluster.assert_fine();
}

#[test]
fn an_older_look_at_a_session_that_has_ended_does_not_revive_it() {
    let mut cluster = cluster(3, 2);
    let before = cluster.service.observe();
    cluster.cut_off.insert(n(1));
    cluster.cut_off.insert(n(3));
    cluster.end_session(n(1));
    cluster.input(n(2), Input::Record(cluster.service.observe()));
    cluster.input(n(2), Input::Record(before));
    cluster.service.questions.clear();
    cluster.pass_rounds(20);
    assert_eq!(cluster.writer(), Some(n(2)));
    cluster.assert_fine();
}

/// Whoever missed the look at the ended session is told by the election that followed from it: otherwise a sealed answer from
/// before the end would get the member published in a session in which it cannot serve.
#[test]
fn an_election_tells_that_the_session_of_the_writer_before_it_has_ended() {
    let mut cluster = cluster(3, 2);
    cluster.end_session(n(1));
    let mut raised = cluster.service.observe();
    raised.revision += 1;
    raised.record.epoch = raised.record.epoch.next();
    let ended = raised.record.writer.take().unwrap();
    raised.writer_session = None;
    cluster.input(n(3), Input::Record(raised.clone()));
    raised.revision += 1;
    raised.record.writer = Some(ended);
    raised.writer_session = Some(ended.session); // An older look, with a newer record.
    cluster.input(n(3), Input::Record(raised));
    let seen = cluster.replica(n(3)).observed().unwrap();
    assert_eq!(seen.writer_session, None);
}
