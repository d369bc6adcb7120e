//! Hubs, adapters, and the files that they need.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use jembatan::{
    domain::PartyId,
    identity::Subject,
    wire::v1::{self, gateway_service_client::GatewayServiceClient},
};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{
    cli::jembatan,
    support::{Node, authority_in, free_port, issue},
};

/// The party behind the hubs' own doors.
pub(super) const NATIONAL: &str = "nasional";

/// How long any of these tests waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// It is seen within seconds that somebody is gone. Where fifty adapters share two
/// processors, somebody who is slow must not be taken for gone.
fn limits(adapters: usize) -> &'static str {
    match adapters {
        0..=9 => "heartbeat_interval_ms = 500\ndead_after_ms = 2500",
        _ => "heartbeat_interval_ms = 2000\ndead_after_ms = 12000",
    }
}

pub(super) struct Nation {
    pub(super) directory: TempDir,
    pub(super) hubs: Vec<Node>,
    /// Where the hubs' doors are, also after a restart.
    pub(super) doors: Vec<SocketAddr>,
    pub(super) adapters: Vec<Node>,
}

/// The party of an adapter.
pub(super) fn party(adapter: usize) -> String {
    format!("pemda-33.{:02}", adapter + 1)
}

/// The region whose complaints an adapter gets.
pub(super) fn region(adapter: usize) -> String {
    format!("33.{:02}", adapter + 1)
}

impl Nation {
    /// Migrates the database, and starts hubs on it and adapters.
    pub(super) async fn start(url: &str, store: &str, hubs: usize, adapters: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let authority = authority_in(directory.path());
        let mut this = Self {
            directory,
            hubs: Vec::new(),
            doors: Vec::new(),
            adapters: Vec::new(),
        };
        this.write("directory.toml", &registered(adapters));
        let store = format!("url = \"{url}\"\n{store}");
        let mut links = Vec::new();
        for hub in 0..hubs {
            let (link, door) = (free_port(), free_port());
            let file = this.write(
                &format!("hub-{hub}.toml"),
                &hub_text(link, door, &store, limits(adapters)),
            );
            if hub == 0 {
                let migrate = ["store", "migrate", "--config", file.to_str().unwrap()];
                jembatan(&migrate).good();
            }
            links.push(link);
            this.doors.push(door);
            this.hubs.push(Node::start("hub", &file));
        }
        for adapter in 0..adapters {
            let party = party(adapter);
            issue(
                &authority,
                &party,
                &Subject::Party(PartyId::parse(&party).unwrap()),
            );
            let text = adapter_text(&party, &links, adapter, limits(adapters));
            let file = this.write(&format!("{party}.toml"), &text);
            this.adapters.push(Node::start("adapter", &file));
        }
        this.all_linked().await;
        this
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The door of a hub, whether it is open or not.
    pub(super) fn door(&self, hub: usize) -> GatewayServiceClient<Channel> {
        GatewayServiceClient::new(lazy(self.doors[hub]))
    }

    /// Every adapter has a link.
    pub(super) async fn all_linked(&self) {
        for adapter in 0..self.adapters.len() {
            eventually("every adapter has a link", async || {
                is_linked(&self.adapters[adapter], adapter).await
            })
            .await;
        }
    }

    /// Whose sessions a hub has.
    pub(super) async fn sessions(&self, hub: usize) -> Vec<String> {
        let request = v1::GetSyncStatusRequest::default();
        let mut health = self.hubs[hub].health().await;
        let answer = health.get_sync_status(request).await.unwrap();
        let parties = answer.into_inner().parties.into_iter();
        let up = parties.filter(|party| party.party != NATIONAL && is_up(party.verdict));
        up.map(|party| party.party).collect()
    }

    /// Whose sessions each hub has.
    pub(super) async fn spread(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for hub in 0..self.hubs.len() {
            found.push(self.sessions(hub).await);
        }
        found
    }

    /// The adapter of a party.
    pub(super) fn adapter_of(&self, name: &str) -> &Node {
        let is_its = |number: &usize| party(*number) == name;
        let number = (0..self.adapters.len()).find(is_its).unwrap();
        &self.adapters[number]
    }

    /// What every hub has said.
    pub(super) fn logs(&self) -> String {
        self.hubs.iter().map(Node::log).collect()
    }
}

pub(super) fn lazy(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

/// Whether a verdict is that of a party with a link.
pub(super) fn is_up(verdict: i32) -> bool {
    let up = [
        v1::Verdict::Healthy,
        v1::Verdict::Behind,
        v1::Verdict::Stalled,
    ];
    up.iter().any(|one| *one as i32 == verdict)
}

pub(super) async fn is_linked(node: &Node, adapter: usize) -> bool {
    is_up(node.sync(&party(adapter)).await.verdict)
}

/// Waits until a condition holds, for as long as these tests wait.
pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn registered(adapters: usize) -> String {
    let mut text = format!("[[party]]\nid = \"{NATIONAL}\"\nmode = \"local\"\n");
    for adapter in 0..adapters {
        let (party, region) = (party(adapter), region(adapter));
        let _ = write!(
            text,
            "[[party]]\nid = \"{party}\"\n[[institution]]\ncode = \"{party}\"\nparty = \"{party}\"\n\
             [[rule]]\nregion = \"{region}\"\ninstitution = \"{party}\"\n"
        );
    }
    text
}

fn hub_text(links: SocketAddr, door: SocketAddr, store: &str, limits: &str) -> String {
    format!(
        r#"
directory = "hub-data"
[listen]
links = "{links}"
[door]
grpc = "{door}"
http = "127.0.0.1:0"
[store]
{store}
[tls]
certificate = "pki/hub.pem"
key = "pki/hub.key"
roots = "pki/ca.pem"
[directory_file]
path = "directory.toml"
[limits]
{limits}
[log]
format = "json"
"#
    )
}

/// Every adapter knows every hub. Its own it draws when it starts, whichever
/// stands first.
fn adapter_text(party: &str, links: &[SocketAddr], adapter: usize, limits: &str) -> String {
    let first = adapter % links.len();
    let others: Vec<String> = links
        .iter()
        .enumerate()
        .filter(|(hub, _)| *hub != first)
        .map(|(_, link)| format!("\"{link}\""))
        .collect();
    format!(
        r#"
directory = "{party}-data"
[hub]
address = "{}"
fallback = [{}]
name = "localhost"
return_after_seconds = 2
[[party]]
id = "{party}"
certificate = "pki/{party}.pem"
key = "pki/{party}.key"
[tls]
roots = "pki/ca.pem"
[limits]
{limits}
[log]
format = "json"
[door]
grpc = "127.0.0.1:0"
http = "127.0.0.1:0"
"#,
        links[first],
        others.join(", ")
    )
}
