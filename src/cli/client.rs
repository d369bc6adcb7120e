//! Calls a node's own door.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    door::PARTY_HEADER,
    transport::dial_door,
    wire::v1::{
        dead_letter_service_client::DeadLetterServiceClient,
        directory_service_client::DirectoryServiceClient,
        enrolment_service_client::EnrolmentServiceClient,
        gateway_service_client::GatewayServiceClient,
        sync_health_service_client::SyncHealthServiceClient,
    },
};

/// Where the door is, and who calls.
#[derive(Debug, Clone, Args)]
pub(super) struct DoorArgs {
    /// gRPC address of the node's door: host:port, unix:/path, https://host:port
    #[arg(long, env = "JEMBATAN_DOOR", default_value = "127.0.0.1:7070")]
    pub(super) door: String,
    /// CA certificate (PEM) of a door at https://
    #[arg(long, env = "JEMBATAN_DOOR_CA", value_name = "FILE")]
    pub(super) door_ca: Option<PathBuf>,
    /// Token of the local system, if the door wants one
    #[arg(long, env = "JEMBATAN_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// The party, where a node serves several
    #[arg(long, env = "JEMBATAN_PARTY")]
    pub(super) party: Option<String>,
}

/// Adds token and party to every call.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    token: Option<MetadataValue<tonic::metadata::Ascii>>,
    party: Option<MetadataValue<tonic::metadata::Ascii>>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        if let Some(party) = &self.party {
            request.metadata_mut().insert(PARTY_HEADER, party.clone());
        }
        Ok(request)
    }
}

pub(super) type Service = InterceptedService<Channel, Credentials>;
pub(super) type Gateway = GatewayServiceClient<Service>;
pub(super) type Health = SyncHealthServiceClient<Service>;
pub(super) type Letters = DeadLetterServiceClient<Service>;
pub(super) type Directory = DirectoryServiceClient<Service>;
pub(super) type Enrolment = EnrolmentServiceClient<Service>;

impl DoorArgs {
    /// A door without token.
    pub(super) fn at(door: impl ToString) -> Self {
        Self {
            door: door.to_string(),
            door_ca: None,
            token: None,
            party: None,
        }
    }

    async fn service(&self) -> anyhow::Result<Service> {
        let channel = dial_door(&self.door, self.door_ca.as_deref())
            .await
            .map_err(|why| match why.starts_with("https needs") {
                true => anyhow::anyhow!("{why}: say --door-ca FILE"),
                false => anyhow::anyhow!(why),
            })?;
        let token = self
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}").parse())
            .transpose()
            .context("the token is not ASCII")?;
        let party = self
            .party
            .as_ref()
            .map(|party| party.parse())
            .transpose()
            .context("the party is not ASCII")?;
        Ok(InterceptedService::new(
            channel,
            Credentials { token, party },
        ))
    }

    pub(super) async fn gateway(&self) -> anyhow::Result<Gateway> {
        Ok(GatewayServiceClient::new(self.service().await?)
            .max_decoding_message_size(64 * 1024 * 1024))
    }

    pub(super) async fn health(&self) -> anyhow::Result<Health> {
        Ok(SyncHealthServiceClient::new(self.service().await?))
    }

    pub(super) async fn letters(&self) -> anyhow::Result<Letters> {
        Ok(DeadLetterServiceClient::new(self.service().await?)
            .max_decoding_message_size(64 * 1024 * 1024))
    }

    pub(super) async fn directory(&self) -> anyhow::Result<Directory> {
        Ok(DirectoryServiceClient::new(self.service().await?))
    }

    pub(super) async fn enrolment(&self) -> anyhow::Result<Enrolment> {
        Ok(EnrolmentServiceClient::new(self.service().await?))
    }
}

/// A refusal in words.
pub(super) fn refused(status: Status) -> anyhow::Error {
    // What answered speaks HTTP and no gRPC: its page was read as a message.
    if status.code() == tonic::Code::Internal
        && status.message().contains("invalid compression flag")
    {
        return anyhow::anyhow!("this is no gRPC door: is it the [door] http address?");
    }
    anyhow::anyhow!("{} ({:?})", status.message(), status.code())
}
