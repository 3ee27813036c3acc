//! Histories of others, with verdicts that others have found: every register of keys in the shared corpora.

use std::{fs, io::Write as _, path::Path};

use checker::{Guarantee, History, Limits, Verdict, check};
use serde_json::Value;

#[test]
fn the_corpora_are_judged_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora");
    let Ok(manifest) = fs::read_to_string(folder.join("manifest.json")) else {
        say_skipped(&folder);
        return;
    };
    let manifest: Vec<Value> = serde_json::from_str(&manifest).unwrap();
    let registers = manifest
        .iter()
        .filter(|entry| entry["model"] == "kv-register");
    let mut judged = [0, 0];
    for entry in registers {
        let file = entry["file"].as_str().unwrap();
        let history = History::read(&folder.join(file)).unwrap();
        let verdict = check(&history, &[], Guarantee::Linearizable, &Limits::default());
        match entry["expected"].as_str().unwrap() {
            "ok" => assert_eq!(verdict, Verdict::Holds, "{file}"),
            "bad" => assert!(verdict.is_violated(), "{file}: {verdict}"),
            other => panic!("{file} expects {other}, which says nothing"),
        }
        if let Verdict::Violated(evidence) = &verdict {
            println!("{file}: {evidence}");
            assert!(
                (2..=5).contains(&evidence.events.len()),
                "{file}: {evidence}"
            );
        }
        judged[usize::from(verdict.is_violated())] += 1;
    }
    assert!(
        judged[0] > 0 && judged[1] > 0,
        "vacuous: {judged:?} were judged right and wrong"
    );
}

#[test]
fn the_corpora_of_other_models_are_refused_and_not_guessed_at() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/etcd_000.jsonl");
    if !file.exists() {
        say_skipped(&file);
        return;
    }
    let message = History::read(&file).unwrap_err().to_string();
    assert!(message.contains("\"cas\" is not judged"), "{message}");
}

/// Says so past the capturing of output, since a test that passes is otherwise silent.
fn say_skipped(path: &Path) {
    let message = format!(
        "SKIPPED: {} is absent, so nothing of it was judged\n",
        path.display()
    );
    std::io::stderr()
        .write_all(message.as_bytes())
        .expect("stderr");
}
