//! A small world of real processes: a hub and adapters over real mutual TLS on
//! free loopback ports, in a temporary directory.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use jembatan::{
    domain::{Micros, PartyId},
    identity::{Authority, Lifetime, Subject, TrustDomain, write_new},
    runtime::{Clock as _, SystemClock},
    wire::v1::{
        self, directory_service_client::DirectoryServiceClient,
        gateway_service_client::GatewayServiceClient,
        sync_health_service_client::SyncHealthServiceClient,
    },
};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn now() -> Micros {
    Micros(SystemClock.now_micros())
}

/// A node as a process of its own.
pub(crate) struct Node {
    role: &'static str,
    config: PathBuf,
    before: Vec<String>,
    child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    pub(crate) fn start(role: &'static str, config: &Path) -> Self {
        Self::start_under(&[], role, config)
    }

    /// Under another program, which must become the node (`exec`).
    pub(crate) fn start_under(before: &[String], role: &'static str, config: &Path) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(config.with_extension("log"))
            .unwrap();
        let mut words = before.to_vec();
        words.push(env!("CARGO_BIN_EXE_jembatan").to_owned());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args([role, "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut line).unwrap();
        let found: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let log = std::fs::read_to_string(config.with_extension("log")).unwrap_or_default();
            panic!("{role} did not start: {log}")
        });
        let address = |name: &str| found[name].as_str().map(|text| text.parse().unwrap());
        Self {
            role,
            config: config.to_owned(),
            before: before.to_vec(),
            child,
            grpc: address("grpc").unwrap(),
            http: address("http").unwrap(),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// After it has ended.
    pub(crate) fn start_again(&mut self) {
        *self = Self::start_under(&self.before.clone(), self.role, &self.config.clone());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended; one that has and was not waited for still has its
    /// pid.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, as systemd stops it; whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let pid = self.pid().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
        self.child.wait().unwrap().success()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }

    async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.grpc);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn gateway(&self) -> GatewayServiceClient<Channel> {
        GatewayServiceClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    pub(crate) async fn health(&self) -> SyncHealthServiceClient<Channel> {
        SyncHealthServiceClient::new(self.channel().await)
    }

    pub(crate) async fn directory(&self) -> DirectoryServiceClient<Channel> {
        DirectoryServiceClient::new(self.channel().await)
    }

    pub(crate) async fn place(&self, party: &str, journal: v1::Journal) -> v1::Place {
        let request = v1::GetJournalChainRequest {
            party: party.to_owned(),
            journal: journal as i32,
            position: 0,
        };
        let deadline = Instant::now() + PATIENCE;
        let mut health = self.health().await;
        loop {
            match health.get_journal_chain(request.clone()).await {
                Ok(answer) => return answer.into_inner().place.unwrap(),
                // Head and chain are two looks: an epoch, or a copy, may have
                // begun in between.
                Err(status) if status.code() == tonic::Code::OutOfRange => {
                    assert!(Instant::now() < deadline, "{status}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => panic!("{status}"),
            }
        }
    }

    pub(crate) async fn sync(&self, party: &str) -> v1::PartySync {
        let request = v1::GetSyncStatusRequest {
            party: party.to_owned(),
        };
        let answer = self.health().await.get_sync_status(request).await;
        answer.unwrap().into_inner().parties.remove(0)
    }
}

/// A hub, and the files for more.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) hub: Node,
    pub(crate) authority: Authority,
    links: SocketAddr,
}

pub(crate) const PARTIES: &str = r#"
[[party]]
id = "nasional"
mode = "local"
[[party]]
id = "pemda-33"
[[party]]
id = "pemda-33.74"
[[party]]
id = "mitra"
mode = "unary"
[[institution]]
code = "pemda-33"
party = "pemda-33"
[[institution]]
code = "pemda-33.74"
party = "pemda-33.74"
[[institution]]
code = "mitra"
party = "mitra"
[[rule]]
region = "33.74"
institution = "pemda-33.74"
"#;

impl World {
    pub(crate) fn new() -> Self {
        Self::with_hub("")
    }

    /// With more in the hub's settings, from the table `[door]` on; LINKS in it
    /// is the address of the links.
    pub(crate) fn with_hub(more: &str) -> Self {
        Self::made(more, "")
    }

    /// A hub with more lines in its `[tls]`.
    pub(crate) fn with_hub_tls(lines: &str) -> Self {
        Self::made("", lines)
    }

    fn made(more: &str, lines: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let authority = authority_in(directory.path());
        std::fs::write(directory.path().join("directory.toml"), PARTIES).unwrap();
        let links = free_port();
        let more = more.replace("LINKS", &links.to_string());
        let config = directory.path().join("hub.toml");
        std::fs::write(
            &config,
            format!(
                r#"
directory = "hub-data"
[listen]
links = "{links}"
[door]
grpc = "127.0.0.1:0"
http = "127.0.0.1:0"
{more}
[tls]
certificate = "pki/hub.pem"
key = "pki/hub.key"
roots = "pki/ca.pem"
{lines}
[directory_file]
path = "directory.toml"
[log]
format = "json"
"#
            ),
        )
        .unwrap();
        let hub = Node::start("hub", &config);
        Self {
            directory,
            hub,
            authority,
            links,
        }
    }

    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.directory.path().join("pki").join(name)
    }

    pub(crate) fn issue_party(&self, party: &str) {
        let subject = Subject::Party(PartyId::parse(party).unwrap());
        issue(&self.authority, party, &subject);
    }

    pub(crate) fn adapter(&self, party: &str) -> Node {
        let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
        Node::start("adapter", &self.adapter_file(party, "", local))
    }

    /// An adapter whose settings are changed first; `name` is its file's. No
    /// certificate is issued for it.
    pub(crate) fn adapter_with(
        &self,
        name: &str,
        party: &str,
        change: impl FnOnce(String) -> String,
    ) -> Node {
        let config = self.directory.path().join(format!("{name}.toml"));
        let local = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";
        std::fs::write(&config, change(self.adapter_text(party, "", local))).unwrap();
        Node::start("adapter", &config)
    }

    /// Settings of an adapter, with more in its party and its own door.
    pub(crate) fn adapter_file(&self, party: &str, of_party: &str, door: &str) -> PathBuf {
        self.issue_party(party);
        let text = self.adapter_text(party, of_party, door);
        let config = self.directory.path().join(format!("{party}.toml"));
        std::fs::write(&config, text).unwrap();
        config
    }

    fn adapter_text(&self, party: &str, of_party: &str, door: &str) -> String {
        format!(
            r#"
directory = "{party}-data"
[hub]
address = "{links}"
name = "localhost"
[[party]]
id = "{party}"
certificate = "pki/{party}.pem"
key = "pki/{party}.key"
{of_party}
[tls]
roots = "pki/ca.pem"
[log]
format = "json"
[door]
{door}
"#,
            links = self.links
        )
    }

    pub(crate) fn links(&self) -> SocketAddr {
        self.links
    }

    /// Sessions of a party that the hub has seen.
    pub(crate) fn sessions(&self, party: &str) -> usize {
        let opened = format!("\"session_opened\",\"party\":\"{party}\"");
        self.hub.log().matches(&opened).count()
    }
}

/// A CA in `pki` below a directory, and the hub's certificate by it.
pub(crate) fn authority_in(directory: &Path) -> Authority {
    let domain = TrustDomain::parse("jembatan.example").unwrap();
    let pki = directory.join("pki");
    let authority = Authority::init(&pki, &domain, now(), false).unwrap();
    let hub = Subject::Hub(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]);
    issue(&authority, "hub", &hub);
    authority
}

pub(crate) fn issue(authority: &Authority, name: &str, subject: &Subject) {
    let issued = authority.issue(subject, Lifetime::days(now(), 30)).unwrap();
    let at = |ending: &str| authority.directory().join(format!("{name}.{ending}"));
    write_new(&at("key"), &issued.key.unwrap(), true, true).unwrap();
    write_new(&at("pem"), &issued.certificate, false, true).unwrap();
}

/// The hub must come back on its port after a kill, so it needs a known one.
pub(crate) fn free_port() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// A complaint of the load.
pub(crate) fn complaint(reference: &str) -> v1::NewComplaint {
    v1::NewComplaint {
        reference: reference.to_owned(),
        title: format!("Lampu jalan padam {reference}"),
        body: format!(
            "Sudah tiga hari lampu jalan padam di depan pasar. \u{201c}{reference}\u{201d}"
        ),
        region: "33.74".to_owned(),
        channel: "web".to_owned(),
        handling: v1::Handling::Route as i32,
        reporter: Some(v1::Reporter {
            name: format!("Pelapor Uji {reference}"),
            ..v1::Reporter::default()
        }),
        ..v1::NewComplaint::default()
    }
}

pub(crate) fn submit(complaint: v1::NewComplaint, wait_for_hub_ms: u32) -> v1::SubmitRequest {
    v1::SubmitRequest {
        handover: Some(v1::Handover {
            item: Some(v1::handover::Item::Complaint(complaint)),
            ..v1::Handover::default()
        }),
        wait_for_hub_ms,
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: std::future::Future<Output = bool>,
{
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A Python with grpcio-tools, and so with protobuf; `None`: it is not here.
pub(crate) fn python_with_protobuf() -> Option<String> {
    let python = std::env::var("JEMBATAN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let check = Command::new(&python)
        .args(["-c", "import grpc, grpc_tools"])
        .output();
    if check.is_ok_and(|found| found.status.success()) {
        return Some(python);
    }
    missing("a Python with grpcio and grpcio-tools (JEMBATAN_TEST_PYTHON)");
    None
}

/// Python stubs of the whole contract, in a temporary directory.
pub(crate) struct TempStubs(TempDir);

impl TempStubs {
    pub(crate) fn generate(python: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let mut command = Command::new(python);
        command.args(["-m", "grpc_tools.protoc"]);
        command.arg(format!("-I{}", proto.display()));
        command.arg(format!("--python_out={}", directory.path().display()));
        for file in std::fs::read_dir(proto.join("jembatan/v1")).unwrap() {
            command.arg(file.unwrap().path());
        }
        let made = command.output().unwrap();
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{errors}");
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Waits until a node's link is up; how many sessions the hub has seen so far.
/// (The first contact takes two: in the first the node learns the epoch.)
pub(crate) async fn connected(world: &World, node: &Node, party: &str) -> usize {
    eventually("connected", || async {
        node.sync(party).await.verdict == v1::Verdict::Healthy as i32
    })
    .await;
    world.sessions(party)
}

/// Every item of an inbox, from its beginning.
pub(crate) async fn all_items(node: &Node) -> Vec<v1::InboxItem> {
    let mut gateway = node.gateway().await;
    let mut after = String::new();
    let mut all = Vec::new();
    loop {
        let request = v1::FetchInboxRequest {
            after: after.clone(),
            wait_ms: 0,
            limit: 1_000,
        };
        let found = gateway.fetch_inbox(request).await.unwrap().into_inner();
        let Some(last) = found.items.last() else {
            return all;
        };
        after.clone_from(&last.cursor);
        all.extend(found.items);
    }
}

/// Hands many complaints over in one stream; how many were stored.
pub(crate) async fn submit_many(node: &Node, complaints: Vec<v1::NewComplaint>) -> usize {
    let requests = complaints.into_iter().map(|new| v1::SubmitStreamRequest {
        handover: submit(new, 0).handover,
    });
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let answers = node.gateway().await.submit_stream(requests).await.unwrap();
    let mut answers = answers.into_inner();
    let mut stored = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        let is_stored = matches!(
            answer.result,
            Some(v1::submit_stream_response::Result::Receipt(_))
        );
        assert!(is_stored, "{answer:?}");
        stored += 1;
    }
    stored
}

/// Waits until both ends of a journal stand at the same place, at least so far.
pub(crate) async fn same_at_both_ends(
    hub: &Node,
    node: &Node,
    party: &str,
    journal: v1::Journal,
    least: u64,
) -> u64 {
    eventually("both ends hold the same journal", || async {
        let (there, here) = (
            hub.place(party, journal).await,
            node.place(party, journal).await,
        );
        here.position >= least && here == there
    })
    .await;
    node.place(party, journal).await.position
}

/// Whether a program may be missing: with `CI=true` nothing may.
pub(crate) fn missing(what: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what} is required with CI=true"
    );
    eprintln!("NOT RUN: {what} is not here");
}
