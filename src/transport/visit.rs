//! Dials a hub without a certificate, to join: the hub is known by the
//! fingerprint of its root, and by nothing else.

use std::io;

use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;

use crate::{
    domain::Digest,
    identity::{Presented, TrustDomain, hub_domain, refusal, visitor_client_config},
};

use super::{
    DialError, DialOptions, LastWords,
    dialer::{channel, in_time, reach_hub},
    network::{Stream, Tcp},
    watched::Watched,
};

/// A connection on which one can join.
#[derive(Debug)]
pub struct Visit {
    /// For gRPC.
    pub channel: Channel,
    /// The trust domain of the hub's certificate.
    pub trust_domain: TrustDomain,
    /// How the connection ended, once it has.
    pub last_words: LastWords,
}

/// Dials the hub whose root has this fingerprint.
///
/// # Errors
/// Why not, in words for whoever joins.
pub async fn visit(options: &DialOptions, root: &Digest) -> Result<Visit, DialError> {
    let stream = in_time(options, connect(options, root)).await?;
    let leaf = stream.get_ref().1.peer_certificates();
    let leaf = leaf.and_then(|chain| chain.first());
    let domain = match leaf.map(hub_domain) {
        Some(Ok(domain)) => domain,
        _ => None,
    };
    let trust_domain = domain.ok_or_else(|| {
        DialError::refused(
            "NOT_THE_HUB",
            format!(
                "{} answers with a certificate under the right root that is not a hub's: ask the hub's operator for a new line",
                options.address
            ),
        )
    })?;
    let (stream, last_words) = Watched::new(stream);
    let channel = channel(stream, &last_words, &options.name).await?;
    Ok(Visit {
        channel,
        trust_domain,
        last_words,
    })
}

async fn connect(options: &DialOptions, root: &Digest) -> Result<TlsStream<Stream>, DialError> {
    let (config, presented) =
        visitor_client_config(root).map_err(|error| DialError::refused(error.reason, error.why))?;
    let (stream, name) = reach_hub(&Tcp, options).await?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| explain(&error, options, &presented))
}

fn explain(error: &io::Error, options: &DialOptions, presented: &Presented) -> DialError {
    let address = &options.address;
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        return DialError::unreachable(format!(
            "the connection to {address} ended during TLS ({error}): a firewall or a full hub may do that"
        ));
    };
    if matches!(
        tls,
        rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
    ) {
        return DialError::refused(
            "ENROLMENT_OFF",
            format!(
                "{address} is reached, but nobody can join there: the hub's operator has to switch [enrolment] on, or its software is older"
            ),
        );
    }
    let found = refusal(tls, "the hub");
    if found.reason != "UNKNOWN_CA" {
        return DialError::refused(found.reason, format!("{address}: {}", found.why));
    }
    let issuer = presented.issuer().unwrap_or_default();
    DialError::refused(
        "FINGERPRINT_MISMATCH",
        format!(
            "what answers at {address} is not the hub of this line (its certificate was issued by {issuer:?}, and the root that the line names is not above it): either something on the way opens TLS (a firewall or proxy that inspects; have the address excepted), or another hub stands there, or the line is not the one that the hub's operator sent. Nothing was told to it, the code neither"
        ),
    )
}
