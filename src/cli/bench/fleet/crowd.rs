//! The parties of the fleet: certificates of their own, and links as adapters
//! run them, each over one connection from an address of its own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    adapter::{Hubs, PartyLink},
    cli::{lab, now},
    domain::{Micros, PartyId},
    identity::{Files, Material, Purpose, TrustDomain},
    link::{LinkState, Phase},
    runtime::{SystemClock, random_bytes},
    transport::{DialOptions, Network, Port, Stream, Tcp},
};

use super::{back::Arrivals, ledger::Ledger, store::LightStore};

/// How often the links are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest wait for all of them. An adapter's longest pause is a minute.
const ALL_IN: Duration = Duration::from_secs(180);

/// A party: what outlives its sessions.
struct Party {
    store: Arc<LightStore>,
    state: Arc<watch::Sender<LinkState>>,
    newest: watch::Sender<Arc<Material>>,
}

/// All parties of one size of the fleet.
pub(super) struct Crowd {
    parties: Vec<Party>,
    domain: TrustDomain,
}

/// Their links while they run; they end when this is dropped.
pub(super) struct Links {
    running: JoinSet<()>,
    stop: CancellationToken,
}

impl Crowd {
    /// Reads the certificates of these parties.
    pub(super) fn new(pki: &Path, names: &[String], ledger: &Arc<Ledger>) -> anyhow::Result<Self> {
        let domain = TrustDomain::parse(lab::TRUST_DOMAIN)?;
        let mut parties = Vec::with_capacity(names.len());
        for name in names {
            let party = PartyId::parse(name)?;
            let files = Files {
                certificate: pki.join(format!("{name}.crt")),
                key: pki.join(format!("{name}.key")),
                roots: pki.join("ca.pem"),
                crls: Vec::new(),
            };
            let purpose = Purpose::Party(party.clone());
            let material = Material::load(&files, &purpose, &domain, now())?;
            parties.push(Party {
                store: Arc::new(LightStore::new(party, ledger.clone())),
                state: Arc::new(watch::Sender::new(LinkState::new(now()))),
                newest: watch::Sender::new(Arc::new(material)),
            });
        }
        Ok(Self { parties, domain })
    }

    pub(super) fn len(&self) -> usize {
        self.parties.len()
    }

    pub(super) fn store(&self, place: usize) -> Option<&LightStore> {
        self.parties.get(place).map(|party| &*party.store)
    }

    /// Starts the first `count` links.
    pub(super) fn link(&self, hub: SocketAddr, count: usize) -> Links {
        let mut running = JoinSet::new();
        let stop = CancellationToken::new();
        for (place, party) in self.parties.iter().take(count).enumerate() {
            let options = DialOptions {
                address: hub.to_string(),
                name: "127.0.0.1".to_owned(),
                proxy: None,
                connect_timeout: Duration::from_secs(15),
            };
            let link = PartyLink {
                party: party.store.party().clone(),
                store: party.store.clone(),
                material: party.newest.subscribe(),
                trust_domain: self.domain.clone(),
                hubs: Hubs::new(Arc::new(Loopback::of(place)), vec![options]),
                clock: Arc::new(SystemClock),
                state: party.state.clone(),
                incarnation: random_bytes(),
                channel: watch::Sender::new(None),
            };
            running.spawn(link.run(stop.clone()));
        }
        Links { running, stop }
    }

    /// Waits until the first `count` links are up, each since this moment or
    /// later, and says when each came.
    ///
    /// # Errors
    /// They do not come: why not, as the first of those that are missing says.
    pub(super) async fn all_in(&self, count: usize, since: Micros) -> anyhow::Result<Arrivals> {
        let began = Instant::now();
        loop {
            let mut missing = 0;
            let mut first_missing = None;
            let mut came = Vec::with_capacity(count);
            for party in self.parties.iter().take(count) {
                let state = party.state.borrow();
                if state.phase == Phase::Connected && state.since >= since {
                    came.push(state.since);
                } else {
                    missing += 1;
                    first_missing.get_or_insert_with(|| (party.store.party(), state.phase.clone()));
                }
            }
            let Some((party, phase)) = first_missing else {
                return Ok(Arrivals::new(came, since));
            };
            anyhow::ensure!(
                began.elapsed() < ALL_IN,
                "{missing} of {count} parties do not link within {} s; {party}: {phase:?}",
                ALL_IN.as_secs()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Links {
    /// Ends all sessions in good order.
    ///
    /// # Errors
    /// A link panicked.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.context("a link ended by itself")?;
        }
        Ok(())
    }
}

/// Loopback, from an address of this party's own: a hub counts by address who
/// comes, and a thousand parties do not come from one. Linux has all of
/// 127.0.0.0/8.
#[derive(Debug)]
struct Loopback(Ipv4Addr);

impl Loopback {
    fn of(place: usize) -> Self {
        let [.., high, low] = (place as u32 + 1).to_be_bytes();
        Self(Ipv4Addr::new(127, 2, high, low))
    }
}

impl Network for Loopback {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        async move {
            let hub: SocketAddr = address.parse().map_err(io::Error::other)?;
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(IpAddr::V4(self.0), 0))?;
            let stream: TcpStream = socket.connect(hub).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        }
        .boxed()
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        Tcp.bind(address)
    }
}
