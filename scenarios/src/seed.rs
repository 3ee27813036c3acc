//! Everything random about a script flows from the seed, in one stream for each purpose: drawing more for one purpose
//! changes nothing for another.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The stream of random numbers of that seed for that purpose; `index` tells apart those who share a purpose.
#[must_use]
pub fn stream(seed: u64, purpose: &str, index: u64) -> StdRng {
    // FNV-1a (Fowler, Noll, Vo), 64 bits. The generator itself mixes what comes out.
    let bytes = seed.to_le_bytes().into_iter().chain(index.to_le_bytes());
    let bytes = bytes.chain(purpose.bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    StdRng::seed_from_u64(hash)
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn streams_repeat_themselves_and_differ_from_each_other() {
        let draw = |seed, purpose, index| stream(seed, purpose, index).random::<u64>();
        assert_eq!(draw(1, "session", 2), draw(1, "session", 2));
        assert_ne!(draw(1, "session", 2), draw(2, "session", 2));
        assert_ne!(draw(1, "session", 2), draw(1, "session", 3));
        assert_ne!(draw(1, "session", 2), draw(1, "fault", 2));
    }
}
