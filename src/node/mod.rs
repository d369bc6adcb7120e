//! What both nodes share: their own doors, health, and the names of what they
//! serve.
//!
//! Invariants: doors stop taking new calls when told to, and every stage of
//! stopping is bounded. This room must not know links, nor which node it is in.

mod certificates;
mod database;
mod http;
mod report;
mod work;

use std::{io, sync::Arc, time::Duration};

use ::http::HeaderMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, metadata::MetadataMap};

use crate::{
    config::{DoorAddress, DoorConfig, HealthConfig, Scope as ConfiguredScope},
    domain::Micros,
    door::{
        self, Access, Caller, DirectoryDoor, Door, EnrolmentDoor, Gateway, LetterDoor, Scope,
        TokenRule, Tokens,
    },
    health::{CertificateFor, MayMeasure, MayOperate, Needs, Source, SyncHealth, health_router},
    identity::{DoorFiles, DoorMaterial, ReloadState, TrustDomain, watch_door_files},
    runtime::Clock,
    transport::DoorListener,
    wire::v1,
};

use http::serve_http;

pub use certificates::CertificateWatch;
pub use database::{database, reached};
pub use report::{Services, health_service, report};
pub use work::settle_work;

/// How often the door's certificate files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// Calls at once on one connection.
const STREAMS_PER_CONNECTION: u32 = 256;

/// The doors of a node, bound.
pub struct Doors {
    grpc: DoorListener,
    http: DoorListener,
    health: Option<DoorListener>,
    tls: Option<DoorTls>,
    is_exposed: bool,
    /// Where gRPC is.
    pub grpc_addr: DoorAddress,
    /// Where HTTP is.
    pub http_addr: DoorAddress,
}

/// The certificate of the doors, which is taken into use again when it changes.
struct DoorTls {
    files: DoorFiles,
    trust_domain: TrustDomain,
    newest: watch::Sender<Arc<DoorMaterial>>,
}

/// What stands behind the doors.
pub struct Behind {
    /// Use cases.
    pub door: Door,
    /// Who may come in.
    pub access: Arc<dyn Access>,
    /// Who may see status and directory.
    pub may_operate: MayOperate,
    /// What health is read from.
    pub source: Source,
    /// The directory, at a hub.
    pub directory: Option<DirectoryDoor>,
    /// What a person has to settle.
    pub letters: LetterDoor,
    /// Invitations, at a hub.
    pub enrolment: Option<EnrolmentDoor>,
}

impl Doors {
    /// Takes the ports and sockets.
    ///
    /// # Errors
    /// One is taken, or may not be used; the door's certificate can't be used.
    pub async fn bind(
        config: &DoorConfig,
        health: &HealthConfig,
        trust_domain: &TrustDomain,
        clock: &dyn Clock,
    ) -> io::Result<Self> {
        let tls = match &config.tls {
            None => None,
            Some(found) => {
                let files = door_files(found);
                let now = Micros(clock.now_micros());
                let material = DoorMaterial::load(&files, trust_domain, now)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.why))?;
                Some(DoorTls {
                    files,
                    trust_domain: trust_domain.clone(),
                    newest: watch::channel(Arc::new(material)).0,
                })
            }
        };
        let material = || tls.as_ref().map(|tls| tls.newest.subscribe());
        let (grpc, grpc_addr) = listen(&config.grpc, material(), b"h2").await?;
        let (http, http_addr) = listen(&config.http, material(), b"http/1.1").await?;
        let health = match &health.http {
            Some(address) => {
                let (listener, address) = listen(address, None, b"http/1.1").await?;
                tracing::info!(event = "health_listens", %address);
                Some(listener)
            }
            None => None,
        };
        Ok(Self {
            is_exposed: health.is_none() && !http_addr.is_local(),
            grpc,
            http,
            health,
            tls,
            grpc_addr,
            http_addr,
        })
    }

    /// Serves until `not_serving` (health turns red) and `stop`.
    pub async fn serve(
        self,
        behind: Behind,
        not_serving: CancellationToken,
        stop: CancellationToken,
    ) {
        let Behind {
            door,
            access,
            may_operate,
            mut source,
            directory,
            letters,
            enrolment,
        } = behind;
        let reloading = reload(self.tls, &mut source, stop.clone());
        let services = services(directory.is_some());
        let (reporter, health) = health_service(&services).await;
        let gateway = v1::gateway_service_server::GatewayServiceServer::new(Gateway::new(
            door.clone(),
            access.clone(),
        ));
        let sync = v1::sync_health_service_server::SyncHealthServiceServer::new(SyncHealth::new(
            source.clone(),
            may_operate.clone(),
        ));
        let letters = v1::dead_letter_service_server::DeadLetterServiceServer::new(letters);
        let directory = directory.map(v1::directory_service_server::DirectoryServiceServer::new);
        let enrolment = enrolment.map(v1::enrolment_service_server::EnrolmentServiceServer::new);
        let grpc = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_service(health)
            .add_service(gateway)
            .add_service(sync)
            .add_optional_service(directory)
            .add_service(letters)
            .add_optional_service(enrolment)
            .add_optional_service(reflection())
            .serve_with_incoming_shutdown(
                self.grpc.incoming(stop.clone()),
                stop.clone().cancelled_owned(),
            );
        let may_measure: MayMeasure = match self.is_exposed {
            false => Arc::new(|_| true),
            true => Arc::new(move |headers: &HeaderMap| {
                may_operate(&MetadataMap::from_headers(headers.clone())).is_ok()
            }),
        };
        let is_draining = {
            let not_serving = not_serving.clone();
            Arc::new(move || not_serving.is_cancelled())
        };
        let health_routes = health_router(source.clone(), is_draining, may_measure);
        let door_routes = door::router(door, access);
        let (routes, health_routes) = match &self.health {
            Some(_) => (door_routes, Some(health_routes)),
            None => (door_routes.merge(health_routes), None),
        };
        let http = serve_http(self.http, routes, stop.clone());
        let health_http = async {
            if let (Some(listener), Some(routes)) = (self.health, health_routes) {
                serve_http(listener, routes, stop.clone()).await;
            }
        };
        let watch = report(reporter, source, services, not_serving, stop.clone());
        let (grpc, (), (), (), ()) = tokio::join!(grpc, http, health_http, watch, reloading);
        if let Err(error) = grpc {
            tracing::error!(event = "door_failed", door = "grpc", %error);
        }
    }
}

