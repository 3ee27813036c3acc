//! Whatever bytes come in, parsing and judging end in a verdict or an error, never in a panic.

use proptest::prelude::*;

#[path = "../../kv/fuzz/bodies/history.rs"]
mod body;

use body::judge;

fn mostly(
    good: &[&'static str],
    bad: &[&'static str],
) -> impl Strategy<Value = &'static str> + Clone + use<> {
    prop_oneof![40 => prop::sample::select(good.to_vec()), 1 => prop::sample::select(bad.to_vec())]
}

/// Lines that are nearly right, so that the damage reaches every part of the parser and of the checks.
fn line() -> impl Strategy<Value = String> {
    let process = 0..3u64;
    let kind = mostly(&["invoke", "ok", "fail", "info"], &["maybe"]);
    let f = mostly(&["read", "write", "delete"], &["cas"]);
    let value = mostly(
        &["null", "1", "2", "\"x\"", "[1,[2]]", "{\"a\":{}}", "-0.0"],
        &["1e400", ""],
    );
    let version = ",\"version\":[18446744073709551615,18446744073709551615],\"shard\":4294967295";
    let more = mostly(
        &[
            "",
            ",\"version\":[1,2]",
            version,
            ",\"level\":\"replica\",\"token\":[0,0]",
            ",\"node\":1,\"shard\":0,\"version\":[0,0]",
            ",\"session\":1",
        ],
        &[",\"version\":[1]", ",\"index\":18446744073709551615"],
    );
    (process, kind, f, value, more).prop_map(|(process, kind, f, value, more)| {
        format!("{{\"process\":{process},\"type\":\"{kind}\",\"f\":\"{f}\",\"key\":\"a\",\"value\":{value},\"time\":0{more}}}")
    })
}

fn node_line() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec![
        "shard",
        "synced",
        "committed",
        "acknowledged",
        "truncated",
        "started",
        "lost",
        "final_log",
        "promoted",
        "links",
        "probe",
        "healed",
        "final_state",
        "other",
    ]);
    let number = mostly(&["0", "1", "2", "18446744073709551615"], &["-1", "null"]);
    let node = mostly(&["1", "2", "1"], &["null"]);
    (kind, node, number.clone(), number).prop_map(|(kind, node, a, b)| {
        format!(
            "\"node\":{node},\"time\":{a},\"event\":\"{kind}\",\"shard\":0,\"epoch\":{a},\"offset\":{b},\"after\":{b},\
             \"chain\":1,\"members\":[1,{a}],\"voters\":[1],\"write_quorum\":1,\"writer\":1,\
             \"runs\":[[{a},{b},{a}]],\"committed\":{b},\"down\":[{a}],\"cut\":[[{a},1],[1,{b}]],\
             \"grace_ns\":{b},\"session\":{a},\"key\":\"a\",\"within_ns\":{b},\"digest\":{a},\
             \"live\":true,\"quiet_ns\":{b}}}"
        )
    })
}

/// The operation of a line as a whole, by a process of its own.
fn answered(process: usize, line: &str) -> String {
    let line = line.split_once(',').map_or(line, |(_, rest)| rest);
    let with = |kind: &str| {
        line.replace("maybe", kind)
            .replace("invoke", kind)
            .replace("cas", "read")
    };
    let invoke = with("invoke")
        .replace("\"ok\"", "\"invoke\"")
        .replace("fail", "invoke")
        .replace("info", "invoke");
    let index = |at: usize| format!("{{\"process\":{process},\"index\":{at},");
    // An index of the line's own would be a second field of that name.
    let plain = |text: String| text.replace(",\"index\":18446744073709551615", "");
    format!(
        "{}{}\n{}{}\n",
        index(process * 2),
        plain(invoke),
        index(process * 2 + 1),
        plain(with("ok"))
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(history: Vec<u8>, events: Vec<u8>) {
        judge(&history, &events);
    }

    #[test]
    fn nearly_right_lines_never_panic(
        lines in prop::collection::vec(line(), 0..12),
        nodes in prop::collection::vec(node_line(), 0..12),
        cut in 0..200usize,
    ) {
        let mut text = lines.join("\n");
        text.truncate(text.len().saturating_sub(cut));
        judge(text.as_bytes(), b"");
        let answered = lines.iter().enumerate().map(|(at, line)| answered(at, line)).collect::<String>();
        let number = |(at, rest): (usize, &String)| format!("{{\"index\":{at},{rest}\n");
        let nodes: String = nodes.iter().enumerate().map(number).collect();
        judge(answered.as_bytes(), nodes.as_bytes());
    }
}
