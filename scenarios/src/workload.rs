//! The clients: closed loops of random operations, or of those that a script names, one session each.
//!
//! A session asks, waits for the answer, thinks, and asks again. Every value is written once in a run, so that a read
//! says which write it saw. After an unknown outcome the session goes on as a new process, since the old operation may
//! still take effect at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use checker::{EventKind, Function, Level, Version};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::{sleep, timeout};

use crate::record::{Record, Who};
use crate::scenario::{Levels, Scenario};
use crate::seed::stream;
use crate::world::{Answer, Ask, Client};

/// How long after its deadline a client may still be busy; longer, and the client is broken.
const GRACE: Duration = Duration::from_secs(10);

/// One session with the store.
pub struct Session {
    scenario: Arc<Scenario>,
    record: Arc<Record>,
    client: Box<dyn Client>,
    rng: StdRng,
    who: Who,
    keys: Vec<String>,
    /// How far each shard's log had been applied where this session last looked.
    tokens: BTreeMap<u64, Version>,
}

impl Session {
    /// A new session.
    #[must_use]
    pub fn new(
        session: u64,
        scenario: Arc<Scenario>,
        record: Arc<Record>,
        client: Box<dyn Client>,
        seed: u64,
    ) -> Self {
        Self {
            keys: scenario.keys(),
            scenario,
            record,
            client,
            rng: stream(seed, "session", session),
            who: Who {
                session,
                process: session,
            },
            tokens: BTreeMap::new(),
        }
    }

    /// Works until the workload is over: as the script says, or else at random.
    pub async fn work(self) {
        if self.scenario.workload.script.is_empty() {
            self.improvise().await;
        } else {
            self.follow_script().await;
        }
    }

    async fn follow_script(mut self) {
        let scenario = self.scenario.clone();
        let (end, session) = (scenario.workload.duration, self.who.session);
        let script = scenario.workload.script.iter();
        for step in script.filter(|step| u64::from(step.client) == session) {
            sleep(step.at.saturating_sub(self.record.now())).await;
            if self.record.now() >= end {
                return;
            }
            let ask = self.ask(step.function, step.key.clone(), step.level);
            self.perform(ask).await;
        }
        sleep(end.saturating_sub(self.record.now())).await;
    }

    async fn improvise(mut self) {
        let end = self.scenario.workload.duration;
        loop {
            let think = self.think_time();
            sleep(think.min(end.saturating_sub(self.record.now()))).await;
            if self.record.now() >= end {
                return;
            }
            let ask = self.draw();
            self.perform(ask).await;
        }
    }

    /// Evenly between nothing and twice the mean, so that clients do not march in step.
    fn think_time(&mut self) -> Duration {
        let mean = 1.0 / self.scenario.workload.ops_per_second;
        Duration::from_secs_f64(self.rng.random_range(0.0..=2.0 * mean))
    }

    fn draw(&mut self) -> Ask {
        let mix = self.scenario.workload.mix;
        let function = *pick(
            &mut self.rng,
            &[
                (mix.get, Function::Read),
                (mix.set, Function::Write),
                (mix.delete, Function::Delete),
            ],
        );
        let key = self.keys[self.rng.random_range(0..self.keys.len())].clone();
        let level = (function == Function::Read).then(|| {
            let Levels {
                lease,
                quorum,
                local,
                replica,
            } = self.scenario.workload.levels;
            let levels = [
                (lease, Level::Lease),
                (quorum, Level::Quorum),
                (local, Level::Local),
                (replica, Level::Replica),
            ];
            *pick(&mut self.rng, &levels)
        });
        self.ask(function, key, level)
    }

    fn ask(&mut self, function: Function, key: String, level: Option<Level>) -> Ask {
        let token = (level == Some(Level::Replica))
            .then(|| self.tokens.get(&self.scenario.shard_of(&key).0).copied());
        Ask {
            function,
            value: (function == Function::Write).then(|| self.record.next_value()),
            level,
            token: token.flatten(),
            key,
        }
    }

    /// Does a single operation.
    pub async fn do_one(&mut self, function: Function, key: &str, level: Option<Level>) -> Answer {
        let ask = self.ask(function, key.to_owned(), level);
        self.perform(ask).await
    }

    /// Writes a new value.
    pub async fn write(&mut self, key: &str) -> Answer {
        let ask = self.ask(Function::Write, key.to_owned(), None);
        self.perform(ask).await
    }

    /// Reads at the writer, under its lease.
    pub async fn read(&mut self, key: &str) -> Answer {
        let ask = self.ask(Function::Read, key.to_owned(), Some(Level::Lease));
        self.perform(ask).await
    }

    async fn perform(&mut self, ask: Ask) -> Answer {
        let deadline = self.scenario.workload.deadline;
        self.record.invoke(self.who, &ask);
        let answer = timeout(deadline + GRACE, self.client.perform(&ask)).await;
        let answer = answer.expect("a client answers at its deadline at the latest");
        self.record.complete(self.who, &ask, answer.clone());
        if answer.kind == EventKind::Info {
            self.who.process += u64::from(self.scenario.workload.clients) + 1;
        }
        if let Some(token) = answer.token.or(answer.version) {
            let shard = answer
                .shard
                .map_or_else(|| self.scenario.shard_of(&ask.key).0, u64::from);
            let known = self.tokens.entry(shard).or_insert(token);
            *known = token.max(*known);
        }
        answer
    }
}

/// Draws one by its share.
fn pick<'a, T>(rng: &mut StdRng, shares: &'a [(u32, T)]) -> &'a T {
    let total: u32 = shares.iter().map(|(share, _)| share).sum();
    let mut left = rng.random_range(0..total);
    for (share, choice) in shares {
        if left < *share {
            return choice;
        }
        left -= share;
    }
    unreachable!("the shares add up to their total")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_nothing_without_a_share_is_drawn() {
        let mut rng = stream(7, "test", 0);
        let mut drawn: BTreeMap<char, u32> = BTreeMap::new();
        for _ in 0..10_000 {
            let choice = *pick(&mut rng, &[(60, 'a'), (0, 'b'), (40, 'c')]);
            *drawn.entry(choice).or_default() += 1;
        }
        assert_eq!(drawn.get(&'b'), None);
        assert!((5_700..6_300).contains(&drawn[&'a']), "{drawn:?}");
    }
}
