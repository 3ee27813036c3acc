//! A replicated key-value store around `kv_core::Replica`. (The map of the crate is written last.)
pub mod agent;
mod backoff;
pub mod client;
pub mod config;
pub mod coordination;
pub mod engine;
pub mod environment;
pub mod error;
pub mod events;
pub mod fs;
pub mod handle;
pub mod node;
pub mod server;
pub mod transport;
pub mod wire;
