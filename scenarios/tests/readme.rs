//! What the README and the pages in `docs/` show is what this commit produces.
//!
//! Goal: nobody reads a figure or a failure that the code does not give.
//! Method: the whole suite as `cargo sim` runs it, its matrix compared with the README's line by line (`BLESS=1` writes the
//! README anew); and each failure of `docs/faults.md` replayed from its file, under both protocols.
#![cfg(madsim)]

use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- matrix: written by scenarios/tests/readme.rs -->\n```text\n";
const END: &str = "```\n<!-- /matrix -->";

#[test]
fn the_matrix_in_the_readme_is_the_one_that_the_suite_gives() {
    let out = tempfile::tempdir().unwrap();
    let mut suite = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    let output = suite.arg("--out").arg(out.path()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    let first = lines
        .iter()
        .position(|line| line.trim_start().starts_with("read own"));
    let matrix = lines[first.expect("the matrix is printed")..].join("\n") + "\n";

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme
        .split_once(BEGIN)
        .expect("the README has a place for the matrix");
    let (shown, after) = rest.split_once(END).expect("the matrix in the README ends");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{matrix}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        shown, matrix,
        "run this test with BLESS=1 to write the README anew"
    );
}

#[test]
fn the_failures_in_the_docs_fail_under_none_and_hold_under_epoch() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults");
    for name in ["lost-write", "split-brain", "writer-with-amnesia"] {
        let file = docs.join(name).with_extension("toml");
        for (fencing, expected) in [("none", 1), ("epoch", 0)] {
            let mut replay = Command::new(env!("CARGO_BIN_EXE_scenarios"));
            replay.arg("replay").arg(&file).args(["--fencing", fencing]);
            let output = replay.output().unwrap();
            let story = String::from_utf8_lossy(&output.stdout);
            assert_eq!(
                output.status.code(),
                Some(expected),
                "{name}, {fencing}: {story}"
            );
        }
    }
}
