//! Why TLS refused, in words that its own operator can act on.

use rustls::{AlertDescription, CertificateError, Error};

use super::{PeerIdentity, PeerRole};

/// A refusal, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For machines, for example `CERTIFICATE_EXPIRED`.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub why: String,
}

/// Explains a TLS error. `peer` names the other side, for example `the hub`.
pub fn refusal(error: &Error, peer: &str) -> Refusal {
    let (reason, why) = match error {
        Error::InvalidCertificate(certificate) => by_us(certificate, peer),
        Error::AlertReceived(alert) => by_peer(*alert, peer),
        Error::NoCertificatesPresented => (
            "NO_CERTIFICATE",
            format!("{peer} presented no certificate: configure one on its side"),
        ),
        Error::PeerIncompatible(_) => (
            "TLS_INCOMPATIBLE",
            format!(
                "{peer} does not speak TLS 1.3 as it is needed here: update its software ({error})"
            ),
        ),
        Error::InvalidMessage(_) => (
            "NOT_TLS",
            format!(
                "{peer} does not speak TLS (plain HTTP, or something else): check address and port on the side that dials"
            ),
        ),
        other => ("TLS_FAILED", format!("TLS with {peer} failed: {other}")),
    };
    Refusal { reason, why }
}

/// Why the hub refused a caller, with what its certificate claims to be.
pub fn refused_caller(error: &Error, claimed: Option<&PeerIdentity>) -> Refusal {
    let Some(claimed) = claimed else {
        return refusal(error, "a caller");
    };
    let name = match claimed.uris.as_slice() {
        [] => "nobody".to_owned(),
        uris => quoted(&uris.join(", ")),
    };
    refusal(
        error,
        &format!(
            "a caller (it names {name}, serial {}, issued by {})",
            claimed.serial,
            quoted(&claimed.issuer)
        ),
    )
}

/// Why a node refused the hub. A certificate that neither comes from our CA
/// nor carries the hub's name was made by somebody in between: a proxy that
/// opens TLS makes its own for every site.
pub fn refused_hub(
    error: &Error,
    claimed: Option<&PeerIdentity>,
    root_names: &[String],
) -> Refusal {
    let found = refusal(error, "the hub");
    let Some(claimed) = claimed.filter(|_| found.reason == "UNKNOWN_CA") else {
        return found;
    };
    let is_a_hub = claimed.role == Some(PeerRole::Hub);
    if is_a_hub || root_names.contains(&claimed.issuer) {
        return Refusal {
            reason: found.reason,
            why: format!(
                "{} (it was issued by {})",
                found.why,
                quoted(&claimed.issuer)
            ),
        };
    }
    intercepted(claimed)
}

/// A certificate that has no name of ours.
pub fn intercepted(claimed: &PeerIdentity) -> Refusal {
    Refusal {
        reason: "INTERCEPTED",
        why: format!(
            "what answers shows a certificate issued by {} that is not a hub's: most likely a firewall or proxy on the way opens TLS, which can't work here; have the hub's address excepted from inspection. If there is none, the address is another site's",
            quoted(&claimed.issuer)
        ),
    }
}

/// A text of a certificate that nobody has verified: what it holds must not
/// break a log line.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    format!("{short:?}")
}

/// We refused the peer's certificate.
fn by_us(error: &CertificateError, peer: &str) -> (&'static str, String) {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "CERTIFICATE_EXPIRED",
            format!(
                "the certificate of {peer} has expired: it needs a new one; if it has one, check this machine's clock"
            ),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "CERTIFICATE_NOT_YET_VALID",
            format!(
                "the certificate of {peer} is not valid yet: check this machine's clock, then the other side's"
            ),
        ),
        // A CA of the same name with another key gives BadSignature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "UNKNOWN_CA",
            format!(
                "the certificate of {peer} comes from a CA that is not among our roots: check `roots`, and whether both sides use the same CA"
            ),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "WRONG_NAME",
            format!(
                "the certificate of {peer} is for another name: check the address and the name that are configured"
            ),
        ),
        CertificateError::Revoked => (
            "CERTIFICATE_REVOKED",
            format!("the certificate of {peer} has been revoked"),
        ),
        CertificateError::UnknownRevocationStatus => (
            "REVOCATION_UNKNOWN",
            format!(
                "no CRL covers the certificate of {peer}: give the CRL of its CA, or none at all"
            ),
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
            "WRONG_PURPOSE",
            format!(
                "the certificate of {peer} is not meant for this side of a TLS connection (extended key usage)"
            ),
        ),
        other => (
            "CERTIFICATE_REFUSED",
            format!("the certificate of {peer} was refused: {other:?}"),
        ),
    }
}

/// The peer refused ours; all that it says is an alert.
fn by_peer(alert: AlertDescription, peer: &str) -> (&'static str, String) {
    match alert {
        AlertDescription::CertificateExpired => (
            "OWN_CERTIFICATE_EXPIRED",
            format!(
                "{peer} says that our certificate is not valid at this time: renew it; if it is new, check this machine's clock"
            ),
        ),
        AlertDescription::CertificateRevoked => (
            "OWN_CERTIFICATE_REVOKED",
            format!(
                "{peer} says that our certificate has been revoked: ask the hub's operator, then use a new key and certificate"
            ),
        ),
        AlertDescription::UnknownCA => (
            "OWN_CA_UNKNOWN",
            format!(
                "{peer} does not know the CA of our certificate: it must come from the CA that the hub trusts"
            ),
        ),
        AlertDescription::CertificateRequired => (
            "NO_CERTIFICATE",
            format!("{peer} wants a certificate and got none: configure certificate and key"),
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => (
            "OWN_CERTIFICATE_REFUSED",
            format!(
                "{peer} refused our certificate ({alert:?}): ask the hub's operator, whose log says why"
            ),
        ),
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::NoApplicationProtocol => (
            "TLS_INCOMPATIBLE",
            format!(
                "{peer} and this side have no version or mode of TLS in common ({alert:?}): both need TLS 1.3 and HTTP/2; a proxy that opens TLS may be the cause"
            ),
        ),
        other => (
            "TLS_FAILED",
            format!("{peer} ended TLS with the alert {other:?}"),
        ),
    }
}
