//! The adapter as a whole: wiring, and stopping in stages.

use std::{sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    config::{AdapterConfig, ConfigError, DoorAddress, HubAddress, LinkParty, load_status_maps},
    domain::{Micros, PartyId, Policy, StatusMaps},
    door::{Caller, Door, DoorOptions, LetterDoor, LettersOf},
    health::{Alarm, Facts, Links, Source, complete_up_to},
    identity::{Files, ReloadState, TrustDomain},
    link::LinkState,
    node::{Behind, CertificateWatch, Doors, may_operate, reached, settle_work, tokens},
    runtime::{Clock, OnEnd, Stage, Stages, TaskEnd, Tasks, random_bytes},
    store::{AdapterStore, StoreError},
    transport::{DialOptions, Proxy, Tcp},
};

use super::{
    certificates::PartyCertificate,
    hubs::Hubs,
    party::PartyLink,
    prune::prune,
    renewal::Renewal,
    store::{Opened, open},
};

/// Longest wait for a connection to the hub.
const CONNECT: Duration = Duration::from_secs(15);

/// Where an adapter listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterAddresses {
    /// Door, gRPC.
    pub grpc: DoorAddress,
    /// Door, HTTP; health beside it.
    pub http: DoorAddress,
}

/// Why an adapter does not run.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A port.
    #[error(transparent)]
    Port(#[from] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A mapping table.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A part of the node ended by itself.
    #[error("{0}")]
    Ended(String),
}

/// Runs an adapter until `stop`; says where it listens once it serves.
///
/// # Errors
/// It can't start, or a part of it ended by itself.
pub async fn run(
    config: AdapterConfig,
    clock: Arc<dyn Clock>,
    ready: oneshot::Sender<AdapterAddresses>,
    stop: CancellationToken,
) -> Result<(), AdapterError> {
    let trust_domain = TrustDomain::parse(&config.trust_domain)
        .map_err(|error| AdapterError::Ended(error.to_string()))?;
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        reached = reached(config.store.as_ref()) => reached?,
    }
    // Before the store: a start that fails must leave nothing behind.
    let doors = Doors::bind(&config.door, &config.health, &trust_domain, &*clock).await?;
    let Opened { store, left_behind } = open(&config, clock.clone()).await?;
    let addresses = AdapterAddresses {
        grpc: doors.grpc_addr.clone(),
        http: doors.http_addr.clone(),
    };
    let stages = Stages::new();
    let mut tasks = Tasks::new();
    let mut links = Tasks::new();
    let mut states = Vec::new();
    let mut reloads = Vec::new();
    let incarnation = random_bytes();
    let mut callers = Vec::new();
    let mut certificates = Vec::new();
    for party in &config.parties {
        callers.push(caller(party)?);
        let state = Arc::new(watch::channel(LinkState::new(Micros(clock.now_micros()))).0);
        states.push((party.id.clone(), state.clone()));
        let certificate = PartyCertificate::begin(
            party.id.clone(),
            party_files(&config, party),
            trust_domain.clone(),
            clock.clone(),
            state.clone(),
        );
        certificates.push(certificate.shown());
        reloads.push(certificate.reloads());
        let draining = stages.token(Stage::DrainLinks);
        let usable = certificate.usable(draining.clone());
        let (channel, over) = watch::channel(None);
        tasks.spawn(
            format!("renewal of {}", party.id),
            OnEnd::Log,
            renew(&certificate, over, draining.clone()),
        );
        tasks.spawn(
            format!("certificates of {}", party.id),
            OnEnd::Log,
            certificate.watch(stages.token(Stage::Persist)),
        );
        let (party, store, clock) = (party.id.clone(), store.clone(), clock.clone());
        let (trust_domain, hubs) = (trust_domain.clone(), hubs(&config.hub));
        links.spawn(format!("link of {party}"), OnEnd::StopNode, async move {
            let Some(material) = usable.await else {
                return;
            };
            let link = PartyLink {
                party,
                store,
                material,
                trust_domain,
                hubs,
                clock,
                state,
                incarnation,
                channel,
            };
            link.run(draining).await;
        });
    }
    settle_work(&*store, &callers).await?;
    tasks.spawn(
        "pruning",
        OnEnd::Log,
        prune(
            (store.clone(), clock.clone()),
            config
                .parties
                .iter()
                .map(|party| party.id.clone())
                .collect(),
            config.retention.keep_acknowledged_days,
            stages.token(Stage::NotServing),
        ),
    );
    tasks.spawn("doors", OnEnd::StopNode, {
        let access = Arc::new(tokens(&config.door, callers));
        let links = board(states);
        let source = Source {
            role: "adapter",
            store: store.clone(),
            hub: None,
            links: links.clone(),
            certificates: Arc::new(move || {
                certificates.iter().map(CertificateWatch::read).collect()
            }),
            sessions: None,
            facts: facts(reloads),
            clock: clock.clone(),
        };
        let door = Door::new(DoorOptions {
            store: store.clone(),
            clock: clock.clone(),
            policy: Policy::default(),
            longest_wait: Duration::from_millis(u64::from(config.limits.fetch_wait_ms)),
            max_in_flight: config.door.max_in_flight,
            freshness: Arc::new(move |party, heads, now| {
                let found = links().into_iter().find(|(found, _)| found == party);
                let link = found.and_then(|(_, link)| link);
                complete_up_to(link.as_ref(), heads, false, now)
            }),
        });
        let may_operate = may_operate(access.clone());
        let letters = LetterDoor {
            letters: LettersOf::Adapter(store.clone()),
            may_operate: may_operate.clone(),
            clock: clock.clone(),
        };
        let behind = Behind {
            door,
            may_operate,
            access,
            source,
            directory: None,
            letters,
            enrolment: None,
        };
        doors.serve(
            behind,
            stages.token(Stage::NotServing),
            stages.token(Stage::StopAccepting),
        )
    });
    tracing::info!(
        event = "adapter_started",
        grpc = %addresses.grpc,
        http = %addresses.http,
        directory = %config.directory.display()
    );
    let _ = ready.send(addresses);
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        end = tasks.stopped() => Some(ended_by_itself(end)),
        end = links.stopped() => Some(ended_by_itself(end)),
        why = left_behind => Some(AdapterError::Ended(why.to_owned())),
    };
    let limit = Duration::from_secs(u64::from(config.shutdown.timeout_seconds));
    shut_down(&stages, &*store, (&mut tasks, &mut links), limit).await;
    ended.map_or(Ok(()), Err)
}

