//! Messages between nodes that go nowhere by themselves: whoever directs the run hands over what is to arrive, as often and in
//! whatever order.

use bytes::Bytes;
use kv_core::{Message, NodeId};

use super::{Network, State};

/// A message that was sent and is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who sent it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// What.
    pub message: Message,
}

impl Network {
    /// From now on every message between nodes is held.
    pub fn hold(&self) {
        self.state().held.get_or_insert_default();
    }

    /// Messages go their way again; those that were held are lost.
    pub fn hold_no_longer(&self) {
        self.state().held = None;
    }

    /// What was sent since messages are held, each once, in the order of the last sending. It stays there when it is handed over.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        self.state().held.clone().unwrap_or_default()
    }

    /// Lets a message arrive. Returns whether anybody listens.
    pub fn hand_over(&self, held: Held) -> bool {
        let deliver = self.state().listeners.get(&held.to).cloned();
        if let Some(deliver) = &deliver {
            deliver(held.from, held.message);
        }
        deliver.is_some()
    }
}

impl State {
    /// Keeps a message, if messages are held.
    pub(super) fn hold(&mut self, from: NodeId, to: NodeId, bytes: &Bytes) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        if let Ok(message) = kv::wire::decode(bytes.clone()) {
            let message = Held { from, to, message };
            held.retain(|known| *known != message);
            held.push(message);
        }
        true
    }
}
