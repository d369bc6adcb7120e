//! Networks between real processes that do what networks do: a name that moves,
//! a translator of addresses that forgets, a line that loses packets.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jembatan::{
    domain::{
        Handover, Item, NewComplaint, PartyId, Policy, Reference, RegionCode, SystemName, decide,
    },
    link::WireHeaders,
    runtime::{SystemClock, random_bytes},
    store::{
        NewSubmission, Store as _,
        sqlite::{NodeRole, Options, SqliteStore},
    },
    wire::{Composing, compose, v1},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};

use crate::{
    faults_line::adapter_behind,
    support::{
        Node, PATIENCE, World, complaint, connected, eventually, missing, now, same_at_both_ends,
        submit_many,
    },
};

const CITY: &str = "pemda-33.74";
const SUBMISSIONS: v1::Journal = v1::Journal::Submissions;
const DELIVERIES: v1::Journal = v1::Journal::Deliveries;

fn run(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().unwrap()
}

fn change(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} stands in {}", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// Scenario: the hub moves to another address, and its name in the DNS with it
/// (the hosts file that this node sees), while the node runs and has looked the
/// name up before.
/// Guarantee: the node follows by itself, without a restart, and what was
/// handed over meanwhile goes out.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_the_hub_to_another_address() {
    if !run(&["unshare", "--mount", "true"]).status.success() {
        return missing("unshare --mount, as root");
    }
    let mut world = World::new();
    let port = world.links().port();
    let hosts = world.directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost hub.jembatan.test\n").unwrap();
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let config = world.adapter_file(CITY, "", local);
    let by_name = format!("hub.jembatan.test:{port}");
    change(&config, &world.links().to_string(), &by_name);
    let bind = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let before = ["unshare", "--mount", "sh", "-c", &bind, "sh"].map(str::to_owned);
    let city = Node::start_under(&before, "adapter", &config);
    connected(&world, &city, CITY).await;

    world.hub.kill();
    let there = format!("127.0.0.2:{port}");
    let hub_file = world.directory.path().join("hub.toml");
    change(&hub_file, &world.links().to_string(), &there);
    submit_many(&city, vec![complaint("D-1")]).await;
    world.hub.start_again();
    std::fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.2 hub.jembatan.test\n").unwrap();
    same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, 1).await;
}

/// A translator of addresses: a flow that was idle for longer than it
/// remembers is forgotten; its packets vanish, and nobody is told.
struct Translator {
    address: SocketAddr,
    flows: Arc<AtomicU64>,
    /// New flows end at once.
    is_closed: Arc<AtomicBool>,
}

struct Flow {
    began: Instant,
    last_ms: AtomicU64,
    remembers: Duration,
    is_forgotten: AtomicBool,
}

impl Flow {
    /// A packet comes by; whether it gets through.
    fn passes(&self) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        let last = self.last_ms.swap(now, Ordering::Relaxed);
        if now - last > self.remembers.as_millis() as u64 {
            self.is_forgotten.store(true, Ordering::Relaxed);
        }
        !self.is_forgotten.load(Ordering::Relaxed)
    }
}

impl Translator {
    async fn start(hub: SocketAddr, remembers: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flows = Arc::new(AtomicU64::new(0));
        let counted = flows.clone();
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = is_closed.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                if closed.load(Ordering::Relaxed) {
                    continue;
                }
                let to = TcpStream::connect(hub).await.unwrap();
                let flow = Arc::new(Flow {
                    began: Instant::now(),
                    last_ms: AtomicU64::new(0),
                    remembers,
                    is_forgotten: AtomicBool::new(false),
                });
                let (from_read, from_write) = from.into_split();
                let (to_read, to_write) = to.into_split();
                tokio::spawn(pass(flow.clone(), from_read, to_write));
                tokio::spawn(pass(flow, to_read, from_write));
            }
        });
        Self {
            address,
            flows,
            is_closed,
        }
    }

    fn flows(&self) -> u64 {
        self.flows.load(Ordering::Relaxed)
    }
}

