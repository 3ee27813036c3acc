//! One exploration: everything within the bounds is visited, and each promise is judged.
//!
//! Where promises have to hold, the search goes depth first, which takes less memory and lets stateright explore only one of all states
//! that differ in names. What it finds is seldom the shortest path; then one thread looks again breadth first, without symmetry, until
//! it comes to the same. Where a violation is near, that is all.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use stateright::{Checker, Model};

use crate::bounds::Bounds;
use crate::cpu;
use crate::error::Error;
use crate::ledger::Promise;
use crate::marks::{Mark, Marks};
use crate::story::Story;
use crate::symmetry;
use crate::system::System;
use crate::watch::{Goal, Watch};

/// What is to be explored, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How far.
    pub bounds: Bounds,
    /// The promises that are judged.
    pub judged: Vec<Promise>,
    /// When enough is seen.
    pub goal: Goal,
    /// In which order.
    pub order: Order,
    /// Threads.
    pub threads: usize,
    /// When to give up.
    pub timeout: Option<Duration>,
}

/// In which order states are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As deep as it goes.
    DepthFirst,
    /// By the distance from the first state.
    BreadthFirst,
}

/// How far an exploration has got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// States that were generated.
    pub states: usize,
    /// Different ones among them.
    pub unique: usize,
    /// The most steps from the first state.
    pub depth: usize,
    /// Time.
    pub elapsed: Duration,
    /// Processor time, where it can be told.
    pub processor: Option<Duration>,
}

impl Counts {
    /// States a second of processor time; of time, where the former cannot be told.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let seconds = self.processor.unwrap_or(self.elapsed).as_secs_f64();
        (self.states as f64 / seconds.max(0.001)) as u64
    }
}

/// What became of a promise.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It holds in every state within the bounds.
    Holds,
    /// It holds in every state that was visited before the exploration ended.
    HoldsSoFar,
    /// It is broken; the shortest path.
    Violated(Box<Story>),
}

/// How an exploration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every state within the bounds was visited.
    Complete,
    /// It had found what it looked for.
    Found,
    /// Its time was up.
    TimedOut,
}

/// What an exploration came to.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The bounds.
    pub bounds: Bounds,
    /// The promises.
    pub verdicts: Vec<(Promise, Verdict)>,
    /// What was reached, how often.
    pub reached: Vec<(Mark, u64)>,
    /// How it ended.
    pub ending: Ending,
    /// How much was visited.
    pub counts: Counts,
}

impl Findings {
    /// The path that breaks a promise.
    #[must_use]
    pub fn counterexample(&self, promise: Promise) -> Option<&Story> {
        self.violated()
            .find_map(|(broken, story)| (broken == promise).then_some(story))
    }

    /// The promises that are broken.
    pub fn violated(&self) -> impl Iterator<Item = (Promise, &Story)> {
        self.verdicts
            .iter()
            .filter_map(|(promise, verdict)| match verdict {
                Verdict::Violated(story) => Some((*promise, &**story)),
                Verdict::Holds | Verdict::HoldsSoFar => None,
            })
    }
}

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Explores, and tells now and then how far it has got.
///
/// # Errors
/// When the bounds do not go together.
pub fn explore(plan: &Plan, tell: &mut dyn FnMut(&Counts)) -> Result<Findings, Error> {
    let findings = explore_once(plan, tell)?;
    let is_shortest = plan.threads == 1 && plan.order == Order::BreadthFirst;
    if is_shortest || findings.violated().next().is_none() {
        return Ok(findings);
    }
    let again = Plan {
        order: Order::BreadthFirst,
        goal: Goal::Each(findings.violated().map(|(promise, _)| promise).collect()),
        threads: 1,
        ..plan.clone()
    };
    let shortest = explore_once(&again, tell)?;
    let verdicts = findings.verdicts.iter().map(|(promise, verdict)| {
        let story = shortest.counterexample(*promise).cloned();
        let verdict = story.map_or_else(
            || verdict.clone(),
            |story| Verdict::Violated(Box::new(story)),
        );
        (*promise, verdict)
    });
    Ok(Findings {
        verdicts: verdicts.collect(),
        ..findings
    })
}

