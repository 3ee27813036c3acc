//! R1, R4, R5, R21: what stands in a log, and what may leave it.

use kv_core::{Body, Epoch, Notable, Offset, Timer, Version, follows};

use crate::harness::network::Link;
use crate::harness::story::{cluster, entry, message, n, prepare, version};

#[test]
fn r1_a_writer_uses_an_offset_once_in_an_epoch_even_across_a_rollback() {
    let mut cluster = cluster(3, 2);
    cluster.isolate(n(1), Link::Cut);
    cluster.write_one(n(1));
    cluster.settle();
    assert_eq!(cluster.end_at(n(1)), version(1, 2));
    cluster.fire(n(1), Timer::Rollback);
    cluster.settle();
    assert_eq!(
        cluster.end_at(n(1)),
        version(2, 2),
        "the place is free, the name is not"
    );
    cluster.assert_fine();
}

#[test]
fn r1_a_restarted_process_never_resumes_the_epoch_in_which_it_wrote() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(1));
    cluster.write_one(n(1)); // 1.2 is on the disks of n2 and n3, and not on that of n1.
    cluster.settle();
    cluster.crash(n(1));
    cluster.start(n(1));
    cluster.settle();
    let record = cluster.service.record.clone();
    assert_eq!(
        record.writer.map(|writer| writer.node),
        Some(n(1)),
        "the old session is not over"
    );
    assert_eq!(
        cluster.role_at(n(1)),
        None,
        "it would give the name 1.2 to something else"
    );
    cluster.open_session(n(1));
    cluster.settle();
    assert_ne!(cluster.role_at(n(1)), Some(Epoch(1)));
    let writer = cluster.writer().unwrap();
    assert_eq!(
        cluster.end_at(writer),
        version(2, 3),
        "1.2 was found and stays"
    );
    cluster.assert_fine();
}

#[test]
fn r4_a_replica_that_does_not_hold_prev_refuses_and_the_writer_steps_back_to_it() {
    let mut cluster = cluster(3, 2);
    cluster.network.set(n(1), n(3), Link::Cut);
    for _ in 0..3 {
        cluster.must_write(n(1));
    }
    assert_eq!(cluster.end_at(n(3)), version(1, 1));
    cluster.network.heal(n(1), n(3));
    cluster.inject(n(1), n(3), prepare(1, version(1, 4), Vec::new(), 4));
    let refused = |body: &Body| {
        *body
            == Body::Refused {
                prev: version(1, 4),
                hint: version(1, 1),
            }
    };
    assert!(cluster.is_sent(n(3), n(1), refused));
    cluster.settle();
    assert_eq!(cluster.end_at(n(3)), version(1, 4));
    cluster.assert_fine();
}

#[test]
fn r4_a_prepare_that_ends_earlier_shortens_nothing() {
    let mut cluster = cluster(3, 2);
    cluster.must_write(n(1));
    let early = prepare(
        1,
        version(1, 1),
        vec![cluster.nodes[&n(1)].entry(Offset(2)).clone()],
        1,
    );
    cluster.must_write(n(1));
    cluster.inject(n(1), n(2), early); // It was overtaken by everything that came after it.
    assert_eq!(cluster.end_at(n(2)), version(1, 3));
    assert!(!cluster.has_noted(n(2), |notable| matches!(notable, Notable::Truncated { .. })));
    cluster.assert_fine();
}

#[test]
fn r4_only_what_really_conflicts_is_removed() {
    let mut cluster = cluster(3, 2);
    let old = vec![entry(1, 2, "2"), entry(1, 3, "3")];
    cluster.inject(n(1), n(2), prepare(1, version(1, 1), old, 1));
    let new = vec![entry(1, 2, "2"), entry(2, 3, "4")];
    cluster.inject(n(3), n(2), prepare(2, version(1, 1), new, 1));
    let truncated: Vec<_> = cluster
        .notables
        .iter()
        .filter_map(|(_, notable)| match notable {
            Notable::Truncated { after } => Some(*after),
            _ => None,
        })
        .collect();
    assert_eq!(truncated, [Offset(2)], "1.2 was verified and stays");
    assert_eq!(cluster.end_at(n(2)), version(2, 3));
}

