//! Scenarios: what goes wrong, what the clients do meanwhile, and what must hold all the same.
//!
//! | file | what it is |
//! |---|---|
//! | `scenario.rs` | the file format, validated |
//! | `suite.rs` | the scenarios that come with the program |
//! | `world.rs` | where a scenario is played: the simulator, later real processes and containers |
//! | `play.rs` | one run: clients and faults side by side, then recovery and the last reads |
//! | `workload.rs`, `nemesis.rs` | the clients; the faults |
//! | `record.rs` | the history and the nodes' events, in one order |
//! | `runner.rs`, `folder.rs` | many runs at once, judged; what is kept of them |
//! | `summary.rs`, `matrix.rs` | what many runs came to; all of it in one table |
//! | `coverage.rs` | how much of the model's space the runs have visited |
//! | `story.rs` | one run told event by event |
//! | `shrink.rs` | a failing run made small |
//! | `soak.rs` | fresh seeds without end; what several machines found, joined |
//! | `cli.rs` | the command line |

pub mod cli;
pub mod coverage;
pub mod error;
pub mod folder;
pub mod matrix;
pub mod nemesis;
pub mod play;
pub mod record;
pub mod runner;
pub mod scenario;
pub mod seed;
pub mod shrink;
pub mod soak;
pub mod story;
pub mod suite;
pub mod summary;
pub mod workload;
pub mod world;
