//! Renewing a certificate over the connection of a live link.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::wire::v1::{self, enrolment_service_client::EnrolmentServiceClient};

/// Longest wait for the hub's answer.
const ANSWERED: Duration = Duration::from_secs(30);

/// Why there is no new certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// This hub does not renew this certificate: somebody else has to, as ever.
    #[error("{0}")]
    NotHere(String),
    /// Not now.
    #[error("{why}")]
    Failed {
        /// What the hub said.
        why: String,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
}

/// Asks the hub to sign a request (PKCS #10, DER) over this connection; the new
/// chain, leaf first, DER.
///
/// # Errors
/// Why it does not.
pub async fn renew_certificate(
    channel: Channel,
    signing_request: Vec<u8>,
) -> Result<Vec<Vec<u8>>, RenewError> {
    let request = v1::RenewRequest {
        signing_request: signing_request.into(),
    };
    let mut client = EnrolmentServiceClient::new(channel);
    match timeout(ANSWERED, client.renew(request)).await {
        Ok(Ok(answer)) => {
            let v1::RenewResponse {
                certificate_chain,
                // Trust in roots is changed by people only.
                roots: _,
            } = answer.into_inner();
            Ok(certificate_chain.iter().map(|der| der.to_vec()).collect())
        }
        Ok(Err(status)) => Err(refused(&status)),
        Err(_) => Err(RenewError::Failed {
            why: "the hub did not answer in time".to_owned(),
            wait: None,
        }),
    }
}

fn refused(status: &Status) -> RenewError {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let why = status.message().to_owned();
    // A hub before this service answers UNIMPLEMENTED.
    let is_never = matches!(reason, "ENROLMENT_OFF" | "NOT_FROM_ENROLMENT")
        || status.code() == Code::Unimplemented;
    match is_never {
        true => RenewError::NotHere(why),
        false => RenewError::Failed {
            why,
            wait: details.retry_info().and_then(|info| info.retry_delay),
        },
    }
}
