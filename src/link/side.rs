//! The two ends of a link run the same code; they differ in what they do with
//! what arrives. This file is that difference.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    domain::{DeliveryRecord, Micros, PartyId},
    exchange::{Direction, Entry, Place},
    runtime::Clock,
    store::{
        AcceptBatch, AdapterStore, HubStore, IncomingEntry, ReceiveBatch, ReceivedEntry,
        SessionToken, Store, StoreError,
    },
    wire,
};

/// One end of a link.
pub(crate) trait Side: Send + Sync + 'static {
    /// Whose link.
    fn party(&self) -> &PartyId;
    /// The journal that this end sends.
    fn sends(&self) -> Direction;
    /// The store, as far as both ends use it alike.
    fn store(&self) -> &dyn Store;
    /// Puts consecutive entries on disk; the chain has been checked.
    fn keep(
        &self,
        expected: Place,
        entries: Vec<Entry>,
        head: Place,
    ) -> BoxFuture<'_, Result<Place, StoreError>>;
    /// Puts a stretch of the background copy on disk (node only).
    fn keep_copy(&self, first: u64, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// The hub remembers how far the node's local system has consumed.
    fn peer_consumed(&self, through: u64) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// The node's end: sends submissions, receives deliveries.
pub(crate) struct NodeSide {
    pub(crate) party: PartyId,
    pub(crate) store: Arc<dyn AdapterStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The hub's end: receives submissions and decides, sends deliveries.
pub(crate) struct HubSide {
    pub(crate) party: PartyId,
    pub(crate) store: Arc<dyn HubStore>,
    pub(crate) token: SessionToken,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Side for NodeSide {
    fn party(&self) -> &PartyId {
        &self.party
    }

    fn sends(&self) -> Direction {
        Direction::Submissions
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn keep(
        &self,
        expected: Place,
        entries: Vec<Entry>,
        head: Place,
    ) -> BoxFuture<'_, Result<Place, StoreError>> {
        let entries = entries.into_iter().map(received).collect();
        let now = Micros(self.clock.now_micros());
        let batch = ReceiveBatch {
            expected,
            entries,
            head,
            now,
        };
        self.store.receive(&self.party, batch)
    }

    fn keep_copy(&self, first: u64, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>> {
        let entries = entries.into_iter().map(incoming).collect();
        async move {
            self.store.fill_copy(&self.party, first, entries).await?;
            Ok(())
        }
        .boxed()
    }

    fn peer_consumed(&self, _through: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }
}

impl Side for HubSide {
    fn party(&self) -> &PartyId {
        &self.party
    }

    fn sends(&self) -> Direction {
        Direction::Deliveries
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn keep(
        &self,
        expected: Place,
        entries: Vec<Entry>,
        head: Place,
    ) -> BoxFuture<'_, Result<Place, StoreError>> {
        let entries = entries.into_iter().map(incoming).collect();
        let batch = AcceptBatch {
            token: self.token,
            expected,
            entries,
            head,
            now: Micros(self.clock.now_micros()),
        };
        self.store.accept(&self.party, batch)
    }

    fn keep_copy(
        &self,
        _first: u64,
        _entries: Vec<Entry>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        // Only a node asks for copies; a node that sends some is mistaken and
        // changes nothing here.
        async { Ok(()) }.boxed()
    }

    fn peer_consumed(&self, through: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.store.consume(&self.party, through).await?;
            Ok(())
        }
        .boxed()
    }
}

fn incoming(entry: Entry) -> IncomingEntry {
    let event = wire::decode_event(&entry.event);
    IncomingEntry { entry, event }
}

fn received(entry: Entry) -> ReceivedEntry {
    let record = match wire::decode_header(&entry.header) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(event = "delivery_header_unreadable", error = %error.why);
            None
        }
    };
    let event = match &record {
        Some(DeliveryRecord::Event(_)) => wire::decode_event(&entry.event).ok(),
        _ => None,
    };
    ReceivedEntry {
        entry,
        record,
        event,
    }
}
