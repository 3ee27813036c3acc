//! How long a shard is without a writer when the writer's process is killed: three real nodes over a real ZooKeeper, SIGKILL again and
//! again, each time measured from the kill to the next acknowledged write of the clients, who write all the time. What they saw is
//! judged by the checker at the end.
//!
//! `cargo bench -p kv --bench failover`, or `-- --kills 5 --session-timeout 2s --tick-ms 500`. A server keeps a silent session up to a tick
//! longer than its timeout, and grants none below two ticks; by default it is Debian's configuration, with ticks of 2 s.
#![allow(clippy::unwrap_used, reason = "a benchmark says so by panicking")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::time::Duration;

use clap::Parser;

#[path = "../tests/kills/clients.rs"]
mod clients;
#[path = "../tests/zookeeper/cluster.rs"]
mod cluster;
#[path = "../tests/processes/served.rs"]
mod served;
#[path = "../tests/zookeeper/server.rs"]
mod server;

/// How long a shard is without a writer.
#[derive(Parser)]
struct Options {
    /// How many times the writer is killed.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// The nodes' session timeout.
    #[arg(long, default_value = "4s")]
    session_timeout: String,
    /// ZooKeeper's tick.
    #[arg(long, default_value_t = 2000)]
    tick_ms: u64,
    /// `cargo bench` says this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if !server::is_there() {
        return;
    }
    let tick = Duration::from_millis(options.tick_ms);
    let timeout = &options.session_timeout;
    println!("session timeout {timeout}, tick {tick:?}, 3 nodes, N = 3, Q = 2, 4 clients");
    let mut cluster = cluster::Cluster::start(tick, timeout, 1);
    let mut times = Vec::new();
    for kill in 1..=options.kills {
        let (node, took) = cluster.kill_writer();
        println!(
            "kill {kill:2}: n{} was the writer, {:.2} s",
            node + 1,
            took.as_secs_f64()
        );
        times.push(took);
        cluster.revive(node);
        cluster.wait_until_caught_up(node);
    }
    let writes = cluster.acknowledged();
    cluster.judge();
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64();
    println!(
        "median {:.2} s, shortest {:.2} s, longest {:.2} s; {writes} writes were acknowledged, and the checker found every guarantee kept",
        at(50),
        at(0),
        at(100),
    );
}
