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
use load::Measured;
use ours::Ours;

/// The same allocator as the store's own program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

/// Writes to three nodes of ours, and to three members of etcd, on this machine.
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
            "three nodes each: kv (one process, N = 3, Q = 2), etcd {}; {} bytes a value, {} rounds of {} s in turn, {} connection(s)\n",
            etcd.version, self.value_bytes, self.rounds, self.seconds, self.connections
        );
        println!("clients           writes/s    p50 ms    p99 ms");
        for &clients in &self.clients {
            let (mut kv, mut peer) = (Rounds::new()?, Rounds::new()?);
            for _ in 0..self.rounds {
                kv.add(
                    self.measure(ours.clients(clients, self.connections).await?)
                        .await?,
                )?;
                peer.add(
                    self.measure(etcd.clients(clients, self.connections).await?)
                        .await?,
                )?;
            }
            println!("{clients:>7}  kv    {}", kv.row());
            println!("{clients:>7}  etcd  {}", peer.row());
            println!("{clients:>7}  kv / etcd {}\n", kv.over(&peer));
        }
        Ok(())
    }

    async fn measure<S: load::Store>(&self, clients: Vec<S>) -> anyhow::Result<Measured> {
        let duration = Duration::from_secs_f64(self.seconds);
        load::run(clients, duration / 4, duration, self.value_bytes).await
    }
}

/// The rounds of one store.
struct Rounds {
    rates: Vec<f64>,
    latencies: Histogram<u64>,
}

impl Rounds {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            rates: Vec::new(),
            latencies: Histogram::new(3)?,
        })
    }

    fn add(&mut self, measured: Measured) -> anyhow::Result<()> {
        self.rates.push(measured.rate);
        Ok(self.latencies.add(measured.latencies)?)
    }

    /// The median rate, and the latencies of all rounds.
    fn row(&self) -> String {
        let millis = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        let (rate, p50, p99) = (median(&self.rates), millis(0.5), millis(0.99));
        format!("{rate:>12.0}  {p50:>8.2}  {p99:>8.2}")
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
        format!("{middle:>8.2}  {p50:>8.2}  {p99:>8.2}   (rate: {least:.2} to {most:.2})")
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
                rounds.add(Measured { rate, latencies }).unwrap();
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
