//! The replication protocol, explored exhaustively within bounds: [`kv_core::Replica`] itself inside stateright.
//!
//! Nothing of the protocol is written here. A [`state::State`] holds real replicas with their disks; an [`action::Action`] puts an
//! input into one of them and [`turn::Turn`] performs what comes out, as the driver's duties in `kv_core` say. What is modelled is
//! the outside: the network (`network.rs`), the disks (`wal.rs`), the coordination service (`service.rs`), and what was promised to
//! whom (`ledger.rs`). `docs/model.md` says what is abstracted and why that is sound.

pub mod action;
pub mod bounds;
pub mod cli;
mod cpu;
pub mod diagram;
pub mod draft;
pub mod error;
pub mod exploration;
mod forgetting;
pub mod known;
pub mod ledger;
pub mod marks;
mod memo;
pub mod network;
pub mod planted;
pub mod projection;
pub mod reduction;
pub mod report;
pub mod service;
pub mod shared;
pub mod show;
pub mod state;
pub mod story;
pub mod symmetry;
pub mod system;
pub mod travel;
pub mod turn;
pub mod wal;
pub mod watch;
pub mod words;