fn explore_once(plan: &Plan, tell: &mut dyn FnMut(&Counts)) -> Result<Findings, Error> {
    plan.bounds.check()?;
    let symmetric = plan.bounds.symmetric && plan.order == Order::DepthFirst;
    let system = System::new(Bounds {
        symmetric,
        ..plan.bounds
    })?;
    let watch = Watch::new(system, plan.judged.clone(), plan.goal.clone());
    let builder = watch.clone().checker().threads(plan.threads);
    Ok(match (plan.order, symmetric) {
        (Order::BreadthFirst, _) => finish(plan, &watch, builder.spawn_bfs(), tell),
        (Order::DepthFirst, false) => finish(plan, &watch, builder.spawn_dfs(), tell),
        (Order::DepthFirst, true) => {
            let builder = builder.symmetry_fn(symmetry::representative);
            finish(plan, &watch, builder.spawn_dfs(), tell)
        }
    })
}

/// Waits for the end.
fn finish(
    plan: &Plan,
    watch: &Watch,
    mut checker: impl Checker<Watch>,
    tell: &mut dyn FnMut(&Counts),
) -> Findings {
    let (start, processor_before) = (Instant::now(), cpu::used());
    let mut is_late = false;
    let mut handles = checker.handles();
    let count = |checker: &dyn Counted| Counts {
        elapsed: start.elapsed(),
        processor: cpu::used()
            .zip(processor_before)
            .map(|(now, before)| now.saturating_sub(before)),
        ..checker.counts()
    };
    while !handles.iter().all(JoinHandle::is_finished) {
        thread::park_timeout(TELL_EVERY.min(start.elapsed() / 10 + Duration::from_millis(1)));
        tell(&count(&checker));
        if plan
            .timeout
            .is_some_and(|timeout| start.elapsed() >= timeout)
            && !watch.is_halted()
        {
            is_late = true;
            watch.halt();
        }
    }
    for handle in handles.drain(..) {
        if let Err(panic) = handle.join() {
            std::panic::resume_unwind(panic);
        }
    }
    let counts = count(&checker);
    let ending = match (is_late, watch.is_halted()) {
        (true, _) => Ending::TimedOut,
        (false, true) => Ending::Found,
        (false, false) => Ending::Complete,
    };
    let reached = reached(&watch.system.marks);
    watch.resume();
    let verdicts = judge(watch, &checker, &plan.judged, ending);
    Findings {
        bounds: plan.bounds,
        verdicts,
        reached,
        ending,
        counts,
    }
}

fn reached(marks: &Marks) -> Vec<(Mark, u64)> {
    let count = |mark: &Mark| (*mark, marks.count(*mark));
    Mark::ALL.iter().map(count).collect()
}

fn judge(
    watch: &Watch,
    checker: &impl Checker<Watch>,
    judged: &[Promise],
    ending: Ending,
) -> Vec<(Promise, Verdict)> {
    let mut discoveries = checker.discoveries();
    let verdict = |promise: &Promise| {
        let path = discoveries.remove(promise.name());
        let story = path.and_then(|path| Story::new(&watch.system, &path.into_vec()));
        let verdict = match (story, ending) {
            (Some(story), _) => Verdict::Violated(Box::new(story)),
            (None, Ending::Complete) => Verdict::Holds,
            (None, Ending::Found | Ending::TimedOut) => Verdict::HoldsSoFar,
        };
        (*promise, verdict)
    };
    judged.iter().map(verdict).collect()
}

/// What a checker has counted, whatever its strategy.
trait Counted {
    fn counts(&self) -> Counts;
}

impl<C: Checker<Watch>> Counted for C {
    fn counts(&self) -> Counts {
        Counts {
            states: self.state_count(),
            unique: self.unique_state_count(),
            depth: self.max_depth().saturating_sub(1), // Stateright counts the states on the way, not the steps.
            ..Counts::default()
        }
    }
}
