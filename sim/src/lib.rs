//! The simulated world around real nodes: everything that a node touches of the outside, made to fail on purpose, from
//! one seed.
//!
//! | file | what fails there |
//! |---|---|
//! | `network.rs` | links, single messages |
//! | `disk.rs` | what was not synced, the last write, the sync itself |
//! | `coordination.rs` | sessions, answers of the coordination service |
//! | `clock.rs` | offset and drift of each node's clock |
//! | `cluster.rs` | machines: kill, power loss, pause, restart |
//!
//! The modules that need the simulator's runtime exist only under `--cfg madsim`, which `cargo sim` sets.

pub mod clock;
#[cfg(madsim)]
pub mod cluster;
#[cfg(madsim)]
pub mod coordination;
pub mod disk;
#[cfg(madsim)]
pub mod network;
pub mod recorder;
