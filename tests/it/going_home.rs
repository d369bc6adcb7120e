//! A link that had to move to another address of the hub, and its way home.
//! Both hubs have one store, as replicas have one database.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, Stream, future::BoxFuture};
use jembatan::{
    adapter::{Hubs, PartyLink},
    domain::{Limits, Party, PartyId, PartyMode, Policy, decide},
    exchange::DrainReason,
    hub::{Board, Exchange, Sessions, link_server},
    identity::{Authority, Files, Material, Purpose, Subject, TrustDomain},
    link::{LinkState, Phase, WireHeaders},
    runtime::{SystemClock, random_bytes},
    store::{
        HubStore as _,
        sqlite::{NodeRole, Options, SqliteStore},
    },
    transport::{DialOptions, Listener, ListenerOptions, Network, Port, Tcp},
    wire::v1::{
        self,
        exchange_service_server::{ExchangeService, ExchangeServiceServer, SERVICE_NAME},
    },
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::{authority_in, eventually, issue, now};

const PARTY: &str = "pemda-33";
/// A link goes home after so long, and up to twice as long.
const RETURN_AFTER: Duration = Duration::from_millis(400);

fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

fn material(directory: &TempDir, name: &str, purpose: &Purpose) -> Arc<Material> {
    let at = |file: String| directory.path().join("pki").join(file);
    let files = Files {
        certificate: at(format!("{name}.pem")),
        key: at(format!("{name}.key")),
        roots: at("ca.pem".to_owned()),
        crls: Vec::new(),
    };
    Arc::new(Material::load(&files, purpose, &domain(), now()).unwrap())
}

fn store(directory: &TempDir, role: NodeRole, name: &str) -> Arc<SqliteStore> {
    let options = Options {
        directory: directory.path().join(name),
        role,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide,
    };
    Arc::new(SqliteStore::open(options).unwrap())
}

/// The adapter's lines: an address can be out of reach for new ones.
#[derive(Debug, Default)]
struct Lines {
    cut: Mutex<HashSet<SocketAddr>>,
}

impl Network for Lines {
    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, io::Result<jembatan::transport::Stream>> {
        let is_cut = self.cut.lock().unwrap().contains(&address.parse().unwrap());
        match is_cut {
            true => async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed(),
            false => Tcp.connect(address),
        }
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        Tcp.bind(address)
    }
}

/// One hub. While its store is broken it lets streams in and ends them at
/// `Open`, as a hub does.
#[derive(Clone)]
struct Hub {
    exchange: Exchange,
    at: SocketAddr,
    is_broken: Arc<AtomicBool>,
    /// Streams that asked to be let in.
    streams: Arc<AtomicUsize>,
    health: HealthReporter,
}

#[tonic::async_trait]
impl ExchangeService for Hub {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        if !self.is_broken.load(Ordering::SeqCst) {
            return self.exchange.exchange(request).await;
        }
        let mut inbound = request.into_inner();
        let answer = async move {
            let _ = inbound.message().await;
            let mut details = ErrorDetails::new();
            details.set_error_info("STORE_UNAVAILABLE", "jembatan", HashMap::new());
            let why = "STORE_UNAVAILABLE: the hub can't store now";
            Err(Status::with_error_details(Code::Unavailable, why, details))
        };
        Ok(Response::new(Box::pin(answer.into_stream())))
    }
}

impl Hub {
    async fn start(store: Arc<SqliteStore>, material: watch::Receiver<Arc<Material>>) -> Self {
        let bound = Listener::bind(
            "127.0.0.1:0".parse().unwrap(),
            material.clone(),
            domain(),
            ListenerOptions::default(),
        );
        let listener = bound.await.unwrap();
        let (health, service) = tonic_health::server::health_reporter();
        let hub = Self {
            at: listener.local_addr(),
            exchange: Exchange {
                sessions: Sessions::default(),
                registry: store.registry(),
                material,
                limits: Limits::default(),
                minimum_version: None,
                max_age: Duration::from_secs(1_800),
                max_sessions: 100,
                clock: Arc::new(SystemClock),
                board: Board::default(),
                store,
            },
            is_broken: Arc::default(),
            streams: Arc::default(),
            health,
        };
        hub.set_broken(false).await;
        let served = link_server()
            .add_service(ExchangeServiceServer::new(hub.clone()))
            .add_service(service)
            .serve_with_incoming(listener.incoming(CancellationToken::new()));
        tokio::spawn(served);
        hub
    }

    async fn set_broken(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::SeqCst);
        let status = match is_broken {
            true => ServingStatus::NotServing,
            false => ServingStatus::Serving,
        };
        self.health.set_service_status(SERVICE_NAME, status).await;
        if is_broken {
            self.exchange.sessions.drain_all(DrainReason::Stopping);
        }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    fn has_link(&self) -> bool {
        self.exchange.sessions.count() == 1
    }
}

