//! A directed run: the cues of the scenario, one after the other, in place of the clients and the nemesis.

use checker::limits::LINK_GRACE_NS;
use checker::{Function, Level, NodeEventKind};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{Failure, Play};
use crate::scenario::{Cue, What};
use crate::workload::Session;
use crate::world::Direction;

/// The key of the operations.
const KEY: &str = "k0";

/// Gives all cues; returns why that was not possible, if so. After it everything goes its way again.
pub(super) async fn play(play: &Play) -> Vec<Failure> {
    let links = NodeEventKind::Links {
        down: Vec::new(),
        cut: Vec::new(),
        grace_ns: LINK_GRACE_NS,
    };
    play.record.note(None, links);
    let mut asks = Vec::new();
    let mut failures = Vec::new();
    let cues = &play.scenario.cues;
    let retries = cues.iter().any(|cue| matches!(cue.what, What::Retry(_)));
    let cues = cues.iter().cloned().map(Direction::Cue);
    let cues = [Direction::Begin { retries }].into_iter().chain(cues);
    for (index, direction) in cues.enumerate() {
        if let Direction::Cue(cue) = &direction {
            note(play, index, cue);
        }
        let given = play.world.direct(&direction).await;
        if let Err(why) = given {
            let what = match &direction {
                Direction::Cue(cue) => in_one_line(cue),
                _ => "to begin".to_owned(),
            };
            failures.push(Failure::CueMissed {
                cue: index,
                what,
                why,
            });
            break;
        }
        if let Direction::Cue(cue) = &direction
            && cue.is_ask()
        {
            let session = asks.len() as u64;
            asks.extend(ask(play, session, cue).await);
            play.settle().await;
        }
    }
    // A world that could begin can end.
    let _ = play.world.direct(&Direction::End).await;
    for ask in asks {
        ask.await.expect("a client does not panic");
    }
    failures
}

/// A client of its own asks for what the cue says.
async fn ask(play: &Play, number: u64, cue: &Cue) -> Option<JoinHandle<()>> {
    let client = play.world.client_at(number, cue.node()).await?;
    let mut session = Session::new(
        number,
        play.scenario.clone(),
        play.record.clone(),
        client,
        play.seed,
    );
    let (function, level): (Function, Option<Level>) = match &cue.what {
        What::Read(_, level) => (Function::Read, Some(*level)),
        _ => (Function::Write, None),
    };
    let work = Box::pin(async move {
        session.do_one(function, KEY, level).await;
    });
    Some(play.world.spawn(number, work).await)
}

fn note(play: &Play, index: usize, cue: &Cue) {
    let fields = [("cue", json!(index)), ("what", json!(in_one_line(cue)))];
    play.record.note(None, NodeEventKind::other("cue", fields));
}

fn in_one_line(cue: &Cue) -> String {
    cue.to_string().trim().replace('\n', ", ")
}
