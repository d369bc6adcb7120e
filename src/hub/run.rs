//! The hub as a whole: wiring, and stopping in stages.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    config::{ConfigError, DirectoryFile, DoorAddress, HubConfig, load},
    domain::{LINK_MESSAGE_BYTES, Micros, Party, PartyId, PartyMode},
    door::{DirectoryDoor, Door, DoorOptions, EnrolmentDoor, Gateway, LetterDoor, LettersOf},
    exchange::DrainReason,
    health::{Alarm, CertificateFor, Facts, Links, Needs, Source},
    identity::{
        CaFiles, Files, IdentityError, Material, Purpose, ReloadState, TrustDomain, watch_files,
    },
    node::{
        self, CertificateWatch, Doors, health_service, may_operate, reached, reflection, report,
        settle_work, tokens,
    },
    runtime::{Clock, OnEnd, Stage, Stages, Tasks},
    store::{DirectoryChange, HubStore, Registry, StoreError},
    transport::{Listener, ListenerOptions, LiveConnections, Refusals},
    wire::v1,
};

use super::{
    Sessions,
    behind::{AtDoor, Behind, check_tokens},
    enrolment::Enrolment,
    enrolment_service::serve_visitors,
    exchange::{Board, Exchange},
    patience::Patience,
    peers::{ByCertificate, is_out},
    store::{self, Opened},
};

/// How often certificate files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// How long a session that lost its right has for its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a hub listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddresses {
    /// Mutual TLS.
    pub links: SocketAddr,
    /// Door, gRPC.
    pub grpc: DoorAddress,
    /// Door, HTTP; health beside it.
    pub http: DoorAddress,
}

/// Why a hub does not run.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A port.
    #[error(transparent)]
    Port(#[from] std::io::Error),
    /// A certificate, key or root.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A part of the node ended by itself.
    #[error("{0}")]
    Ended(String),
}

