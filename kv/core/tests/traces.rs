//! Golden transcripts: `traces/*.txt` are scripts with what they print. A line that starts with `> ` is a step; what
//! follows it is what the cluster did. `BLESS=1 cargo test -p kv-core --test traces` rewrites them.
//!
//! | step | what it does |
//! |---|---|
//! | `cluster 3 2` | three voters, write quorum two; n1 is the writer of e1 |
//! | `write n1` | a client writes at n1 |
//! | `deliver n1 n2` | the oldest message from n1 to n2 arrives |
//! | `sync n1` | the disk of n1 syncs everything |
//! | `isolate n1`, `rejoin n1`, `cut n1 n2`, `heal n1 n2` | links lose messages, or do no longer |
//! | `fire n1 Rollback` | a timer fires |
//! | `expire n1` | the session of n1 ends |
//! | `settle` | everything happens that needs no time |
//! | `logs` | shows the logs; what a member knows to be committed stands before the bar |

#![allow(
    clippy::unwrap_used,
    reason = "a harness is a test; what it unwraps must be there"
)]

#[allow(dead_code, reason = "each test binary uses a part of the harness")]
#[path = "harness/cluster.rs"]
mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::network::Link;
use harness::{Cluster, story, words};
use kv_core::{NodeId, Timer};

fn node(word: &str) -> NodeId {
    NodeId(word.strip_prefix('n').unwrap().parse().unwrap())
}

fn timer(word: &str) -> Timer {
    match word {
        "Heartbeat" => Timer::Heartbeat,
        "Release" => Timer::Release,
        "Rollback" => Timer::Rollback,
        "Seal" => Timer::Seal,
        _ => panic!("no timer is called {word}"),
    }
}

/// Performs a step.
fn perform(cluster: &mut Cluster, words: &[&str]) {
    match *words {
        ["write", id] => {
            cluster.write_one(node(id));
        }
        ["deliver", from, to] => {
            let (from, to) = (node(from), node(to));
            let flights = &cluster.network.flights;
            let oldest = flights
                .iter()
                .position(|flight| (flight.from, flight.to) == (from, to));
            cluster.deliver(oldest.expect("a message is on its way"));
        }
        ["sync", id] => cluster.sync(node(id), usize::MAX),
        ["isolate", id] => cluster.isolate(node(id), Link::Cut),
        ["rejoin", id] => cluster.rejoin(node(id)),
        ["cut", from, to] => cluster.network.set(node(from), node(to), Link::Cut),
        ["heal", from, to] => cluster.network.heal(node(from), node(to)),
        ["fire", id, name] => cluster.fire(node(id), timer(name)),
        ["expire", id] => cluster.end_session(node(id)),
        ["settle"] => cluster.settle(),
        ["logs"] => {
            for id in cluster.ids() {
                let node = &cluster.nodes[&id];
                let committed = usize::try_from(node.applied().0).unwrap();
                let line = format!("{id}: {}", words::log(&node.entries, committed));
                cluster.note(|| line);
            }
        }
        _ => panic!("no such step: {}", words.join(" ")),
    }
}

/// Runs the steps of a transcript and writes it anew.
fn rewrite(transcript: &str) -> String {
    let mut cluster = None;
    let mut lines = Vec::new();
    for line in transcript.lines() {
        let Some(step) = line.strip_prefix("> ") else {
            if line.starts_with('#') || line.is_empty() {
                lines.push(line.to_owned());
            }
            continue;
        };
        lines.push(line.to_owned());
        let words: Vec<_> = step.split(' ').collect();
        if let ["cluster", voter_count, write_quorum] = *words {
            let (voter_count, write_quorum) = (voter_count.parse(), write_quorum.parse());
            cluster = Some(story::cluster(voter_count.unwrap(), write_quorum.unwrap()));
            continue;
        }
        let cluster = cluster.as_mut().expect("the first step is `cluster`");
        cluster.transcript = Some(Vec::new());
        perform(cluster, &words);
        lines.extend(cluster.transcript.take().unwrap_or_default());
        cluster.assert_fine();
    }
    lines.join("\n") + "\n"
}

#[test]
fn every_transcript_is_what_the_cluster_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "vacuous: no transcript");
    for file in files {
        let before = fs::read_to_string(&file).unwrap();
        let now = rewrite(&before);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, now).unwrap();
        } else {
            assert!(
                before == now,
                "{} says now:\n{now}\n(BLESS=1 rewrites it)",
                file.display()
            );
        }
    }
}
