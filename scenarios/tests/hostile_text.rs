//! Property: no text makes the scenario parser panic, and whatever is a scenario reads back as the same one. The body is that of the
//! fuzz target in `kv/fuzz`; here it gets scenarios of the suite with a few lines changed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../../kv/fuzz/bodies/scenario.rs"]
mod body;

/// Everything that a line may say, well or badly.
const VALUES: [&str; 12] = [
    "0",
    "-1",
    "1",
    "9223372036854775807",
    "1.5",
    "true",
    "\"\"",
    "\"1s\"",
    "\"writer\"",
    "[]",
    "{}",
    "\"99999999999h\"",
];

fn suite() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/suite");
    let files = std::fs::read_dir(folder).expect("the suite is there");
    let texts = files.map(|file| std::fs::read_to_string(file.expect("it is there").path()));
    let texts = texts.collect::<Result<Vec<_>, _>>();
    texts.expect("the suite can be read")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_scenario_or_refused(
        file: Index,
        changes in vec(any::<(Index, Index, u8)>(), 0..5),
        bytes in vec(any::<u8>(), 0..200),
    ) {
        body::scenario(&bytes);
        let suite = suite();
        let mut lines: Vec<_> = file.get(&suite).lines().map(str::to_owned).collect();
        for (at, other, kind) in changes {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match kind % 4 {
                0 => lines[at] = lines[other].clone(),
                1 => {
                    lines.remove(at);
                }
                2 => lines.insert(at, lines[other].clone()),
                _ => {
                    let name = lines[at].split('=').next().unwrap_or_default().trim().to_owned();
                    lines[at] = format!("{name} = {}", VALUES[usize::from(kind) % VALUES.len()]);
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        body::scenario(lines.join("\n").as_bytes());
    }
}