/// Two hubs and a link, which is at the first: its own address.
struct World {
    directory: TempDir,
    authority: Authority,
    lines: Arc<Lines>,
    home: Hub,
    elsewhere: Hub,
    newest: watch::Sender<Arc<Material>>,
    state: Arc<watch::Sender<LinkState>>,
    _hub_material: watch::Sender<Arc<Material>>,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority_in(directory.path());
        let party = PartyId::parse(PARTY).unwrap();
        issue(&authority, PARTY, &Subject::Party(party.clone()));
        let (_hub_material, hub_material) =
            watch::channel(material(&directory, "hub", &Purpose::Hub));
        let shared = store(&directory, NodeRole::Hub, "hub");
        for (id, mode) in [(PARTY, PartyMode::Stream), ("nasional", PartyMode::Local)] {
            let registered = Party {
                id: PartyId::parse(id).unwrap(),
                name: String::new(),
                mode,
                enabled: true,
                certificate_fingerprints: Vec::new(),
                observes_all: false,
                observes_institutions: Vec::new(),
            };
            shared.put_party(registered).await.unwrap();
        }
        let national = PartyId::parse("nasional").unwrap();
        shared.set_national(national).await.unwrap();
        let one = Hub::start(shared.clone(), hub_material.clone()).await;
        let other = Hub::start(shared, hub_material).await;

        let purpose = Purpose::Party(party.clone());
        let (newest, own) = watch::channel(material(&directory, PARTY, &purpose));
        let lines = Arc::new(Lines::default());
        let addresses = [&one, &other].map(|hub| DialOptions {
            address: hub.at.to_string(),
            name: "localhost".to_owned(),
            proxy: None,
            connect_timeout: Duration::from_secs(15),
        });
        let state = Arc::new(watch::channel(LinkState::new(now())).0);
        let link = PartyLink {
            store: store(&directory, NodeRole::Adapter, "node"),
            party,
            material: own,
            trust_domain: domain(),
            hubs: Hubs::new(lines.clone(), addresses.to_vec()).returning_after(RETURN_AFTER),
            clock: Arc::new(SystemClock),
            state: state.clone(),
            incarnation: random_bytes(),
            channel: watch::Sender::new(None),
        };
        tokio::spawn(link.run(CancellationToken::new()));
        eventually("the link is up", || async {
            one.has_link() || other.has_link()
        })
        .await;
        let (home, elsewhere) = match one.has_link() {
            true => (one, other),
            false => (other, one),
        };
        Self {
            directory,
            authority,
            lines,
            home,
            elsewhere,
            newest,
            state,
            _hub_material,
        }
    }

    /// Whether the link stands, at this hub and nowhere else.
    fn is_at(&self, hub: &Hub) -> bool {
        let all = self.home.exchange.sessions.count() + self.elsewhere.exchange.sessions.count();
        all == 1 && hub.has_link() && self.state.borrow().phase == Phase::Connected
    }

    async fn comes_to(&self, hub: &Hub, what: &str) {
        eventually(what, || async { self.is_at(hub) }).await;
    }

    /// The party gets a new certificate; waits until the hub has seen it.
    async fn renew(&self) {
        let party = PartyId::parse(PARTY).unwrap();
        issue(&self.authority, PARTY, &Subject::Party(party.clone()));
        let streams = self.home.streams() + self.elsewhere.streams();
        let renewed = material(&self.directory, PARTY, &Purpose::Party(party));
        self.newest.send_replace(renewed);
        eventually("a session with the new certificate", || async {
            self.home.streams() + self.elsewhere.streams() > streams
        })
        .await;
    }
}

/// Scenario: the store of a link's own hub breaks, while it goes on speaking TLS
/// and letting streams in; the link moves, and stays there for five times as
/// long as it waits before it returns. Then the store is mended.
/// Guarantee: the session elsewhere is not given up for a hub that can't serve:
/// not one stream is asked for there meanwhile. Once it can the link is home.
#[tokio::test(flavor = "multi_thread")]
async fn no_link_goes_home_to_a_broken_store() {
    let world = World::new().await;
    let (home, elsewhere) = (&world.home, &world.elsewhere);
    home.set_broken(true).await;
    world.comes_to(elsewhere, "the link moves").await;
    let streams = (home.streams(), elsewhere.streams());
    tokio::time::sleep(RETURN_AFTER * 10).await;
    let after = (home.streams(), elsewhere.streams());
    assert_eq!(after, streams, "it went to a hub that can't serve");
    assert!(world.is_at(elsewhere));
    home.set_broken(false).await;
    world.comes_to(home, "the link goes home").await;
}

/// Scenario: a certificate is renewed while the link's own address can't be
/// reached for a new connection, and the renewed session runs elsewhere. Then
/// the address can be reached again.
/// Guarantee: the link knows that it is not at home, and goes there.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_elsewhere_is_not_forgotten() {
    let world = World::new().await;
    world.lines.cut.lock().unwrap().insert(world.home.at);
    world.renew().await;
    world.comes_to(&world.elsewhere, "it runs elsewhere").await;
    world.lines.cut.lock().unwrap().clear();
    world.comes_to(&world.home, "the link goes home").await;
}

/// Scenario: a link has moved and gone home again; while that session runs a
/// certificate is renewed.
/// Guarantee: the link stays at home.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_at_home_stays_at_home() {
    let world = World::new().await;
    world.home.set_broken(true).await;
    world.comes_to(&world.elsewhere, "the link moves").await;
    world.home.set_broken(false).await;
    world.comes_to(&world.home, "the link goes home").await;
    // The hub has it; the node has, too, when it has heard the first answer.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let streams = world.elsewhere.streams();
    world.renew().await;
    world.comes_to(&world.home, "it runs on at home").await;
    assert_eq!(world.elsewhere.streams(), streams);
}
