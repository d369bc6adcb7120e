//! Dials the hub: TCP (through an HTTP CONNECT proxy where there is one), TLS,
//! and whether it is the hub that answers.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::identity::{Material, PeerIdentity, PeerRole, TrustDomain, refusal};

/// Largest answer of a proxy that is read.
const PROXY_ANSWER_BYTES: u64 = 16 * 1024;

/// Whom to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// `host:port` of the hub.
    pub address: String,
    /// The name that its certificate must have.
    pub name: String,
    /// `host:port` of an HTTP proxy.
    pub proxy: Option<String>,
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
    fn unreachable(why: String) -> Self {
        Self {
            reason: "HUB_UNREACHABLE",
            why,
            needs_a_person: false,
        }
    }

    fn refused(reason: &'static str, why: impl Into<String>) -> Self {
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
    let connecting = connect(options, material);
    let stream = timeout(options.connect_timeout, connecting)
        .await
        .map_err(|_| {
            DialError::unreachable(format!(
                "the hub at {} did not answer within {} s: check the address, the line and firewalls",
                options.address,
                options.connect_timeout.as_secs()
            ))
        })??;
    let hub = check_hub(&stream, options, trust_domain)?;
    let channel = channel(stream, &options.name).await?;
    Ok(Dialed { channel, hub })
}

async fn connect(
    options: &DialOptions,
    material: &Material,
) -> Result<TlsStream<TcpStream>, DialError> {
    let config = material
        .client_config()
        .map_err(|error| DialError::refused(error.reason, error.why))?;
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
        None => tcp(&options.address, "hub").await?,
        Some(proxy) => through_proxy(proxy, &options.address).await?,
    };
    let _ = stream.set_nodelay(true);
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| tls_error(&error, options))
}

async fn tcp(address: &str, whose: &str) -> Result<TcpStream, DialError> {
    TcpStream::connect(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => "nothing listens there: is it running?",
            _ => "check the address, the line and firewalls",
        };
        DialError::unreachable(format!(
            "the {whose} at {address} can't be reached ({error}): {hint}"
        ))
    })
}

async fn through_proxy(proxy: &str, target: &str) -> Result<TcpStream, DialError> {
    use tokio::io::AsyncReadExt as _;
    let mut stream = tcp(proxy, "proxy").await?;
    let failed = |error: io::Error| {
        DialError::unreachable(format!("the proxy {proxy} ended the connection: {error}"))
    };
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut reader = BufReader::with_capacity(1, (&mut stream).take(PROXY_ANSWER_BYTES));
    let mut status = String::new();
    reader.read_line(&mut status).await.map_err(failed)?;
    loop {
        let mut header = String::new();
        let read = reader.read_line(&mut header).await.map_err(failed)?;
        if read == 0 || header == "\r\n" || header == "\n" {
            break;
        }
    }
    let is_good = status.split(' ').nth(1).is_some_and(|code| code == "200");
    if !is_good {
        return Err(DialError::refused(
            "PROXY_REFUSED",
            format!(
                "the proxy {proxy} does not connect to {target}: {}",
                status.trim()
            ),
        ));
    }
    Ok(stream)
}

fn tls_error(error: &io::Error, options: &DialOptions) -> DialError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(error) = inner else {
        return DialError::unreachable(format!(
            "the connection to {} ended during TLS ({error}): a firewall or a full hub may do that",
            options.address
        ));
    };
    let found = refusal(error, "the hub");
    if found.reason == "UNKNOWN_CA" {
        return DialError::refused(
            "UNKNOWN_CA",
            format!(
                "{}; if a firewall in between opens TLS (an intercepting proxy), it must let {} through untouched",
                found.why, options.address
            ),
        );
    }
    DialError::refused(found.reason, found.why)
}

fn check_hub(
    stream: &TlsStream<TcpStream>,
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
async fn channel(stream: TlsStream<TcpStream>, name: &str) -> Result<Channel, DialError> {
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
            explain(&error).unwrap_or_else(|| {
                DialError::unreachable(format!("the connection to the hub ended: {error}"))
            })
        })
}

/// With TLS 1.3 a hub's refusal of our certificate arrives as an alert after
/// the handshake: finds it among the causes of an error.
pub fn explain(error: &(dyn StdError + 'static)) -> Option<DialError> {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if let Some(tls) = found.downcast_ref::<rustls::Error>() {
            let found = refusal(tls, "the hub");
            return Some(DialError::refused(found.reason, found.why));
        }
        if let Some(io) = found.downcast_ref::<io::Error>()
            && let Some(inner) = io.get_ref()
            && let Some(tls) = inner.downcast_ref::<rustls::Error>()
        {
            let found = refusal(tls, "the hub");
            return Some(DialError::refused(found.reason, found.why));
        }
        cause = found.source();
    }
    None
}