/// Runs a hub until `stop`; says where it listens once it serves.
///
/// # Errors
/// It can't start, or a part of it ended by itself.
pub async fn run(
    config: HubConfig,
    clock: Arc<dyn Clock>,
    ready: oneshot::Sender<HubAddresses>,
    stop: CancellationToken,
) -> Result<(), HubError> {
    let trust_domain = TrustDomain::parse(&config.trust_domain)
        .map_err(|error| HubError::Ended(error.to_string()))?;
    // Before the store: a start that fails must leave no directory behind.
    let files = own_files(&config);
    let material = Material::load(
        &files,
        &Purpose::Hub,
        &trust_domain,
        Micros(clock.now_micros()),
    )?;
    tokio::select! {
        reached = reached(config.store.as_ref()) => reached?,
        () = stop.cancelled() => return Ok(()),
    }
    let (newest, material) = watch::channel(Arc::new(material));
    let mut listener = Listener::bind(
        config.listen.links,
        material.clone(),
        trust_domain.clone(),
        ListenerOptions::default(),
    )
    .await?;
    let doors = Doors::bind(&config.door, &config.health, &trust_domain, &*clock).await?;
    let Opened { store, left_behind } = tokio::select! {
        opened = store::open(&config, clock.clone()) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    register(&*store, &config).await?;
    check_tokens(&config, &store.registry().borrow()).map_err(HubError::Ended)?;
    let behind = Behind::load(&config)?;
    settle_work(&*store, &behind.everybody()).await?;
    let connections = listener.connections();
    let refusals = listener.refusals();
    let addresses = HubAddresses {
        links: listener.local_addr(),
        grpc: doors.grpc_addr.clone(),
        http: doors.http_addr.clone(),
    };

    let stages = Stages::new();
    let sessions = Sessions::default();
    let board = Board::default();
    let mut tasks = Tasks::new();
    let door = Door::new(DoorOptions {
        store: store.clone(),
        clock: clock.clone(),
        policy: config.policy.clone(),
        longest_wait: Duration::from_millis(u64::from(config.limits.fetch_wait_ms)),
        max_in_flight: config.door.max_in_flight,
        // The hub has everything that it has decided.
        freshness: Arc::new(|_, _, now| Some(now)),
    });
    let (reload_state, reloads) = watch::channel(ReloadState::default());
    let source = {
        let certificate = CertificateWatch::of_links("hub", material.clone(), reloads.clone());
        let sessions = sessions.clone();
        Source {
            role: "hub",
            store: store.clone(),
            hub: Some(store.clone()),
            links: links(&store, &board),
            certificates: Arc::new(move || vec![certificate.read()]),
            sessions: Some(Arc::new(move || sessions.count())),
            facts: facts(reloads, refusals),
            clock: clock.clone(),
        }
    };
    let exchange = Exchange {
        store: store.clone(),
        sessions: sessions.clone(),
        registry: store.registry(),
        material: material.clone(),
        limits: config.announced_limits(),
        minimum_version: config.announce.minimum_version(),
        max_age: Duration::from_secs(u64::from(config.session.max_age_hours) * 3_600),
        max_sessions: config.session.max_sessions as usize,
        clock: clock.clone(),
        board: board.clone(),
    };
    let enrolment = enrolment(&config, &store, &material, &trust_domain, &clock);
    if enrolment.is_on() {
        enrolment.look_at_ca();
        let visitors = listener.visitors();
        let stop = stages.token(Stage::StopAccepting);
        tasks.spawn(
            "visitors",
            OnEnd::StopNode,
            serve_visitors(visitors, enrolment.clone(), stop),
        );
    }
    let offer = enrolment.offer();
    tasks.spawn("links", OnEnd::StopNode, {
        let gateway = Gateway::new(
            door.clone(),
            Arc::new(ByCertificate {
                registry: store.registry(),
                behind: behind.clone(),
                clock: clock.clone(),
                material: material.clone(),
            }),
        );
        let services = (exchange, gateway, enrolment);
        serve_links(listener, services, source.clone(), stages.clone())
    });
    tasks.spawn("doors", OnEnd::StopNode, {
        let tokens = Arc::new(tokens(&config.door, behind.callers(&config)));
        let may_operate = may_operate(tokens.clone());
        let enrolment = EnrolmentDoor {
            store: store.clone(),
            may_operate: may_operate.clone(),
            clock: clock.clone(),
            offer,
        };
        let directory = DirectoryDoor {
            store: store.clone(),
            may_operate: may_operate.clone(),
            clock: clock.clone(),
            policy: config.policy.clone(),
            limits: config.announced_limits(),
        };
        let letters = LetterDoor {
            letters: LettersOf::Hub(store.clone()),
            may_operate: may_operate.clone(),
            clock: clock.clone(),
        };
        let behind = node::Behind {
            door,
            access: Arc::new(AtDoor {
                tokens,
                registry: store.registry(),
            }),
            may_operate,
            source,
            directory: Some(directory),
            letters,
            enrolment: Some(enrolment),
        };
        doors.serve(
            behind,
            stages.token(Stage::NotServing),
            stages.token(Stage::StopAccepting),
        )
    });
    tasks.spawn(
        "rights",
        OnEnd::StopNode,
        enforce(
            (store.registry(), material.clone()),
            sessions.clone(),
            connections,
            stages.token(Stage::Persist),
        ),
    );
    tasks.spawn(
        "certificates",
        OnEnd::Log,
        watch_files(
            newest,
            reload_state,
            (files, Purpose::Hub, trust_domain),
            clock.clone(),
            RELOAD_EVERY,
            stages.token(Stage::Persist),
        ),
    );
    tracing::info!(
        event = "hub_started",
        links = %addresses.links,
        grpc = %addresses.grpc,
        http = %addresses.http,
        directory = %config.directory.display()
    );
    let _ = ready.send(addresses);
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        end = tasks.stopped() => Some(format!(
            "the task {:?} ended by itself{}",
            end.name,
            end.panic.map(|why| format!(": {why}")).unwrap_or_default()
        )),
        // Links would come back to it again and again, and be served by nobody.
        why = left_behind => Some(why.to_owned()),
    };
    let limit = Duration::from_secs(u64::from(config.shutdown.timeout_seconds));
    shut_down(&stages, &sessions, &*store, &mut tasks, limit).await;
    match ended {
        None => Ok(()),
        Some(why) => Err(HubError::Ended(why)),
    }
}

