//! A path through the model, told step by step: what happened, what was sent, and what the members are afterwards.

use kv_core::{Body, NodeId};
use serde_json::{Value, json};

use crate::action::{Action, Event, Sync};
use crate::draft::Draft;
use crate::ledger::Promise;
use crate::network::Envelope;
use crate::show;
use crate::state::State;
use crate::system::System;

/// One step of a path.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happened.
    pub action: Action,
    /// What came of it, in words.
    pub notes: Vec<String>,
    /// What was sent.
    pub sent: Vec<Envelope>,
    /// What happened at once after it, because its order makes no difference (`reduction.rs`).
    pub followed: Vec<Event>,
    /// The promises that this step breaks, and how.
    pub broken: Vec<(Promise, String)>,
    /// The state before it.
    pub before: State,
    /// The state after it, before anything followed.
    pub at_first: State,
    /// The state after it.
    pub after: State,
}

impl Step {
    /// What an action does in a state; nothing, where it changes nothing.
    #[must_use]
    pub fn new(system: &System, before: &State, action: &Action) -> Option<Self> {
        let draft = Draft::of(before);
        let turn = system.turn(&draft, action)?;
        let (complaints, notes): (Vec<String>, Vec<String>) = turn
            .notes
            .iter()
            .cloned()
            .partition(|note| note.starts_with(COMPLAINT));
        let changes = turn.finish()?;
        let at_once = draft.with(changes).finish();
        let sent = sent_between(before, &at_once);
        let mut followed = Vec::new();
        let after = system.settle(before, Draft::of(&at_once), action.event.node(), |event| {
            followed.push(event.clone());
        })?;
        let broken = Promise::ALL
            .into_iter()
            .filter(|promise| after.broken.has(*promise) && !before.broken.has(*promise))
            .map(|promise| (promise, how(promise, &complaints, &after)))
            .collect();
        Some(Self {
            action: action.clone(),
            notes,
            sent,
            followed,
            broken,
            before: before.clone(),
            at_first: at_once,
            after,
        })
    }

    /// The members whose looks changed, and the shard record if it did: a line each.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if show::record(&self.before) != show::record(&self.after) {
            lines.push(format!("record: {}", show::record(&self.after)));
        }
        for node in self.after.nodes() {
            let line = |state: &State| show::member(node, state.member(node));
            if line(&self.before) != line(&self.after) {
                lines.push(line(&self.after));
            }
        }
        lines
    }

    /// What came of it, in lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for note in &self.notes {
            lines.push(format!("       * {note}"));
        }
        for envelope in self.sent.iter().filter(|envelope| !is_idle(envelope)) {
            lines.push(format!("       {}", show::envelope(envelope)));
        }
        for event in &self.followed {
            lines.push(format!("       at once: {}", told(event)));
        }
        for change in self.changes() {
            lines.push(format!("       {change}"));
        }
        for (promise, how) in &self.broken {
            lines.push(format!("  >>   BROKEN: {} ({how})", promise.name()));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn as_json(&self, number: usize) -> Value {
        let envelopes = |list: &[Envelope]| list.iter().map(show::envelope).collect::<Vec<_>>();
        let members = self.after.nodes().map(|node| {
            let member = self.after.member(node);
            json!({
                "node": node.to_string(),
                "role": show::role(member),
                "log": show::log(member),
                "committed": member.replica.committed().0,
                "promised": member.replica.promised().0,
            })
        });
        let broken = self
            .broken
            .iter()
            .map(|(promise, how)| json!({ "promise": promise.name(), "how": how }));
        json!({
            "step": number,
            "action": self.action.to_string(),
            "node": self.action.event.node().to_string(),
            "notes": self.notes,
            "sent": envelopes(&self.sent),
            "followed": self.followed.iter().map(told).collect::<Vec<_>>(),
            "record": show::record(&self.after),
            "members": members.collect::<Vec<_>>(),
            "broken": broken.collect::<Vec<_>>(),
        })
    }
}

/// How a turn marks what breaks a promise.
const COMPLAINT: &str = "!! ";