async fn pass(flow: Arc<Flow>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = [0; 4_096];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if !flow.passes() {
            // Not even the end of a connection gets through.
            std::future::pending::<()>().await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Scenario: a translator of addresses on the way forgets flows that were idle
/// for four heartbeats; nobody hands anything over for three times as long.
/// Guarantee: heartbeats keep the flow alive: one session, one connection, and
/// what is then handed over goes out in it.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_an_idle_flow_alive() {
    let limits = "[limits]\nheartbeat_interval_ms = 500\ndead_after_ms = 4000";
    let world = World::with_hub(limits);
    let remembers = Duration::from_secs(2);
    let translator = Translator::start(world.links(), remembers).await;
    let city = adapter_behind(&world, CITY, translator.address);
    let sessions = connected(&world, &city, CITY).await;
    let flows = translator.flows();
    tokio::time::sleep(3 * remembers).await;
    submit_many(&city, vec![complaint("A-1")]).await;
    same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, 1).await;
    assert_eq!(
        (world.sessions(CITY), translator.flows()),
        (sessions, flows)
    );
}

/// Scenario: a translator forgets a flow between two heartbeats, so that
/// packets vanish both ways and no reset ever comes; at first the node can't
/// come back, so that nothing tells the hub.
/// Guarantee: both ends find out by themselves within their dead-after time,
/// the node comes back over a new flow, and everything goes out.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_was_forgotten_is_found_dead_in_time() {
    const DEAD_AFTER: Duration = Duration::from_secs(4);
    let limits = "[limits]\nheartbeat_interval_ms = 2000\ndead_after_ms = 4000";
    let world = World::with_hub(limits);
    let translator = Translator::start(world.links(), Duration::from_millis(700)).await;
    let city = adapter_behind(&world, CITY, translator.address);
    connected(&world, &city, CITY).await;
    translator.is_closed.store(true, Ordering::Relaxed);
    let (began, flows) = (Instant::now(), translator.flows());
    // A look at the clock each second, a short retry, and this machine.
    let most = DEAD_AFTER + Duration::from_secs(4);
    let in_time = |who| {
        let found = began.elapsed();
        assert!(found <= most, "{who} took {found:?}");
    };
    let node = async {
        eventually("another flow", || async { translator.flows() > flows }).await;
        in_time("the node");
    };
    let hub = async {
        let silent = "nothing was heard from the node";
        eventually("the hub ends the session by itself", || async {
            world.hub.log().contains(silent)
        })
        .await;
        in_time("the hub");
    };
    tokio::join!(node, hub);
    eventually("the hub shows it", || async {
        world.hub.sync(CITY).await.verdict == v1::Verdict::Disconnected as i32
    })
    .await;
    translator.is_closed.store(false, Ordering::Relaxed);
    for n in 0..5 {
        submit_many(&city, vec![complaint(&format!("F-{n}"))]).await;
    }
    same_at_both_ends(&world.hub, &city, CITY, SUBMISSIONS, 5).await;
}

/// A network namespace of its own, and a line to it that loses packets.
struct BadLine {
    name: String,
    /// The hub's end.
    here: String,
    line: Option<Child>,
    said: Option<BufReader<ChildStdout>>,
}

impl Drop for BadLine {
    fn drop(&mut self) {
        if let Some(line) = &mut self.line {
            // Its devices go with it.
            let _ = line.kill();
            let _ = line.wait();
        }
        let _ = run(&["ip", "netns", "del", &self.name]);
    }
}

