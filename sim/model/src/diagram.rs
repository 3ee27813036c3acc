//! A path as a space-time diagram: members are columns, time goes down, messages are arrows.
//!
//! ```text
//!      n1        n2        n3
//!  1   ┃─────────▶│         │     n2 gets a Prepare
//!  2   ┃          │         ┃     n3 becomes the writer: two thick lines are two writers
//! ```
//!
//! A line is thick where the member has the writer's role, in a colour of the epoch, and dashed where it runs an election. A message
//! that does not arrive on this path has no arrow, and is named beside the step.

use std::fmt::Write;

use kv_core::{Body, Epoch, NodeId};

use crate::action::{Event, Sync};
use crate::network::Envelope;
use crate::service::place;
use crate::show;
use crate::state::State;
use crate::story::{Step, Story, is_idle};

const LEFT: usize = 70;
const COLUMN: usize = 190;
const TOP: usize = 64;
const ROW: usize = 54;
/// Room for the words on the right.
const WORDS: usize = 600;
/// So many characters of a caption fit in a line.
const CAPTION_CHARS: usize = 92;
const LINE: usize = 15;

/// The colours of the epochs, from 1.
const COLOURS: [&str; 5] = ["#1f77b4", "#d9730d", "#2e8b57", "#8e44ad", "#b8860b"];
const RED: &str = "#c0392b";
const GREY: &str = "#777";

/// Draws a path as SVG.
#[must_use]
pub fn draw(story: &Story) -> String {
    let numbers = 0..story.steps.len();
    let captions: Vec<_> = numbers.map(|index| captions(story, index)).collect();
    let mut rows = vec![TOP, TOP + ROW];
    for (step, lines) in story.steps.iter().zip(&captions) {
        let above = rows.last().copied().unwrap_or(TOP);
        let at_once = step.followed.iter().filter_map(Event::arriving).count();
        rows.push(above + ROW.max(lines.len().max(at_once + 1) * LINE + LINE));
    }
    let mut drawing = Drawing {
        story,
        captions,
        rows,
        svg: String::new(),
    };
    drawing.lifelines();
    for index in 0..story.steps.len() {
        drawing.messages(index);
    }
    for (index, step) in story.steps.iter().enumerate() {
        drawing.step(index, step);
    }
    let members = story.first.members.len();
    let (width, height) = (words_at(members) + WORDS, drawing.y(story.steps.len() + 1));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="12">
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#333"/></marker></defs>
<rect width="{width}" height="{height}" fill="white"/>
{}</svg>
"##,
        drawing.svg
    )
}

/// Where a member's line is.
fn x(node: NodeId) -> usize {
    LEFT + place(node) * COLUMN
}

fn words_at(members: usize) -> usize {
    LEFT + members * COLUMN - 40
}

struct Drawing<'a> {
    story: &'a Story,
    /// The words beside each step, in lines with their colours.
    captions: Vec<Vec<(&'static str, String)>>,
    /// Where each step is: the first state at 0, and the end after the last step.
    rows: Vec<usize>,
    svg: String,
}

