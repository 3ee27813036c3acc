//! What a log has come to: everything that must be known to go on with it, but for the bytes of its entries.
//!
//! It is written at the start of every file, so that a file can be read without those before it, which may be gone.

use kv_core::{Epoch, Log as Shape, Offset};

use super::index::Place;

/// The bytes of a run: its epoch and its first offset.
pub(crate) const RUN_BYTES: usize = 16;

/// What a log has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The highest promised epoch (R3).
    pub(super) promised: Epoch,
    /// The names of all entries from the first one on, whether their bytes are there or not.
    pub(super) names: Shape,
    /// Where bytes were damaged that may have been synced, unless the node has got again all that it may have lost.
    pub(super) suspect: Option<Place>,
}

/// The runs of a log as bytes.
pub(crate) fn encode_runs(names: &Shape) -> Vec<u8> {
    let runs = names.runs();
    let mut bytes = Vec::with_capacity(runs.len() * RUN_BYTES);
    for (epoch, first, _) in runs {
        bytes.extend_from_slice(&epoch.0.to_le_bytes());
        bytes.extend_from_slice(&first.0.to_le_bytes());
    }
    bytes
}

/// The log of those runs that ends at `end`; nothing if there is no such log. Total: any bytes give an answer.
pub(crate) fn decode_runs(bytes: &[u8], end: Offset) -> Option<Shape> {
    let (words, rest) = bytes.as_chunks::<8>();
    let (pairs, odd) = words.as_chunks::<2>();
    if !rest.is_empty() || !odd.is_empty() || pairs.is_empty() != (end == Offset::ZERO) {
        return None;
    }
    let mut runs = Vec::with_capacity(pairs.len());
    let (mut epoch_before, mut expected_first) = (Epoch(0), Some(Offset(1)));
    for (index, [epoch, first]) in pairs.iter().enumerate() {
        let epoch = Epoch(u64::from_le_bytes(*epoch));
        let first = Offset(u64::from_le_bytes(*first));
        let last = match pairs.get(index + 1) {
            Some([_, next]) => Offset(u64::from_le_bytes(*next)).previous(),
            None => end,
        };
        let follows = expected_first.is_none_or(|expected| expected == first);
        if !follows || epoch <= epoch_before || last < first {
            return None;
        }
        (epoch_before, expected_first) = (epoch, None);
        runs.push((epoch, first, last));
    }
    Some(Shape::from_runs(&runs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_undoes_encoding(runs in proptest::collection::vec((1..5_u64, 1..5_u64), 0..20)) {
            let (mut epoch, mut last) = (0, 0);
            let runs: Vec<_> = runs
                .into_iter()
                .map(|(step, count)| {
                    epoch += step;
                    let first = last + 1;
                    last += count;
                    (Epoch(epoch), Offset(first), Offset(last))
                })
                .collect();
            let names = Shape::from_runs(&runs);
            let bytes = encode_runs(&names);
            prop_assert_eq!(decode_runs(&bytes, names.end().offset), Some(names.clone()));
            prop_assert_eq!(decode_runs(&bytes, Offset::ZERO).is_some(), runs.is_empty());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            numbers in proptest::collection::vec(prop_oneof![0..6_u64, any::<u64>()], 0..12),
            end in prop_oneof![0..8_u64, any::<u64>()],
            odd in 0..8_usize,
        ) {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            bytes.resize(bytes.len() + odd, 0);
            if let Some(names) = decode_runs(&bytes, Offset(end)) {
                prop_assert_eq!(encode_runs(&names), bytes);
                prop_assert_eq!(names.end().offset, Offset(end));
            }
        }
    }

    #[test]
    fn a_million_epochs_are_no_trouble() {
        let runs: Vec<_> = (1..=1_000_000)
            .map(|n| (Epoch(n), Offset(n), Offset(n)))
            .collect();
        let names = Shape::from_runs(&runs);
        assert_eq!(
            decode_runs(&encode_runs(&names), Offset(1_000_000)),
            Some(names)
        );
    }
}
