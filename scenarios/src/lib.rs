//! Scenarios: what goes wrong, who does what meanwhile, and what must hold all the same.
pub mod error;
pub mod scenario;
pub mod suite;
