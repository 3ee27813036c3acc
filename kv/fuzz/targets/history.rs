#![no_main]
#[path = "../bodies/history.rs"]
mod history;

libfuzzer_sys::fuzz_target!(|files: (&[u8], &[u8])| history::judge(files.0, files.1));
