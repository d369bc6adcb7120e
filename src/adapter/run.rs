//! The adapter as a whole: wiring, and stopping in stages.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{AdapterConfig, ConfigError, LinkParty, load_status_map},
    domain::{Micros, PartyId, Policy, StatusMap, SystemName, decide},
    door::{Caller, Door},
    health::{Links, Source},
    identity::{Files, IdentityError, Material, Purpose, ReloadState, TrustDomain, watch_files},
    link::{LinkState, WireHeaders},
    node::{Behind, Doors, tokens},
    runtime::{Clock, OnEnd, Stage, Stages, Tasks, random_bytes},
    store::{
        Store as _, StoreError,
        sqlite::{NodeRole, Options, SqliteStore},
    },
    transport::DialOptions,
};

use super::party::PartyLink;

/// How often certificate files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// Longest wait for a connection to the hub.
const CONNECT: Duration = Duration::from_secs(15);

/// Where an adapter listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterAddresses {
    /// Door, gRPC.
    pub grpc: SocketAddr,
    /// Door, HTTP; health beside it.
    pub http: SocketAddr,
}

/// Why an adapter does not run.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A port.
    #[error("{0}")]
    Port(#[from] std::io::Error),
    /// A certificate, key or root.
    #[error(transparent)]
    Identity(#[from] IdentityError),
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
    let store = Arc::new(SqliteStore::open(Options {
        directory: config.directory.clone(),
        role: NodeRole::Adapter,
        encoder: Arc::new(WireHeaders),
        policy: Policy::default(),
        clock: clock.clone(),
        seed: random_bytes(),
        decide,
    })?);
    let doors = Doors::bind(&config.door).await?;
    let addresses = AdapterAddresses {
        grpc: doors.grpc_addr,
        http: doors.http_addr,
    };
    let stages = Stages::new();
    let mut tasks = Tasks::new();
    let mut links = Tasks::new();
    let mut states = Vec::new();
    let mut callers = Vec::new();
    for party in &config.parties {
        callers.push(caller(party)?);
        let state = Arc::new(watch::channel(LinkState::new(Micros(clock.now_micros()))).0);
        states.push((party.id.clone(), state.clone()));
        let files = Files {
            certificate: party.certificate.clone(),
            key: party.key.clone(),
            roots: config.tls.roots.clone(),
            crls: config.tls.crls.clone(),
        };
        let purpose = Purpose::Party(party.id.clone());
        let now = Micros(clock.now_micros());
        let material = Material::load(&files, &purpose, &trust_domain, now)?;
        let (newest, material) = watch::channel(Arc::new(material));
        let (reload_state, _) = watch::channel(ReloadState::default());
        tasks.spawn(
            format!("certificates of {}", party.id),
            OnEnd::Log,
            watch_files(
                newest,
                reload_state,
                (files, purpose, trust_domain.clone()),
                clock.clone(),
                RELOAD_EVERY,
                stages.token(Stage::Persist),
            ),
        );
        let link = PartyLink {
            party: party.id.clone(),
            store: store.clone(),
            material,
            trust_domain: trust_domain.clone(),
            dial: DialOptions {
                address: config.hub.address.clone(),
                name: config.hub.server_name().to_owned(),
                proxy: config.hub.proxy.clone(),
                connect_timeout: CONNECT,
            },
            clock: clock.clone(),
            state,
        };
        links.spawn(
            format!("link of {}", party.id),
            OnEnd::StopNode,
            link.run(stages.token(Stage::DrainLinks)),
        );
    }
    tasks.spawn("doors", OnEnd::StopNode, {
        let access = Arc::new(tokens(&config.door, callers));
        let source = Source {
            role: "adapter",
            store: store.clone(),
            hub: None,
            links: board(states),
            clock: clock.clone(),
        };
        let door = Door::new(
            store.clone(),
            clock.clone(),
            Policy::default(),
            Duration::from_millis(u64::from(config.limits.fetch_wait_ms)),
        );
        let behind = Behind {
            door,
            tokens: access,
            source,
            directory: None,
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
        end = tasks.stopped() => Some(end),
        end = links.stopped() => Some(end),
    };
    let limit = Duration::from_secs(u64::from(config.shutdown.timeout_seconds));
    shut_down(&stages, &store, (&mut tasks, &mut links), limit).await;
    match ended {
        None => Ok(()),
        Some(end) => Err(AdapterError::Ended(format!(
            "the task {:?} ended by itself{}",
            end.name,
            end.panic.map(|why| format!(": {why}")).unwrap_or_default()
        ))),
    }
}

async fn shut_down(
    stages: &Stages,
    store: &SqliteStore,
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
    let system: Option<SystemName> = match party.systems.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    let status_map = match (&party.status_map, &system) {
        (Some(path), Some(system)) => load_status_map(path, system)?,
        (Some(path), None) => {
            let any = SystemName::parse(SystemName::DEFAULT)
                .map_err(|error| AdapterError::Ended(error.to_string()))?;
            load_status_map(path, &any)?
        }
        (None, _) => StatusMap::default(),
    };
    Ok(Caller {
        party: party.id.clone(),
        system,
        time_zone: party.time_zone.clone(),
        status_map: Arc::new(status_map),
    })
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
