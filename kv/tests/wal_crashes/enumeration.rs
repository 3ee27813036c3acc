//! Every crash of a fixed workload, within bounds: after each operation, each combination of what was not synced; the recovery
//! from it, and every crash of that.
//!
//! | crash | what is left |
//! |---|---|
//! | the power goes | any combination of the units that were not synced (`disk.rs`); of a write, also any beginning |
//! | the process is killed | all of it, in the page cache; and what a later power loss leaves of that |
//! | a sync fails, and then the process is killed | the same, but the kernel takes the pages for written |
//!
//! **Bounds.** If there are more units than `exhaustive`, not all combinations of them are tried (`Disk::after_power_loss` says which are).
//! Recovery is interrupted once; then it is repeated to its end. Two crashes that leave the same folder are one.

use std::collections::BTreeSet;
use std::fmt;

use kv::wal::WalError;

use crate::disk::{Disk, LeftOut, Operation};
use crate::life::{Found, Life, Limits, find, go_on};

/// How far the enumeration goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Of so many units all combinations are tried.
    pub(crate) exhaustive: usize,
    /// The same for a crash of a recovery.
    pub(crate) exhaustive_in_recovery: usize,
    /// A write is torn at each so many bytes.
    pub(crate) tear_step: usize,
    /// How often the workload is repeated, with other sizes.
    pub(crate) rounds: usize,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Crashes, of the log and of its recoveries: moments, times what was left.
    pub(crate) crashes: u64,
    /// Different folders that a crash of the log left, each followed by a recovery.
    pub(crate) folders: u64,
    /// Different folders that a crash of a recovery left, each followed by another recovery.
    pub(crate) folders_in_recovery: u64,
    /// Recoveries that cut a torn tail.
    pub(crate) cuts: u64,
    /// Recoveries after which the log began behind its first entry.
    pub(crate) shortened: u64,
    /// Recoveries of a log that was suspect.
    pub(crate) suspects: u64,
}

/// A crash from which the log does not recover as it must.
pub(crate) struct Failure {
    after: String,
    why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {}: {}", self.after, self.why)
    }
}

/// Appends, truncations, promises, files that fill up and are dropped, and a restart.
fn workload(left_out: Option<LeftOut>, round: usize) -> Life {
    let mut life = Life::begin(Disk::default(), left_out);
    let size = |bytes: usize| bytes + 37 * round % 500;
    life.promise();
    life.append(&[0, size(150)]);
    life.settle();
    life.append(&[size(300), 20, size(700)]);
    life.settle();
    life.truncate(2);
    life.append(&[size(40)]);
    life.promise();
    life.append(&[0, size(400)]);
    life.settle();
    life.append(&[size(900)]);
    life.settle();
    life.trim();
    life.append(&[size(60), 61]);
    life.settle();
    life.append(&[size(500), size(300)]);
    life.settle();
    life.append(&[size(1300)]);
    life.settle();
    life.trim();
    life.settle();
    life.append(&[10]);
    life.restart();
    life.append(&[0, size(200)]);
    life.settle();
    life.truncate(1);
    life.append(&[size(100), 100]);
    life.settle();
    life
}

struct Enumeration {
    bounds: Bounds,
    left_out: Option<LeftOut>,
    counts: Counts,
    /// The folders that were tried, with the limits that they were tried against.
    seen: BTreeSet<(u64, usize)>,
    failure: Option<Failure>,
}

/// Tries every crash of the workload, and of its recoveries; stops at the first from which the log does not recover.
pub(crate) fn enumerate(bounds: Bounds, left_out: Option<LeftOut>) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    for round in 0..bounds.rounds {
        let mut enumeration = Enumeration {
            bounds,
            left_out,
            counts,
            seen: BTreeSet::new(),
            failure: None,
        };
        let life = workload(left_out, round);
        enumeration.crash_everywhere(&life);
        enumeration.damage_the_tail(life);
        counts = enumeration.counts;
        if let Some(failure) = enumeration.failure {
            return Err(failure);
        }
    }
    Ok(counts)
}

impl Enumeration {
    fn crash_everywhere(&mut self, life: &Life) {
        let operations = life.recorder.operations();
        let mut disk = Disk::default();
        for done in 0..=operations.len() {
            let next = operations.get(done);
            for (number, (from, limits)) in life.limits.iter().enumerate() {
                let until = life
                    .limits
                    .get(number + 1)
                    .map_or(usize::MAX, |next| next.0);
                if (*from..=until).contains(&done) && self.failure.is_none() {
                    let after = || format!("{done} operations, before {next:?}");
                    self.crash(&disk, next, number, limits, &after);
                }
            }
            if let Some(operation) = next {
                disk.perform(operation);
            }
        }
    }

