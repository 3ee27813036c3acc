//! The load: clients that each write again once they are answered. It is the same for every store.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use futures::future::join_all;
use hdrhistogram::Histogram;

/// How many keys there are.
const KEYS: u64 = 10_000;

/// What can be written to.
pub(crate) trait Store: Send + 'static {
    /// Gives a key a value; says whether that was acknowledged.
    fn put(&mut self, key: Bytes, value: Bytes) -> impl Future<Output = bool> + Send;
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Load {
    /// Acknowledged writes a second.
    pub(crate) rate: f64,
    /// Acknowledged writes, those of warming up among them.
    pub(crate) writes: u64,
    /// Of the acknowledged ones after warming up, in microseconds.
    pub(crate) latencies: Histogram<u64>,
}

/// Lets all clients write for a while, after warming up.
pub(crate) async fn run<S: Store>(
    clients: Vec<S>,
    warm_up: Duration,
    duration: Duration,
    value_bytes: usize,
) -> anyhow::Result<Load> {
    let from = Instant::now() + warm_up;
    let until = from + duration;
    let writing = clients.into_iter().zip(0..).map(|(mut client, index)| {
        tokio::spawn(async move {
            let value = Bytes::from(vec![b'v'; value_bytes]);
            let mut latencies = Histogram::<u64>::new(3)?;
            let (mut ok, mut failed, mut writes) = (0_u64, 0_u64, 0_u64);
            let mut number: u64 = index;
            loop {
                let began = Instant::now();
                if began >= until {
                    return anyhow::Ok((latencies, ok, failed, writes));
                }
                number = number
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let key = format!("key-{:08}", (number >> 33) % KEYS);
                let is_ok = client.put(key.into(), value.clone()).await;
                let over = Instant::now();
                writes += u64::from(is_ok);
                if began < from {
                    continue;
                }
                match is_ok {
                    true => {
                        latencies.record(micros(over - began))?;
                        ok += u64::from(over <= until);
                    }
                    false => failed += 1,
                }
            }
        })
    });
    let mut latencies = Histogram::new(3)?;
    let (mut ok, mut failed, mut writes) = (0, 0, 0);
    for written in join_all(writing.collect::<Vec<_>>()).await {
        let (its_latencies, its_ok, its_failed, its_writes) = written??;
        latencies.add(its_latencies)?;
        ok += its_ok;
        failed += its_failed;
        writes += its_writes;
    }
    ensure!(failed == 0, "{failed} writes were not acknowledged");
    ensure!(ok > 0, "no write was acknowledged");
    let rate = ok as f64 / duration.as_secs_f64();
    Ok(Load {
        rate,
        writes,
        latencies,
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}
