//! A replicated key-value store around `kv_core::Replica`. (The map of the crate is written last.)
pub mod agent;
pub mod config;
pub mod coordination;
pub mod data_folder;
pub mod engine;
pub mod environment;
pub mod events;
pub mod fs;
pub mod handle;
pub mod wal;
