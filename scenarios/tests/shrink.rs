//! Shrinking, soaking and merging, through the program itself.
//!
//! Goal: what is written fails again by its file alone, what is found is kept, and a folder of another version is refused.
//! Method: the plain design in one scenario that it cannot survive; folders made by hand for what only merging needs.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use scenarios::scenario::Scenario;
use scenarios::soak::Finding;

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The folder of a soak that found something in those seeds, each with its form if it was shrunk.
fn soaked(folder: &Path, found: &[(u64, &str)]) {
    soaked_at("abc", folder, found);
}

fn soaked_at(commit: &str, folder: &Path, found: &[(u64, &str)]) {
    let version = format!(
        "{{\"format\": 2, \"program\": \"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("version.json"), version).unwrap();
    for (seed, form) in found {
        let finding = Finding {
            scenario: "calm".to_owned(),
            fencing: "epoch".to_owned(),
            seed: *seed,
            commit: commit.to_owned(),
            what: "linearizable".to_owned(),
            why: "because".to_owned(),
            form: (!form.is_empty()).then(|| (*form).to_owned()),
        };
        let of_seed = folder.join("found").join(finding.folder_name());
        fs::create_dir_all(&of_seed).unwrap();
        let finding = serde_json::to_string(&finding).unwrap();
        fs::write(of_seed.join("finding.json"), finding).unwrap();
    }
}

#[test]
fn merging_joins_failures_of_one_form() {
    let out = tempfile::tempdir().unwrap();
    let (one, two) = (out.path().join("one"), out.path().join("two"));
    soaked(&one, &[(1, "c0 set k0"), (2, "c0 get k0")]);
    soaked(&two, &[(9, "c0 set k0")]);
    let folders = [one.to_str().unwrap(), two.to_str().unwrap()];
    let merged = sim(&["merge", folders[0], folders[1], "--json"]);
    assert_eq!(merged.status.code(), Some(1), "{}", text(&merged.stderr));
    let kinds: serde_json::Value = serde_json::from_slice(&merged.stdout).unwrap();
    let counts: Vec<u64> = kinds
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [2, 1]);
    assert_eq!(kinds[0]["example"]["form"], "c0 set k0");
    let table = sim(&["merge", folders[0], folders[1]]);
    assert_eq!(text(&table.stdout).lines().count(), 5);
}

/// The counts of the kinds that merging those folders gives, into that folder if there is one.
fn counts(folders: &[&Path], out: Option<&Path>) -> Vec<u64> {
    let mut arguments = vec!["merge", "--json"];
    arguments.extend(folders.iter().map(|folder| folder.to_str().unwrap()));
    if let Some(out) = out {
        arguments.extend(["--out", out.to_str().unwrap()]);
    }
    let merged = sim(&arguments);
    assert!(
        matches!(merged.status.code(), Some(0 | 1)),
        "{}",
        text(&merged.stderr)
    );
    let kinds: Vec<serde_json::Value> = serde_json::from_slice(&merged.stdout).unwrap();
    let count = |kind: &serde_json::Value| kind["count"].as_u64().unwrap();
    kinds.iter().map(count).collect()
}

#[test]
fn a_joined_folder_counts_each_run_once_and_can_be_joined_again() {
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let (one, two, later) = (at("one"), at("two"), at("later"));
    soaked(&one, &[(1, "set"), (2, "set"), (3, "get"), (4, "")]);
    soaked(&two, &[(2, "set"), (4, "get"), (5, "set")]);
    soaked_at("def", &later, &[(1, "set")]); // The same seed of another program is another run.
    let (joined, again) = (at("joined"), at("again"));
    // Seeds 1, 2, 5; and 3, 4, of which one soak has a shrunk form.
    assert_eq!(counts(&[&one, &two], Some(&joined)), [3, 2]);
    assert_eq!(counts(&[&joined], None), [3, 2]);
    assert_eq!(counts(&[&joined, &later, &one], Some(&again)), [4, 2]);
    assert_eq!(counts(&[&again, &joined, &two, &again], None), [4, 2]);
    let names = fs::read_dir(again.join("found")).unwrap();
    assert_eq!(names.count(), 6);
}

