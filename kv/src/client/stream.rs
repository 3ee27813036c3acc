//! One stream to one node, which many clients share: each asks with a number, and is answered by it.
//!
//! Over a stream a request costs a message, and what is ready together is sent together; as a call of its own it costs more than its way
//! through the store. What breaks the stream leaves everything unanswered on it unknown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::wire::proto;
use crate::wire::proto::kv_client::KvClient;

/// How many requests may wait to be written.
const QUEUE_MAX: usize = 1024;

/// A stream. It ends when its last clone is dropped, or when it breaks.
#[derive(Clone, Debug)]
pub(super) struct RequestStream {
    requests: mpsc::Sender<proto::ManyRequest>,
    asked: Arc<Mutex<Asked>>,
}

/// Who waits for which reply.
#[derive(Debug, Default)]
struct Asked {
    last_number: u64,
    waiting: BTreeMap<u64, oneshot::Sender<proto::ManyReply>>,
    is_broken: bool,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The request was not sent.
    NotSent,
    /// The stream broke after the request had been handed to it.
    Broken,
}

impl RequestStream {
    /// Opens a stream; the node has taken it when this returns.
    pub(super) async fn open(mut client: KvClient<Channel>) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(QUEUE_MAX);
        let outgoing = stream::unfold(outgoing, |mut outgoing| async {
            let request = outgoing.recv().await?;
            Some((request, outgoing))
        });
        let replies = client.many(outgoing).await?.into_inner();
        let asked = Arc::new(Mutex::new(Asked::default()));
        tokio::spawn(receive(replies, Arc::clone(&asked)));
        Ok(Self { requests, asked })
    }

    /// Asks, and waits for the reply. The request's number is set here.
    pub(super) async fn ask(
        &self,
        mut request: proto::ManyRequest,
    ) -> Result<proto::ManyReply, Unanswered> {
        let (reply, replied) = oneshot::channel();
        let place = {
            let mut asked = lock(&self.asked);
            if asked.is_broken {
                return Err(Unanswered::NotSent);
            }
            asked.last_number += 1;
            request.number = asked.last_number;
            asked.waiting.insert(request.number, reply);
            Place {
                number: request.number,
                asked: &self.asked,
            }
        };
        // What the queue does not take any more was not sent.
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Unanswered::NotSent)?;
        let reply = replied.await.map_err(|_| Unanswered::Broken);
        drop(place);
        reply
    }
}

/// Whoever waits no longer, is waited for no longer.
struct Place<'a> {
    number: u64,
    asked: &'a Mutex<Asked>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.asked).waiting.remove(&self.number);
    }
}

/// Hands out replies for as long as the stream holds.
async fn receive(mut replies: Streaming<proto::ManyReply>, asked: Arc<Mutex<Asked>>) {
    while let Ok(Some(reply)) = replies.message().await {
        let waiting = lock(&asked).waiting.remove(&reply.number);
        if let Some(waiting) = waiting {
            let _ = waiting.send(reply); // Nobody may wait any longer.
        }
    }
    let mut asked = lock(&asked);
    asked.is_broken = true;
    asked.waiting.clear();
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}
