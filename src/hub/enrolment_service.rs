//! The enrolment service of the mutual-TLS port: for visitors a server of their
//! own with nothing beside it, for parties beside what else they call. Which of
//! the two somebody is the connection says, by its type.

use std::{io, time::Duration};

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};

use crate::{
    transport::{PeerInfo, Visitor, VisitorInfo},
    wire::v1::{
        self,
        enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
    },
};

use super::enrolment::Enrolment;

/// Largest call of a visitor: a code and a signing request.
const JOIN_BYTES: usize = 32 * 1024;
/// Longest call of a visitor.
const LONGEST_CALL: Duration = Duration::from_secs(15);

/// Serves whoever has no certificate: joining, and nothing beside it.
pub(super) async fn serve_visitors(
    visitors: ReceiverStream<io::Result<Visitor>>,
    enrolment: Enrolment,
    stop: CancellationToken,
) {
    let service = EnrolmentServiceServer::new(enrolment).max_decoding_message_size(JOIN_BYTES);
    let served = Server::builder()
        .timeout(LONGEST_CALL)
        .max_concurrent_streams(1)
        .add_service(service)
        .serve_with_incoming(visitors);
    // A visit that is cut is begun again: nothing to drain.
    tokio::select! {
        () = stop.cancelled() => {}
        served = served => if let Err(error) = served {
            tracing::error!(event = "visitors_failed", %error);
        }
    }
}

fn elsewhere(place: &str) -> Status {
    Status::unimplemented(format!("this is served {place}"))
}

const AT_THE_DOOR: &str = "at the hub's own door only";

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let visitor = request.extensions().get::<VisitorInfo>().copied();
        let visitor = visitor.ok_or_else(|| {
            elsewhere("on connections without certificate; whoever has one renews it")
        })?;
        let joined = Self::join(self, request.into_inner(), visitor).await?;
        Ok(Response::new(joined))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let peer = request.extensions().get::<PeerInfo>().cloned();
        let peer = peer.ok_or_else(|| elsewhere("over mutual TLS only"))?;
        let renewed = Self::renew(self, request.into_inner(), peer).await?;
        Ok(Response::new(renewed))
    }

    async fn invite(
        &self,
        _: Request<v1::InviteRequest>,
    ) -> Result<Response<v1::InviteResponse>, Status> {
        Err(elsewhere(AT_THE_DOOR))
    }

    async fn list_invitations(
        &self,
        _: Request<v1::ListInvitationsRequest>,
    ) -> Result<Response<v1::ListInvitationsResponse>, Status> {
        Err(elsewhere(AT_THE_DOOR))
    }

    async fn revoke_invitation(
        &self,
        _: Request<v1::RevokeInvitationRequest>,
    ) -> Result<Response<v1::RevokeInvitationResponse>, Status> {
        Err(elsewhere(AT_THE_DOOR))
    }

    async fn list_certificates(
        &self,
        _: Request<v1::ListCertificatesRequest>,
    ) -> Result<Response<v1::ListCertificatesResponse>, Status> {
        Err(elsewhere(AT_THE_DOOR))
    }
}