impl BadLine {
    /// `None`: this machine lacks what it needs.
    fn new(rate_bytes: u32, delay_ms: u32, jitter_ms: u32, loss: f64) -> Option<Self> {
        if Command::new("ip").arg("-V").output().is_err() {
            missing("iproute2");
            return None;
        }
        let number = std::process::id();
        let name = format!("jembatan-{number}");
        let is_made = run(&["ip", "netns", "add", &name]).status.success();
        if !is_made || !Path::new("/dev/net/tun").exists() {
            missing("a network namespace and a TUN device (root, /dev/net/tun)");
            return None;
        }
        let network = number % 32_768;
        let address = |host: u32| format!("10.213.{}.{}", network / 128, network % 128 * 2 + host);
        let mut this = Self {
            name: name.clone(),
            here: address(0),
            line: None,
            said: None,
        };
        let mut line = Command::new("python3")
            .arg("tests/it/lossy_line.py")
            .args([&name, &format!("jb{number}"), &address(0), &address(1)])
            .args([
                rate_bytes.to_string(),
                delay_ms.to_string(),
                jitter_ms.to_string(),
                loss.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let output = line.stdout.take().unwrap();
        this.line = Some(line);
        let mut output = BufReader::new(output);
        output.read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        this.said = Some(output);
        Some(this)
    }

    /// Ends the line; how many packets were lost on it, and how many came
    /// before one that had left earlier.
    fn end(mut self) -> (u64, u64) {
        drop(self.line.as_mut().unwrap().stdin.take());
        let mut said = String::new();
        self.said.take().unwrap().read_line(&mut said).unwrap();
        let mut numbers = said.split_whitespace().map(|word| word.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

/// A store that holds a complaint with a text as large as a part may be, as an
/// attachment is.
async fn with_a_large_part(directory: &Path, party: &str) {
    let store = SqliteStore::open(Options {
        directory: directory.to_owned(),
        role: NodeRole::Adapter,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        seed: random_bytes(),
        decide,
    })
    .unwrap();
    let party = PartyId::parse(party).unwrap();
    let mut new = NewComplaint::new(Reference::parse("LARGE-1").unwrap());
    new.title = "Lampiran".to_owned();
    new.body = "x".repeat(255 * 1_024);
    new.region = Some(RegionCode::parse("33.74").unwrap());
    let handover = Handover {
        system: SystemName::parse("sistem").unwrap(),
        key: None,
        item: Item::Complaint(Box::new(new)),
    };
    let composing = Composing {
        party: &party,
        now: now(),
        time_zone: "Asia/Jakarta",
        complaint_id: None,
    };
    let composed = compose(handover.clone(), composing, random_bytes::<16>).unwrap();
    let submission = NewSubmission {
        party: party.clone(),
        event: composed.event,
        event_bytes: composed.event_bytes,
        parts: composed.parts,
        handover_digest: handover.digest(),
    };
    let stored = store.submit(vec![submission], now()).await.unwrap();
    assert!(stored[0].is_ok());
    store.close().await;
}

/// Scenario: the kernel's own TCP over a line of 256 kbit/s with 400 ms each
/// way, and up to 100 ms more for each packet, so that packets overtake each
/// other, that loses one packet in fifty; a part of 256 KiB goes up and another one
/// comes down, with texts beside it; heartbeats every two seconds.
/// Guarantee: all of it arrives within one session: neither a part that takes a
/// quarter of a minute, nor packets that come again or in another order, end
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_part_passes_a_line_that_loses_packets() {
    let Some(line) = BadLine::new(32_000, 400, 100, 0.02) else {
        return;
    };
    let limits = "[limits]\nheartbeat_interval_ms = 2000";
    let mut world = World::with_hub(limits);
    let port = world.links().port();
    let everywhere = format!("0.0.0.0:{port}");
    let hub_file = world.directory.path().join("hub.toml");
    change(&hub_file, &world.links().to_string(), &everywhere);
    world.hub.restart();
    let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
    let config = world.adapter_file(CITY, "", local);
    change(
        &config,
        &world.links().to_string(),
        &format!("{}:{port}", line.here),
    );
    with_a_large_part(&world.directory.path().join(format!("{CITY}-data")), CITY).await;
    let before = ["ip", "netns", "exec", &line.name].map(str::to_owned);
    let _city = Node::start_under(&before, "adapter", &config);
    // Two sessions at the first contact: in the first it learns the epoch.
    let began = Instant::now();
    let arrived = async |submissions: u64, deliveries: u64| {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            let up = world.hub.place(CITY, SUBMISSIONS).await.position;
            let down = world.hub.sync(CITY).await.deliveries.unwrap();
            let down = down.acknowledged.map_or(0, |place| place.position);
            if up >= submissions && down >= deliveries {
                return;
            }
            let log = world.hub.log();
            assert!(Instant::now() < deadline, "{up} up, {down} down: {log}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    arrived(1, 1).await;
    let sessions = world.sessions(CITY);
    assert!(
        began.elapsed() > Duration::from_secs(8),
        "the line was slow"
    );
    // What is for the city comes down, and its answers go up.
    let province_data = world.directory.path().join("pemda-33-data");
    with_a_large_part(&province_data, "pemda-33").await;
    let province = world.adapter("pemda-33");
    connected(&world, &province, "pemda-33").await;
    let texts = (0..5).map(|n| v1::NewComplaint {
        body: "\u{1f6a7}".repeat(2_000),
        ..complaint(&format!("N-{n}"))
    });
    submit_many(&world.hub, texts.collect()).await;
    arrived(1, 7).await;
    println!("{:?} in {sessions} sessions", began.elapsed());
    assert_eq!(world.sessions(CITY), sessions, "{}", world.hub.log());
    assert!(sessions <= 2, "{sessions} sessions: {}", world.hub.log());
    let place = world.hub.place("pemda-33", DELIVERIES).await;
    assert!(place.position >= 1);
    let (lost, overtook) = line.end();
    assert!(lost > 0 && overtook > 0, "{lost} lost, {overtook} overtook");
}