/// What the services of a node's own gRPC door need. Sync health needs
/// nothing: it is what tells of trouble.
fn services(has_directory: bool) -> Services {
    let door = Needs {
        store: true,
        certificates: &[CertificateFor::Doors],
    };
    let mut services = vec![
        (
            "",
            Needs {
                store: true,
                certificates: &[CertificateFor::Doors, CertificateFor::Links],
            },
        ),
        ("jembatan.v1.GatewayService", door),
        ("jembatan.v1.DeadLetterService", door),
        (
            "jembatan.v1.SyncHealthService",
            Needs {
                store: false,
                certificates: &[CertificateFor::Doors],
            },
        ),
    ];
    if has_directory {
        services.push(("jembatan.v1.DirectoryService", door));
        services.push(("jembatan.v1.EnrolmentService", door));
    }
    services
}

/// Reflection over the whole contract, so that tools need no files.
pub fn reflection() -> Option<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
> {
    let built = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match built {
        Ok(reflection) => Some(reflection),
        Err(error) => {
            tracing::warn!(event = "no_reflection", %error);
            None
        }
    }
}

/// Watches the door's certificate, and shows it to health.
fn reload(
    tls: Option<DoorTls>,
    source: &mut Source,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let watching = tls.map(|tls| {
        let (state, states) = watch::channel(ReloadState::default());
        let shown = CertificateWatch::of_doors(tls.newest.subscribe(), states);
        let others = source.certificates.clone();
        source.certificates = Arc::new(move || {
            let mut all = others();
            all.push(shown.read());
            all
        });
        let files = (tls.files, tls.trust_domain);
        let clock = source.clock.clone();
        watch_door_files(tls.newest, state, files, clock, RELOAD_EVERY, stop)
    });
    async move {
        if let Some(watching) = watching {
            watching.await;
        }
    }
}

async fn listen(
    address: &DoorAddress,
    material: Option<watch::Receiver<Arc<DoorMaterial>>>,
    protocol: &'static [u8],
) -> io::Result<(DoorListener, DoorAddress)> {
    match address {
        DoorAddress::Tcp(address) => {
            let (listener, address) = DoorListener::tcp(*address, material, protocol).await?;
            Ok((listener, DoorAddress::Tcp(address)))
        }
        DoorAddress::Unix(path) => Ok((DoorListener::unix(path).await?, address.clone())),
    }
}

/// The certificate of a door.
pub fn door_files(tls: &crate::config::DoorTls) -> DoorFiles {
    DoorFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
    }
}

/// Whether a call may see status and directory.
pub fn may_operate(tokens: Arc<Tokens>) -> MayOperate {
    Arc::new(move |metadata: &MetadataMap| {
        if tokens.rules.is_empty() {
            return Ok(());
        }
        tokens
            .caller(metadata, &::http::Extensions::new(), Scope::Operate)
            .map(drop)
            .map_err(Status::from)
    })
}

/// Access to a door, as it is configured.
pub fn tokens(config: &DoorConfig, parties: Vec<Caller>) -> Tokens {
    let rules = config.tokens.iter().filter_map(|token| {
        let caller = match &token.party {
            Some(party) => parties.iter().find(|caller| &caller.party == party),
            None => parties.first(),
        }?;
        Some(TokenRule {
            sha256: token.sha256.0,
            caller: Caller {
                system: Some(token.system.clone()),
                ..caller.clone()
            },
            scopes: token.scopes.iter().map(scope).collect(),
        })
    });
    Tokens {
        rules: rules.collect(),
        parties,
    }
}

fn scope(scope: &ConfiguredScope) -> Scope {
    match scope {
        ConfiguredScope::Submit => Scope::Submit,
        ConfiguredScope::Read => Scope::Read,
        ConfiguredScope::Inbox => Scope::Inbox,
        ConfiguredScope::Operate => Scope::Operate,
    }
}
