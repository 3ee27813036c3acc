//! What a check concludes, and the few events that prove it.
//!
//! A violation is told as a small story: one sentence that says why, then two to five witnesses in the order in which
//! they happened, each an operation of a client or an event of a node.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    history::{Event, EventKind, Function},
    node_events::NodeEvent,
};

/// The result of judging one guarantee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Shown to hold.
    Holds,
    /// Shown to be broken, by these events.
    Violated(Evidence),
    /// Neither could be shown, for this reason. Never a silent pass.
    Unknown(Reason),
}

/// Why a guarantee could not be judged.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// One sentence.
    pub reason: String,
}

/// Why a guarantee is violated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// One sentence.
    pub why: String,
    /// Two to five witnesses, in the order of the story.
    pub events: Vec<Witness>,
}

/// One witness of a violation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// An operation of a client, with its answer if there was one.
    Operation {
        /// The question.
        invoke: Box<Event>,
        /// The answer.
        completion: Option<Box<Event>>,
    },
    /// An event of a node.
    Node(Box<NodeEvent>),
}

impl Verdict {
    /// Builds a verdict of `Unknown`.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown(Reason {
            reason: reason.into(),
        })
    }

    /// Builds a verdict of `Violated`.
    pub fn violated(why: impl Into<String>, events: Vec<Witness>) -> Self {
        Self::Violated(Evidence {
            why: why.into(),
            events,
        })
    }

    /// Whether the guarantee was shown to hold.
    pub fn holds(&self) -> bool {
        matches!(self, Self::Holds)
    }

    /// Whether the guarantee was shown to be broken.
    pub fn is_violated(&self) -> bool {
        matches!(self, Self::Violated(_))
    }

    /// Whether nothing could be shown.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The verdict in one word, as in scenario files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Violated(_) => "violated",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The verdict on both of two parts: a violation beats an unknown, which beats holding.
    pub(crate) fn and(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Violated(_), _) | (Self::Unknown(_), Self::Unknown(_) | Self::Holds) => self,
            _ => other,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::Violated(evidence) => write!(f, "violated: {evidence}"),
            Self::Unknown(reason) => write!(f, "unknown: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        for witness in &self.events {
            write!(f, "\n    {witness}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation { invoke, completion } => {
                write_operation(f, invoke, completion.as_deref())
            }
            Self::Node(event) => write!(f, "{event}"),
        }
    }
}

/// Nanoseconds as milliseconds, with microseconds behind the point.
pub(crate) struct Milliseconds(pub(crate) u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

fn write_operation(
    f: &mut fmt::Formatter<'_>,
    invoke: &Event,
    completion: Option<&Event>,
) -> fmt::Result {
    match completion {
        Some(end) => write!(
            f,
            "{} to {} ms",
            Milliseconds(invoke.time),
            Milliseconds(end.time)
        )?,
        None => write!(f, "{} ms", Milliseconds(invoke.time))?,
    }
    write!(f, "  process {}", invoke.process)?;
    let last = completion.unwrap_or(invoke);
    if let Some(session) = invoke.session.or(last.session) {
        write!(f, " (session {session})")?;
    }
    write!(
        f,
        "  {} {}",
        invoke.f,
        invoke.key.as_deref().unwrap_or("the register")
    )?;
    match (invoke.f, last.kind) {
        (Function::Write, _) => write!(f, " = {}", invoke.value)?,
        (Function::Read, EventKind::Ok) if last.value == Value::Null => {
            f.write_str(" = nothing")?
        }
        (Function::Read, EventKind::Ok) => write!(f, " = {}", last.value)?,
        _ => {}
    }
    if let Some(level) = last.level.or(invoke.level) {
        write!(f, "  level {level}")?;
    }
    if let Some(node) = last.node {
        write!(f, "  node {node}")?;
    }
    match last.kind {
        EventKind::Invoke => f.write_str("  never answered")?,
        kind => write!(f, "  {kind}")?,
    }
    if let Some(version) = last.version {
        write!(f, "  version {version}")?;
    }
    match &last.error {
        Some(error) => write!(f, "  ({error})"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness() -> Witness {
        let mut invoke = Event::new(3, EventKind::Invoke, Function::Read, "a", Value::Null);
        invoke.time = 1_500_000;
        let mut ok = Event::new(3, EventKind::Ok, Function::Read, "a", Value::from(4));
        ok.time = 12_345_678;
        ok.node = Some(2);
        Witness::Operation {
            invoke: Box::new(invoke),
            completion: Some(Box::new(ok)),
        }
    }

    #[test]
    fn a_witness_reads_like_a_sentence() {
        assert_eq!(
            witness().to_string(),
            "1.500 to 12.345 ms  process 3  read a = 4  node 2  ok"
        );
    }

    #[test]
    fn a_verdict_survives_json() {
        for verdict in [
            Verdict::Holds,
            Verdict::unknown("no events"),
            Verdict::violated("because", vec![witness()]),
        ] {
            let text = serde_json::to_string(&verdict).unwrap();
            assert_eq!(
                serde_json::from_str::<Verdict>(&text).unwrap(),
                verdict,
                "{text}"
            );
        }
    }

    #[test]
    fn a_violation_beats_an_unknown_which_beats_holding() {
        let violated = Verdict::violated("because", vec![]);
        let unknown = Verdict::unknown("no events");
        assert_eq!(unknown.clone().and(violated.clone()), violated);
        assert_eq!(violated.clone().and(unknown.clone()), violated);
        assert_eq!(Verdict::Holds.and(unknown.clone()), unknown);
        assert_eq!(unknown.clone().and(Verdict::Holds), unknown);
    }
}
