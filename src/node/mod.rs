//! What both nodes share: their own doors on loopback, health, and the names
//! of what they serve.
//!
//! Invariants: doors stop taking new calls when told to, and every stage of
//! stopping is bounded. This room must not know links, nor which node it is in.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, metadata::MetadataMap};

use crate::{
    config::{DoorConfig, Scope as ConfiguredScope},
    door::{self, Access as _, Caller, DirectoryDoor, Door, Gateway, Scope, TokenRule, Tokens},
    health::{MayOperate, Source, SyncHealth, health_router, serving},
    wire::v1,
};

/// How often health is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(2);

/// The doors of a node, bound.
pub struct Doors {
    grpc: TcpListener,
    http: TcpListener,
    /// Where gRPC is.
    pub grpc_addr: SocketAddr,
    /// Where HTTP is.
    pub http_addr: SocketAddr,
}

/// What stands behind the doors.
pub struct Behind {
    /// Use cases.
    pub door: Door,
    /// Who may come in.
    pub tokens: Arc<Tokens>,
    /// What health is read from.
    pub source: Source,
    /// The directory, at a hub.
    pub directory: Option<DirectoryDoor>,
}

impl Doors {
    /// Takes the ports.
    ///
    /// # Errors
    /// One is taken, or may not be used.
    pub async fn bind(config: &DoorConfig) -> io::Result<Self> {
        let grpc = listen(config.grpc).await?;
        let http = listen(config.http).await?;
        Ok(Self {
            grpc_addr: grpc.local_addr()?,
            http_addr: http.local_addr()?,
            grpc,
            http,
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
            tokens,
            source,
            directory,
        } = behind;
        let (reporter, health) = tonic_health::server::health_reporter();
        let gateway = v1::gateway_service_server::GatewayServiceServer::new(Gateway::new(
            door.clone(),
            tokens.clone(),
        ));
        let sync = v1::sync_health_service_server::SyncHealthServiceServer::new(SyncHealth::new(
            source.clone(),
            may_operate(tokens.clone()),
        ));
        let directory = directory.map(v1::directory_service_server::DirectoryServiceServer::new);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1();
        let reflection = match reflection {
            Ok(reflection) => Some(reflection),
            Err(error) => {
                tracing::warn!(event = "no_reflection", %error);
                None
            }
        };
        let grpc = tonic::transport::Server::builder()
            .add_service(health)
            .add_service(gateway)
            .add_service(sync)
            .add_optional_service(directory)
            .add_optional_service(reflection)
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(self.grpc),
                stop.clone().cancelled_owned(),
            );
        let draining = {
            let not_serving = not_serving.clone();
            Arc::new(move || not_serving.is_cancelled())
        };
        let routes = door::router(door, tokens).merge(health_router(source.clone(), draining));
        let http =
            axum::serve(self.http, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
        let watch = watch_health(reporter, source, not_serving, stop);
        let (grpc, http, ()) = tokio::join!(grpc, http, watch);
        if let Err(error) = grpc {
            tracing::error!(event = "door_failed", door = "grpc", %error);
        }
        if let Err(error) = http {
            tracing::error!(event = "door_failed", door = "http", %error);
        }
    }
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't listen on {address}: {error}; choose another port, or 0 for a free one"),
        )
    })
}

async fn watch_health(
    reporter: tonic_health::server::HealthReporter,
    source: Source,
    not_serving: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        let is_serving = !not_serving.is_cancelled() && serving(&source).await.is_ok();
        let status = if is_serving {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        for service in [
            "",
            "jembatan.v1.GatewayService",
            "jembatan.v1.SyncHealthService",
        ] {
            reporter.set_service_status(service, status).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = not_serving.cancelled(), if !not_serving.is_cancelled() => {}
            () = tokio::time::sleep(HEALTH_EVERY) => {}
        }
    }
}

/// Whether a call may see status and directory.
pub fn may_operate(tokens: Arc<Tokens>) -> MayOperate {
    Arc::new(move |metadata: &MetadataMap| {
        if tokens.rules.is_empty() {
            return Ok(());
        }
        tokens
            .caller(metadata, &http::Extensions::new(), Scope::Operate)
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
