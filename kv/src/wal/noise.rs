//! Makes written bytes recognisable: on the disk, every byte of a record is XORed with noise that depends on its position alone.
//!
//! Without it a record may well hold long runs of zeros, and so does a page that was never written. With it, written bytes are
//! next to never a run of zeros, so that a run of zeros says: nothing was written here (see `judge.rs`).
//!
//! Three bits of each byte of noise are always set: a byte that has one of them clear (a zero, most text) never becomes zero, and
//! any other does with a chance of 1/32. The last byte of a record has all three clear, so that on the disk it has all three
//! set: it is zero only if nothing wrote it, or if three of its bits have flipped.
//!
//! This is no encryption: whoever knows the position of a byte can choose it so that it becomes zero.

/// Set in each byte of noise.
pub const ALWAYS_SET: u8 = 0x85;

const WORD_BYTES: u64 = 8;

/// Adds noise to bytes that lie at `position` of a file; doing it twice undoes it.
pub fn apply(position: u64, bytes: &mut [u8]) {
    let skipped = (position % WORD_BYTES) as usize;
    let head = match skipped {
        0 => 0,
        _ => bytes.len().min(WORD_BYTES as usize - skipped),
    };
    let (first, rest) = bytes.split_at_mut(head);
    xor(first, &word(position / WORD_BYTES).to_le_bytes()[skipped..]);
    let mut number = (position + head as u64) / WORD_BYTES;
    let (words, last) = rest.as_chunks_mut::<{ WORD_BYTES as usize }>();
    for bytes in words {
        *bytes = (u64::from_le_bytes(*bytes) ^ word(number)).to_le_bytes();
        number += 1;
    }
    xor(last, &word(number).to_le_bytes());
}

/// The noise of the word of that number: a counter, mixed (as in Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014, with one round less).
fn word(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed ^ (mixed >> 32)) | u64::from_le_bytes([ALWAYS_SET; WORD_BYTES as usize])
}

fn xor(bytes: &mut [u8], noise: &[u8]) {
    for (byte, noise) in bytes.iter_mut().zip(noise) {
        *byte ^= noise;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn twice_is_nothing_and_parts_are_as_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            position in 0..1000_u64,
            at: proptest::sample::Index,
        ) {
            let mut whole = bytes.clone();
            apply(position, &mut whole);
            let at = at.index(bytes.len() + 1);
            let mut parts = bytes.clone();
            let (first, second) = parts.split_at_mut(at);
            apply(position, first);
            apply(position + at as u64, second);
            prop_assert_eq!(&parts, &whole);
            apply(position, &mut whole);
            prop_assert_eq!(whole, bytes);
        }
    }

    #[test]
    fn the_bits_that_are_always_set_are_and_the_others_are_even() {
        let mut noise = vec![0; 1 << 20];
        apply(0, &mut noise);
        let count = |bit: u32| noise.iter().filter(|byte| *byte >> bit & 1 == 1).count();
        for bit in 0..8 {
            let share = count(bit) as f64 / noise.len() as f64;
            let expected = if ALWAYS_SET >> bit & 1 == 1 { 1.0 } else { 0.5 };
            assert!((share - expected).abs() < 0.01, "bit {bit}: {share}");
        }
    }
}
