//! The script of a workload: known clients, known keys, times within the duration, one operation a step.

use checker::{Function, Level};
use toml::Spanned;

use super::{Located, out_of_range};
use crate::scenario::script::level;
use crate::scenario::{Length, Problem, Step, Workload, file};

/// The most operations of a script.
const STEPS_MAX: usize = 100_000;

/// Checks what may not stand beside a script, which says each operation itself.
pub(super) fn check_alone(written: &file::Workload) -> Located<()> {
    if written.script.is_none() {
        return Ok(());
    }
    let beside = [
        ("mix", written.mix.as_ref().map(Spanned::span)),
        ("levels", written.levels.as_ref().map(Spanned::span)),
        (
            "ops_per_second",
            written.ops_per_second.as_ref().map(Spanned::span),
        ),
    ];
    for (field, span) in beside {
        if let Some(span) = span {
            let why = "makes no sense beside script, which says each operation; remove one of them";
            let why = why.to_owned();
            return Err((span, Problem::Contradiction { field, why }));
        }
    }
    Ok(())
}

/// The steps in the order of their times.
pub(super) fn steps(
    written: Option<Spanned<Vec<file::Step>>>,
    workload: &Workload,
) -> Located<Vec<Step>> {
    let Some(written) = written else {
        return Ok(Vec::new());
    };
    let (span, written) = (written.span(), written.into_inner());
    if written.is_empty() || written.len() > STEPS_MAX {
        let problem = Problem::Range {
            field: "script",
            given: format!("{} operations long", written.len()),
            allowed: format!("1 to {STEPS_MAX} operations"),
        };
        return Err((span, problem));
    }
    let steps = written.into_iter().map(|written| step(written, workload));
    let mut steps = steps.collect::<Located<Vec<Step>>>()?;
    steps.sort_by_key(|step| step.at);
    Ok(steps)
}

fn step(written: file::Step, workload: &Workload) -> Located<Step> {
    let at = *written.at.get_ref();
    if at.0 >= workload.duration {
        let why = format!(
            "is not before the end of the workload ({}): nobody would do it",
            Length(workload.duration)
        );
        let problem = Problem::Contradiction { field: "at", why };
        return Err((written.at.span(), problem));
    }
    if *written.client.get_ref() >= workload.clients {
        let allowed = format!("0 to {}", workload.clients - 1);
        return Err(out_of_range(&written.client, "client", allowed));
    }
    let (function, key) = operation(&written)?;
    let number = key.get_ref().strip_prefix('k');
    let number = number.and_then(|number| number.parse::<u32>().ok());
    let is_known = number
        .is_some_and(|number| number < workload.keys && *key.get_ref() == format!("k{number}"));
    if !is_known {
        let allowed = format!("\"k0\" to \"k{}\"", workload.keys - 1);
        return Err(out_of_range(key, "the key", allowed));
    }
    let level = read_level(&written, function)?;
    Ok(Step {
        at: at.0,
        client: *written.client.get_ref(),
        function,
        key: key.get_ref().clone(),
        level,
    })
}

fn operation(written: &file::Step) -> Located<(Function, &Spanned<String>)> {
    match (&written.get, &written.set, &written.delete) {
        (Some(key), None, None) => Ok((Function::Read, key)),
        (None, Some(key), None) => Ok((Function::Write, key)),
        (None, None, Some(key)) => Ok((Function::Delete, key)),
        (get, set, delete) => {
            let given = [
                ("get", get.is_some()),
                ("set", set.is_some()),
                ("delete", delete.is_some()),
            ];
            let given: Vec<&str> = given
                .iter()
                .filter_map(|(name, is_there)| is_there.then_some(*name))
                .collect();
            let problem = Problem::ExactlyOne {
                what: "a step of the script",
                given: if given.is_empty() {
                    "none".to_owned()
                } else {
                    given.join(", ")
                },
                allowed: "get, set, delete".to_owned(),
            };
            Err((written.at.span(), problem))
        }
    }
}

fn read_level(written: &file::Step, function: Function) -> Located<Option<Level>> {
    match (&written.level, function) {
        (None, Function::Read) => Ok(Some(Level::Lease)),
        (None, _) => Ok(None),
        (Some(name), Function::Read) => match level(name.get_ref()) {
            Some(level) => Ok(Some(level)),
            None => Err(out_of_range(name, "level", "lease, quorum, local, replica")),
        },
        (Some(name), _) => {
            let why = "is about reads, and this step is none; remove it".to_owned();
            let field = "level";
            Err((name.span(), Problem::Contradiction { field, why }))
        }
    }
}
