//! What a run came to: a table for people, one line of JSON for machines, and histograms for others' tools.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde_json::{Value, json};

use super::plan::Kind;
use super::tally::{Tallies, Tally};
use crate::cli::show;

/// The quantiles that are told, and their names.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

/// What a run came to.
pub(super) struct Report {
    pub(super) tallies: Tallies,
    /// How long was measured.
    pub(super) measured: Duration,
    /// Operations that were due and that nobody got round to.
    pub(super) unsent: u64,
    pub(super) clients: u32,
    pub(super) rate: Option<f64>,
    pub(super) seed: u64,
}

impl Report {
    /// The rows: each kind that there was, and all of them.
    fn rows(&self) -> Vec<(&'static str, Tally)> {
        let of = |kind: Kind| (kind.name(), self.tallies.of(kind).clone());
        let mut rows: Vec<_> = Kind::ALL.map(of).into();
        rows.retain(|(_, tally)| tally.ok > 0 || !tally.fail.is_empty() || !tally.info.is_empty());
        rows.push(("all", self.tallies.total()));
        rows
    }

    /// The table and what it is of.
    pub(super) fn text(&self) -> String {
        let headings = [
            "OPERATION",
            "OK",
            "OK/S",
            "FAIL",
            "INFO",
            "P50 MS",
            "P90 MS",
            "P99 MS",
            "P99.9 MS",
            "MAX MS",
        ];
        let mut lines = Vec::new();
        for (name, tally) in self.rows() {
            let mut line = vec![
                name.to_owned(),
                tally.ok.to_string(),
                format!("{:.0}", self.rate_of(&tally)),
                count(&tally.fail).to_string(),
                count(&tally.info).to_string(),
            ];
            let quantiles = QUANTILES.iter().map(|(quantile, _)| {
                let micros = tally.latencies.value_at_quantile(*quantile);
                millis(micros)
            });
            line.extend(quantiles);
            line.push(millis(tally.latencies.max()));
            lines.push(line);
        }
        let loop_of = match self.rate {
            None => "closed loop".to_owned(),
            Some(rate) => format!("open loop of {rate} operations a second"),
        };
        let (clients, seconds, seed) = (self.clients, self.measured.as_secs_f64(), self.seed);
        let mut text =
            format!("{loop_of}, {clients} clients, {seconds:.1} s measured, seed {seed}\n\n");
        text += &show::table(&headings, &lines);
        let total = self.tallies.total();
        for (outcome, reasons) in [("fail", &total.fail), ("info", &total.info)] {
            for (reason, count) in reasons {
                text += &format!("\n{outcome}: {count} {reason}");
            }
        }
        if self.unsent > 0 {
            text += &format!(
                "\nnot sent: {} that were due; the cluster does not keep up with the rate",
                self.unsent
            );
        }
        text
    }

    /// The same for machines. Latencies are in microseconds.
    pub(super) fn json(&self) -> Value {
        let mut operations = serde_json::Map::new();
        for (name, tally) in self.rows() {
            let mut latencies = serde_json::Map::new();
            for (quantile, quantile_name) in QUANTILES {
                let micros = tally.latencies.value_at_quantile(quantile);
                latencies.insert(quantile_name.to_owned(), json!(micros));
            }
            latencies.insert("max".to_owned(), json!(tally.latencies.max()));
            let row = json!({
                "ok": tally.ok,
                "ok_per_s": self.rate_of(&tally),
                "fail": tally.fail,
                "info": tally.info,
                "latency_us": latencies,
            });
            operations.insert(name.to_owned(), row);
        }
        json!({
            "seed": self.seed,
            "clients": self.clients,
            "rate": self.rate,
            "measured_s": self.measured.as_secs_f64(),
            "unsent": self.unsent,
            "operations": operations,
        })
    }

    /// Writes the latencies as a log of HdrHistogram, one line an operation, in microseconds.
    pub(super) fn write_histograms(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new()
            .with_max_value_divisor(1000.0) // The log's own maximum is for people, in milliseconds.
            .begin_log_with(&mut out, &mut serializer)?;
        for (name, tally) in self.rows() {
            let written = log.write_histogram(
                &tally.latencies,
                Duration::ZERO,
                self.measured,
                Tag::new(name),
            );
            written.map_err(|error| io::Error::other(error.to_string()))?;
        }
        out.flush()
    }

    fn rate_of(&self, tally: &Tally) -> f64 {
        match self.measured.is_zero() {
            true => 0.0,
            false => tally.ok_in_time as f64 / self.measured.as_secs_f64(),
        }
    }
}

fn count(reasons: &BTreeMap<&'static str, u64>) -> u64 {
    reasons.values().sum()
}

fn millis(micros: u64) -> String {
    format!("{:.2}", micros as f64 / 1000.0)
}
