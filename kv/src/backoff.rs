//! How long to wait before trying again: longer each time, and never two clients in step.
//!
//! Half of each wait is fixed and half is drawn ("equal jitter"), from a generator that is handed in: a simulated run
//! waits the same each time it is replayed.

use std::time::Duration;

use rand::Rng;

/// Waits that double from `first` to `max`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// The first wait is at most `first`, later ones at most `max`.
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            next: first,
        }
    }

    /// The next wait.
    pub(crate) fn draw(&mut self, rng: &mut impl Rng) -> Duration {
        let half = self.next / 2;
        let wait = half + half.mul_f64(rng.random::<f64>());
        self.next = (self.next * 2).min(self.max);
        wait
    }

    /// Starts over, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(20), ms(100));
        let mut rng = StdRng::seed_from_u64(1);
        for bound in [20, 40, 80, 100, 100] {
            let wait = backoff.draw(&mut rng);
            assert!(wait >= ms(bound) / 2 && wait <= ms(bound), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.draw(&mut rng) <= ms(20));
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let draw = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(9));
            [backoff.draw(&mut rng), backoff.draw(&mut rng)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
