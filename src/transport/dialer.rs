//! Dials the hub: TCP (through an HTTP CONNECT proxy where there is one), TLS,
//! and whether it is the hub that answers.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::identity::{
    Material, PeerIdentity, PeerRole, Presented, Refusal, TrustDomain, intercepted, refused_hub,
};

use super::{
    LastWords, Proxy,
    network::{Network, Stream, Tcp},
    watched::Watched,
};

/// Whom to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// `host:port` of the hub.
    pub address: String,
    /// The name that its certificate must have.
    pub name: String,
    /// An HTTP proxy on the way.
    pub proxy: Option<Proxy>,
    /// Longest wait for TCP and TLS together.
    pub connect_timeout: Duration,
}

/// A connection to the hub.
#[derive(Debug)]
pub struct Dialed {
    /// For gRPC.
    pub channel: Channel,
    /// The hub's certificate.
    pub hub: PeerIdentity,
    /// How the connection ended, once it has.
    pub last_words: LastWords,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct DialError {
    /// For machines, for example `HUB_UNREACHABLE`.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub why: String,
    /// It will not pass by itself: retry slowly, and alarm.
    pub needs_a_person: bool,
}

impl DialError {
    pub(super) fn unreachable(why: String) -> Self {
        Self {
            reason: "HUB_UNREACHABLE",
            why,
            needs_a_person: false,
        }
    }

    pub(super) fn refused(reason: &'static str, why: impl Into<String>) -> Self {
        Self {
            reason,
            why: why.into(),
            needs_a_person: true,
        }
    }
}

/// Dials the hub with this material.
///
/// # Errors
/// Why not, in words for this node's operator.
pub async fn dial(
    options: &DialOptions,
    material: &Material,
    trust_domain: &TrustDomain,
) -> Result<Dialed, DialError> {
    dial_over(&Tcp, options, material, trust_domain).await
}

/// As [`dial`], over any network.
///
/// # Errors
/// As [`dial`].
pub async fn dial_over(
    network: &dyn Network,
    options: &DialOptions,
    material: &Material,
    trust_domain: &TrustDomain,
) -> Result<Dialed, DialError> {
    let connecting = connect(network, options, material, trust_domain);
    let stream = in_time(options, connecting).await?;
    let hub = check_hub(&stream, options, trust_domain)?;
    let (stream, last_words) = Watched::new(stream);
    let channel = channel(stream, &last_words, &options.name).await?;
    Ok(Dialed {
        channel,
        hub,
        last_words,
    })
}

/// Waits for TCP and TLS together, at most as long as the options say.
pub(super) async fn in_time<T>(
    options: &DialOptions,
    connecting: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout(options.connect_timeout, connecting)
        .await
        .map_err(|_| {
            let way = match &options.proxy {
                Some(proxy) => format!(" through the proxy {}", proxy.address),
                None => String::new(),
            };
            DialError::unreachable(format!(
                "the hub at {} did not answer{way} within {} s: check the address, the line and firewalls",
                options.address,
                options.connect_timeout.as_secs()
            ))
        })?
}

/// The way up to the hub, and the name that its certificate must have.
pub(super) async fn reach_hub(
    network: &dyn Network,
    options: &DialOptions,
) -> Result<(Stream, ServerName<'static>), DialError> {
    let name = ServerName::try_from(options.name.clone()).map_err(|_| {
        DialError::refused(
            "WRONG_NAME",
            format!(
                "{:?} is neither a DNS name nor an IP address: correct hub.name",
                options.name
            ),
        )
    })?;
    let stream = match &options.proxy {
        None => reach(network, &options.address, "hub").await?,
        Some(proxy) => proxy.connect(network, &options.address).await?,
    };
    Ok((stream, name))
}

async fn connect(
    network: &dyn Network,
    options: &DialOptions,
    material: &Material,
    trust_domain: &TrustDomain,
) -> Result<TlsStream<Stream>, DialError> {
    let (config, presented) = material
        .client_config()
        .map_err(|error| DialError::refused(error.reason, error.why))?;
    let (stream, name) = reach_hub(network, options).await?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| tls_error(&error, options, material, &presented, trust_domain))
}

pub(super) async fn reach(
    network: &dyn Network,
    address: &str,
    whose: &str,
) -> Result<Stream, DialError> {
    network.connect(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => "nothing listens there: is it running?",
            _ => "check the address, the line and firewalls",
        };
        DialError::unreachable(format!(
            "the {whose} at {address} can't be reached ({error}): {hint}"
        ))
    })
}

fn tls_error(
    error: &io::Error,
    options: &DialOptions,
    material: &Material,
    presented: &Presented,
    trust_domain: &TrustDomain,
) -> DialError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(error) = inner else {
        return DialError::unreachable(format!(
            "the connection to {} ended during TLS ({error}): a firewall or a full hub may do that",
            options.address
        ));
    };
    let claimed = presented.claimed(trust_domain);
    let found = refused_hub(error, claimed.as_ref(), material.root_names());
    let Refusal { reason, why } = found;
    if reason == "UNKNOWN_CA" {
        return DialError::refused(
            reason,
            format!(
                "{why}; if a firewall in between opens TLS (an intercepting proxy), it must let {} through untouched",
                options.address
            ),
        );
    }
    DialError::refused(reason, format!("{}: {why}", options.address))
}

fn check_hub(
    stream: &TlsStream<Stream>,
    options: &DialOptions,
    trust_domain: &TrustDomain,
) -> Result<PeerIdentity, DialError> {
    let (_, session) = stream.get_ref();
    let leaf = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or_else(|| DialError::refused("NOT_THE_HUB", "the hub presented no certificate"))?;
    let identity = PeerIdentity::of(leaf, trust_domain)
        .map_err(|error| DialError::refused(error.reason, error.why))?;
    if identity.role == Some(PeerRole::Hub) {
        return Ok(identity);
    }
    if identity.role.is_none() && identity.uris.is_empty() {
        // The proxy's own CA stands among our roots.
        let Refusal { reason, why } = intercepted(&identity);
        return Err(DialError::refused(
            reason,
            format!("{}: {why}", options.address),
        ));
    }
    Err(DialError::refused(
        "NOT_THE_HUB",
        format!(
            "{} answers with a certificate of our CA that is not the hub's ({}): check the address, and trust_domain on both sides",
            options.address,
            identity.uris.join(", ")
        ),
    ))
}

/// A channel over this one connection: when it ends, the link dials again, so
/// that every connection passes the checks above.
pub(super) async fn channel(
    stream: Watched,
    last_words: &LastWords,
    name: &str,
) -> Result<Channel, DialError> {
    let authority = if name.contains(':') {
        format!("[{name}]")
    } else {
        name.to_owned()
    };
    let uri = |scheme: &str| {
        format!("{scheme}://{authority}")
            .parse::<Uri>()
            .map_err(|error| DialError::refused("WRONG_NAME", format!("{name}: {error}")))
    };
    let endpoint = Endpoint::from(uri("http")?)
        .origin(uri("https")?)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(8 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    let once = Arc::new(std::sync::Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        async move {
            stream
                .map(TokioIo::new)
                .ok_or_else(|| io::Error::other("the connection has ended"))
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            last_words.explain().unwrap_or_else(|| {
                DialError::unreachable(format!("the connection to the hub ended: {error}"))
            })
        })
}
