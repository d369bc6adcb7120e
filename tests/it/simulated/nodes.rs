//! The nodes of the simulation: real stores, sessions, links, TLS and doors'
//! use cases; only the sockets, the clock and the process are not real.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use jembatan::{
    adapter::{Hubs, PartyLink},
    domain::{
        Directory, Institution, InstitutionCode, Limits, Micros, Party, PartyId, PartyMode, Policy,
        RegionCode, RoutingRule, StatusMaps, decide,
    },
    door::{Caller, Door, DoorOptions},
    exchange::DrainReason,
    hub::{Board, Exchange, Sessions, link_server},
    identity::{Authority, Files, Material, Purpose, Subject, TrustDomain},
    link::{LinkState, WireHeaders},
    runtime::{Clock, random_bytes},
    store::{
        HubStore as _, Store as _,
        sqlite::{NodeRole, Options, SqliteStore},
    },
    transport::{DialOptions, Listener, ListenerOptions, Network as _},
    wire::v1::exchange_service_server::ExchangeServiceServer,
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{held::Held, network::Machine};

pub(super) const NODES: [&str; 3] = ["pemda-33", "pemda-33.74", "pemda-34"];
/// It handles what the others file.
pub(super) const HANDLER: &str = "pemda-33.74";
/// Where the hub listens.
pub(super) const HUB: &str = "10.0.0.1:4433";

/// Wall-clock time that goes with tokio's paused clock.
#[derive(Debug, Clone)]
pub(super) struct SimulatedClock {
    runtime: tokio::runtime::Handle,
    began: Instant,
    base: Micros,
}

impl SimulatedClock {
    pub(super) fn new() -> Self {
        Self {
            runtime: tokio::runtime::Handle::current(),
            began: Instant::now(),
            base: crate::support::now(),
        }
    }
}

impl Clock for SimulatedClock {
    fn now_micros(&self) -> i64 {
        // A store's writer asks from a thread of its own.
        let _inside = self.runtime.enter();
        self.base.0 + self.began.elapsed().as_micros() as i64
    }
}

fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

pub(super) fn party(id: &str) -> PartyId {
    PartyId::parse(id).unwrap()
}

/// Certificates, made once: every schedule uses the same.
fn material(name: &str) -> Arc<Material> {
    static PKI: OnceLock<TempDir> = OnceLock::new();
    let pki = PKI.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        let at = directory.path().join("pki");
        let authority = Authority::init(&at, &domain(), crate::support::now(), false).unwrap();
        let hub = Subject::Hub(vec!["localhost".to_owned()]);
        crate::support::issue(&authority, "hub", &hub);
        for node in NODES {
            let subject = Subject::Party(party(node));
            crate::support::issue(&authority, node, &subject);
        }
        directory
    });
    let at = |file: String| pki.path().join("pki").join(file);
    let files = Files {
        certificate: at(format!("{name}.pem")),
        key: at(format!("{name}.key")),
        roots: at("ca.pem".to_owned()),
        crls: Vec::new(),
    };
    let purpose = match name {
        "hub" => Purpose::Hub,
        name => Purpose::Party(party(name)),
    };
    Arc::new(Material::load(&files, &purpose, &domain(), crate::support::now()).unwrap())
}

fn open(directory: &Path, role: NodeRole, clock: &SimulatedClock) -> Arc<Held> {
    let options = Options {
        directory: directory.to_owned(),
        role,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(clock.clone()),
        seed: random_bytes(),
        decide,
    };
    Arc::new(Held(SqliteStore::open(options).unwrap()))
}

