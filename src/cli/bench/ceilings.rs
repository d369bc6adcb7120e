//! What this machine could do at most, in the same run: the line without a
//! store, and a store without a line.

use std::{path::Path, pin::Pin, sync::Arc, time::Duration, time::Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Server},
};

use crate::{
    cli::now,
    domain::PartyId,
    identity::{Files, Material, Purpose, TrustDomain},
    store::{
        StoreError,
        sqlite::{SameRows, group_commit_ceiling, same_rows_ceiling},
    },
    transport::{DialOptions, Listener, ListenerOptions, dial},
    wire::v1::{
        self,
        exchange_service_client::ExchangeServiceClient,
        exchange_service_server::{ExchangeService, ExchangeServiceServer},
    },
};

use super::{PARTY, report::Ceiling, usage};

/// Entries of one frame, as the exchange sends them.
const PER_FRAME: usize = 64;
/// Entries of the ceilings.
const ENTRIES: usize = 400_000;
/// Rows of one commit.
const PER_COMMIT: usize = 256;
/// Events whose rows are written once more.
const WRITTEN_AGAIN: usize = 100_000;
/// Frames, and commits, one after the other.
const ONE_BY_ONE: usize = 2_000;

struct Sink;

type Answers = Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExchangeService for Sink {
    type ExchangeStream = Answers;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let answers = request
            .into_inner()
            .map(|_| Ok(v1::ExchangeResponse::default()));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// A tonic stream over the same mutual TLS, nothing stored: frames of 64
/// entries, each frame answered; and frames of one entry, each sent when the
/// one before was answered.
pub(super) async fn stream(
    lab: &Path,
    entry_bytes: usize,
) -> anyhow::Result<(Ceiling, Vec<Duration>)> {
    let domain = TrustDomain::parse("jembatan.example")?;
    let material = |name: &str, purpose: Purpose| {
        let files = Files {
            certificate: lab.join(format!("pki/{name}.crt")),
            key: lab.join(format!("pki/{name}.key")),
            roots: lab.join("pki/ca.pem"),
            crls: Vec::new(),
        };
        Material::load(&files, &purpose, &domain, now())
    };
    let (_keep, hub) = watch::channel(Arc::new(material("hub", Purpose::Hub)?));
    let listener = Listener::bind(
        ([127, 0, 0, 1], 0).into(),
        hub,
        domain.clone(),
        ListenerOptions::default(),
    )
    .await?;
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let served = Server::builder()
        .initial_stream_window_size(8 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .add_service(ExchangeServiceServer::new(Sink))
        .serve_with_incoming(listener.incoming(stop.clone()));
    let server = tokio::spawn(served);
    let party = PartyId::parse(PARTY)?;
    let options = DialOptions {
        address: address.to_string(),
        name: "127.0.0.1".to_owned(),
        proxy: None,
        connect_timeout: Duration::from_secs(10),
    };
    let dialed = dial(&options, &material(PARTY, Purpose::Party(party))?, &domain).await?;
    let entry = v1::Entry {
        event: Bytes::from(vec![7; entry_bytes]),
        ..v1::Entry::default()
    };
    let frame_of = |count| v1::ExchangeRequest {
        frame: Some(v1::Frame {
            kind: Some(v1::frame::Kind::Entries(v1::Entries {
                entries: vec![entry.clone(); count],
                ..v1::Entries::default()
            })),
        }),
    };
    let request = frame_of(PER_FRAME);
    let frames = ENTRIES / PER_FRAME;
    let cpu = usage::cpu_seconds(std::process::id());
    let began = Instant::now();
    let requests = stream::iter(std::iter::repeat_n(request, frames));
    let mut client = ExchangeServiceClient::new(dialed.channel);
    let mut answers = client.exchange(requests).await?.into_inner();
    let mut answered = 0;
    while answers.message().await?.is_some() {
        answered += 1;
    }
    let took = began.elapsed().as_secs_f64();
    let cpu = usage::cpu_seconds(std::process::id()) - cpu;
    anyhow::ensure!(
        answered == frames,
        "{answered} of {frames} frames were answered"
    );
    let round_trips = round_trips(&mut client, frame_of(1)).await?;
    server.abort();
    stop.cancel();
    let entries = (frames * PER_FRAME) as f64;
    let ceiling = Ceiling {
        per_second: entries / took,
        cpu_micros: cpu * 1e6 / entries,
    };
    Ok((ceiling, round_trips))
}

/// How long each frame takes there and back, sorted.
async fn round_trips(
    client: &mut ExchangeServiceClient<Channel>,
    request: v1::ExchangeRequest,
) -> anyhow::Result<Vec<Duration>> {
    let (sender, requests) = mpsc::channel(1);
    let mut answers = client
        .exchange(ReceiverStream::new(requests))
        .await?
        .into_inner();
    let asking = tokio::spawn(async move {
        let mut took = Vec::with_capacity(ONE_BY_ONE);
        for _ in 0..ONE_BY_ONE {
            let began = Instant::now();
            sender.send(request.clone()).await?;
            answers.message().await?;
            took.push(began.elapsed());
        }
        anyhow::Ok(took)
    });
    let mut took = asking.await??;
    took.sort_unstable();
    Ok(took)
}

/// SQLite by itself: a sequential row of this size and a random narrow key,
/// 256 a commit, write-ahead log, `synchronous=FULL`; and how long a commit of
/// one row takes.
pub(super) async fn sqlite(lab: &Path, row_bytes: usize) -> anyhow::Result<(Ceiling, Duration)> {
    let directory = lab.join("ceiling");
    std::fs::create_dir_all(&directory)?;
    let work = move || group_commit_ceiling(&directory, ENTRIES, row_bytes, PER_COMMIT);
    let ceiling = measured(ENTRIES, work).await?;
    let single = lab.join("ceiling-single");
    std::fs::create_dir_all(&single)?;
    let work = move || group_commit_ceiling(&single, ONE_BY_ONE, row_bytes, 1);
    let singly = tokio::task::spawn_blocking(work).await??;
    Ok((ceiling, singly / ONE_BY_ONE as u32))
}

/// The rows of a node's store into the same tables and indexes, 256 events a commit,
/// with the store's settings and without its logic. Nobody has the store open.
pub(super) async fn same_rows(lab: &Path, data: &str) -> anyhow::Result<Ceiling> {
    let store = lab.join(data).join("jembatan.db");
    let kept = tokio::task::spawn_blocking(move || SameRows::read(&store, WRITTEN_AGAIN)).await??;
    let directory = lab.join(format!("same-rows-{data}"));
    std::fs::create_dir_all(&directory)?;
    let events = kept.events;
    measured(events, move || {
        same_rows_ceiling(&directory, &kept, PER_COMMIT)
    })
    .await
}

/// What it comes to for each of so many events.
async fn measured(
    events: usize,
    work: impl FnOnce() -> Result<Duration, StoreError> + Send + 'static,
) -> anyhow::Result<Ceiling> {
    let events = events as f64;
    let cpu = usage::cpu_seconds(std::process::id());
    let took = tokio::task::spawn_blocking(work).await??;
    let cpu = usage::cpu_seconds(std::process::id()) - cpu;
    Ok(Ceiling {
        per_second: events / took.as_secs_f64(),
        cpu_micros: cpu * 1e6 / events,
    })
}
