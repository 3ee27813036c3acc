//! `kv serve --config`: what a file says, what flags say over it, and what is said about a wrong one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::path::{Path, PathBuf};
use std::process::Output;

#[path = "processes/served.rs"]
mod served;

use served::{Served, free_address, kv, refusal};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kv.example.toml")
}

fn print_config(file: &Path, flags: &[&str]) -> Output {
    let mut command = kv();
    command
        .args(["serve", "--print-config", "--config"])
        .arg(file);
    command.args(flags).output().unwrap()
}

/// What is printed for a file that is in order.
fn printed(file: &Path, flags: &[&str]) -> toml::Table {
    let output = print_config(file, flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).parse().unwrap()
}

fn written(folder: &Path, settings: &str) -> PathBuf {
    let file = folder.join("kv.toml");
    std::fs::write(&file, settings).unwrap();
    file
}

/// The line that a wrong file is refused with.
fn refused(settings: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = print_config(&written(folder.path(), settings), &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    let line = refusal(output.status.code(), text(&output.stderr));
    assert!(line.contains("kv.toml"), "{line}");
    line
}

/// Fails when a setting has no line in the example, or one there is gone or has another default.
#[test]
fn the_example_says_every_setting_and_its_default() {
    let folder = tempfile::tempdir().unwrap();
    let least = written(folder.path(), "node.data = \"data\"");
    let mut example = printed(&example(), &[]);
    let mut defaults = printed(&least, &[]);
    for settings in [&mut example, &mut defaults] {
        let node = settings["node"].as_table_mut().unwrap();
        let data = node.remove("data").unwrap();
        assert!(data.as_str().unwrap().ends_with("data"), "{data}");
    }
    assert_eq!(example, defaults);
    // A setting without a default is there as a comment.
    let lines = std::fs::read_to_string(self::example()).unwrap();
    for (section, keys) in &defaults {
        let keys = keys.as_table().unwrap().keys();
        for key in keys {
            let there = lines
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")));
            assert!(there, "{section}.{key} is not in the example");
        }
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "--node-id",
        "7",
        "--engine",
        "memory",
        "--listen",
        "127.0.0.1:7007",
    ];
    let once = printed(&example(), &flags);
    let again = printed(&written(folder.path(), &once.to_string()), &[]);
    assert_eq!(once, again);
}

#[test]
fn a_flag_counts_more_than_the_file_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(
        folder.path(),
        "[node]\nid = 3\ndata = \"here\"\nlisten = \"127.0.0.1:7003\"\n[storage]\ncache = \"8MiB\"\ncheckpoint = \"9MiB\"\n",
    );
    let settings = printed(&file, &["--engine-cache-mib", "5", "--node-id", "4"]);
    assert_eq!(settings["node"]["id"].as_integer(), Some(4));
    assert_eq!(settings["node"]["listen"].as_str(), Some("127.0.0.1:7003"));
    assert_eq!(settings["storage"]["cache"].as_str(), Some("5MiB"));
    assert_eq!(settings["storage"]["checkpoint"].as_str(), Some("9MiB"));
    let data = settings["node"]["data"].as_str().unwrap();
    assert_eq!(Path::new(data), folder.path().join("here"));
}

#[test]
fn a_node_runs_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let settings = format!("[node]\nid = 5\ndata = \"data\"\nlisten = \"{address}\"\n");
    let file = written(folder.path(), &settings);
    let node = Served::run(kv().args(["serve", "--config"]).arg(&file)).wait();
    let ask = |words: &[&str]| {
        let mut command = kv();
        command
            .args(words)
            .args(["--node", &address, "--timeout", "20s"]);
        command.output().unwrap()
    };
    let set = ask(&["set", "greeting", "hello"]);
    assert!(set.status.success(), "{set:?}");
    let info = ask(&["info"]);
    assert!(text(&info.stdout).contains("n5"), "{info:?}");
    node.kill();
    assert!(folder.path().join("data/node").is_dir());
}