/// How a promise was broken: as the turn noted it, or as the state shows it.
fn how(promise: Promise, complaints: &[String], after: &State) -> String {
    let prefix = format!("{COMPLAINT}{}: ", promise.name());
    let noted = complaints
        .iter()
        .find_map(|complaint| complaint.strip_prefix(&prefix));
    if let Some(noted) = noted {
        return noted.to_owned();
    }
    let writer = after.service.record.writer.map(|writer| writer.node);
    let missing = |node: NodeId, applied_only: bool| {
        let member = after.member(node);
        let upto = match applied_only {
            true => member.applied,
            false => member.replica.log().end().offset,
        };
        let is_gone = |placed: &&crate::ledger::Placed| !placed.is_in(&member.log, upto);
        after.ledger.acknowledged.iter().find(is_gone)
    };
    match promise {
        Promise::NoLostWrite => match writer.and_then(|node| Some((node, missing(node, false)?))) {
            Some((node, placed)) => format!(
                "{} was acknowledged, and the writer {node} does not have it",
                show::placed(placed)
            ),
            None => promise.meaning().to_owned(),
        },
        Promise::Linearizable => {
            let stale = after.nodes().find_map(|node| {
                after.member(node).replica.writer_of()?;
                Some((node, missing(node, true)?))
            });
            match stale {
                Some((node, placed)) => format!(
                    "a lease read at {node} does not show {}, which was acknowledged",
                    show::placed(placed)
                ),
                None => promise.meaning().to_owned(),
            }
        }
        _ => promise.meaning().to_owned(),
    }
}

fn sent_between(before: &State, after: &State) -> Vec<Envelope> {
    let old = before.network.envelopes();
    let new = after.network.envelopes().iter();
    new.filter(|envelope| !old.contains(envelope))
        .map(|envelope| Envelope::clone(envelope))
        .collect()
}

/// What happened at once, as a line.
fn told(event: &Event) -> String {
    let action = Action {
        event: event.clone(),
        sync: Sync::AtOnce,
    };
    action.to_string()
}

/// A path from the first state.
#[derive(Clone, Debug)]
pub struct Story {
    /// The first state.
    pub first: State,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Story {
    /// Follows a path of states and of what happens in each.
    #[must_use]
    pub fn new(system: &System, path: &[(State, Option<Action>)]) -> Option<Self> {
        let (first, _) = path.first()?;
        let steps = path
            .iter()
            .filter_map(|(state, action)| Step::new(system, state, action.as_ref()?));
        Some(Self {
            first: first.clone(),
            steps: steps.collect(),
        })
    }

    /// As text. The members are shown where they change.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec!["     at first".to_owned()];
        for node in self.first.nodes() {
            let member = show::member(node, self.first.member(node));
            lines.push(format!("       {member}"));
        }
        lines.push(String::new());
        for (number, step) in (1..).zip(&self.steps) {
            lines.push(format!("{number:>3}  {}", step.action));
            lines.push(step.text());
        }
        lines.join("\n")
    }

    /// For machines: a list of steps.
    #[must_use]
    pub fn as_json(&self) -> Value {
        let steps = (1..).zip(&self.steps);
        json!(
            steps
                .map(|(number, step)| step.as_json(number))
                .collect::<Vec<_>>()
        )
    }

    /// The step in which a message was sent that arrives in step `index` (both from zero): the last one before which it was not
    /// there to arrive. Nothing, where it was there at first.
    #[must_use]
    pub fn sent_in(&self, index: usize, arriving: &Envelope) -> Option<usize> {
        let is_there = |state: &State| {
            let known = state.network.envelopes();
            known.iter().any(|known| carries(known, arriving))
        };
        let steps = self.steps[..=index].iter().rev();
        let waited = steps.take_while(|step| is_there(&step.before)).count();
        index.checked_sub(waited)
    }
}

/// Whether a message in the network is this one, or is a `Prepare` that has grown since.
fn carries(known: &Envelope, arriving: &Envelope) -> bool {
    let is_link = (known.from, known.to, known.message.epoch)
        == (arriving.from, arriving.to, arriving.message.epoch);
    match (&known.message.body, &arriving.message.body) {
        (
            Body::Prepare { prev, entries, .. },
            Body::Prepare {
                prev: arriving_prev,
                entries: arriving_entries,
                ..
            },
        ) => is_link && prev == arriving_prev && entries.starts_with(arriving_entries),
        (known, arriving) => is_link && known == arriving,
    }
}

/// An empty `Prepare`, by which an idle writer tells that it is there.
#[must_use]
pub(crate) fn is_idle(envelope: &Envelope) -> bool {
    matches!(&envelope.message.body, Body::Prepare { entries, .. } if entries.is_empty())
}