/// Ends whatever has lost its right, by the registry or by a revocation list:
/// sessions are told why, and what is still there a moment later is cut, the
/// connections of unary parties with it.
async fn enforce(
    (mut registry, mut material): (
        watch::Receiver<Arc<Registry>>,
        watch::Receiver<Arc<Material>>,
    ),
    sessions: Sessions,
    connections: LiveConnections,
    stop: CancellationToken,
) {
    let mut cut_at = None;
    loop {
        let cut = async {
            match cut_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let is_time = tokio::select! {
            () = stop.cancelled() => return,
            changed = registry.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            Ok(()) = material.changed() => false,
            () = cut => true,
        };
        let parties = registry.borrow_and_update().clone();
        let newest = material.borrow_and_update().clone();
        sessions.enforce(&parties, &newest);
        if is_time {
            cut_at = None;
            let cut = connections.cut(|identity| is_out(identity, &parties, &newest));
            if cut > 0 {
                tracing::warn!(event = "connections_cut", cut);
            }
        } else {
            // The first change counts: a registry that changes all the time
            // must not put it off for ever.
            cut_at.get_or_insert_with(|| Instant::now() + LAST_WORDS);
        }
    }
}

/// What stands beside the links: certificates and lists that need somebody.
fn facts(reload: watch::Receiver<ReloadState>, refusals: Refusals) -> Facts {
    Facts {
        alarms: Arc::new(move || {
            let alarms = reload.borrow().alarms();
            alarms
                .into_iter()
                .map(|(reason, why)| Alarm { reason, why })
                .collect()
        }),
        tls_refused: Arc::new(move || refusals.counts()),
    }
}

/// What each service of the mutual-TLS port needs.
const LINK_SERVICES: [&str; 4] = [
    "",
    "jembatan.v1.EnrolmentService",
    "jembatan.v1.ExchangeService",
    "jembatan.v1.GatewayService",
];

/// HTTP/2 as the port of links speaks it: a window for a full one of ours, and
/// pings, so that a line that died without a word is seen.
pub fn link_server() -> Server {
    Server::builder()
        .initial_stream_window_size(8 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .max_concurrent_streams(64)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
}

async fn serve_links(
    listener: Listener,
    (exchange, gateway, enrolment): (Exchange, Gateway, Enrolment),
    source: Source,
    stages: Stages,
) {
    let stop = stages.token(Stage::DrainLinks);
    let needs = Needs {
        store: true,
        certificates: &[CertificateFor::Links],
    };
    let services = LINK_SERVICES.map(|service| (service, needs)).to_vec();
    let (reporter, health) = health_service(&services).await;
    let watch = report(
        reporter,
        source,
        services,
        stages.token(Stage::NotServing),
        stop.clone(),
    );
    let incoming = listener.incoming(stages.token(Stage::StopAccepting));
    let served = link_server()
        .add_service(
            v1::exchange_service_server::ExchangeServiceServer::new(exchange)
                .max_decoding_message_size(LINK_MESSAGE_BYTES),
        )
        .add_service(v1::gateway_service_server::GatewayServiceServer::new(
            gateway,
        ))
        .add_service(v1::enrolment_service_server::EnrolmentServiceServer::new(
            enrolment,
        ))
        .add_service(health)
        .add_optional_service(reflection())
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    let (served, ()) = tokio::join!(served, watch);
    if let Err(error) = served {
        tracing::error!(event = "links_failed", %error);
    }
}

fn enrolment(
    config: &HubConfig,
    store: &Arc<dyn HubStore>,
    material: &watch::Receiver<Arc<Material>>,
    trust_domain: &TrustDomain,
    clock: &Arc<dyn Clock>,
) -> Enrolment {
    Enrolment {
        store: store.clone(),
        clock: clock.clone(),
        material: material.clone(),
        trust_domain: trust_domain.clone(),
        ca: ca_files(config),
        addresses: config.enrolment.addresses.clone(),
        lifetime_seconds: config.enrolment.lifetime_seconds,
        limits: config.announced_limits(),
        wrong_codes: Arc::new(Patience::new()),
        renewals: Arc::new(Patience::new()),
        joins: Arc::new(Patience::new()),
    }
}

async fn shut_down(
    stages: &Stages,
    sessions: &Sessions,
    store: &dyn HubStore,
    tasks: &mut Tasks,
    limit: Duration,
) {
    let short = limit.min(Duration::from_secs(2));
    stages.run(Stage::NotServing, short, async {}).await;
    stages.run(Stage::StopAccepting, short, async {}).await;
    stages
        .run(Stage::DrainLinks, limit / 2, async {
            sessions.drain_all(DrainReason::Stopping);
            while sessions.count() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    stages.run(Stage::Persist, limit / 2, store.close()).await;
    let cut = tasks.finish(short).await;
    if !cut.is_empty() {
        tracing::warn!(event = "tasks_cut", tasks = ?cut);
    }
    tracing::info!(event = "hub_stopped");
}

/// The hub's own certificate, and by what it verifies others.
pub fn own_files(config: &HubConfig) -> Files {
    Files {
        certificate: config.tls.certificate.clone(),
        key: config.tls.key.clone(),
        roots: config.tls.roots.clone(),
        crls: config.tls.crls.clone(),
    }
}

/// The CA that signs for whoever joins, if the settings name one.
pub fn ca_files(config: &HubConfig) -> Option<CaFiles> {
    let (certificate, key) = config.enrolment.ca()?;
    Some(CaFiles {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    })
}

/// The national party and, if there is one, the directory file.
async fn register(store: &dyn HubStore, config: &HubConfig) -> Result<(), HubError> {
    let national = config.national.party.clone();
    let known = store.registry().borrow().directory.clone();
    let directory = match &config.directory_file.path {
        Some(path) => load::<DirectoryFile>(Path::new(path))?.into_directory(&national),
        None => {
            let mut directory = crate::domain::Directory::default();
            if !known.parties.contains_key(&national) {
                directory
                    .parties
                    .insert(national.clone(), local_party(national.clone()));
            }
            directory
        }
    };
    let mut change = DirectoryChange::default();
    for mut party in directory.parties.into_values() {
        // The file says "enabled" by default: whom an operator has disabled
        // since must not come back with a restart.
        let before = known.parties.get(&party.id);
        party.enabled &= before.is_none_or(|before| before.enabled);
        if before != Some(&party) {
            change.parties.push(party);
        }
    }
    for mut institution in directory.institutions.into_values() {
        let before = known.institutions.get(&institution.code);
        institution.enabled &= before.is_none_or(|before| before.enabled);
        if before != Some(&institution) {
            change.institutions.push(institution);
        }
    }
    let is_same = (&known.categories, &known.rules) == (&directory.categories, &directory.rules);
    if config.directory_file.path.is_some() && !is_same {
        let categories = directory.categories.into_values().collect();
        change.policy = Some((categories, directory.rules));
    }
    change.national = (known.national.as_ref() != Some(&national)).then_some(national);
    // Whoever starts and changes nothing keeps no other hub from reading on.
    if change != DirectoryChange::default() {
        store.change_directory(change).await?;
    }
    store.retell().await?;
    Ok(())
}

fn local_party(id: PartyId) -> Party {
    Party {
        id,
        name: "Nasional".to_owned(),
        mode: PartyMode::Local,
        enabled: true,
        certificate_fingerprints: Vec::new(),
        observes_all: false,
        observes_institutions: Vec::new(),
    }
}

fn links(store: &Arc<dyn HubStore>, board: &Board) -> Links {
    let registry = store.registry();
    let board = board.clone();
    Arc::new(move || {
        let registry = registry.borrow().clone();
        let board = board
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let parties = registry.directory.parties.values();
        parties
            .map(|party| {
                let link = match party.mode {
                    PartyMode::Stream => Some(board.get(&party.id).map_or_else(
                        || crate::link::LinkState::new(Micros(0)),
                        |state| state.borrow().clone(),
                    )),
                    PartyMode::Unary | PartyMode::Local => None,
                };
                (party.id.clone(), link)
            })
            .collect()
    })
}
