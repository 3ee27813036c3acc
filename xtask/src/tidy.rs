//! The repository's own rules, as a check: what a reviewer would otherwise have to look for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A source file of more lines holds two ideas.
const LINES_MAX: usize = 800;

/// Checks every source file, and names everything that is wrong.
///
/// # Errors
/// Lists the places that break a rule.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    for path in sources(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path);
        complaints.extend(complaints_about(name, &text));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!(
        "the repository's rules are broken:\n  {}",
        complaints.join("\n  ")
    )
}

fn complaints_about(name: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: &str| {
        complaints.push(format!("{}:{line}: {what}", name.display()));
    };
    if !text.trim_start().starts_with("//!") && !text.starts_with("#!") {
        complain(1, "a file begins with `//!`: what it is, the idea");
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complain(lines, "more than 800 lines: two ideas in one file");
    }
    if name.ends_with("mod.rs") || name.ends_with("util.rs") || name.ends_with("common.rs") {
        complain(1, "a file is named after its idea");
    }
    let in_core = name.starts_with("kv/core/src");
    let in_kv = name.starts_with("kv/src");
    for (index, line) in text.lines().enumerate() {
        // The needles are put together here, so that this file does not find itself.
        if line.contains(concat!("TO", "DO")) && !line.contains('#') {
            complain(index + 1, "an open end without an issue number");
        }
        if in_kv && line.contains(concat!("cfg(", "madsim)")) {
            complain(index + 1, "`kv` does not know that it is simulated");
        }
        let outside = [
            "std::net",
            "std::fs",
            "std::time",
            "std::thread",
            "HashMap",
            "HashSet",
        ];
        if in_core && outside.iter().any(|needle| line.contains(needle)) {
            complain(
                index + 1,
                "the core knows no socket, file, clock, thread or random order",
            );
        }
    }
    complaints
}

fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for top in ["kv", "checker", "sim", "scenarios", "xtask"] {
        walk(&root.join(top), &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_can_be_broken() {
        let about = |name: &str, text: &str| complaints_about(Path::new(name), text).len();
        assert_eq!(about("kv/src/a.rs", "//! Fine.\n"), 0);
        assert_eq!(about("kv/src/a.rs", "fn no_header() {}\n"), 1);
        assert_eq!(about("kv/src/util.rs", "//! x\n"), 1);
        assert_eq!(
            about("kv/src/a.rs", &format!("//! x\n{}", "\n".repeat(800))),
            1
        );
        assert_eq!(
            about("kv/src/a.rs", concat!("//! x\n// TO", "DO: later\n")),
            1
        );
        assert_eq!(
            about("kv/src/a.rs", concat!("//! x\n#[cfg(", "madsim)]\n")),
            1
        );
        assert_eq!(
            about("kv/core/src/a.rs", "//! x\nuse std::time::Instant;\n"),
            1
        );
    }
}