#[test]
fn what_is_joined_goes_into_a_new_folder_or_nowhere() {
    let out = tempfile::tempdir().unwrap();
    let (one, joined) = (out.path().join("one"), out.path().join("joined"));
    soaked(&one, &[]);
    assert_eq!(counts(&[&one], Some(&joined)), [0; 0]);
    assert!(joined.join("version.json").exists(), "nothing was found");
    let [from, into] = [&one, &joined].map(|path| path.to_str().unwrap());
    let taken = sim(&["merge", from, "--out", into]);
    assert_eq!(taken.status.code(), Some(2));
    assert_eq!(
        text(&taken.stderr),
        format!(
            "error: {into} is there already, and what is joined would mix with it; name a new folder with --out\n"
        )
    );
    // Nobody finds half of a folder, and nothing is made where nothing can be read.
    let nowhere = out.path().join("nowhere");
    let damaged = one.join("found/x/finding.json");
    fs::create_dir_all(damaged.parent().unwrap()).unwrap();
    fs::write(damaged, "{").unwrap();
    let refused = sim(&["merge", from, "--out", nowhere.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 2, "{nowhere:?}");
}

#[test]
fn merging_refuses_what_is_no_folder_of_this_version() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("old");
    soaked(&folder, &[(1, "c0 set k0")]);
    let refusal = |why: &str| {
        let refused = sim(&["merge", folder.to_str().unwrap()]);
        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains(why), "{message}");
    };
    let damaged = folder.join("found/calm-epoch-1-abc/finding.json");
    fs::write(damaged, "{").unwrap();
    refusal("finding.json: EOF while parsing");
    let version = folder.join("version.json");
    fs::write(&version, "{\"format\": 7, \"program\": \"9.9.9\"}").unwrap();
    refusal("was written by version 9.9.9 (format 7) and this is ");
    fs::remove_file(&version).unwrap();
    refusal("is no folder of a soak: it has no version.json");
}

#[test]
fn a_script_survives_being_written_and_what_is_wrong_with_one_is_one_line() {
    let file =
        |script: &str| format!("name = \"x\"\n[workload]\nduration = \"9s\"\nscript = {script}\n");
    let good = file(
        "[{ at = \"2s\", client = 1, get = \"k0\", level = \"quorum\" }, { at = \"1s\", client = 0, set = \"k15\" }]",
    );
    let scenario = Scenario::parse("x", "x.toml", &good).unwrap();
    assert_eq!(scenario.workload.script[0].operation(), "set k15");
    assert_eq!(scenario.workload.min_ok, 0);
    let again = Scenario::parse("x", "x.toml", &scenario.to_toml()).unwrap();
    assert_eq!(scenario, again);
    for (script, why) in [
        ("[]", "script is 0 operations long; allowed: 1 to"),
        (
            "[{ at = \"9s\", client = 0, get = \"k0\" }]",
            "at is not before the end of the workload (9s)",
        ),
        (
            "[{ at = \"1s\", client = 8, get = \"k0\" }]",
            "client is 8; allowed: 0 to 7",
        ),
        (
            "[{ at = \"1s\", client = 0, get = \"k16\" }]",
            "the key is \"k16\"; allowed: \"k0\" to \"k15\"",
        ),
        (
            "[{ at = \"1s\", client = 0 }]",
            "a step of the script needs exactly one of get, set, delete; it has none",
        ),
        (
            "[{ at = \"1s\", client = 0, set = \"k0\", level = \"lease\" }]",
            "level is about reads",
        ),
        (
            "[{ at = \"1s\", client = 0, get = \"k0\", level = \"best\" }]",
            "allowed: lease, quorum, local, replica",
        ),
        (
            "[{ at = \"1s\", client = 0, get = \"k0\" }]\nops_per_second = 1.0",
            "ops_per_second makes no sense beside script",
        ),
    ] {
        let refused = Scenario::parse("x", "x.toml", &file(script)).unwrap_err();
        let message = refused.to_string();
        assert!(
            message.contains(why) && !message.contains('\n'),
            "{message}"
        );
        assert!(message.starts_with("x.toml:"), "{message}");
    }
}

