//! When each thing that was done to a cluster really began and ended: `acts.jsonl` of a run.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

/// What was done, in the order in which it ended.
#[derive(Debug, Default)]
pub struct Acts {
    lines: Mutex<String>,
}

impl Acts {
    /// Writes down what was done between two moments of the run, and what went wrong with it.
    pub fn note(
        &self,
        what: &dyn fmt::Debug,
        began: Duration,
        ended: Duration,
        trouble: Option<&str>,
    ) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut line = json!({
            "began": nanoseconds(began),
            "ended": nanoseconds(ended),
            "act": format!("{what:?}"),
        });
        if let Some(trouble) = trouble {
            line["trouble"] = trouble.into();
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_str(&line.to_string());
        lines.push('\n');
    }

    /// All of it, one object a line.
    #[must_use]
    pub fn take(&self) -> String {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
