//! `kv load`: puts a cluster under load and says how it fared.
//!
//! Many clients run at once, each a session of its own, over few connections. What they do comes from one seed (`load/plan.rs`), when
//! they do it from the loop (`load/pace.rs`), and what they are told can be written down for the checker (`load/record.rs`).

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use kv::client::{Client, ClientOptions};
use kv_core::limits::VALUE_BYTES_MAX;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::Zipf;

use super::arguments::{self, Level, Target};
use super::{CliError, Exit, say, show};

mod pace;
mod plan;
mod record;
mod report;
mod session;
mod tally;

use pace::Pace;
use plan::{Distribution, Kind, Mix, NUMBER_DIGITS, Plan, Script};
use record::Record;
use report::Report;
use session::{Recording, Session};
use tally::{Ended, Progress, Tallies};

/// How often the progress line is written anew.
const TICK: Duration = Duration::from_millis(200);

/// Put a cluster under load, and measure how it fares.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv load                                          64 clients, each asks again once it is answered
  kv load --clients 256 --mix set=100 --duration 30s
  kv load --rate 2000 --level quorum               2000 operations a second, come what may
  kv load --keys 100 --record history.jsonl        write down what was asked and answered ...
  cargo checker check history.jsonl                ... and have it judged

With --rate, latencies count from when an operation was due, so one slow answer shows in all that
had to wait for it. Latencies are those of operations that ended `ok`.
Ctrl-C ends the run early, with the results so far.")]
pub(super) struct Load {
    /// How many clients ask at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    clients: u32,
    /// Over how many connections to each node they do so.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Send every request as a call of its own, as the other commands do, instead of over one stream a connection.
    #[arg(long)]
    single_calls: bool,
    /// How many operations a second are due (open loop) [default: each client asks again once it is answered].
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,
    /// How long to measure, such as `30s`.
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, default_value = "10s")]
    duration: Duration,
    /// How long to warm up before that, such as `2s`; `0s` not to.
    #[arg(long, value_name = "TIME", value_parser = duration_or_none, default_value = "1s")]
    warm_up: Duration,
    /// How many keys there are.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,
    /// The size of a value, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = value_bytes)]
    value_bytes: usize,
    /// How often to do what.
    #[arg(long, value_name = "PARTS", default_value = "get=50,set=40,delete=10")]
    mix: Mix,
    /// Which keys are drawn how often.
    #[arg(long, value_enum, default_value = "uniform")]
    distribution: Distribution,
    /// How uneven the zipf distribution is: s, above 0.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.99, value_parser = exponent)]
    zipf_exponent: f64,
    /// How much reads promise.
    #[arg(long, value_enum, default_value = "lease")]
    level: Level,
    /// Where everything random comes from [default: another one in each run; it is printed].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Write a history for the checker. The keys are emptied first, and read once more in the end.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write the latencies as a log of HdrHistogram, in microseconds.
    #[arg(long, value_name = "FILE")]
    histogram: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl Load {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let seed = self.seed.unwrap_or_else(arguments::seed);
        if self.record.is_some() && self.value_bytes < NUMBER_DIGITS {
            return Err(CliError::RecordedValue {
                least: NUMBER_DIGITS,
            });
        }
        // Files that cannot be written are known before anything is asked.
        let record = self.record.as_deref().map(begin_record).transpose()?;
        if let Some(path) = &self.histogram {
            std::fs::File::create(path).map_err(output(path))?;
        }
        let progress = Arc::new(Progress::default());
        let mut sessions = self.sessions(seed, record.as_ref(), &progress).await?;
        if record.is_some() {
            sessions = self.visit_all(sessions, Kind::Delete).await?;
        }
        let pace = Pace::begin(self.warm_up + self.duration, self.rate);
        let tallies = Tallies::new(pace.start() + self.warm_up, pace.end());
        let asking = sessions
            .into_iter()
            .map(|session| tokio::spawn(session.run(Arc::clone(&pace), tallies.clone())));
        let asking = join_all(asking.collect::<Vec<_>>());
        let (ended, over) = watch(asking, &pace, &progress).await;
        let mut total = tallies;
        let mut sessions = Vec::new();
        for ended in ended {
            let (session, tallies) = ended.map_err(|_| CliError::Panicked)?;
            total.add(&tallies);
            sessions.push(session);
        }
        if let (Some(record), Some(path)) = (&record, &self.record) {
            if !pace.is_stopped() {
                self.visit_all(sessions, Kind::Get).await?;
            }
            record.finish().map_err(output(path))?;
        }
        let report = Report {
            tallies: total,
            measured: over.saturating_duration_since(pace.start() + self.warm_up),
            unsent: pace.unsent(),
            clients: self.clients,
            rate: self.rate,
            seed,
        };
        self.tell(&report)
    }

    /// The clients, over their connections.
    async fn sessions(
        &self,
        seed: u64,
        record: Option<&Arc<Record>>,
        progress: &Arc<Progress>,
    ) -> Result<Vec<Session>, CliError> {
        let mut connected = Vec::new();
        for _ in 0..self.connections.min(self.clients) {
            let options = ClientOptions {
                streams: !self.single_calls,
                ..self.target.options()
            };
            let nodes = self.target.nodes.clone();
            connected.push(Client::connect(nodes, options).await?);
        }
        let plan = Plan {
            mix: self.mix,
            keys: self.keys,
            zipf: self.zipf(),
            value_bytes: self.value_bytes,
        };
        // The clients' own randomness: the waits before they try again, and the choice of replicas.
        let mut rng = StdRng::seed_from_u64(seed);
        let clients = (0..self.clients).zip(connected.iter().cycle());
        let session = |(index, connected): (u32, &Client)| Session {
            client: connected.sibling(rng.random()),
            script: Script::new(plan, seed, index),
            level: self.level.into(),
            progress: Arc::clone(progress),
            recording: record.map(|record| Recording {
                record: Arc::clone(record),
                who: record.session(),
            }),
        };
        Ok(clients.map(session).collect())
    }

    fn zipf(&self) -> Option<Zipf<f64>> {
        match self.distribution {
            Distribution::Uniform => None,
            Distribution::Zipf => Zipf::new(self.keys as f64, self.zipf_exponent).ok(),
        }
    }

    /// Lets the sessions perform one operation on every key: at the beginning of a history, so that it knows what every key held, and at
    /// its end, so that nothing acknowledged can have got lost unseen.
    async fn visit_all(
        &self,
        sessions: Vec<Session>,
        kind: Kind,
    ) -> Result<Vec<Session>, CliError> {
        let step = sessions.len();
        let visiting = sessions.into_iter().zip(0..).map(|(session, first)| {
            tokio::spawn(session.visit(kind, (first..self.keys).step_by(step)))
        });
        let mut sessions = Vec::new();
        for visited in join_all(visiting.collect::<Vec<_>>()).await {
            let (session, result) = visited.map_err(|_| CliError::Panicked)?;
            sessions.push(session);
            match (result, kind) {
                (Ok(()), _) | (Err((_, Ended::Ok)), _) => {}
                (Err((key, Ended::Fail(why) | Ended::Info(why))), Kind::Get) => {
                    let key = show::text(&key);
                    eprintln!(
                        "key {key} could not be read in the end ({why}), so the checker may not know what became of it"
                    );
                }
                (Err((key, Ended::Fail(why) | Ended::Info(why))), _) => {
                    let key = show::text(&key);
                    return Err(CliError::NotEmptied { key, why });
                }
            }
        }
        Ok(sessions)
    }

    /// Writes the results where they are wanted.
    fn tell(&self, report: &Report) -> Result<Exit, CliError> {
        if let Some(path) = &self.histogram {
            report.write_histograms(path).map_err(output(path))?;
        }
        match self.target.json {
            true => say(&report.json().to_string()),
            false => say(&report.text()),
        }
        match report.tallies.total().ok {
            0 => Err(CliError::NothingSucceeded),
            _ => Ok(Exit::Done),
        }
    }
}

