//! Colours for a story, where a person looks at it.
//!
//! The text says everything without them: what marks a line is there in letters, and the colour only follows it.

use std::io::{IsTerminal, stdout};

use clap::builder::styling::{AnsiColor, Style};

/// The story in colours if stdout is a terminal, and else as it is.
pub(super) fn for_people(story: String) -> String {
    if stdout().is_terminal() {
        painted(&story)
    } else {
        story
    }
}

fn painted(story: &str) -> String {
    let paint = |line: &str| match style(line) {
        Some(style) => format!("{style}{line}{style:#}\n"),
        None => format!("{line}\n"),
    };
    story.lines().map(paint).collect()
}

fn style(line: &str) -> Option<Style> {
    let has = |mark: &str| line.contains(mark);
    let colour = if line.starts_with(">>") || has(" VIOLATED ") || has("THE RUN FAILED") {
        AnsiColor::Red
    } else if has("#### FAULT") || has("INFO:") || has("FAIL:") || has(" UNKNOWN: ") {
        AnsiColor::Yellow
    } else if has("BECOMES THE WRITER") || line.ends_with(" holds") {
        AnsiColor::Green
    } else if has("coordination ") || has("==== ") {
        AnsiColor::Cyan
    } else if line.trim_start().starts_with("...") || has(" asks: ") {
        return Some(Style::new().dimmed());
    } else {
        return None;
    };
    Some(colour.on_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_lines_are_painted_and_nothing_else_changes() {
        let story = ">>    1.000s  client 0  ok: get k0 -> nothing\n   1.000s  n1  acknowledges\n";
        let painted = painted(story);
        assert!(painted.starts_with("\u{1b}[31m>>"), "{painted:?}");
        assert!(
            painted.ends_with("\n   1.000s  n1  acknowledges\n"),
            "{painted:?}"
        );
    }
}
