//! The gateway service: the door in gRPC. Who calls is resolved by the node:
//! by token at its own door, by certificate on the hub's mutual-TLS port.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    store::{ComplaintRecord, Receipt},
    wire::{
        self,
        v1::{self, gateway_service_server::GatewayService},
    },
};

use super::{Caller, Cursor, Door, DoorError, Fetched, InboxItem, InboxRecord};

/// Hand-overs of a streamed submit that are stored together.
const STREAM_BATCH: usize = 256;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Hand over.
    Submit,
    /// Read complaints.
    Read,
    /// Fetch and acknowledge.
    Inbox,
    /// Status, journals, the directory.
    Operate,
}

/// Says who calls.
pub trait Access: Send + Sync + 'static {
    /// The caller, if it may.
    ///
    /// # Errors
    /// Not known, or not for this.
    fn caller(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        extensions: &http::Extensions,
        scope: Scope,
    ) -> Result<Caller, DoorError>;
}

/// The gateway service.
#[derive(Clone)]
pub struct Gateway {
    door: Door,
    access: Arc<dyn Access>,
}

impl Gateway {
    /// The service before a door.
    pub fn new(door: Door, access: Arc<dyn Access>) -> Self {
        Self { door, access }
    }

    fn caller<T>(&self, request: &Request<T>, scope: Scope) -> Result<Caller, Status> {
        let extensions = http_extensions(request);
        self.access
            .caller(request.metadata(), &extensions, scope)
            .map_err(Status::from)
    }
}

fn http_extensions<T>(request: &Request<T>) -> http::Extensions {
    // tonic's extensions and http's are two types; what matters is this one.
    let mut extensions = http::Extensions::new();
    if let Some(peer) = request
        .extensions()
        .get::<crate::transport::PeerInfo>()
        .cloned()
    {
        extensions.insert(peer);
    }
    extensions
}

