//! Decisions are told to those who wait for them as soon as they come: the hub
//! has them on its disk. Reading waits until they are on this disk too, so that
//! nobody asks for what it was just told and does not find it.
//!
//! Invariant: a reader waits for all that was on its way before it came and for
//! nothing else, so a stream of commits never shuts it out.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

pub(super) struct Fence {
    standing: Mutex<Standing>,
    /// Everything up to this number has been lowered.
    lowered: watch::Sender<u64>,
}

#[derive(Default)]
struct Standing {
    last: u64,
    numbers: BTreeSet<u64>,
}

impl Default for Fence {
    fn default() -> Self {
        Self {
            standing: Mutex::default(),
            lowered: watch::Sender::new(0),
        }
    }
}

/// Stands until it is dropped.
pub(super) struct Raised {
    fence: Arc<Fence>,
    number: u64,
}

impl Fence {
    /// Something will be told before it is on disk.
    pub(super) fn raise(self: &Arc<Self>) -> Raised {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.last += 1;
        let number = standing.last;
        standing.numbers.insert(number);
        Raised {
            fence: self.clone(),
            number,
        }
    }

    /// Something is on its way.
    pub(super) fn stands(&self) -> bool {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        !standing.numbers.is_empty()
    }

    /// Comes when all that was raised before has been lowered.
    pub(super) async fn passed(&self) {
        let before = {
            let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
            if standing.numbers.is_empty() {
                return;
            }
            standing.last
        };
        let mut lowered = self.lowered.subscribe();
        // The sender lives as long as this.
        let _ = lowered.wait_for(|number| *number >= before).await;
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let fence = &*self.fence;
        let mut standing = fence
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standing.numbers.remove(&self.number);
        let first = standing.numbers.first();
        let through = first.map_or(standing.last, |first| first - 1);
        fence.lowered.send_replace(through);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Scenario: three fences are raised and lowered out of order, with readers
    /// that come in between.
    /// Guarantee: a reader passes when all that stood before it came are down,
    /// not earlier, and later ones do not hold it up.
    #[test]
    fn a_reader_waits_for_all_before_it_and_no_later_one() {
        let fence = Arc::new(Fence::default());
        assert!(fence.passed().now_or_never().is_some());
        let one = fence.raise();
        let two = fence.raise();
        let mut reader = Box::pin(fence.passed());
        assert!(reader.as_mut().now_or_never().is_none());
        let three = fence.raise();
        drop(two);
        assert!(reader.as_mut().now_or_never().is_none(), "one stands");
        drop(one);
        assert!(reader.now_or_never().is_some(), "three is later");
        assert!(fence.passed().now_or_never().is_none());
        drop(three);
        assert!(fence.passed().now_or_never().is_some());
    }
}
