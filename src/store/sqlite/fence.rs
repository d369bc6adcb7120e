//! Decisions are told to those who wait for them as soon as they come: the hub
//! has them on its disk. Reading waits until they are on this disk too, so that
//! nobody asks for what it was just told and does not find it.
//!
//! Invariant: a reader waits only for commits that were on their way before it
//! came, so a stream of them never shuts it out.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

pub(super) struct Fence {
    raised: AtomicU64,
    lowered: watch::Sender<u64>,
}

impl Default for Fence {
    fn default() -> Self {
        Self {
            raised: AtomicU64::new(0),
            lowered: watch::Sender::new(0),
        }
    }
}

/// Stands until it is dropped.
pub(super) struct Raised<'a> {
    fence: &'a Fence,
    number: u64,
}

impl Fence {
    /// Something is told before it is on disk. Commits are made in the order
    /// in which fences are raised.
    pub(super) fn raise(&self) -> Raised<'_> {
        let number = self.raised.fetch_add(1, Ordering::AcqRel) + 1;
        Raised {
            fence: self,
            number,
        }
    }

    /// Comes when all that was raised before has been lowered.
    pub(super) async fn passed(&self) {
        let before = self.raised.load(Ordering::Acquire);
        if *self.lowered.borrow() >= before {
            return;
        }
        let mut lowered = self.lowered.subscribe();
        // The sender lives as long as this.
        let _ = lowered.wait_for(|number| *number >= before).await;
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.fence.lowered.send_if_modified(|number| {
            let is_later = self.number > *number;
            *number = self.number.max(*number);
            is_later
        });
    }
}
