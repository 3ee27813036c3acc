//! Small histories with known verdicts: `testdata/GUARANTEE.VERDICT.what_it_shows.jsonl`.
//!
//! Beside a history, `….events.jsonl` holds what the nodes recorded. Each guarantee is shown to fire on planted
//! violations, and to keep still on histories that look nearly like them.

use std::{collections::BTreeMap, fs, path::Path};

use checker::{Guarantee, History, Limits, NodeEvent, Verdict, check};

#[test]
fn every_known_history_gets_its_verdict() {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut wrong: Vec<String> = Vec::new();
    for path in histories() {
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let mut parts = name.split('.').map(str::to_owned);
        let (Some(guarantee), Some(expected)) = (parts.next(), parts.next()) else {
            panic!("{name} does not tell guarantee and verdict");
        };
        let verdict = judge(&path, guarantee.parse().unwrap());
        println!("{name}\n  {verdict}\n");
        if verdict.word() != expected {
            wrong.push(format!("{name}: {verdict}"));
        }
        if let Verdict::Violated(evidence) = &verdict
            && !(2..=5).contains(&evidence.events.len())
        {
            wrong.push(format!(
                "{name} is not proven by two to five events: {evidence}"
            ));
        }
        *counts.entry((guarantee, expected)).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for guarantee in Guarantee::ALL {
        let planted = |verdict: &str| {
            counts
                .get(&(guarantee.to_string(), verdict.to_owned()))
                .copied()
                .unwrap_or(0)
        };
        assert!(planted("violated") >= 3, "{guarantee} is not shown to fire");
        assert!(
            planted("holds") >= 2,
            "{guarantee} is not shown to keep still"
        );
    }
}

#[test]
fn a_wrong_verdict_would_be_noticed() {
    let path = folder().join("linearizable.violated.a_stale_read.jsonl");
    assert_ne!(judge(&path, Guarantee::Linearizable).word(), "holds");
}

fn judge(path: &Path, guarantee: Guarantee) -> Verdict {
    let history = History::read(path).expect("a readable history");
    let beside = path.with_extension("events.jsonl");
    let events = if beside.exists() {
        NodeEvent::read_all(&beside).expect("readable events")
    } else {
        Vec::new()
    };
    check(&history, &events, guarantee, &Limits::default())
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn histories() -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder testdata");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| !path.to_string_lossy().ends_with(".events.jsonl"));
    paths.sort();
    paths
}