#[cfg(madsim)]
#[test]
fn a_shrunk_file_fails_by_itself() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("small.toml");
    let name = file.to_str().unwrap();
    let plain = ["--seed", "1", "--fencing", "none"];
    let shrunk = sim(&[&["shrink", "pause-past-lease", "--out", name], &plain[..]].concat());
    assert_eq!(shrunk.status.code(), Some(0), "{}", text(&shrunk.stderr));
    let small = Scenario::load(&file).unwrap();
    let operations = small.workload.script.len();
    assert!(
        (1..10).contains(&operations) && small.faults.len() <= 2,
        "{}",
        text(&shrunk.stdout)
    );
    let seed = small.seed.unwrap().to_string();
    // The file expects the violation: exit code 0 means that it was there.
    let runs = out.path().join("runs");
    let runs = runs.to_str().unwrap();
    let again = sim(&[
        "run",
        name,
        "--seed",
        &seed,
        "--fencing",
        "none",
        "--out",
        runs,
    ]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    let story = sim(&["replay", name, "--around", "verdict"]);
    assert_eq!(story.status.code(), Some(1));
    let story = text(&story.stdout);
    assert!(
        story.contains("\n>>") && !story.contains('\u{1b}'),
        "{story}"
    );
    for nothing in [
        &["shrink", "calm", "--seed", "1"][..],
        &["replay", "calm", "--seed", "1", "--around", "verdict"],
    ] {
        let refused = sim(nothing);
        assert_eq!(refused.status.code(), Some(2));
        assert_eq!(text(&refused.stderr).lines().count(), 1);
    }
}

#[cfg(madsim)]
#[test]
fn a_soak_keeps_what_it_finds_and_goes_on_only_in_its_own_folder() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("broken.toml");
    let broken = "name = \"x\"\n[workload]\nduration = \"20s\"\nmin_ok = 0\n[[fault]]\nat = \"4s\"\npause = \"writer(0)\"\n\
                  until = \"12s\"\n[expect.none]\nlinearizable = \"holds\"\n";
    fs::write(&file, broken).unwrap();
    let folder = out.path().join("soak");
    let soak = |scenario: &str| {
        let into = folder.to_str().unwrap();
        let flags = [
            "--fencing",
            "none",
            "--start",
            "2", // Three seeds in a row that break it.
            "--runs",
            "3",
            "--out",
            into,
        ];
        sim(&[&["soak", scenario], &flags[..]].concat())
    };
    let soaked = soak(file.to_str().unwrap());
    assert_eq!(soaked.status.code(), Some(1), "{}", text(&soaked.stderr));
    let told = text(&soaked.stdout);
    assert!(told.starts_with("soak: seeds from 2, part 0/1"), "{told}");
    assert!(told.contains("\n3 runs in 00:00:"), "{told}");
    assert!(told.contains(" 3 found, seeds 2 to 4\n"), "{told}");
    assert!(told.contains(&format!("\nkept in {}/found\n", folder.display())));
    let first = fs::read_dir(folder.join("found")).unwrap().next().unwrap();
    let first = first.unwrap().path();
    for file in ["scenario.toml", "shrunk.toml"] {
        assert!(Scenario::load(&first.join(file)).unwrap().seed.is_some());
    }
    let merged = sim(&["merge", folder.to_str().unwrap()]);
    assert_eq!(merged.status.code(), Some(1));
    fs::write(
        folder.join("version.json"),
        "{\"format\": 0, \"program\": \"0\"}",
    )
    .unwrap();
    let refused = soak("calm");
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(text(&refused.stdout), "");
    assert_eq!(text(&refused.stderr).lines().count(), 1);
}

/// The signal comes when it likes: between two runs, inside of one, or while one is made smaller.
#[cfg(all(madsim, unix))]
#[test]
fn a_soak_that_is_told_to_stop_sums_up() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    let plain = &[
        "pause-past-lease",
        "--fencing",
        "none",
        "--keep",
        "violated",
    ];
    for (signal, flags, code, found) in [
        ("-INT", &["calm"][..], 0, " 0 found"),
        ("-TERM", plain, 1, "kept in "),
    ] {
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
        command
            .arg("soak")
            .args(flags)
            .args(["--start", "1", "--out"]);
        command.arg(out.path()).stdout(Stdio::piped());
        let mut soak = command.spawn().unwrap();
        let mut printed = BufReader::new(soak.stdout.take().unwrap());
        let mut first = String::new();
        printed.read_line(&mut first).unwrap();
        assert!(first.starts_with("soak: seeds from 1"), "{first}");
        // Something is found as soon as there is a folder for it.
        while code == 1 && !out.path().join("found").exists() {
            std::thread::yield_now();
        }
        let mut kill = Command::new("kill");
        let sent = kill.arg(signal).arg(soak.id().to_string()).status();
        assert!(sent.unwrap().success());
        let mut rest = String::new();
        printed.read_to_string(&mut rest).unwrap();
        assert_eq!(soak.wait().unwrap().code(), Some(code), "{rest}");
        assert!(
            rest.contains(" runs in 00:00:") && rest.contains(found),
            "{rest}"
        );
    }
}
