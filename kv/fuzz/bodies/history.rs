//! Bytes that claim to be a history, and the events of the nodes.

use checker::{Guarantee, History, Limits, NodeEvent, check_all};

/// Parsing and judging end in a verdict or an error.
pub(crate) fn judge(history: &[u8], events: &[u8]) {
    // What a file must not hold may still be judged by those who hand events over by themselves.
    let _ = NodeEvent::parse_all(events, "events");
    let events: Vec<NodeEvent> = events
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    if let Ok(history) = History::parse(history, "history") {
        let limits = Limits {
            states_max: 1_000,
            ..Limits::default()
        };
        for (_, verdict) in check_all(&history, &events, &Guarantee::ALL, &limits) {
            assert!(!verdict.to_string().is_empty());
        }
    }
}