/// Waits for the clients, with a progress line; Ctrl-C lets them begin nothing more. Also says when the run was over.
async fn watch<T>(
    asking: impl Future<Output = T>,
    pace: &Pace,
    progress: &Progress,
) -> (T, Instant) {
    let mut asking = std::pin::pin!(asking);
    let line = progress_line(pace);
    let mut ticks = tokio::time::interval(TICK);
    let mut over = pace.end();
    let mut before = (Instant::now(), 0);
    loop {
        tokio::select! {
            biased;
            done = &mut asking => {
                line.finish_and_clear();
                return (done, over);
            }
            _ = tokio::signal::ctrl_c(), if !pace.is_stopped() => {
                pace.stop();
                over = Instant::now().min(over);
            }
            _ = ticks.tick() => {
                let (now, ok) = (Instant::now(), progress.ok.load(Ordering::Relaxed));
                let rate = (ok - before.1) as f64 / (now - before.0).as_secs_f64();
                let fail = progress.fail.load(Ordering::Relaxed);
                let info = progress.info.load(Ordering::Relaxed);
                line.set_position(millis(now - pace.start()));
                line.set_message(format!("{rate:.0} ok/s, {ok} ok, {fail} fail, {info} info"));
                before = (now, ok);
            }
        }
    }
}

/// A bar on stderr, if that is a terminal.
fn progress_line(pace: &Pace) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {msg}");
    let line = ProgressBar::new(millis(pace.end() - pace.start()));
    match style {
        Ok(style) => line.with_style(style),
        Err(_) => line,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn begin_record(path: &Path) -> Result<Arc<Record>, CliError> {
    Record::begin(path).map(Arc::new).map_err(output(path))
}

fn output(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = path.display().to_string();
    move |source| CliError::Output { path, source }
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.01, 10_000_000.0)
}

fn exponent(text: &str) -> Result<f64, String> {
    number(text, 0.01, 10.0)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn value_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX);
    bytes.ok_or_else(|| format!("expected a number of bytes from 0 to {VALUE_BYTES_MAX}"))
}

fn duration_or_none(text: &str) -> Result<Duration, String> {
    match text {
        "0s" => Ok(Duration::ZERO),
        text => arguments::duration(text),
    }
}
