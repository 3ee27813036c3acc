//! Text that claims to be a scenario.

use scenarios::scenario::Scenario;

/// Whatever is a scenario reads back as the same one.
pub(crate) fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(scenario) = Scenario::parse("fuzzed", "fuzzed.toml", text) {
        let again = scenario.to_toml();
        let again = Scenario::parse("fuzzed", "fuzzed.toml", &again);
        let again = again.unwrap_or_else(|error| panic!("its own text is refused: {error}"));
        assert_eq!(again, scenario);
    }
}
