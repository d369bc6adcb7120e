//! Traffic at every door: each adapter files for all the others, and the
//! national application hands over at whichever hub answers.

use std::{collections::BTreeMap, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::support::{complaint, submit};

use super::nation::{NATIONAL, Nation, lazy, party, region};

/// How long the national application waits for a hub before it asks the next.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A complaint that was answered as stored, and the adapter that has to get it.
#[derive(Debug, Clone)]
pub(super) struct Handed {
    pub(super) reference: String,
    pub(super) to: usize,
}

/// What each party has handed over, in its order.
pub(super) type All = BTreeMap<String, Vec<Handed>>;

pub(super) struct Load {
    stop: CancellationToken,
    tasks: JoinSet<(String, Vec<Handed>)>,
}

impl Load {
    /// Begins; each author pauses for so long between two complaints.
    pub(super) fn start(nation: &Nation, pause: Duration) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let count = nation.adapters.len();
        for author in 0..count {
            let stop = stop.clone();
            let channel = lazy(nation.adapters[author].grpc);
            tasks.spawn(async move {
                let mut door =
                    jembatan::wire::v1::gateway_service_client::GatewayServiceClient::new(channel);
                let mut handed = Vec::new();
                while !stop.is_cancelled() {
                    let to = (author + 1 + handed.len() % (count - 1)) % count;
                    let (name, new) = filing(&party(author), handed.len(), to);
                    // A region's door is open, whatever becomes of the hubs.
                    door.submit(submit(new, 0)).await.unwrap();
                    handed.push(Handed {
                        reference: name,
                        to,
                    });
                    tokio::time::sleep(pause).await;
                }
                (party(author), handed)
            });
        }
        let mut doors: Vec<_> = (0..nation.hubs.len()).map(|hub| nation.door(hub)).collect();
        let token = stop.clone();
        tasks.spawn(async move {
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
            (NATIONAL.to_owned(), handed)
        });
        Self { stop, tasks }
    }

    /// Ends when what is under way has been answered.
    pub(super) async fn stop(self) -> All {
        self.stop.cancel();
        self.tasks.join_all().await.into_iter().collect()
    }
}

fn filing(author: &str, number: usize, to: usize) -> (String, jembatan::wire::v1::NewComplaint) {
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