impl Drawing<'_> {
    fn y(&self, row: usize) -> usize {
        self.rows[row]
    }

    fn push(&mut self, line: &str) {
        self.svg.push_str(line);
        self.svg.push('\n');
    }

    fn text(&mut self, (x, y): (usize, usize), looks: &str, words: &str) {
        let words = escape(words);
        self.push(&format!(r#"<text x="{x}" y="{y}" {looks}>{words}</text>"#));
    }

    /// The members as lines, by their roles after each step.
    fn lifelines(&mut self) {
        let story = self.story;
        let states =
            std::iter::once(&story.first).chain(story.steps.iter().map(|step| &step.after));
        for node in story.first.nodes() {
            self.text(
                (x(node), TOP - 34),
                r#"text-anchor="middle" font-size="15" font-weight="bold""#,
                &node.to_string(),
            );
        }
        for (row, state) in states.enumerate() {
            let end = self.y(row + 1);
            for node in state.nodes() {
                let replica = &state.member(node).replica;
                let looks = match (replica.role_of(), replica.sealing()) {
                    (Some(epoch), _) => format!(r#"stroke="{}" stroke-width="7""#, colour(epoch)),
                    (None, Some(epoch)) => format!(
                        r#"stroke="{}" stroke-width="3" stroke-dasharray="5 4""#,
                        colour(epoch)
                    ),
                    (None, None) => r##"stroke="#b5b5b5" stroke-width="2""##.to_owned(),
                };
                let (x, from) = (x(node), self.y(row));
                self.push(&format!(
                    r#"<line x1="{x}" y1="{from}" x2="{x}" y2="{end}" {looks}/>"#
                ));
            }
        }
        for node in story.first.nodes() {
            self.looks(0, node, None, &story.first);
        }
    }

    /// What a member has, beside its line, where that has changed.
    fn looks(&mut self, row: usize, node: NodeId, before: Option<&State>, state: &State) {
        let member = state.member(node);
        let log = |state: &State| show::log(state.member(node));
        let role = |state: &State| show::role(state.member(node));
        let committed = |state: &State| state.member(node).replica.committed();
        let mut words = Vec::new();
        if before.is_none_or(|before| role(before) != role(state)) {
            words.push(role(state));
        }
        if before.is_some_and(|before| log(before) != log(state)) {
            words.push(log(state));
        }
        if before.is_some_and(|before| committed(before) != committed(state)) {
            words.push(format!("committed {}", committed(state)));
        }
        let at = (x(node) + 9, self.y(row) - 6);
        let colour = member.replica.role_of().map_or("#444", colour);
        let looks = format!(
            r#"font-size="11" fill="{colour}" stroke="white" stroke-width="3" paint-order="stroke""#
        );
        self.text(at, &looks, &words.join(", "));
    }

    /// The messages that were sent in a step and do not arrive, and the one that arrives in it.
    fn messages(&mut self, index: usize) {
        let story = self.story;
        let step = &story.steps[index];
        let followed = step.followed.iter().filter_map(Event::arriving);
        let at_once = followed.clone().enumerate();
        for (count, arriving) in at_once.filter(|(_, arriving)| !is_idle(arriving)) {
            let from = match story.sent_in(index, &arriving) {
                Some(sent) if sent < index => self.y(sent + 1),
                _ => self.y(index + 1) + count * LINE,
            };
            self.arrow(&arriving, from, self.y(index + 1) + (count + 1) * LINE);
        }
        if let Some(arriving) = step.action.event.arriving() {
            let from = story.sent_in(index, &arriving).map_or(0, |sent| sent + 1);
            self.arrow(&arriving, self.y(from), self.y(index + 1));
        }
    }

    fn arrow(&mut self, envelope: &Envelope, from_y: usize, to_y: usize) {
        let (from, to) = (x(envelope.from), x(envelope.to));
        let gap = if from < to { 5 } else { -5 };
        let end = to.saturating_add_signed(-gap);
        self.push(&format!(
            r##"<line x1="{from}" y1="{from_y}" x2="{end}" y2="{to_y}" stroke="#333" stroke-width="1.3" marker-end="url(#tip)"/>"##
        ));
        let near = |from: usize, to: usize| (from * 2 + to * 3) / 5;
        let at = (near(from, to), near(from_y, to_y).saturating_sub(7));
        let looks = r##"text-anchor="middle" font-size="11" fill="#333" stroke="white" stroke-width="4" paint-order="stroke""##;
        self.text(at, looks, &short(&envelope.message.body));
    }

    fn step(&mut self, index: usize, step: &Step) {
        let (row, members) = (index + 1, self.story.first.members.len());
        let node = step.action.event.node();
        if !step.broken.is_empty() {
            let (top, width) = (self.y(row) - 20, words_at(members) + WORDS);
            let height = (self.captions[index].len() * LINE + 20).max(ROW);
            self.push(&format!(
                r#"<rect x="0" y="{top}" width="{width}" height="{height}" fill="{RED}" fill-opacity="0.07"/>"#
            ));
        }
        let (at, here) = (x(node), self.y(row));
        self.push(&format!(
            r##"<circle cx="{at}" cy="{here}" r="4.5" fill="#222"/>"##
        ));
        if let Event::LoseSession { writer, .. } = step.action.event {
            self.cross(writer, row, "session ends");
        }
        if matches!(step.action.event, Event::Crash(_)) || step.action.sync == Sync::Never {
            self.cross(node, row, "crash");
        }
        for member in step.after.nodes() {
            self.looks(row, member, Some(&step.before), &step.after);
        }
        let number = r##"font-size="11" fill="#777""##;
        self.text((14, self.y(row) + 4), number, &row.to_string());
        let captions = std::mem::take(&mut self.captions[index]);
        for (line, (colour, words)) in captions.iter().enumerate() {
            let looks = format!(r#"fill="{colour}""#);
            self.text((words_at(members), here + 4 + line * LINE), &looks, words);
        }
    }

    fn cross(&mut self, node: NodeId, row: usize, words: &str) {
        let (x, y) = (x(node), self.y(row));
        let (left, right, top, bottom) = (x - 7, x + 7, y - 7, y + 7);
        let looks = format!(r#"stroke="{RED}" stroke-width="3""#);
        self.push(&format!(
            r#"<path d="M{left} {top} L{right} {bottom} M{right} {top} L{left} {bottom}" {looks}/>"#
        ));
        let looks = format!(
            r#"font-size="11" fill="{RED}" stroke="white" stroke-width="3" paint-order="stroke""#
        );
        self.text((x + 11, y + 15), &looks, words);
    }
}

/// The words beside a step: what happens, what comes of it, the shard record if it changes, what is lost, what is broken.
fn captions(story: &Story, index: usize) -> Vec<(&'static str, String)> {
    let step = &story.steps[index];
    let mut captions = vec![("#222", caption(step))];
    captions.extend(step.notes.iter().map(|note| ("#222", note.clone())));
    let record = show::record(&step.after);
    if show::record(&step.before) != record {
        captions.push((GREY, format!("record: {record}")));
    }
    let lost = step.sent.iter();
    let lost = lost.filter(|sent| !is_idle(sent) && !arrives(story, index, sent));
    let lost: Vec<_> = lost
        .map(|sent| format!("{} to {}", short(&sent.message.body), sent.to))
        .collect();
    if !lost.is_empty() {
        captions.push((GREY, format!("never arrives: {}", lost.join(", "))));
    }
    for (promise, how) in &step.broken {
        captions.push((RED, format!("BROKEN: {} ({how})", promise.name())));
    }
    let in_lines = |(colour, words): (&'static str, String)| {
        let lines = wrapped(&words);
        lines.into_iter().map(move |line| (colour, line))
    };
    captions.into_iter().flat_map(in_lines).collect()
}

/// Whether a message that was sent in a step, or a part of it, arrives in this one or later.
fn arrives(story: &Story, sent: usize, envelope: &Envelope) -> bool {
    let mut later = story.steps.iter().enumerate().skip(sent);
    later.any(|(index, step)| {
        let event = step.action.event.arriving().filter(|_| index > sent);
        let followed = step.followed.iter().filter_map(Event::arriving);
        let mut arriving = event.into_iter().chain(followed);
        arriving.any(|other| {
            is_of(&other, envelope) && story.sent_in(index, &other).unwrap_or(sent) <= sent
        })
    })
}

/// What happens, without what the arrow says already.
fn caption(step: &Step) -> String {
    let Some(Envelope { from, to, message }) = &step.action.event.arriving() else {
        return step.action.to_string();
    };
    format!(
        "{to} gets {} from {from}{}",
        short(&message.body),
        step.action.sync
    )
}

/// Whether two messages are of one link, epoch and kind.
fn is_of(one: &Envelope, other: &Envelope) -> bool {
    let link = |envelope: &Envelope| (envelope.from, envelope.to, envelope.message.epoch);
    let kind = |envelope: &Envelope| std::mem::discriminant(&envelope.message.body);
    link(one) == link(other) && kind(one) == kind(other)
}

/// A message in a few letters.
fn short(body: &Body) -> String {
    match body {
        Body::Prepare { entries, .. } if entries.is_empty() => "Prepare []".to_owned(),
        Body::Prepare { entries, .. } => {
            let entries: Vec<_> = entries.iter().map(crate::words::entry).collect();
            format!("Prepare [{}]", entries.join(", "))
        }
        Body::Prepared { upto, committed } if committed.0 > 0 => {
            format!("Prepared {upto}, committed {committed}")
        }
        Body::Prepared { upto, .. } => format!("Prepared {upto}"),
        Body::Refused { .. } => "Refused".to_owned(),
        Body::Commit { upto } => format!("Commit {upto}"),
        Body::Committed { upto } => format!("Committed {upto}"),
        Body::Sealed { end, .. } => format!("Sealed at {end}"),
        other => crate::words::body(other),
    }
}

fn colour(epoch: Epoch) -> &'static str {
    let place = usize::try_from(epoch.0.saturating_sub(1)).unwrap_or_default();
    COLOURS[place % COLOURS.len()]
}

/// The words in lines that fit; the second and later ones are indented.
fn wrapped(words: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= CAPTION_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("\u{a0}\u{a0}\u{a0}{word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for letter in words.chars() {
        let _ = match letter {
            '&' => escaped.write_str("&amp;"),
            '<' => escaped.write_str("&lt;"),
            '>' => escaped.write_str("&gt;"),
            letter => escaped.write_char(letter),
        };
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_break_the_drawing() {
        assert_eq!(escape("a < b & c > d"), "a &lt; b &amp; c &gt; d");
        let long = wrapped(&"word ".repeat(40));
        assert!(long.len() > 1);
        assert!(
            long.iter()
                .all(|line| line.chars().count() <= CAPTION_CHARS)
        );
        assert_eq!(wrapped("two words"), ["two words"]);
    }
}
