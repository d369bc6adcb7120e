//! A whole deployment of parties that loses its hub in one moment.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use jembatan::{
    adapter::{Hubs, PartyLink},
    domain::{PartyId, Policy, decide},
    identity::{Files, Material, Purpose, TrustDomain},
    link::{LinkState, WireHeaders},
    runtime::{Clock as _, SystemClock, random_bytes},
    store::{
        Store as _,
        sqlite::{NodeRole, Options, SqliteStore},
    },
    transport::{DialOptions, Network, Port, Stream, Tcp},
};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    sessions::events,
    support::{Node, World, now},
};

/// Longest time in which all of them must be in: the longest base delay of the
/// retry schedule after so short an outage, and the handshakes.
const ALL_BACK: Duration = Duration::from_secs(60);
/// How long the hub is away.
const AWAY: Duration = Duration::from_secs(3);

/// `JEMBATAN_TEST_CROWD=1000` for a nation.
fn crowd() -> usize {
    let asked = std::env::var("JEMBATAN_TEST_CROWD").ok();
    asked.map_or(150, |text| text.parse().unwrap())
}

fn peak_memory_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words = line.unwrap().split_whitespace().nth(1);
    words.unwrap().parse().unwrap()
}

/// The machine's network, which notes when a party last tried to connect.
#[derive(Debug, Default)]
struct Noted(AtomicI64);

impl Network for Noted {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        self.0.store(SystemClock.now_micros(), Ordering::Relaxed);
        Tcp.connect(address)
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        Tcp.bind(address)
    }
}

/// The links of all parties, as their nodes run them, over one store.
struct Crowd {
    tried: Vec<Arc<Noted>>,
    store: Arc<SqliteStore>,
    links: JoinSet<()>,
    stop: CancellationToken,
    keep: Vec<watch::Sender<Arc<Material>>>,
}

impl Crowd {
    fn start(world: &World, parties: &[String]) -> Self {
        let domain = TrustDomain::parse("jembatan.example").unwrap();
        let clock = Arc::new(SystemClock);
        let options = Options {
            directory: world.directory.path().join("crowd-data"),
            role: NodeRole::Adapter,
            encoder: Arc::new(WireHeaders),
            policy: Policy::default(),
            clock: clock.clone(),
            seed: random_bytes(),
            decide,
        };
        let mut this = Self {
            tried: Vec::new(),
            store: Arc::new(SqliteStore::open(options).unwrap()),
            links: JoinSet::new(),
            stop: CancellationToken::new(),
            keep: Vec::new(),
        };
        for party in parties {
            world.issue_party(party);
            let files = Files {
                certificate: world.pki(&format!("{party}.pem")),
                key: world.pki(&format!("{party}.key")),
                roots: world.pki("ca.pem"),
                crls: Vec::new(),
            };
            let party = PartyId::parse(party).unwrap();
            let purpose = Purpose::Party(party.clone());
            let material = Material::load(&files, &purpose, &domain, now()).unwrap();
            let (newest, material) = watch::channel(Arc::new(material));
            let hub = DialOptions {
                address: world.links().to_string(),
                name: "localhost".to_owned(),
                proxy: None,
                connect_timeout: Duration::from_secs(15),
            };
            let network = Arc::<Noted>::default();
            let link = PartyLink {
                party,
                store: this.store.clone(),
                material,
                trust_domain: domain.clone(),
                hubs: Hubs::new(network.clone(), vec![hub]),
                clock: clock.clone(),
                state: Arc::new(watch::channel(LinkState::new(now())).0),
                incarnation: random_bytes(),
                channel: watch::Sender::new(None),
            };
            this.tried.push(network);
            this.keep.push(newest);
            this.links.spawn(link.run(this.stop.clone()));
        }
        this
    }
}

/// When each party's first session began at this hub process, in microseconds.
fn arrivals(hub: &Node, since: i64) -> BTreeMap<String, i64> {
    let mut first = BTreeMap::new();
    for line in events(hub, "session_opened") {
        let at: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        let at = at.as_microsecond();
        if at >= since {
            let party = line["party"].as_str().unwrap().to_owned();
            first.entry(party).or_insert(at);
        }
    }
    first
}

async fn all_in(hub: &Node, count: usize, since: i64) -> BTreeMap<String, i64> {
    let began = Instant::now();
    loop {
        let found = arrivals(hub, since);
        if found.len() == count {
            return found;
        }
        assert!(
            began.elapsed() < ALL_BACK + Duration::from_secs(30),
            "{} of {count} are in",
            found.len()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Scenario: a hundred and fifty parties (`JEMBATAN_TEST_CROWD` for more) have
/// sessions; the hub is killed without a word and is back after three seconds.
/// Guarantee: they do not come back in one moment: no second sees more than
/// three fifths of them (full jitter makes it a third or so, without it all would
/// come in one); all are back within the longest delay; the hub's memory
/// grows by less than a quarter of a MiB for each.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_comes_back_spread_out() {
    let count = crowd();
    let mut world = World::new();
    let parties: Vec<String> = (0..count).map(|n| format!("kota-{n}")).collect();
    let file = world.directory.path().join("directory.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    let (more, rest) = text.split_at(text.find("[[institution]]").unwrap());
    let registered: String = parties
        .iter()
        .map(|party| format!("[[party]]\nid = \"{party}\"\n"))
        .collect();
    text = format!("{more}{registered}{rest}");
    std::fs::write(&file, text).unwrap();
    world.hub.restart();
    let before_kib = peak_memory_kib(&world.hub);
    let mut crowd = Crowd::start(&world, &parties);
    all_in(&world.hub, count, 0).await;

    world.hub.kill();
    tokio::time::sleep(AWAY).await;
    let since = SystemClock.now_micros();
    world.hub.start_again();
    let back = all_in(&world.hub, count, since).await;

    let last = *back.values().max().unwrap();
    let spread = Duration::from_micros((last - since).unsigned_abs());
    assert!(spread <= ALL_BACK, "the last came after {spread:?}");
    let mut tried = BTreeMap::<i64, usize>::new();
    for network in &crowd.tried {
        let at = network.0.load(Ordering::Relaxed);
        *tried.entry((at - since).div_euclid(1_000_000)).or_default() += 1;
    }
    println!("{count} parties were back after {spread:?}; they came by second: {tried:?}");
    let most = tried.values().max().unwrap();
    assert!(most * 5 <= count * 3, "{most} of {count} in one second");
    let grown_kib = peak_memory_kib(&world.hub).saturating_sub(before_kib);
    println!("the hub's memory grew by {grown_kib} KiB");
    assert!(
        grown_kib <= 256 * count as u64 + 32 * 1_024,
        "{grown_kib} KiB"
    );

    crowd.stop.cancel();
    while crowd.links.join_next().await.is_some() {}
    crowd.store.close().await;
}
