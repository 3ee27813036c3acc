//! A replicated key-value store around `kv_core::Replica`: storage, drivers, server, client.
//!
//! | file | what it is |
//! |---|---|
//! | `node.rs` | a node: puts the rest together in one `Environment` |
//! | `environment.rs` | the one seam to the outside |
//! | `driver.rs` | the loop: next input, step, perform the effects in order |
//! | `agent.rs` | the task that deals with the coordination service |
//! | `wal.rs` | the log on disk; `fs.rs` the disk under it; `data_folder.rs` whose disk it is, `wholeness.rs` whether all of it is there |
//! | `store.rs` | what committed entries are applied to: checkpoints, snapshots |
//! | `engine.rs` | where committed data lies on disk: memory, redb, sled, rocksdb |
//! | `coordination.rs` | the coordination service: the trait, the embedded one, a real ZooKeeper, what is kept there |
//! | `server.rs`, `transport.rs` | gRPC for clients and between peers; `wire.rs` translates |
//! | `door.rs` | what stands between the network and a node; `net.rs` takes connections, `security.rs` knows who may do what |
//! | `access.rs` | how a client, or a node that calls another, shows who it is |
//! | `repair.rs` | taking everything from a peer, for a damaged folder |
//! | `http.rs` | the HTTP face, for clients and for an operator's tools |
//! | `metrics.rs` | what an operator can measure |
//! | `client.rs` | slot map, redirects, retries, sessions, outcomes |
//! | `quantity.rs` | lengths of time and numbers of bytes, as files that people write have them |
//! | `handle.rs`, `events.rs`, `config.rs`, `error.rs` | what may be asked, what happened, what can be chosen, what can go wrong |

pub mod access;
pub mod agent;
mod backoff;
mod blocking;
pub mod client;
pub mod config;
pub mod coordination;
pub mod data_folder;
pub mod door;
mod driver;
pub mod engine;
pub mod environment;
pub mod error;
pub mod events;
pub mod fs;
pub mod handle;
#[cfg(feature = "http")]
pub mod http;
pub mod metrics;
#[cfg(feature = "net")]
pub mod net;
pub mod node;
pub mod quantity;
pub mod repair;
#[cfg(feature = "net")]
pub mod security;
pub mod server;
pub mod store;
pub mod transport;
pub mod wal;
pub mod wholeness;
pub mod wire;