    fn crash(
        &mut self,
        disk: &Disk,
        next: Option<&Operation>,
        number: usize,
        limits: &Limits,
        after: &dyn Fn() -> String,
    ) {
        let Bounds {
            exhaustive,
            tear_step,
            ..
        } = self.bounds;
        disk.after_power_loss(exhaustive, tear_step, &mut |left| {
            self.recover(left, number, limits, &|| {
                format!("a power loss after {}", after())
            });
        });
        self.recover(disk.clone(), number, limits, &|| {
            format!("a kill after {}", after())
        });
        if let Some(Operation::Sync(file)) = next {
            let mut disk = disk.clone();
            disk.drop_pages(*file);
            self.recover(disk, number, limits, &|| {
                format!("a failed sync after {}", after())
            });
        }
    }

    /// Recovers from a crash, and from every crash of that recovery.
    fn recover(&mut self, disk: Disk, number: usize, limits: &Limits, after: &dyn Fn() -> String) {
        self.counts.crashes += 1;
        // What is in the page cache only tells two folders apart, too.
        let is_new = disk.is_dirty() || self.seen.insert((disk.fingerprint(), number));
        if self.failure.is_some() || !is_new {
            return;
        }
        self.counts.folders += 1;
        let found = find(disk.clone(), self.left_out, &limits.checkpoint);
        let Some(found) = self.check(found, limits, after) else {
            return;
        };
        self.counts.cuts += u64::from(found.recovered.cut.is_some());
        self.counts.shortened += u64::from(found.recovered.first.0 > 1);
        self.counts.suspects += u64::from(found.recovered.suspect.is_some());
        let exactly = limits.exactly(&found);
        self.crash_recovery(disk.clone(), &found, limits, after);
        // Whatever was recovered can be written to, and found again.
        match go_on(disk, self.left_out, &exactly) {
            Ok((disk, limits)) => {
                let again = find(disk, self.left_out, &limits.checkpoint);
                self.check(again, &limits, &|| {
                    format!("{}, and another entry", after())
                });
            }
            Err(error) => self.fail(after(), error.to_string()),
        }
    }

    fn fail(&mut self, after: String, why: String) {
        self.failure.get_or_insert(Failure { after, why });
    }

    fn crash_recovery(
        &mut self,
        mut disk: Disk,
        found: &Found,
        limits: &Limits,
        after: &dyn Fn() -> String,
    ) {
        let Bounds {
            exhaustive_in_recovery,
            tear_step,
            ..
        } = self.bounds;
        let exactly = limits.exactly(found);
        let mut seen = BTreeSet::new();
        for done in 0..=found.operations.len() {
            let next = found.operations.get(done);
            // What a recovery has returned is there to stay.
            let limits = if next.is_some() { limits } else { &exactly };
            disk.after_power_loss(exhaustive_in_recovery, 32 * tear_step, &mut |left| {
                self.counts.crashes += 1;
                let is_new = seen.insert((left.fingerprint(), next.is_some()));
                if self.failure.is_some() || !is_new {
                    return;
                }
                self.counts.folders_in_recovery += 1;
                let again = find(left, self.left_out, &limits.checkpoint);
                self.check(again, limits, &|| {
                    format!(
                        "{}, and a power loss in the recovery before {next:?}",
                        after()
                    )
                });
            });
            if let Some(operation) = next {
                disk.perform(operation);
            }
        }
    }

    fn check(
        &mut self,
        found: Result<Found, WalError>,
        limits: &Limits,
        after: &dyn Fn() -> String,
    ) -> Option<Found> {
        let checked = found
            .map_err(|error| error.to_string())
            .and_then(|found| limits.check(&found).map(|()| found));
        checked
            .map_err(|why| {
                self.failure = Some(Failure {
                    after: after(),
                    why,
                })
            })
            .ok()
    }

    /// Recoveries of a log of which a bit of the last entry has flipped after its sync, and all crashes of them.
    fn damage_the_tail(&mut self, life: Life) {
        let number = life.limits.len();
        let whole = life.recorder.disk();
        // As it was when the last batch was asked for: two entries, of which the second is damaged.
        let limits = &life.limits[number - 2].1;
        let limits = limits.clone().suspect_before_last();
        let name = whole.last_name("wal/");
        let content = whole.content(&name).unwrap_or_default();
        let last = content.iter().rposition(|byte| *byte != 0);
        let len = last.map_or(0, |last| last + 1);
        for back in (1..100).step_by(7) {
            let mut disk = whole.clone();
            disk.settle();
            disk.file_mut(&name)[len - back] ^= 1 << (back % 8);
            disk.settle();
            let after = || format!("a flipped bit {back} bytes before the end");
            self.recover(disk, number, &limits, &after);
        }
    }
}
