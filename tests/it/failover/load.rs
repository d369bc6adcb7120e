//! Traffic at every door: each adapter files for all the others, speaks about what
//! it has filed and about what it was sent, and the national application hands over
//! at whichever hub answers. So several hubs decide about one complaint at a time.

use std::{collections::BTreeMap, time::Duration};

use jembatan::wire::v1::{self, gateway_service_client::GatewayServiceClient};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};

use crate::support::{complaint, submit};

use super::nation::{NATIONAL, Nation, lazy, party, region};

/// How long the national application waits for a hub before it asks the next.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// More adapters than these hand over as much together as these would.
const AS_MUCH_AS: f64 = 9.0;
/// Of so many complaints an author speaks about one again.
const REPLIES_TO_ONE_OF: usize = 3;

/// A complaint that was answered as stored, and the adapter that has to get it.
#[derive(Debug, Clone)]
pub(super) struct Handed {
    pub(super) reference: String,
    pub(super) to: usize,
}

/// What somebody said about a complaint, and the party that has to hear it.
#[derive(Debug, Clone)]
pub(super) struct Spoken {
    pub(super) event_id: String,
    pub(super) by: String,
    pub(super) to: String,
}

/// What was handed over.
pub(super) struct All {
    /// By each party, in its order.
    pub(super) filed: BTreeMap<String, Vec<Handed>>,
    pub(super) spoken: Vec<Spoken>,
}

impl All {
    /// How much a party has handed over.
    pub(super) fn of(&self, party: &str) -> usize {
        let spoken = self.spoken.iter().filter(|one| one.by == party);
        self.filed[party].len() + spoken.count()
    }
}

pub(super) struct Load {
    stop: CancellationToken,
    authors: JoinSet<(String, Vec<Handed>, Vec<Spoken>)>,
    handlers: JoinSet<Vec<Spoken>>,
}

