#![no_main]
#[path = "../bodies/scenario.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scenario::scenario(bytes));
