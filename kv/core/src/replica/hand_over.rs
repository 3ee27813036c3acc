//! R17: a writer that is asked to go finishes what it has begun, takes nothing new, and gives the role back.
//!
//! Nothing is lost on the way: what was accepted is acknowledged first, and what comes later is refused before it gets an offset. The
//! others elect at once, since the record says that the role is free, and nobody has to wait for a session to end.

use super::{Replica, Role};
use crate::step::Effect;

impl Replica {
    /// Whoever runs the node wants the role elsewhere. Asking again does no harm, and is needed where a rollback has made this member a
    /// writer anew.
    pub(super) fn on_hand_over(&mut self, effects: &mut Vec<Effect>) {
        if let Role::Writer(writer) = &mut self.role {
            writer.leaving = true;
            self.leave_when_done(effects);
        }
    }

    /// Leaves once no write waits for its answer. As at the end of a bound (R17), the fenced writer stops first.
    pub(super) fn leave_when_done(&mut self, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &self.role else {
            return;
        };
        if writer.leaving && writer.pending.is_empty() && writer.given_up.is_empty() {
            if self.fencing.promises() {
                self.step_down(effects);
            }
            self.release(effects);
        }
    }
}