impl Load {
    /// Begins; each author pauses for so long between two complaints, and
    /// longer if there are many.
    pub(super) fn start(nation: &Nation, pause: Duration) -> Self {
        let stop = CancellationToken::new();
        let (mut authors, mut handlers) = (JoinSet::new(), JoinSet::new());
        let count = nation.adapters.len();
        let pause = pause.mul_f64((count as f64 / AS_MUCH_AS).max(1.0));
        for author in 0..count {
            let stop = stop.clone();
            let door = GatewayServiceClient::new(lazy(nation.adapters[author].grpc));
            handlers.spawn(handle(door.clone(), party(author), pause, stop.clone()));
            authors.spawn(async move {
                let mut door = door;
                let (mut handed, mut spoken) = (Vec::new(), Vec::new());
                while !stop.is_cancelled() {
                    let to = (author + 1 + handed.len() % (count - 1)) % count;
                    let (name, new) = filing(&party(author), handed.len(), to);
                    // A region's door is open, whatever becomes of the hubs.
                    door.submit(submit(new, 0)).await.unwrap();
                    if handed.len() % REPLIES_TO_ONE_OF == 0 {
                        let about = v1::complaint_name::Name::Reference(name.clone());
                        let body = v1::new_event::Body::ReporterReplied(Default::default());
                        let event_id = speak(&mut door, about, body).await;
                        spoken.push(Spoken {
                            event_id,
                            by: party(author),
                            to: party(to),
                        });
                    }
                    handed.push(Handed {
                        reference: name,
                        to,
                    });
                    tokio::time::sleep(pause).await;
                }
                (party(author), handed, spoken)
            });
        }
        let mut doors: Vec<_> = (0..nation.hubs.len()).map(|hub| nation.door(hub)).collect();
        let token = stop.clone();
        authors.spawn(async move {
            let mut handed = Vec::new();
            let mut hub = 0;
            while !token.is_cancelled() {
                let to = handed.len() % count;
                let (name, new) = filing(NATIONAL, handed.len(), to);
                // Without an answer it is sent again, wherever that may be.
                loop {
                    let mut request = Request::new(submit(new.clone(), 0));
                    request.set_timeout(ANSWER_WITHIN);
                    let answer = doors[hub].submit(request);
                    let outcome = tokio::time::timeout(ANSWER_WITHIN, answer).await;
                    hub = (hub + 1) % doors.len();
                    match outcome {
                        Ok(Ok(_)) => break,
                        Ok(Err(status)) => assert!(is_retryable(&status), "{status:?}"),
                        Err(_) => {}
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                handed.push(Handed {
                    reference: name,
                    to,
                });
                tokio::time::sleep(pause).await;
            }
            (NATIONAL.to_owned(), handed, Vec::new())
        });
        Self {
            stop,
            authors,
            handlers,
        }
    }

    /// Ends when what is under way has been answered.
    pub(super) async fn stop(self) -> All {
        self.stop.cancel();
        let mut all = All {
            filed: BTreeMap::new(),
            spoken: Vec::new(),
        };
        for (party, handed, spoken) in self.authors.join_all().await {
            all.filed.insert(party, handed);
            all.spoken.extend(spoken);
        }
        let spoken = self.handlers.join_all().await;
        all.spoken.extend(spoken.into_iter().flatten());
        all
    }
}

/// Takes up what it is sent, as it comes: of each complaint says that it is worked
/// on, and of every second one how far it is.
async fn handle(
    mut door: GatewayServiceClient<Channel>,
    own: String,
    pause: Duration,
    stop: CancellationToken,
) -> Vec<Spoken> {
    let mut spoken = Vec::new();
    let (mut after, mut taken) = (String::new(), 0);
    while !stop.is_cancelled() {
        let request = v1::FetchInboxRequest {
            after: after.clone(),
            wait_ms: 200,
            limit: 20,
        };
        let found = door.fetch_inbox(request).await.unwrap().into_inner();
        for item in found.items {
            after = item.cursor;
            let Some(v1::inbox_item::Item::Event(found)) = item.item else {
                continue;
            };
            let event = found.event.unwrap();
            if !matches!(event.body, Some(v1::event::Body::Filed(_))) || stop.is_cancelled() {
                continue;
            }
            let id = uuid::Uuid::from_slice(&event.complaint_id).unwrap();
            let started = v1::new_event::Body::HandlingStarted(Default::default());
            let progress = v1::new_event::Body::ProgressReported(Default::default());
            let says = [started, progress];
            for body in says.into_iter().take(1 + taken % 2) {
                let about = v1::complaint_name::Name::ComplaintId(id.to_string());
                spoken.push(Spoken {
                    event_id: speak(&mut door, about, body).await,
                    by: own.clone(),
                    to: event.party.clone(),
                });
            }
            taken += 1;
            tokio::time::sleep(pause).await;
        }
    }
    spoken
}

/// Hands an event over; its id.
async fn speak(
    door: &mut GatewayServiceClient<Channel>,
    about: v1::complaint_name::Name,
    body: v1::new_event::Body,
) -> String {
    let event = v1::NewEvent {
        complaint: Some(v1::ComplaintName { name: Some(about) }),
        body: Some(body),
        text: "Petugas sudah di lokasi.".to_owned(),
        ..v1::NewEvent::default()
    };
    let request = v1::SubmitRequest {
        handover: Some(v1::Handover {
            item: Some(v1::handover::Item::Event(event)),
            key: format!("k-{:032x}", rand::random::<u128>()),
            ..v1::Handover::default()
        }),
        wait_for_hub_ms: 0,
    };
    let answer = door.submit(request).await.unwrap().into_inner();
    answer.receipt.unwrap().event_id
}

fn filing(author: &str, number: usize, to: usize) -> (String, v1::NewComplaint) {
    let name = format!("{author}_{number:06}");
    let mut new = complaint(&name);
    new.region = region(to);
    (name, new)
}

/// What a caller may simply send again.
fn is_retryable(status: &tonic::Status) -> bool {
    use tonic::Code;
    let passes = [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::ResourceExhausted,
    ];
    // A connection that is cut shows as an unknown error of the transport.
    passes.contains(&status.code())
        || (status.code() == Code::Unknown && std::error::Error::source(status).is_some())
}