/// Waits until nobody else holds a store: the directory can be opened again.
async fn alone(store: &Arc<Held>) {
    let began = Instant::now();
    while Arc::strong_count(store) > 1 {
        assert!(began.elapsed() < Duration::from_secs(120), "a task lingers");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The hub while it runs.
pub(super) struct Hub {
    pub(super) store: Arc<Held>,
    pub(super) board: Board,
    sessions: Sessions,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Hub {
    pub(super) async fn start(directory: &Path, machine: &Machine, clock: &SimulatedClock) -> Self {
        let store = open(directory, NodeRole::Hub, clock);
        if store.registry().borrow().directory == Directory::default() {
            register(&store).await;
        }
        let (_newest, material) = watch::channel(material("hub"));
        let port = machine.bind(HUB.parse().unwrap()).await.unwrap();
        let options = ListenerOptions::default();
        let listener = Listener::on(port, material.clone(), domain(), options);
        let sessions = Sessions::default();
        let board = Board::default();
        let exchange = Exchange {
            store: store.clone(),
            sessions: sessions.clone(),
            registry: store.registry(),
            material,
            limits: Limits::default(),
            minimum_version: None,
            max_age: Duration::from_secs(1_800),
            max_sessions: 100,
            clock: Arc::new(clock.clone()),
            board: board.clone(),
        };
        let stop = CancellationToken::new();
        let served = link_server()
            .add_service(ExchangeServiceServer::new(exchange))
            .serve_with_incoming_shutdown(
                listener.incoming(stop.clone()),
                stop.clone().cancelled_owned(),
            );
        let server = tokio::spawn(async move {
            served.await.unwrap();
            drop(_newest);
        });
        Self {
            store,
            board,
            sessions,
            stop,
            server,
        }
    }

    /// With or without a word to the nodes, whose connections end with it.
    pub(super) async fn stop(self, says_so: bool, machines: &[Arc<Machine>]) {
        if says_so {
            self.sessions.drain_all(DrainReason::Stopping);
            let began = Instant::now();
            while self.sessions.count() > 0 && began.elapsed() < Duration::from_secs(5) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.stop.cancel();
        self.server.abort();
        for machine in machines {
            machine.cut();
        }
        let _ = self.server.await;
        alone(&self.store).await;
        self.store.close().await;
    }
}

async fn register(store: &Held) {
    let code = |text: &str| InstitutionCode::parse(text).unwrap();
    let modes = NODES.map(|id| (id, PartyMode::Stream));
    for (id, mode) in modes.into_iter().chain([("nasional", PartyMode::Local)]) {
        let registered = Party {
            id: party(id),
            name: String::new(),
            mode,
            enabled: true,
            certificate_fingerprints: Vec::new(),
            observes_all: false,
            observes_institutions: Vec::new(),
        };
        store.put_party(registered).await.unwrap();
    }
    for id in NODES {
        let institution = Institution {
            code: code(id),
            name: String::new(),
            parent: None,
            party: party(id),
            region: None,
            enabled: true,
        };
        store.put_institution(institution).await.unwrap();
    }
    let rule = RoutingRule {
        region: Some(RegionCode::parse("33.74").unwrap()),
        category: None,
        institution: code(HANDLER),
    };
    store.put_policy(Vec::new(), vec![rule]).await.unwrap();
    store.set_national(party("nasional")).await.unwrap();
}

/// An adapter: its machine and directory, and what runs on it.
pub(super) struct Adapter {
    pub(super) party: PartyId,
    pub(super) machine: Arc<Machine>,
    pub(super) running: Option<Running>,
    directory: PathBuf,
}

/// An adapter's process.
pub(super) struct Running {
    pub(super) store: Arc<Held>,
    pub(super) door: Door,
    pub(super) state: Arc<watch::Sender<LinkState>>,
    stop: CancellationToken,
    link: JoinHandle<()>,
}

impl Adapter {
    pub(super) fn new(id: &str, directory: &Path, machine: Arc<Machine>) -> Self {
        Self {
            party: party(id),
            machine,
            running: None,
            directory: directory.join(id),
        }
    }

    pub(super) fn start(&mut self, clock: &SimulatedClock) {
        let store = open(&self.directory, NodeRole::Adapter, clock);
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let state = LinkState::new(Micros(clock.now_micros()));
        let state = Arc::new(watch::channel(state).0);
        let stop = CancellationToken::new();
        let (newest, material) = watch::channel(material(self.party.as_str()));
        let hub = DialOptions {
            address: HUB.to_owned(),
            name: "localhost".to_owned(),
            proxy: None,
            connect_timeout: Duration::from_secs(15),
        };
        let link = PartyLink {
            party: self.party.clone(),
            store: store.clone(),
            material,
            trust_domain: domain(),
            hubs: Hubs::new(self.machine.clone(), vec![hub]),
            clock: clock.clone(),
            state: state.clone(),
            incarnation: random_bytes(),
            channel: watch::Sender::new(None),
        };
        let told = stop.clone();
        let link = tokio::spawn(async move {
            link.run(told).await;
            drop(newest);
        });
        let door = Door::new(DoorOptions {
            store: store.clone(),
            clock,
            policy: Policy::default(),
            longest_wait: Duration::from_secs(30),
            max_in_flight: 1_000,
            freshness: Arc::new(|_, _, _| None),
        });
        self.running = Some(Running {
            store,
            door,
            state,
            stop,
            link,
        });
    }

    /// By SIGTERM, with a last word to the hub; or in the middle of things.
    pub(super) async fn stop(&mut self, says_so: bool) {
        let Some(running) = self.running.take() else {
            return;
        };
        let Running {
            store,
            door,
            stop,
            mut link,
            ..
        } = running;
        if says_so {
            stop.cancel();
        } else {
            link.abort();
        }
        if tokio::time::timeout(Duration::from_secs(10), &mut link)
            .await
            .is_err()
        {
            link.abort();
            let _ = link.await;
        }
        drop(door);
        alone(&store).await;
        store.close().await;
    }

    pub(super) fn caller(&self) -> Caller {
        Caller {
            party: self.party.clone(),
            system: None,
            time_zone: "Asia/Jakarta".to_owned(),
            status_maps: Arc::new(StatusMaps::default()),
        }
    }
}

pub(super) fn address(machine: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, machine], 0))
}
