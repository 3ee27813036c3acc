//! The agent's place in the queue of one lock, as a small state machine: it says which call comes next, and the task
//! makes it. One call is under way at a time. What went wrong is tried again after a pause, the giving back above all:
//! a place that nobody gives up would block everyone behind it.

use std::time::Duration;

use tokio::time::Instant;

use crate::coordination::CoordinationError;
use crate::coordination::lock::Place;

/// One lock as this node wants it.
#[derive(Debug)]
pub(super) struct Queue {
    path: String,
    pause: Duration,
    /// Until when it is wanted, as long as it is not held.
    wanted: Option<Wanted>,
    /// Whether there may be a place of ours in the queue.
    entered: bool,
    held: bool,
    /// The place before ours.
    behind: Option<String>,
    under_way: bool,
    retry_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    until: Instant,
    granted: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Call `lock::enter`, and then [`Queue::on_entered`].
    Enter,
    /// Call `lock::leave`, and then [`Queue::on_left`].
    Leave,
    /// The lock is held.
    Granted,
    /// It was not to be had in time.
    Denied,
}

impl Queue {
    pub(super) fn new(path: String, pause: Duration) -> Self {
        Self {
            path,
            pause,
            wanted: None,
            entered: false,
            held: false,
            behind: None,
            under_way: false,
            retry_at: None,
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether whoever wants it still waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.wanted.is_some_and(|wanted| !wanted.granted)
    }

    /// Whether there is no place of ours in the queue and no call under way.
    pub(super) fn is_idle(&self) -> bool {
        !self.entered && !self.under_way
    }

    /// Wants the lock, up to a moment. Ends as `Granted` or `Denied`.
    pub(super) fn want(&mut self, until: Instant) {
        let granted = false;
        self.wanted = Some(Wanted { until, granted });
    }

    /// Gives the lock back, or the place in the queue.
    pub(super) fn release(&mut self) {
        self.wanted = None;
    }

    /// The next thing to do now, if there is one. To be asked until there is none.
    pub(super) fn next(&mut self, now: Instant) -> Option<Step> {
        if let Some(wanted) = &mut self.wanted
            && !wanted.granted
        {
            if self.held {
                wanted.granted = true;
                return Some(Step::Granted);
            }
            if now >= wanted.until {
                self.wanted = None;
                return Some(Step::Denied);
            }
        }
        if self.under_way || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let step = match self.wanted {
            Some(_) if !self.held && self.behind.is_none() => Step::Enter,
            None if self.entered => Step::Leave,
            _ => return None,
        };
        self.retry_at = None;
        self.under_way = true;
        self.entered = true;
        self.held &= step != Step::Leave;
        Some(step)
    }

    /// When `next` may have something to do without anything else happening.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let until = self.wanted.filter(|w| !w.granted).map(|w| w.until);
        until.into_iter().chain(self.retry_at).min()
    }

    pub(super) fn on_entered(&mut self, place: Result<Place, CoordinationError>, now: Instant) {
        self.under_way = false;
        match place {
            Ok(Place::Holder) => self.held = true,
            Ok(Place::Behind(path)) => self.behind = Some(path),
            Ok(Place::Absent) | Err(_) => self.retry_at = Some(now + self.pause),
        }
    }

    pub(super) fn on_left(&mut self, result: Result<(), CoordinationError>, now: Instant) {
        self.under_way = false;
        self.behind = None;
        match result {
            Ok(()) => self.entered = false,
            Err(_) => self.retry_at = Some(now + self.pause),
        }
    }

    /// A watched path has changed.
    pub(super) fn on_changed(&mut self, path: &str) {
        if self.behind.as_deref() == Some(path) {
            self.behind = None;
        }
    }

    /// Forgets whom it waits for, so that it looks again: a watch may have been missed.
    pub(super) fn look_again(&mut self) {
        self.behind = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn queue() -> (Queue, Instant) {
        let now = Instant::now();
        let mut queue = Queue::new("locks/a".to_string(), PAUSE);
        assert_eq!(queue.next(now), None);
        queue.want(now + PAUSE * 3);
        assert_eq!(queue.next(now), Some(Step::Enter));
        assert_eq!(queue.next(now), None);
        (queue, now)
    }

    #[test]
    fn a_lock_is_granted_once_and_given_back() {
        let (mut queue, now) = queue();
        queue.on_entered(Ok(Place::Holder), now);
        assert_eq!(queue.next(now), Some(Step::Granted));
        assert_eq!(queue.next(now + PAUSE * 9), None);
        queue.release();
        assert_eq!(queue.next(now), Some(Step::Leave));
        queue.on_left(Ok(()), now);
        assert_eq!(queue.next(now), None);
    }

    #[test]
    fn a_wait_that_is_too_long_is_denied_and_leaves_the_queue() {
        let (mut queue, now) = queue();
        queue.on_entered(Ok(Place::Behind("locks/a/x1-0".to_string())), now);
        assert_eq!(queue.next(now), None);
        assert_eq!(queue.next_at(), Some(now + PAUSE * 3));
        let late = now + PAUSE * 3;
        assert_eq!(queue.next(late), Some(Step::Denied));
        assert_eq!(queue.next(late), Some(Step::Leave));
    }

    #[test]
    fn the_end_of_the_one_before_is_a_reason_to_look_again() {
        let (mut queue, now) = queue();
        queue.on_entered(Ok(Place::Behind("locks/a/x1-0".to_string())), now);
        queue.on_changed("locks/a/x0-0");
        assert_eq!(queue.next(now), None);
        queue.on_changed("locks/a/x1-0");
        assert_eq!(queue.next(now), Some(Step::Enter));
    }

    #[test]
    fn what_was_not_answered_is_tried_again_after_a_pause() {
        let (mut queue, now) = queue();
        queue.release();
        queue.on_entered(Err(CoordinationError::Unknown), now);
        assert_eq!(queue.next(now), None);
        assert_eq!(queue.next(now + PAUSE), Some(Step::Leave));
        queue.on_left(Err(CoordinationError::Unknown), now + PAUSE);
        assert_eq!(queue.next(now + PAUSE), None);
        assert_eq!(queue.next(now + PAUSE * 2), Some(Step::Leave));
    }

    #[test]
    fn a_lock_that_is_wanted_again_while_it_is_given_back_is_entered_anew() {
        let (mut queue, now) = queue();
        queue.on_entered(Ok(Place::Holder), now);
        assert_eq!(queue.next(now), Some(Step::Granted));
        queue.release();
        assert_eq!(queue.next(now), Some(Step::Leave));
        queue.want(now + PAUSE * 3);
        assert_eq!(queue.next(now), None);
        queue.on_left(Ok(()), now);
        assert_eq!(queue.next(now), Some(Step::Enter));
    }
}
