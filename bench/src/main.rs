//! Measures the store beside others. Whatever is compared is measured in one run, in many rounds in turn: what else the machine does
//! then falls on all of them alike.

mod etcd;
mod load;
mod machine;
mod ours;
mod processes;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use hdrhistogram::Histogram;

use etcd::Etcd;
use load::Load;
use ours::Ours;
use processes::Process;

/// The same allocator as the store's own program has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(about = "Measures the store beside others.")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    Peers(Peers),
}

/// Writes to three nodes of ours, over streams and by a call for each write, and to three members of etcd, by its calls.
#[derive(clap::Args)]
struct Peers {
    /// The program `kv`, built for speed.
    #[arg(long, value_name = "FILE")]
    kv: PathBuf,
    /// Where their folders are made; it says which disk is measured.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// How many clients write at the same time.
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', default_values_t = [1, 64, 256])]
    clients: Vec<usize>,
    /// How many rounds of each.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    rounds: usize,
    /// How long a round is, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,
    /// How many connections the clients of one store share.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    connections: usize,
    /// The size of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    value_bytes: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().bench {
        Bench::Peers(peers) => peers.run().await,
    }
}

impl Peers {
    async fn run(self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let folder = tempfile::tempdir_in(&self.folder)?;
        let ours = Ours::start(&self.kv, folder.path()).await?;
        let etcd = Etcd::start(folder.path()).await?;
        println!("{}", machine::describe(folder.path())?);
        println!(
            "three processes each: kv serve (N = 3, Q = 2), etcd {}; {} bytes a value, {} rounds of {} s in turn, {} connection(s)\n",
            etcd.version, self.value_bytes, self.rounds, self.seconds, self.connections
        );
        println!("clients                   writes/s    p50 ms    p99 ms   cpu us");
        for &clients in &self.clients {
            let (mut kv, mut calls, mut peer) = (Rounds::new()?, Rounds::new()?, Rounds::new()?);
            for _ in 0..self.rounds {
                for (rounds, single_calls) in [(&mut kv, false), (&mut calls, true)] {
                    let writers = ours.clients(clients, self.connections, single_calls);
                    rounds.add(self.measure(writers.await?, &ours.nodes).await?)?;
                }
                let writers = etcd.clients(clients, self.connections).await?;
                peer.add(self.measure(writers, &etcd.members).await?)?;
            }
            println!("{clients:>7}  kv          {}", kv.row());
            println!("{clients:>7}  kv, calls   {}", calls.row());
            println!("{clients:>7}  etcd        {}", peer.row());
            println!("{clients:>7}  kv / etcd   {}", kv.over(&peer));
            println!("{clients:>7}  calls / etcd{}\n", calls.over(&peer));
        }
        Ok(())
    }

    async fn measure<S: load::Store>(
        &self,
        clients: Vec<S>,
        servers: &[Process],
    ) -> anyhow::Result<Measured> {
        let duration = Duration::from_secs_f64(self.seconds);
        let before = cpu_time(servers)?;
        let load = load::run(clients, duration / 4, duration, self.value_bytes).await?;
        let cpu_micros = (cpu_time(servers)? - before).as_micros() as f64 / load.writes as f64;
        Ok(Measured { load, cpu_micros })
    }
}

/// What one round came to.
struct Measured {
    load: Load,
    /// The processor time of all servers for one write.
    cpu_micros: f64,
}

fn cpu_time(servers: &[Process]) -> anyhow::Result<Duration> {
    servers.iter().map(Process::cpu_time).sum()
}

/// The rounds of one store.
struct Rounds {
    rates: Vec<f64>,
    cpu_micros: Vec<f64>,
    latencies: Histogram<u64>,
}

impl Rounds {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            rates: Vec::new(),
            cpu_micros: Vec::new(),
            latencies: Histogram::new(3)?,
        })
    }

    fn add(&mut self, measured: Measured) -> anyhow::Result<()> {
        self.rates.push(measured.load.rate);
        self.cpu_micros.push(measured.cpu_micros);
        Ok(self.latencies.add(measured.load.latencies)?)
    }

    /// The median rate, and the latencies of all rounds.
    fn row(&self) -> String {
        let millis = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        let (rate, p50, p99) = (median(&self.rates), millis(0.5), millis(0.99));
        let cpu = median(&self.cpu_micros);
        format!("{rate:>12.0}  {p50:>8.2}  {p99:>8.2}  {cpu:>7.0}")
    }

    /// The ratios to another store: of the rates, the median and the range over the rounds; of the latencies.
    fn over(&self, other: &Self) -> String {
        let ratios: Vec<_> = self
            .rates
            .iter()
            .zip(&other.rates)
            .map(|(mine, others)| mine / others)
            .collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let latency = |quantile| {
            let mine = self.latencies.value_at_quantile(quantile) as f64;
            mine / other.latencies.value_at_quantile(quantile) as f64
        };
        let (middle, p50, p99) = (median(&ratios), latency(0.5), latency(0.99));
        let cpu = median(&self.cpu_micros) / median(&other.cpu_micros);
        format!(
            "{middle:>12.2}  {p50:>8.2}  {p99:>8.2}  {cpu:>7.2}   (rate: {least:.2} to {most:.2})"
        )
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let rounds = |rates: &[f64]| {
            let mut rounds = Rounds::new().unwrap();
            for &rate in rates {
                let mut latencies = Histogram::new(3).unwrap();
                latencies.record(rate as u64).unwrap();
                let writes = rate as u64;
                let load = Load {
                    rate,
                    writes,
                    latencies,
                };
                rounds
                    .add(Measured {
                        load,
                        cpu_micros: 50.0,
                    })
                    .unwrap();
            }
            rounds
        };
        // The machine was busy in the second round, for both.
        let (mine, others) = (rounds(&[400.0, 40.0, 300.0]), rounds(&[200.0, 20.0, 100.0]));
        assert!(mine.over(&others).trim_start().starts_with("2.00"));
        assert!(mine.over(&others).ends_with("(rate: 2.00 to 3.00)"));
        assert!(mine.row().trim_start().starts_with("300"));
    }
}
