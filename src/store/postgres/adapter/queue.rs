//! What waits for the writer, and what of it shares a batch.
//!
//! Invariant: what may wait for company does so for [`PATIENCE`] at most.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    alone::Alone,
    writer::{Job, Next},
};

/// Jobs that may wait; beyond it callers wait to be let in.
pub(super) const LENGTH: usize = 1_024;
/// Jobs of one batch, at most.
const JOBS_PER_BATCH: usize = 512;
/// Bytes of one batch, about; the job with which it is reached is its last. The server takes
/// arrays of up to 1 GiB.
const BYTES_PER_BATCH: usize = 16 * 1024 * 1024;
/// How long what may wait does: the peer's acknowledgement of this hand-over and the
/// caller's next hand-over then share a commit, and a caller is not held up by a
/// commit for which nobody waits.
const PATIENCE: Duration = Duration::from_millis(2);

/// Something for the writer.
pub(super) enum Message {
    /// Something to write.
    Write(Box<dyn Job>),
    /// Something to write, with the next commit or after [`PATIENCE`].
    Later(Box<dyn Job>),
    /// Somebody needs what waits.
    Now,
    /// Something with a transaction of its own.
    Alone(Alone),
    /// Finish, close.
    Close(oneshot::Sender<()>),
}

/// See the module.
pub(super) struct Queue {
    waiting: mpsc::Receiver<Message>,
    next: Option<Alone>,
    closing: Option<oneshot::Sender<()>>,
}

impl Queue {
    pub(super) fn new(waiting: mpsc::Receiver<Message>) -> Self {
        Self {
            waiting,
            next: None,
            closing: None,
        }
    }

    /// What is to be done next; `None`: it is over.
    pub(super) async fn next(&mut self) -> Option<Next> {
        if let Some(alone) = self.next.take() {
            return Some(Next::Alone(alone));
        }
        if self.closing.is_some() {
            return None;
        }
        let mut jobs: Vec<Box<dyn Job>> = Vec::new();
        let mut bytes = 0;
        // Only while nothing has come that does not wait.
        let mut patience_ends = None;
        let mut next = Some(self.waiting.recv().await?);
        while let Some(message) = next {
            match message {
                Message::Write(job) => {
                    bytes += job.size_bytes();
                    jobs.push(job);
                    patience_ends = None;
                }
                Message::Later(job) => {
                    bytes += job.size_bytes();
                    if jobs.is_empty() {
                        patience_ends = Some(Instant::now() + PATIENCE);
                    }
                    jobs.push(job);
                }
                Message::Now => patience_ends = None,
                Message::Alone(alone) => {
                    self.next = Some(alone);
                    break;
                }
                Message::Close(done) => {
                    self.closing = Some(done);
                    break;
                }
            }
            next = match patience_ends {
                _ if jobs.len() >= JOBS_PER_BATCH || bytes >= BYTES_PER_BATCH => None,
                None => self.waiting.try_recv().ok(),
                Some(until) => timeout_at(until, self.waiting.recv()).await.ok().flatten(),
            };
        }
        match jobs.is_empty() {
            false => Some(Next::Together(jobs)),
            true => Box::pin(self.next()).await,
        }
    }

    /// Whoever told it to close is told that it has.
    pub(super) fn closed(mut self) {
        self.waiting.close();
        if let Some(done) = self.closing.take() {
            let _ = done.send(());
        }
    }
}
