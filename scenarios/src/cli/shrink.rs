//! `cargo sim shrink`: from a failing run to a small file that fails by itself.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use checker::Guarantee;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kv_core::Fencing;

use super::{FencingFlag, print, runs_folder, world};
use crate::error::Error;
use crate::runner::{Batch, check_supported};
use crate::scenario::Scenario;
use crate::shrink::{Options, Symptom, shrink};
use crate::suite;

/// What to shrink, and where to.
#[derive(Debug, Args)]
pub(super) struct ShrinkFlags {
    /// A scenario of the suite by its name, or a scenario file by its path.
    #[arg(value_name = "NAME|FILE")]
    scenario: String,
    /// Which run; the file of a kept run names its own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which protocol; what the file says, if nothing is given.
    #[arg(long)]
    fencing: Option<FencingFlag>,
    /// What must stay violated, such as `linearizable`; without it, what the scenario expects to be, else anything that
    /// is, else a panic or another failure of the run, else what could not be judged.
    #[arg(long, value_name = "GUARANTEE")]
    guarantee: Option<Guarantee>,
    /// The file to write [default: `runs/shrunk/NAME-FENCING-SEED-GUARANTEE.toml` in the repository].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The most runs that it may take.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
}

/// Shrinks, writes the file, and shows it.
pub(super) fn run(flags: &ShrinkFlags) -> Result<ExitCode, Error> {
    let scenario = suite::find(&flags.scenario)?;
    let Some(seed) = flags.seed.or(scenario.seed) else {
        let address = scenario.address;
        return Err(Error::WhichSeed { address });
    };
    let fencing = flags.fencing.map_or(scenario.fencing(), Fencing::from);
    let scenario = scenario.under(fencing);
    let stage = world::simulated()?;
    let batch = Batch {
        scenario: scenario.clone().into(),
        seeds: vec![seed],
    };
    check_supported(&*stage, &[batch])?;
    let bar = ProgressBar::new_spinner(); // On stderr, and only where a person looks.
    let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}");
    bar.set_style(style.expect("the template is right"));
    let options = Options {
        symptom: flags.guarantee.map(Symptom::Violated),
        runs_max: flags.runs,
    };
    let shrunk = shrink(&*stage, &scenario, seed, options, &|progress| {
        bar.set_message(format!("{} runs: {}", progress.runs, progress.size));
        bar.tick();
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let shrunk = shrunk?;
    let path = match &flags.out {
        Some(path) => path.clone(),
        None => default_path(&scenario, seed, &shrunk.symptom),
    };
    let text = shrunk.file(&path.display().to_string());
    write(&path, &text)?;
    print(&format!(
        "{text}\n{} runs, from {}\nto {}: {}\n",
        shrunk.runs,
        shrunk.before,
        shrunk.after,
        path.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn default_path(scenario: &Scenario, seed: u64, symptom: &Symptom) -> PathBuf {
    let fencing = scenario.fencing().name();
    let what = match symptom {
        Symptom::Violated(guarantee) => guarantee.name().to_owned(),
        Symptom::Unknown(guarantee) => format!("{guarantee}-unknown"),
        Symptom::Failed(_) => "failed".to_owned(),
    };
    let name = format!("{}-{fencing}-{seed}-{what}.toml", scenario.id);
    runs_folder().join("shrunk").join(name)
}

/// Writes a file as a whole: nobody ever finds half of it.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(unwritable)?;
    }
    let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
    fs::write(&unfinished, text).map_err(unwritable)?;
    fs::rename(&unfinished, path).map_err(unwritable)
}
