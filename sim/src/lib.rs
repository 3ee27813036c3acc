//! The simulated world: network, disk, coordination and clocks that fail on purpose, from one seed.
pub mod disk;