#[tonic::async_trait]
impl GatewayService for Gateway {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = self.caller(&request, Scope::Submit)?;
        let v1::SubmitRequest {
            handover,
            wait_for_hub_ms,
        } = request.into_inner();
        let handover =
            wire::handover_from_proto(handover.unwrap_or_default(), caller.system.as_ref())
                .map_err(DoorError::Invalid)?;
        let wait = Duration::from_millis(u64::from(wait_for_hub_ms));
        let receipt = self.door.submit_one(&caller, handover, wait).await?;
        Ok(Response::new(v1::SubmitResponse {
            receipt: Some(receipt_to_proto(&receipt)),
        }))
    }

    type SubmitStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::SubmitStreamResponse, Status>> + Send>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        self.caller(&request, Scope::Submit)?;
        let door = self.door.clone();
        let access = self.access.clone();
        let metadata = request.metadata().clone();
        let extensions = http_extensions(&request);
        let (answers, stream) = tokio::sync::mpsc::channel(STREAM_BATCH);
        let mut batches = request.into_inner().ready_chunks(STREAM_BATCH);
        tokio::spawn(async move {
            let mut ordinal = 0;
            while let Some(batch) = batches.next().await {
                // A stream may live for days: whoever was disabled or revoked
                // meanwhile hands nothing more over.
                let caller = match access.caller(&metadata, &extensions, Scope::Submit) {
                    Ok(caller) => caller,
                    Err(error) => {
                        let _ = answers.send(Err(error.into())).await;
                        return;
                    }
                };
                let last = submit_batch(&door, &caller, batch, &mut ordinal, &answers).await;
                if last {
                    return;
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_complaint(
        &self,
        request: Request<v1::GetComplaintRequest>,
    ) -> Result<Response<v1::GetComplaintResponse>, Status> {
        let caller = self.caller(&request, Scope::Read)?;
        let v1::GetComplaintRequest { complaint, system } = request.into_inner();
        let system = wire::system_of(&system, caller.system.as_ref()).map_err(one)?;
        let name = wire::complaint_name_from(complaint).map_err(one)?;
        let record = self.door.complaint(&caller, &system, &name).await?;
        Ok(Response::new(v1::GetComplaintResponse {
            complaint: Some(complaint_to_proto(&record)),
        }))
    }

    async fn fetch_inbox(
        &self,
        request: Request<v1::FetchInboxRequest>,
    ) -> Result<Response<v1::FetchInboxResponse>, Status> {
        let caller = self.caller(&request, Scope::Inbox)?;
        let metadata = request.metadata().clone();
        let extensions = http_extensions(&request);
        let v1::FetchInboxRequest {
            after,
            wait_ms,
            limit,
        } = request.into_inner();
        let after = optional_cursor("after", &after)?;
        let wait = Duration::from_millis(u64::from(wait_ms));
        let fetched = self
            .door
            .fetch(&caller, after, limit as usize, wait)
            .await?;
        // It may have waited, and the right may have ended meanwhile.
        self.access.caller(&metadata, &extensions, Scope::Inbox)?;
        Ok(Response::new(fetched_to_proto(&fetched)))
    }

    async fn acknowledge_inbox(
        &self,
        request: Request<v1::AcknowledgeInboxRequest>,
    ) -> Result<Response<v1::AcknowledgeInboxResponse>, Status> {
        let caller = self.caller(&request, Scope::Inbox)?;
        let v1::AcknowledgeInboxRequest { through } = request.into_inner();
        let through = Cursor::parse("through", &through).map_err(one)?;
        let through = self.door.acknowledge(&caller, through).await?;
        Ok(Response::new(v1::AcknowledgeInboxResponse {
            through: through.to_string(),
        }))
    }
}

type Answers = tokio::sync::mpsc::Sender<Result<v1::SubmitStreamResponse, Status>>;

/// Stores what has come in one commit and answers each; `true`: the stream is
/// over.
async fn submit_batch(
    door: &Door,
    caller: &Caller,
    batch: Vec<Result<v1::SubmitStreamRequest, Status>>,
    ordinal: &mut u64,
    answers: &Answers,
) -> bool {
    let mut handovers = Vec::new();
    let mut results: Vec<Option<DoorError>> = Vec::new();
    let mut is_over = false;
    for message in batch {
        let Ok(v1::SubmitStreamRequest { handover }) = message else {
            is_over = true;
            break;
        };
        let parsed =
            wire::handover_from_proto(handover.unwrap_or_default(), caller.system.as_ref());
        match parsed {
            Ok(handover) => {
                handovers.push(handover);
                results.push(None);
            }
            Err(fields) => results.push(Some(DoorError::Invalid(fields))),
        }
    }
    let mut stored = match door.submit(caller, handovers).await {
        Ok(stored) => stored.into_iter(),
        Err(error) => {
            let _ = answers.send(Err(error.into())).await;
            return true;
        }
    };
    for refused in results {
        let this = *ordinal;
        *ordinal += 1;
        let outcome = match refused {
            Some(error) => Err(error),
            None => stored
                .next()
                .unwrap_or_else(|| Err(DoorError::Unavailable("no answer".to_owned()))),
        };
        let result = match outcome {
            Ok(receipt) => v1::submit_stream_response::Result::Receipt(receipt_to_proto(&receipt)),
            Err(error) => v1::submit_stream_response::Result::Error(item_error(&error)),
        };
        let answer = v1::SubmitStreamResponse {
            ordinal: this,
            result: Some(result),
        };
        if answers.send(Ok(answer)).await.is_err() {
            return true;
        }
    }
    is_over
}

fn one(error: crate::domain::FieldError) -> Status {
    DoorError::Invalid(vec![error]).into()
}

fn optional_cursor(field: &str, text: &str) -> Result<Option<Cursor>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Cursor::parse(field, text).map(Some).map_err(one)
}

pub(super) fn item_error(error: &DoorError) -> v1::ItemError {
    v1::ItemError {
        code: error.code() as i32,
        reason: error.reason().to_owned(),
        message: error.to_string(),
        fields: error.fields(),
    }
}

pub(super) fn receipt_to_proto(receipt: &Receipt) -> v1::Receipt {
    wire::receipt_to_proto(
        &receipt.event_id,
        &receipt.complaint_id,
        receipt.progress,
        receipt.repeated,
        receipt.decision.as_ref(),
    )
}

pub(super) fn fetched_to_proto(fetched: &Fetched) -> v1::FetchInboxResponse {
    v1::FetchInboxResponse {
        items: fetched.items.iter().map(inbox_to_proto).collect(),
        complete_up_to: fetched.complete_up_to.map(wire::timestamp),
    }
}

fn inbox_to_proto(item: &InboxItem) -> v1::InboxItem {
    let content = match &item.record {
        InboxRecord::Event(header) => {
            v1::inbox_item::Item::Event(wire::inbox_event(Some(header), &item.entry.entry))
        }
        InboxRecord::Decision(decision) => {
            v1::inbox_item::Item::Decision(wire::decision_to_proto(decision))
        }
        InboxRecord::Unreadable => v1::inbox_item::Item::Unreadable(v1::UnreadableItem {
            reason: "UNREADABLE".to_owned(),
            explanation: "a newer hub says something that this node does not know: update this node, then fetch again from the cursor before this one".to_owned(),
        }),
    };
    v1::InboxItem {
        cursor: item.cursor.to_string(),
        item: Some(content),
    }
}

pub(super) fn complaint_to_proto(record: &ComplaintRecord) -> v1::ComplaintView {
    let (party, system, reference) = match &record.origin {
        Some((party, system, reference)) => (party.as_str(), system.as_str(), reference.as_str()),
        None => ("", "", ""),
    };
    let history = record.history.iter().map(|step| v1::HistoryItem {
        revision: step.revision,
        event: Some(wire::inbox_event(step.header.as_ref(), &step.entry)),
        progress: step
            .receipt
            .as_ref()
            .map_or(0, |receipt| wire::progress_to_proto(receipt.progress)),
        decision: step
            .receipt
            .as_ref()
            .and_then(|receipt| receipt.decision.as_ref())
            .map(wire::decision_to_proto),
        not_kept: step.entry.event.is_empty(),
    });
    v1::ComplaintView {
        complaint_id: record.id.to_string(),
        tracking_id: record
            .tracking_id
            .as_ref()
            .map_or("", |id| id.as_str())
            .to_owned(),
        origin_party: party.to_owned(),
        origin_system: system.to_owned(),
        origin_reference: reference.to_owned(),
        status: record.status.map_or(0, wire::status_to_proto),
        handler: record
            .handler
            .as_ref()
            .map_or("", |code| code.as_str())
            .to_owned(),
        revision: record.revision,
        anonymous: record.anonymous,
        confidential: record.confidential,
        history: history.collect(),
        answer_missing: record.answer_missing,
        own_reference: record
            .own_reference
            .as_ref()
            .map_or("", |found| found.as_str())
            .to_owned(),
    }
}