fn ended_by_itself(end: TaskEnd) -> AdapterError {
    AdapterError::Ended(format!(
        "the task {:?} ended by itself{}",
        end.name,
        end.panic.map(|why| format!(": {why}")).unwrap_or_default()
    ))
}

/// Renews a party's certificate, as soon as it has one.
fn renew(
    certificate: &PartyCertificate,
    channel: watch::Receiver<Option<Channel>>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let usable = certificate.usable(stop.clone());
    let (party, files) = (certificate.party.clone(), certificate.files.clone());
    let (trust_domain, clock) = (certificate.trust_domain.clone(), certificate.clock.clone());
    let state = certificate.state();
    async move {
        let Some(material) = usable.await else {
            return;
        };
        let renewal = Renewal {
            party,
            files,
            trust_domain,
            clock,
            material,
            channel,
            state,
        };
        renewal.run(stop).await;
    }
}

async fn shut_down(
    stages: &Stages,
    store: &dyn AdapterStore,
    (tasks, links): (&mut Tasks, &mut Tasks),
    limit: Duration,
) {
    let short = limit.min(Duration::from_secs(2));
    stages.run(Stage::NotServing, short, async {}).await;
    stages.run(Stage::StopAccepting, short, async {}).await;
    let half = limit / 2;
    stages
        .run(Stage::DrainLinks, half, async {
            let cut = links.finish(half).await;
            if !cut.is_empty() {
                tracing::warn!(event = "links_cut", links = ?cut);
            }
        })
        .await;
    stages.run(Stage::Persist, half, store.close()).await;
    let cut = tasks.finish(short).await;
    if !cut.is_empty() {
        tracing::warn!(event = "tasks_cut", tasks = ?cut);
    }
    tracing::info!(event = "adapter_stopped");
}

fn caller(party: &LinkParty) -> Result<Caller, AdapterError> {
    let status_maps = match &party.status_map {
        Some(path) => load_status_maps(path)?,
        None => StatusMaps::default(),
    };
    Ok(Caller {
        party: party.id.clone(),
        system: match party.systems.as_slice() {
            [only] => Some(only.name.clone()),
            _ => None,
        },
        time_zone: party.time_zone.clone(),
        status_maps: Arc::new(status_maps),
    })
}

/// A party's certificate, and by what it verifies the hub.
pub fn party_files(config: &AdapterConfig, party: &LinkParty) -> Files {
    Files {
        certificate: party.certificate.clone(),
        key: party.key.clone(),
        roots: config.tls.roots.clone(),
        crls: config.tls.crls.clone(),
    }
}

fn hubs(hub: &HubAddress) -> Hubs {
    let proxy = hub.proxy.as_ref().map(|proxy| Proxy {
        address: proxy.address.clone(),
        credentials: proxy.credentials.clone(),
    });
    let addresses = hub.addresses().map(|(address, name)| DialOptions {
        address: address.to_owned(),
        name: name.to_owned(),
        proxy: proxy.clone(),
        connect_timeout: CONNECT,
    });
    Hubs::new(Arc::new(Tcp), addresses.collect())
        .returning_after(Duration::from_secs(u64::from(hub.return_after_seconds)))
}

/// What stands beside the links: certificates and lists that need somebody.
/// Parties may share files, and one sentence is enough.
fn facts(reloads: Vec<watch::Receiver<ReloadState>>) -> Facts {
    Facts {
        alarms: Arc::new(move || {
            let mut alarms = Vec::new();
            for (reason, why) in reloads.iter().flat_map(|reload| reload.borrow().alarms()) {
                let alarm = Alarm { reason, why };
                if !alarms.contains(&alarm) {
                    alarms.push(alarm);
                }
            }
            alarms
        }),
        tls_refused: Arc::new(Default::default),
    }
}

type States = Vec<(PartyId, Arc<watch::Sender<LinkState>>)>;

fn board(states: States) -> Links {
    Arc::new(move || {
        states
            .iter()
            .map(|(party, state)| (party.clone(), Some(state.borrow().clone())))
            .collect()
    })
}
