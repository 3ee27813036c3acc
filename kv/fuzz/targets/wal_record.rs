#![no_main]
#[path = "../bodies/wal.rs"]
#[allow(dead_code, reason = "the other body has a target of its own")]
mod wal;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wal::record(bytes));
