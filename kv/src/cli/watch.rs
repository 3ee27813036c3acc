//! `kv watch`: what `kv info` shows, again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use kv::client::ReplicaChoice;
use kv::error::Fail;

use super::arguments::{self, Target};
use super::inspect::{ask_all, describe};
use super::{CliError, Exit, say, show, signalled};

/// Puts the cursor at the top of an empty screen.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Show the nodes and the shards of a cluster, again and again, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv watch
  kv watch --interval 200ms --node 127.0.0.1:7004
  kv watch --json | jq .shards

On a terminal each look replaces the last one; elsewhere they follow each other. With --json each is
one line.")]
pub(super) struct Watch {
    #[command(flatten)]
    target: Target,
    /// How long to wait between two looks, such as `1s` or `200ms`.
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, default_value = "1s")]
    interval: Duration,
    /// Stop after so many looks.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Watch {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let access = self.target.credentials.load()?;
        let mut client = match self.target.connect(ReplicaChoice::Random, &access).await {
            Ok(client) => client,
            Err(fail) => {
                show::failed(&fail, self.target.json);
                return Ok(Exit::Failed);
            }
        };
        let clears = !self.target.json && std::io::stdout().is_terminal();
        let mut looks = 0;
        let mut over = std::pin::pin!(signalled());
        loop {
            let look = async {
                let refreshed = client.refresh().await;
                let map = client.cluster().clone();
                let timeout = self.target.timeout.min(self.interval.max(MIN_PATIENCE));
                (refreshed, ask_all(&map, timeout, false, &access).await)
            };
            let (refreshed, nodes) = tokio::select! {
                biased;
                () = &mut over => return Ok(Exit::Done),
                look = look => look,
            };
            let shown = describe(client.cluster(), &nodes, self.target.json);
            let (fail, is_json) = (refreshed.err(), self.target.json);
            say(&frame(fail.as_ref(), &shown, is_json, clears));
            looks += 1;
            if self.count.is_some_and(|count| looks >= count) {
                return Ok(Exit::Done);
            }
            tokio::select! {
                biased;
                () = &mut over => return Ok(Exit::Done),
                () = tokio::time::sleep(self.interval) => {}
            }
        }
    }
}

/// A node has at least so long to say how it is.
const MIN_PATIENCE: Duration = Duration::from_millis(300);

/// One look. Where nobody has answered, the map is the last one, and that is said; a line of JSON stays one.
fn frame(fail: Option<&Fail>, shown: &str, is_json: bool, clears: bool) -> String {
    let clear = if clears { CLEAR } else { "" };
    let note = match fail {
        Some(fail) if !is_json => format!("\n\nthe map is old: {fail}"),
        _ => String::new(),
    };
    format!("{clear}{shown}{note}")
}
