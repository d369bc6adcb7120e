//! Asks the hub for the certificate, and whether it lets us in with it.

use std::time::Duration;

use anyhow::Context as _;
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::{
    domain::InvitationLine,
    identity::{Material, TrustDomain},
    link::{LinkEnd, admit},
    transport::{DialError, DialOptions, Visit, dial, visit},
    wire::v1::{self, enrolment_service_client::EnrolmentServiceClient},
};

/// Longest wait for a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(15);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Trades code and request for a certificate, at the first address that
/// answers. A lost answer is asked for again at the next one: the hub takes the
/// same code from the same key.
pub(super) async fn ask(
    ways: &[DialOptions],
    line: &InvitationLine,
    signing_request: Vec<u8>,
) -> anyhow::Result<(v1::JoinResponse, TrustDomain)> {
    let mut failures = Failures::default();
    for way in ways {
        let Visit {
            channel,
            trust_domain,
            last_words,
        } = match visit(way, &line.root).await {
            Ok(found) => found,
            Err(error) => {
                failures.note(error);
                continue;
            }
        };
        let mut request = Request::new(v1::JoinRequest {
            code: line.code.reveal(),
            signing_request: signing_request.clone().into(),
            party: line.party.to_string(),
        });
        request.set_timeout(ANSWER);
        let status = match EnrolmentServiceClient::new(channel).join(request).await {
            Ok(answer) => return Ok((answer.into_inner(), trust_domain)),
            Err(status) => status,
        };
        if is_final(&status) {
            return Err(told(&status));
        }
        failures.note(last_words.explain().unwrap_or_else(|| DialError {
            reason: "ANSWER_LOST",
            why: format!(
                "{}: the answer was lost ({}); the hub may have signed already, which costs nothing: run the same line again",
                way.address,
                status.message()
            ),
            needs_a_person: false,
        }));
    }
    Err(failures.into_error())
}

/// Whether the hub lets this node in with its new certificate: it says so
/// before the first frame of a session, and a session that runs is not
/// disturbed.
pub(super) async fn try_out(
    ways: &[DialOptions],
    material: &Material,
    trust_domain: &TrustDomain,
    is_unary: bool,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for way in ways {
        let dialed = match dial(way, material, trust_domain).await {
            Ok(dialed) => dialed,
            Err(error) => {
                failures.note(error);
                continue;
            }
        };
        let channel = dialed.channel.clone();
        let outcome = match is_unary {
            true => HealthClient::new(channel)
                .check(HealthCheckRequest::default())
                .await
                .map(drop),
            false => match admit(channel).await {
                Ok(_) => Ok(()),
                Err(LinkEnd::Status(status)) => Err(*status),
                Err(_) => Err(Status::unavailable("the connection ended")),
            },
        };
        let status = match outcome {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        match dialed.last_words.explain() {
            Some(error) => failures.note(error),
            None if is_final(&status) => return Err(told(&status)),
            None => failures.note(DialError {
                reason: "HUB_UNREACHABLE",
                why: format!("{}: {}", way.address, status.message()),
                needs_a_person: false,
            }),
        }
    }
    Err(failures.into_error()).context(
        "the certificate is there, and the hub could not be reached with it; run the same line again",
    )
}

/// Whether the hub has judged, so that asking again is useless.
fn is_final(status: &Status) -> bool {
    let has_reason = status.get_error_details().error_info().is_some();
    has_reason
        || matches!(
            status.code(),
            Code::InvalidArgument
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::Unimplemented
        )
}

fn told(status: &Status) -> anyhow::Error {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("REFUSED", |info| &info.reason);
    let wait = details.retry_info().and_then(|info| info.retry_delay);
    let wait = wait.map_or(String::new(), |wait| {
        format!(" (for {} s)", wait.as_secs() + 1)
    });
    anyhow::anyhow!("{reason}: {}{wait}", status.message())
}

/// Of several addresses what needs a person is told first, then the last.
#[derive(Default)]
struct Failures(Option<DialError>);

impl Failures {
    fn note(&mut self, error: DialError) {
        let is_worse =
            error.needs_a_person || self.0.as_ref().is_none_or(|worst| !worst.needs_a_person);
        if is_worse {
            self.0 = Some(error);
        }
    }

    fn into_error(self) -> anyhow::Error {
        match self.0 {
            Some(error) => anyhow::anyhow!("{}: {}", error.reason, error.why),
            None => anyhow::anyhow!("the line names no address of the hub"),
        }
    }
}
