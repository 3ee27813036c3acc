//! A scenario as the text of a file: complete, in the order in which a person would write it.

use std::fmt::Write;

use super::expect::Expected;
use super::{
    Action, Disturbance, End, Fault, Group, Length, Random, Scenario, Size, Start, Workload,
};

pub(super) fn write(scenario: &Scenario) -> String {
    let mut text = String::new();
    head(&mut text, scenario).expect("a string takes everything");
    for fault in &scenario.faults {
        self::fault(&mut text, fault).expect("a string takes everything");
    }
    for cue in &scenario.cues {
        write!(text, "\n[[cue]]\n{cue}").expect("a string takes everything");
    }
    expectations(&mut text, scenario).expect("a string takes everything");
    text
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn head(text: &mut String, scenario: &Scenario) -> std::fmt::Result {
    writeln!(text, "name = {}", quoted(&scenario.title))?;
    if let Some(seed) = scenario.seed {
        writeln!(text, "seed = {seed}")?;
    }
    if let Some(Random { faults, quiet }) = scenario.random {
        let quiet = Length(quiet);
        writeln!(
            text,
            "random = {{ faults = {faults}, quiet = \"{quiet}\" }}"
        )?;
    }
    let (cluster, config) = (&scenario.cluster, &scenario.cluster.config);
    writeln!(text, "\n[cluster]\nshards = {}", config.shards)?;
    writeln!(text, "replication_factor = {}", config.replication_factor)?;
    writeln!(text, "write_quorum = {}", config.write_quorum)?;
    writeln!(text, "election_quorum = {}", config.election_quorum)?;
    writeln!(text, "fencing = \"{}\"", config.fencing.name())?;
    writeln!(text, "engine = \"{}\"", cluster.engine)?;
    for (field, bytes) in [
        ("segment_bytes", cluster.storage.segment_bytes),
        ("checkpoint_bytes", cluster.storage.checkpoint_bytes),
        ("log_retain_bytes", cluster.storage.log_retain_bytes),
    ] {
        if let Some(bytes) = bytes {
            writeln!(text, "{field} = \"{}\"", Size(bytes))?;
        }
    }
    writeln!(text, "nodes = {}", cluster.nodes)?;
    writeln!(
        text,
        "session_timeout = \"{}\"",
        Length(cluster.session_timeout)
    )?;

    workload(text, &scenario.workload)
}

fn workload(text: &mut String, workload: &Workload) -> std::fmt::Result {
    writeln!(
        text,
        "\n[workload]\nclients = {}\nkeys = {}",
        workload.clients, workload.keys
    )?;
    operations(text, workload)?;
    writeln!(text, "duration = \"{}\"", Length(workload.duration))?;
    writeln!(text, "deadline = \"{}\"", Length(workload.deadline))?;
    writeln!(text, "min_ok = {}", workload.min_ok)?;
    writeln!(
        text,
        "recovery_within = \"{}\"",
        Length(workload.recovery_within)
    )
}

/// The script, or how the operations are drawn.
fn operations(text: &mut String, workload: &Workload) -> std::fmt::Result {
    if !workload.script.is_empty() {
        writeln!(text, "script = [")?;
        for step in &workload.script {
            writeln!(text, "    {step},")?;
        }
        return writeln!(text, "]");
    }
    let (mix, levels) = (workload.mix, workload.levels);
    writeln!(
        text,
        "mix = {{ get = {}, set = {}, delete = {} }}",
        mix.get, mix.set, mix.delete
    )?;
    writeln!(
        text,
        "levels = {{ lease = {}, quorum = {}, local = {}, replica = {} }}",
        levels.lease, levels.quorum, levels.local, levels.replica
    )?;
    writeln!(text, "ops_per_second = {:?}", workload.ops_per_second)
}

fn fault(text: &mut String, fault: &Fault) -> std::fmt::Result {
    writeln!(text, "\n[[fault]]")?;
    match &fault.start {
        Start::At(at) => writeln!(text, "at = \"{}\"", Length(*at))?,
        Start::When(trigger) => writeln!(text, "when = \"{trigger}\"")?,
        Start::After(count) => writeln!(text, "after = \"{count}\"")?,
    }
    if let Some(latest) = fault.latest {
        writeln!(text, "latest = \"{}\"", Length(latest))?;
    }
    writeln!(text, "{} = {}", fault.action.kind(), action(&fault.action))?;
    match fault.end {
        End::Until(end) => writeln!(text, "until = \"{}\"", Length(end)),
        End::For(lasting) => writeln!(text, "for = \"{}\"", Length(lasting)),
        End::WithTheWorkload => Ok(()),
    }
}

fn group(group: &Group) -> String {
    let targets: Vec<String> = group
        .0
        .iter()
        .map(|target| format!("\"{target}\""))
        .collect();
    match targets.as_slice() {
        [target] => target.clone(),
        targets => format!("[{}]", targets.join(", ")),
    }
}

fn optional(field: &str, of: &Option<Group>) -> String {
    of.as_ref()
        .map_or(String::new(), |of| format!(", {field} = {}", group(of)))
}

fn action(action: &Action) -> String {
    match action {
        Action::Isolate { group: whom, from } => {
            format!("{{ isolate = {}{} }}", group(whom), optional("from", from))
        }
        Action::Split(groups) => {
            let groups: Vec<String> = groups.iter().map(group).collect();
            format!("{{ split = [{}] }}", groups.join(", "))
        }
        Action::OneWay { from, to } => {
            format!(
                "{{ one_way = {{ from = {}{} }} }}",
                group(from),
                optional("to", to)
            )
        }
        Action::Bridge(bridge) => format!("{{ bridge = {} }}", group(bridge)),
        Action::Ring(ring) => format!("{{ ring = {} }}", group(ring)),
        Action::Network {
            disturbance,
            from,
            to,
        } => {
            let Disturbance {
                lose,
                duplicate,
                reorder,
                delay,
            } = disturbance;
            format!(
                "{{ lose = {lose:?}, duplicate = {duplicate:?}, reorder = {reorder:?}, delay = \"{}\"{}{} }}",
                Length(*delay),
                optional("from", from),
                optional("to", to)
            )
        }
        Action::PowerLoss(whom)
        | Action::Kill(whom)
        | Action::Restart(whom)
        | Action::Pause(whom)
        | Action::SessionLoss(whom) => group(whom),
        Action::Clock {
            nodes,
            offset,
            drift_ppm,
        } => {
            format!(
                "{{ node = {}, offset = \"{}\", drift_ppm = {drift_ppm} }}",
                group(nodes),
                Length(*offset)
            )
        }
        Action::SlowDisk { nodes, delay } => {
            format!(
                "{{ node = {}, delay = \"{}\" }}",
                group(nodes),
                Length(*delay)
            )
        }
        Action::Disk { nodes, fault } => {
            let spot = fault.spot();
            let spot = spot.map_or(String::new(), |spot| format!(", where = \"{spot}\""));
            let (nodes, fault) = (group(nodes), fault.name());
            format!("{{ node = {nodes}, fault = \"{fault}\"{spot} }}")
        }
    }
}

fn expectations(text: &mut String, scenario: &Scenario) -> std::fmt::Result {
    for (table, named) in [
        ("expect", &scenario.expect.epoch),
        ("expect.none", &scenario.expect.none),
    ] {
        if !named.is_empty() {
            writeln!(text, "\n[{table}]")?;
        }
        for (guarantee, expected) in named {
            let expected: &Expected = expected;
            writeln!(text, "{guarantee} = \"{expected}\"")?;
        }
    }
    Ok(())
}
