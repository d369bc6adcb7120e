//! People at their local systems: they file, answer, reply and rate through a
//! door, as a city's application would.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::{
    cli::client::{Gateway, refused},
    wire::v1::{self, new_event::Body},
};

/// Longest wait for something to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody at a local system.
pub(super) struct Person {
    pub(super) gateway: Gateway,
    /// Prefix of idempotency keys.
    name: &'static str,
    count: u32,
}

impl Person {
    pub(super) fn new(name: &'static str, gateway: Gateway) -> Self {
        Self {
            gateway,
            name,
            count: 0,
        }
    }

    /// The node was started again: its door has moved.
    pub(super) fn moves_to(&mut self, gateway: Gateway) {
        self.gateway = gateway;
    }

    /// Files a complaint and waits for the hub's decision.
    pub(super) async fn file(
        &mut self,
        complaint: v1::NewComplaint,
    ) -> anyhow::Result<v1::Decision> {
        let handover = v1::Handover {
            item: Some(v1::handover::Item::Complaint(complaint)),
            ..v1::Handover::default()
        };
        self.hand_over(handover).await
    }

    /// Says what happened, and waits for the hub's decision.
    pub(super) async fn say(
        &mut self,
        tracking_id: &str,
        text: &str,
        body: Body,
    ) -> anyhow::Result<v1::Decision> {
        self.count += 1;
        let event = v1::NewEvent {
            complaint: Some(by_tracking_id(tracking_id)),
            text: text.to_owned(),
            body: Some(body),
            ..v1::NewEvent::default()
        };
        let handover = v1::Handover {
            item: Some(v1::handover::Item::Event(event)),
            key: format!("demo-{}-{}", self.name, self.count),
            ..v1::Handover::default()
        };
        self.hand_over(handover).await
    }

    async fn hand_over(&mut self, handover: v1::Handover) -> anyhow::Result<v1::Decision> {
        let request = v1::SubmitRequest {
            handover: Some(handover),
            wait_for_hub_ms: 20_000,
        };
        let answer = self.gateway.submit(request).await.map_err(refused)?;
        let receipt = answer.into_inner().receipt.context("no receipt")?;
        let decision = receipt
            .decision
            .with_context(|| format!("{}: no decision came in time", self.name))?;
        if let Some(rejection) = &decision.rejection {
            anyhow::bail!("{}: rejected: {}", self.name, rejection.text_en);
        }
        Ok(decision)
    }

    /// Waits until the complaint is here at least at this revision.
    pub(super) async fn sees(
        &mut self,
        tracking_id: &str,
        revision: u32,
    ) -> anyhow::Result<v1::ComplaintView> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = v1::GetComplaintRequest {
                complaint: Some(by_tracking_id(tracking_id)),
                system: String::new(),
            };
            if let Ok(found) = self.gateway.get_complaint(request).await {
                let view = found.into_inner().complaint.unwrap_or_default();
                if view.revision >= revision {
                    return Ok(view);
                }
            }
            if Instant::now() > deadline {
                anyhow::bail!(
                    "{}: {tracking_id} did not arrive at revision {revision} in time",
                    self.name
                );
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Reads the whole inbox from its beginning: decisions on own submissions
    /// by event id, and events of others by event id with how often they came.
    pub(super) async fn read_inbox(&mut self) -> anyhow::Result<Inbox> {
        let mut inbox = Inbox::default();
        let mut after = inbox_start(&mut self.gateway).await?;
        loop {
            let request = v1::FetchInboxRequest {
                after: after.clone(),
                wait_ms: 0,
                limit: 500,
            };
            let answer = self.gateway.fetch_inbox(request).await.map_err(refused)?;
            let items = answer.into_inner().items;
            let Some(last) = items.last() else {
                return Ok(inbox);
            };
            after = last.cursor.clone();
            for item in items {
                match item.item {
                    Some(v1::inbox_item::Item::Decision(decision)) => {
                        inbox.decisions.push(decision);
                    }
                    Some(v1::inbox_item::Item::Event(event)) => {
                        let id = event
                            .event
                            .map_or_else(Vec::new, |event| event.event_id.to_vec());
                        *inbox.events.entry(id).or_default() += 1;
                    }
                    Some(v1::inbox_item::Item::Unreadable(_)) | None => {}
                }
            }
        }
    }
}

/// Cursors are opaque, but the beginning can be had: before the first item.
async fn inbox_start(gateway: &mut Gateway) -> anyhow::Result<String> {
    let request = v1::FetchInboxRequest {
        after: String::new(),
        wait_ms: 0,
        limit: 1,
    };
    let answer = gateway.fetch_inbox(request).await.map_err(refused)?;
    let first = answer.into_inner().items.into_iter().next();
    let epoch = first
        .and_then(|item| item.cursor.split('-').next().map(str::to_owned))
        .context("the inbox is empty")?;
    Ok(format!("{epoch}-0"))
}

/// What came into an inbox.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) decisions: Vec<v1::Decision>,
    pub(super) events: BTreeMap<Vec<u8>, u32>,
}

pub(super) fn by_tracking_id(tracking_id: &str) -> v1::ComplaintName {
    v1::ComplaintName {
        name: Some(v1::complaint_name::Name::TrackingId(tracking_id.to_owned())),
    }
}