#[test]
fn r4_prepared_names_what_was_verified_and_not_the_end_of_the_log() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(2));
    cluster.inject(
        n(1),
        n(2),
        prepare(1, version(1, 1), vec![entry(1, 2, "2")], 1),
    );
    cluster.sync(n(2), 1);
    cluster.network.flights.clear();
    cluster.inject(n(3), n(2), prepare(2, version(1, 1), Vec::new(), 1));
    cluster.sync(n(2), 1);
    assert_eq!(cluster.end_at(n(2)), version(1, 2), "nothing conflicts yet");
    let prepared = Body::Prepared {
        upto: Offset(1),
        committed: Offset(1),
    };
    assert_eq!(cluster.network.on_link(n(2), n(3)), [message(2, prepared)]);
}

#[test]
fn r4_prepared_waits_for_the_disk() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(2));
    cluster.network.set(n(1), n(3), Link::Cut);
    let request = cluster.write_one(n(1));
    cluster.settle();
    assert!(
        !cluster.is_written(request),
        "a crash of n2 would leave one copy"
    );
    cluster.sync(n(2), 1);
    cluster.settle();
    assert!(cluster.is_written(request));
}

#[test]
fn r4_an_entry_that_went_and_came_back_counts_only_when_it_is_synced_again() {
    let mut cluster = cluster(3, 2);
    cluster.slow_disks.insert(n(3));
    // The entry 2.2 comes, is replaced by 3.2, and comes back from a writer that rolls it forward.
    cluster.inject(
        n(1),
        n(3),
        prepare(2, version(1, 1), vec![entry(2, 2, "2")], 1),
    );
    cluster.inject(
        n(2),
        n(3),
        prepare(3, version(1, 1), vec![entry(3, 2, "3")], 1),
    );
    cluster.inject(
        n(1),
        n(3),
        prepare(4, version(1, 1), vec![entry(2, 2, "2")], 1),
    );
    cluster.network.flights.clear();
    // Promise 2, append, promise 3, truncate, append, promise 4: the disk has 3.2 now.
    cluster.sync(n(3), 6);
    assert_eq!(cluster.nodes[&n(3)].disk.entries[1].version, version(3, 2));
    let claims = |body: &Body| matches!(body, Body::Prepared { upto, .. } if *upto == Offset(2));
    assert!(
        !cluster.is_sent(n(3), n(1), claims),
        "a crash now would lose 2.2"
    );
    cluster.sync(n(3), 2);
    assert!(cluster.is_sent(n(3), n(1), claims));
    cluster.assert_fine();
}

#[test]
fn r5_a_member_keeps_what_it_knows_to_be_committed_whatever_it_is_told() {
    let mut cluster = cluster(3, 2);
    cluster.must_write(n(1));
    assert_eq!(cluster.committed_at(n(2)), Offset(2));
    cluster.inject(
        n(3),
        n(2),
        prepare(9, version(1, 1), vec![entry(9, 2, "7")], 1),
    );
    let (offset, from) = (Offset(2), n(3));
    assert!(cluster.has_noted(n(2), |notable| *notable
        == Notable::Contradicted { offset, from }));
    assert_eq!(cluster.end_at(n(2)), version(1, 2));
}

#[test]
fn r21_recovery_stops_where_old_bytes_follow_new_ones() {
    // A log of 1.1 1.2 1.3 was truncated after 1.1; 2.2 was written over 1.2, and 1.3 still stands behind it.
    let on_disk = [version(1, 1), version(2, 2), version(1, 3)];
    let mut last = Version::ZERO;
    let recovered = on_disk.iter().take_while(|next| {
        let accepted = follows(last, **next);
        last = **next;
        accepted
    });
    assert_eq!(recovered.count(), 2);
}
