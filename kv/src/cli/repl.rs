//! `kv repl`: commands one after the other, over one client, so that its session token is kept between them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum as _};
use kv::access::Access;
use kv::client::{Client, ReplicaChoice};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use super::arguments::{self, Level, Target};
use super::inspect::{ask_all, describe, killed, slot_line};
use super::{CliError, Exit, complain, say, show};

const HELP: &str = "\
get KEY             read a key
set KEY VALUE       give a key a value: everything up to the end of the line
delete KEY          take a key away
level [LEVEL]       show or choose what reads promise: local, lease, quorum or replica
slot KEY            which slot, shard and node the key belongs to
info                the nodes and the shards of the cluster
kill HOST:PORT      stop one node
help                this
exit                leave; so does Ctrl-D

Tab completes commands, the arrow keys bring back earlier lines, Ctrl-R searches them.";

const COMMANDS: [&str; 9] = [
    "get", "set", "delete", "level", "slot", "info", "kill", "help", "exit",
];

/// Talk to a cluster line by line, with history and completion.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kv repl --node 127.0.0.1:7001 --node 127.0.0.1:7002

Reads of level `replica` are never older than what the same session has written or read.")]
pub(super) struct Repl {
    #[command(flatten)]
    target: Target,
}

impl Repl {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let access = self.target.credentials.load()?;
        let client = self.target.connect(ReplicaChoice::Random, &access).await?;
        let mut session = Session {
            client,
            level: Level::Lease,
            json: self.target.json,
            timeout: self.target.timeout,
            access,
        };
        let mut editor: Editor<Words, FileHistory> = Editor::new()?;
        editor.set_helper(Some(Words));
        let history = history_file();
        if let Some(path) = &history {
            let _ = editor.load_history(path); // There is none the first time.
        }
        eprintln!("`help` lists the commands, `exit` leaves.");
        loop {
            match editor.readline("kv> ") {
                Ok(line) => {
                    let _ = editor.add_history_entry(line.as_str()); // A line without history is a line.
                    if session.run(&line).await.is_none() {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted) => {} // Ctrl-C drops the line.
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(path) = &history
            && let Err(error) = save(&mut editor, path)
        {
            eprintln!(
                "note: cannot keep the history in {}: {error}",
                path.display()
            );
        }
        Ok(Exit::Done)
    }
}

fn save(editor: &mut Editor<Words, FileHistory>, path: &PathBuf) -> Result<(), ReadlineError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    editor.save_history(path)
}

/// Where programs keep such things: the XDG base directory specification's state folder.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("kv").join("history"))
}

struct Session {
    client: Client,
    level: Level,
    json: bool,
    timeout: Duration,
    access: Access,
}

impl Session {
    /// Carries out a line; nothing once it asks to leave.
    async fn run(&mut self, line: &str) -> Option<()> {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim_start();
        match command {
            "" => {}
            "exit" | "quit" => return None,
            "help" => say(HELP),
            "info" => self.info().await,
            "level" => self.choose_level(rest),
            "kill" => self.kill(rest).await,
            "get" | "delete" | "slot" => self.on_key(command, rest).await,
            "set" => match rest.split_once(char::is_whitespace) {
                Some((key, value)) => self.set(key, value.trim_start()).await,
                None => complain("`set` needs a key and a value", Some("set greeting hello")),
            },
            _ => complain(
                &format!("there is no command `{command}`"),
                Some("`help` lists them"),
            ),
        }
        Some(())
    }

    async fn on_key(&mut self, command: &str, text: &str) {
        if text.contains(char::is_whitespace) {
            complain("a key cannot have spaces in it here", None);
            return;
        }
        let key = match arguments::key(text) {
            Ok(key) => key,
            Err(error) => return complain(&error, Some("`help` shows what each command needs")),
        };
        match command {
            "get" => {
                let outcome = self.client.get(key.clone(), self.level.into()).await;
                show::read(&key, outcome, self.json, !self.json);
            }
            "delete" => {
                let outcome = self.client.delete(key.clone()).await;
                show::write(&key, outcome, self.json);
            }
            _ => {
                if let Err(fail) = self.client.refresh().await {
                    show::failed(&fail, self.json);
                }
                say(&slot_line(&key, self.client.cluster(), self.json));
            }
        }
    }

    async fn set(&mut self, key: &str, value: &str) {
        match arguments::key(key).and_then(|key| Ok((key, arguments::value(value)?))) {
            Ok((key, value)) => {
                let outcome = self.client.set(key.clone(), value).await;
                show::write(&key, outcome, self.json);
            }
            Err(error) => complain(&error, None),
        }
    }

    async fn info(&mut self) {
        match self.client.refresh().await {
            Ok(()) => {
                let nodes = ask_all(self.client.cluster(), self.timeout, false, &self.access).await;
                say(&describe(self.client.cluster(), &nodes, self.json));
            }
            Err(fail) => show::failed(&fail, self.json),
        }
    }

    async fn kill(&self, address: &str) {
        match arguments::address(address) {
            Ok(address) => {
                let outcome = Client::kill(&address, self.timeout, &self.access).await;
                killed(&address, outcome, self.json);
            }
            Err(error) => complain(&error, None),
        }
    }

    fn choose_level(&mut self, name: &str) {
        if !name.is_empty() {
            match Level::from_str(name, true) {
                Ok(level) => self.level = level,
                Err(_) => {
                    return complain(
                        &format!("there is no level `{name}`"),
                        Some("choose local, lease, quorum or replica"),
                    );
                }
            }
        }
        say(&format!("reads are of level {}", level_name(self.level)));
    }
}

fn level_name(level: Level) -> String {
    let name = level.to_possible_value();
    name.map_or_else(String::new, |name| name.get_name().to_owned())
}

/// Completes the words of a line.
struct Words;

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(complete(line, position))
    }
}

/// What can stand at a position of a line: a command first, a level after `level`.
fn complete(line: &str, position: usize) -> (usize, Vec<Pair>) {
    let before = line.get(..position).unwrap_or(line);
    let start = before
        .rfind(char::is_whitespace)
        .map_or(0, |space| space + 1);
    let (earlier, word) = before.split_at(start);
    let words: Vec<String> = match earlier.trim() {
        "" => COMMANDS
            .iter()
            .map(|command| (*command).to_owned())
            .collect(),
        "level" => Level::value_variants()
            .iter()
            .map(|level| level_name(*level))
            .collect(),
        _ => Vec::new(),
    };
    let fitting = words
        .into_iter()
        .filter(|candidate| candidate.starts_with(word));
    let pairs = fitting.map(|candidate| Pair {
        replacement: format!("{candidate} "),
        display: candidate,
    });
    (start, pairs.collect())
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(line: &str) -> Vec<String> {
        let (_, pairs) = complete(line, line.len());
        pairs.into_iter().map(|pair| pair.display).collect()
    }

    #[test]
    fn commands_and_levels_are_completed() {
        assert_eq!(candidates("de"), ["delete"]);
        assert_eq!(candidates("  s"), ["set", "slot"]);
        assert_eq!(candidates("level l"), ["local", "lease"]);
        assert_eq!(candidates("get s"), Vec::<String>::new());
        assert_eq!(candidates("").len(), COMMANDS.len());
    }

    #[test]
    fn the_help_names_every_command() {
        for command in COMMANDS {
            assert!(
                HELP.lines().any(|line| line.starts_with(command)),
                "{command}"
            );
        }
    }
}
