//! The simulated world: network, disk, coordination and clocks that fail on purpose, from one seed.

#[cfg(madsim)]
pub mod coordination;
