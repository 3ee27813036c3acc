//! Delta debugging: which items of a list are needed (Zeller and Hildebrandt, *Simplifying and Isolating
//! Failure-Inducing Input*, 2002, section 3).

/// A part of the items that still does it, and from which no single one can be left out.
///
/// `still` says whether a part does it, for which all items together do. The order stays.
pub fn minimise<T: Clone>(items: &[T], mut still: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    if items.is_empty() || still(&[]) {
        return Vec::new();
    }
    let mut parts = 2;
    while items.len() > 1 {
        let size = items.len().div_ceil(parts);
        let mut starts = (0..items.len()).step_by(size);
        let smaller = starts.find_map(|start| {
            let mut rest = items[..start].to_vec();
            rest.extend_from_slice(&items[(start + size).min(items.len())..]);
            still(&rest).then_some(rest)
        });
        match smaller {
            Some(rest) => {
                items = rest;
                parts = (parts - 1).clamp(2, items.len().max(2));
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(items.len()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_stays() {
        let items: Vec<u32> = (0..100).collect();
        let needed = [3, 41, 42, 97];
        let mut tries = 0;
        let found = minimise(&items, |part| {
            tries += 1;
            needed.iter().all(|item| part.contains(item))
        });
        assert_eq!(found, needed);
        assert!(tries < 150, "{tries} tries");
    }

    #[test]
    fn nothing_stays_where_nothing_is_needed_and_everything_where_all_is() {
        assert_eq!(minimise(&[1, 2, 3], |_| true), Vec::<i32>::new());
        assert_eq!(minimise(&[1, 2, 3], |part| part.len() == 3), [1, 2, 3]);
        assert_eq!(minimise(&[1], |part| part.len() == 1), [1]);
        assert_eq!(minimise::<i32>(&[], |_| false), Vec::<i32>::new());
    }
}