#[test]
fn a_node_tells_what_happens_as_json_if_it_shall() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let settings = format!(
        "[node]\ndata = \"data\"\nlisten = \"{address}\"\n[log]\nformat = \"json\"\nlevel = \"kv=debug\"\n"
    );
    let file = written(folder.path(), &settings);
    let told = folder.path().join("told");
    let mut command = kv();
    command.args(["serve", "--config"]).arg(&file);
    command.stderr(std::fs::File::create(&told).unwrap());
    command.stdout(std::process::Stdio::null());
    let mut node = command.spawn().unwrap();
    let started = std::time::Instant::now();
    let lines = loop {
        let lines = std::fs::read_to_string(&told).unwrap();
        if lines.contains("\"promoted\"") || started.elapsed() > std::time::Duration::from_secs(30)
        {
            break lines;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    node.kill().unwrap();
    node.wait().unwrap();
    let whole = lines.rsplit_once('\n').unwrap().0;
    let events = whole.lines().filter(|line| line.starts_with('{'));
    let events: Vec<serde_json::Value> = events
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| {
        let event = events.iter().find(|event| event["event"] == name);
        event.unwrap_or_else(|| panic!("no {name}: {lines}"))
    };
    assert_eq!(of("started")["node"], 1);
    assert_eq!(of("promoted")["epoch"], 1);
    assert_eq!(of("promised")["level"], "DEBUG");
}

#[test]
fn every_mistake_names_its_place_its_value_and_what_is_allowed() {
    let data = "[node]\ndata = \"d\"\n";
    for (settings, says) in [
        ("node = 5", &["line 1", "`node`", "integer `5`"][..]),
        ("[node\n", &["line 1"]),
        ("[nodes]\n", &["line 1", "`nodes`", "`node`", "`storage`"]),
        (
            "\n[storage]\ncash = \"1MiB\"",
            &["line 3", "`cash`", "`cache`"],
        ),
        (
            "[storage]\ncache = 64",
            &["line 2", "`cache`", "integer `64`", "\"8KiB\""],
        ),
        (
            "[storage]\ncache = \"64\"",
            &["line 2", "`cache`", "\"64\"", "KiB"],
        ),
        (
            "[storage]\nengine = \"x\"",
            &["line 2", "\"x\"", "memory, redb"],
        ),
        ("[cluster]\nfencing = \"x\"", &["line 2", "`x`", "`epoch`"]),
        (
            "[timing]\nseal = \"4\"",
            &["line 2", "`seal`", "\"4\"", "ms"],
        ),
        ("", &["node.data is not set", "--data"]),
        ("[node]\ndata = \"d\"\nid = 0", &["node.id is 0", "from 1"]),
        (
            "[node]\ndata = \"d\"\nlisten = \"x\"",
            &["node.listen is \"x\"", "HOST:PORT"],
        ),
        (
            "[node]\ndata = \"d\"\nlisten = \"0.0.0.0:7001\"",
            &["node.advertise", "every address", "--advertise"],
        ),
        (
            &format!("{data}[storage]\ncache = \"0B\""),
            &["storage.cache is 0B", "1MiB to 1024GiB"],
        ),
        (
            &format!("{data}[timing]\nseal = \"2h\""),
            &["timing.seal is 2h", "1ms to 1h"],
        ),
        (
            &format!("{data}[timing]\nrelease = \"100ms\""),
            &[
                "timing.release is 100ms",
                "more than timing.heartbeat, which is 300ms",
            ],
        ),
        (
            &format!("{data}[coordination]\nsession_timeout = \"0us\""),
            &["coordination.session_timeout is 0us", "1ms to 1h"],
        ),
        (
            &format!("{data}[cluster]\nreplication_factor = 3\nwrite_quorum = 4"),
            &["cluster.write_quorum is 4", "1 to 3"],
        ),
        (
            &format!("{data}[cluster]\nreplication_factor = 3"),
            &["cluster.replication_factor is 3", "zookeeper"],
        ),
        (
            &format!("{data}[coordination]\nkind = \"zookeeper\""),
            &["coordination.servers is not set", "zk1:2181"],
        ),
        (
            &format!("{data}[coordination]\nservers = \"a:1\""),
            &["coordination.servers is \"a:1\"", "zookeeper"],
        ),
    ] {
        let line = refused(settings);
        for word in says {
            assert!(line.contains(word), "{word} is not in: {line}");
        }
    }
}

/// Plain text and open doors are for this machine only, unless the operator says otherwise.
#[test]
fn a_node_is_not_opened_to_the_world_by_accident() {
    let open = "[node]\ndata = \"d\"\nlisten = \"10.0.0.1:7001\"\n";
    let tls = "[tls]\ncert = \"c\"\nkey = \"k\"\n";
    let zookeeper = "[coordination]\nkind = \"zookeeper\"\nservers = \"zk:2181\"\n";
    for (settings, says) in [
        (open.to_owned(), "plain text"),
        (format!("{open}{tls}"), "any client could come"),
        (format!("{open}{tls}{zookeeper}"), "tls.peer_ca is not set"),
        (
            format!("{open}[auth]\nclient_tokens_file = \"t\"\n{zookeeper}"),
            "auth.peer_token_file is not set",
        ),
        (
            "[node]\ndata = \"d\"\n[http]\nlisten = \"0.0.0.0:8001\"\n".to_owned(),
            "http.listen is 0.0.0.0:8001",
        ),
        (
            "[node]\ndata = \"d\"\n[tls]\ncert = \"c\"\n".to_owned(),
            "tls.key is not set",
        ),
        (
            "[node]\ndata = \"d\"\n[tls]\nkey = \"k\"\n".to_owned(),
            "tls.cert is not set",
        ),
        (
            "[node]\ndata = \"d\"\n[tls]\npeer_ca = \"c\"\n".to_owned(),
            "tls.cert is not set",
        ),
        (
            "[node]\ndata = \"d\"\n[limits]\nconnections = 0\n".to_owned(),
            "limits.connections is 0; allowed: 1 to 1000000",
        ),
        (
            "[node]\ndata = \"d\"\n[limits]\nhandshake_timeout = \"5m\"\n".to_owned(),
            "limits.handshake_timeout is 5m; allowed: 100ms to 1m",
        ),
        (
            "[node]\ndata = \"d\"\n[limits]\nrequest_bytes = \"1B\"\n".to_owned(),
            "limits.request_bytes is 1B; allowed: 2MiB",
        ),
    ] {
        let line = refused(&settings);
        assert!(line.contains(says), "{says} is not in: {line}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), open);
    let settings = printed(&file, &["--insecure"]);
    assert_eq!(settings["auth"]["insecure"].as_bool(), Some(true));
    let asks = "[auth]\nclient_tokens_file = \"tokens\"\n";
    let file = written(folder.path(), &format!("{open}{tls}{asks}"));
    let settings = printed(&file, &[]);
    let tokens = settings["auth"]["client_tokens_file"].as_str().unwrap();
    assert_eq!(Path::new(tokens), folder.path().join("tokens"));
}

#[test]
fn a_node_with_certificates_and_tokens_serves_the_command_line_and_shows_no_secret() {
    const TOKEN: &str = "correct-horse-battery-staple";
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let make = || kv().args(["certs", "--out"]).arg(&certs).output().unwrap();
    assert!(make().status.success());
    let again = make();
    let line = refusal(again.status.code(), text(&again.stderr));
    assert!(line.contains("peer-ca.pem is there already"), "{line}");

    let address = free_address();
    std::fs::write(folder.path().join("tokens"), TOKEN).unwrap();
    let settings = format!(
        "[node]\ndata = \"data\"\nlisten = \"{address}\"\n\
         [tls]\ncert = \"certs/node-1.pem\"\nkey = \"certs/node-1.key\"\n\
         peer_ca = \"certs/peer-ca.pem\"\nclient_ca = \"certs/client-ca.pem\"\n\
         [auth]\nclient_tokens_file = \"tokens\"\n"
    );
    let file = written(folder.path(), &settings);
    let shown = print_config(&file, &[]);
    assert!(!text(&shown.stdout).contains(TOKEN) && !text(&shown.stderr).contains(TOKEN));
    let node = Served::run(kv().args(["serve", "--config"]).arg(&file)).wait();
    let ask = |words: &[&str], flags: &[(&str, &str)]| {
        let mut command = kv();
        command
            .args(words)
            .args(["--node", &address, "--timeout", "20s"]);
        for (flag, name) in flags {
            command.arg(flag).arg(folder.path().join(name));
        }
        command.output().unwrap()
    };
    let ca = ("--tls-ca", "certs/peer-ca.pem");
    let token = ("--token-file", "tokens");
    let cert = ("--tls-cert", "certs/client.pem");
    let key = ("--tls-key", "certs/client.key");
    let set = ask(&["set", "a", "1"], &[ca, token]);
    assert!(set.status.success(), "{set:?}");
    let get = ask(&["get", "a"], &[ca, cert, key]);
    assert_eq!(text(&get.stdout), "1\n", "{get:?}");
    let info = ask(&["info"], &[ca, cert, key]);
    assert!(text(&info.stdout).contains("writer"), "{info:?}");
    for (flags, says) in [
        (&[ca][..], "show a token"),
        (
            &[("--tls-ca", "certs/client-ca.pem"), token][..],
            "invalid peer certificate",
        ),
    ] {
        let refused = ask(&["get", "a"], flags);
        let line = refusal(refused.status.code(), text(&refused.stderr));
        assert!(line.contains(says), "{line}");
    }
    let plain = ask(&["get", "a"], &[token]);
    let line = refusal(plain.status.code(), text(&plain.stderr));
    assert!(line.contains("no node answers"), "{line}");
    assert!(text(&plain.stderr).contains("--tls-ca"), "{plain:?}");
    let said = node.kill_and_read();
    assert!(!said.contains(TOKEN), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = print_config(Path::new("never-made.toml"), &[]);
    let line = refusal(output.status.code(), text(&output.stderr));
    assert!(line.contains("never-made.toml"), "{line}");
}
