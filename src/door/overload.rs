//! Room for hand-overs. What does not fit is refused before anything was done
//! with it, so that an overload never turns into a queue that nobody sees.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::DoorError;

/// A stream that finds no room for so long is refused. Until then it is slowed
/// down, which its sender feels by itself.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);

/// The lane of streams is so many times wider: while some batches are being
/// committed, others are checked and hashed, else the writer would stand idle.
const STREAM_WIDTH: u32 = 4;

/// Two lanes: streams that fill theirs can't keep single calls out.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    single: Arc<Semaphore>,
    streamed: Arc<Semaphore>,
    streamed_width: u32,
}

impl Lanes {
    pub(super) fn new(width: u32) -> Self {
        let streamed_width = width.saturating_mul(STREAM_WIDTH);
        let lane = |width: u32| Arc::new(Semaphore::new(width as usize));
        Self {
            single: lane(width),
            streamed: lane(streamed_width),
            streamed_width,
        }
    }

    /// Room for one call, now.
    pub(super) fn single(&self) -> Result<OwnedSemaphorePermit, DoorError> {
        self.single
            .clone()
            .try_acquire_owned()
            .map_err(|_| DoorError::Overloaded)
    }

    /// Room for a batch of a stream, in time.
    pub(super) async fn streamed(&self, items: usize) -> Result<OwnedSemaphorePermit, DoorError> {
        let items = u32::try_from(items)
            .unwrap_or(u32::MAX)
            .min(self.streamed_width);
        let room = self.streamed.clone().acquire_many_owned(items);
        match timeout(STREAM_PATIENCE, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(DoorError::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: two places for calls, both taken; then one is left. A stream that wants
    /// more than there is at all; one that finds no room.
    /// Guarantee: a single call is refused at once and taken again as soon as
    /// there is room; a stream waits, and is refused in the end; neither lane
    /// takes room from the other.
    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_refused() {
        let lanes = Lanes::new(2);
        let first = lanes.single().unwrap();
        let _second = lanes.single().unwrap();
        assert_eq!(lanes.single().unwrap_err(), DoorError::Overloaded);
        let stream = lanes.streamed(256).await.unwrap();
        assert_eq!(lanes.streamed(1).await.unwrap_err(), DoorError::Overloaded);
        drop(first);
        drop(stream);
        assert!(lanes.single().is_ok());
        assert!(lanes.streamed(1).await.is_ok());
    }
}
