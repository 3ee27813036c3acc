//! A node's side of a real network: who comes in, and how far.
//!
//! | file | what it is |
//! |---|---|
//! | `listener.rs` | takes connections, within the limits of a door |
//! | `greeting.rs` | the first moments of a connection: TLS, and whether it speaks our protocol |
//! | `connection.rs` | a connection that was let in |
//! | `gate.rs` | lets requests through to a service: who may, and how long they may take |
//!
//! The idea: whatever a stranger does before it has shown who it is costs the node a bounded amount of memory and time, and costs others
//! nothing. A connection counts only when it has spoken; until then the oldest makes room for the newest, so a thousand
//! silent ones shut nobody out.

mod connection;
mod gate;
mod greeting;
mod listener;

pub use connection::{Came, Connection};
#[cfg(feature = "http")]
pub(crate) use gate::hold_room;
pub use gate::{Admits, Gate};
pub use greeting::Speaks;
pub use listener::Listener;
