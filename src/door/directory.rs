//! The directory service of the hub's own door: institutions, parties, rules,
//! revocations.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    domain::{FieldError, Limits, Micros, PartyId, Policy},
    runtime::Clock,
    store::{HubStore, Registry},
    wire::{
        self,
        v1::{self, directory_service_server::DirectoryService},
    },
};

use super::DoorError;

/// Says whether a call may see and change the directory.
pub type MayOperate = Arc<dyn Fn(&MetadataMap) -> Result<(), Status> + Send + Sync>;

/// The service.
#[derive(Clone)]
pub struct DirectoryDoor {
    /// The hub's store.
    pub store: Arc<dyn HubStore>,
    /// Who may.
    pub may_operate: MayOperate,
    /// The hub's clock.
    pub clock: Arc<dyn Clock>,
    /// Announced numbers.
    pub policy: Policy,
    /// Announced numbers.
    pub limits: Limits,
}

impl DirectoryDoor {
    fn allow<T>(&self, request: Request<T>) -> Result<(T, Arc<Registry>), Status> {
        (self.may_operate)(request.metadata())?;
        let registry = self.store.registry().borrow().clone();
        Ok((request.into_inner(), registry))
    }
}

fn wrong(error: FieldError) -> Status {
    DoorError::Invalid(vec![error]).into()
}

#[tonic::async_trait]
impl DirectoryService for DirectoryDoor {
    async fn list_institutions(
        &self,
        request: Request<v1::ListInstitutionsRequest>,
    ) -> Result<Response<v1::ListInstitutionsResponse>, Status> {
        let (_, registry) = self.allow(request)?;
        let institutions = registry.directory.institutions.values();
        Ok(Response::new(v1::ListInstitutionsResponse {
            institutions: institutions.map(wire::institution_to_proto).collect(),
        }))
    }

    async fn put_institution(
        &self,
        request: Request<v1::PutInstitutionRequest>,
    ) -> Result<Response<v1::PutInstitutionResponse>, Status> {
        let (request, _) = self.allow(request)?;
        let institution = wire::institution_from_proto(request.institution).map_err(wrong)?;
        let answer = wire::institution_to_proto(&institution);
        self.store
            .put_institution(institution)
            .await
            .map_err(DoorError::from)?;
        Ok(Response::new(v1::PutInstitutionResponse {
            institution: Some(answer),
        }))
    }

    async fn list_parties(
        &self,
        request: Request<v1::ListPartiesRequest>,
    ) -> Result<Response<v1::ListPartiesResponse>, Status> {
        let (_, registry) = self.allow(request)?;
        let parties = registry.directory.parties.values();
        Ok(Response::new(v1::ListPartiesResponse {
            parties: parties.map(wire::party_to_proto).collect(),
        }))
    }

    async fn put_party(
        &self,
        request: Request<v1::PutPartyRequest>,
    ) -> Result<Response<v1::PutPartyResponse>, Status> {
        let (request, _) = self.allow(request)?;
        let party = wire::party_from_proto(request.party).map_err(wrong)?;
        let answer = wire::party_to_proto(&party);
        self.store.put_party(party).await.map_err(DoorError::from)?;
        Ok(Response::new(v1::PutPartyResponse {
            party: Some(answer),
        }))
    }

    async fn set_party_enabled(
        &self,
        request: Request<v1::SetPartyEnabledRequest>,
    ) -> Result<Response<v1::SetPartyEnabledResponse>, Status> {
        let (request, registry) = self.allow(request)?;
        let id = PartyId::parse(&request.party).map_err(wrong)?;
        let mut party = registry
            .directory
            .parties
            .get(&id)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("no party {id} is registered")))?;
        party.enabled = request.enabled;
        let answer = wire::party_to_proto(&party);
        self.store.put_party(party).await.map_err(DoorError::from)?;
        Ok(Response::new(v1::SetPartyEnabledResponse {
            party: Some(answer),
        }))
    }

    async fn revoke_certificate(
        &self,
        request: Request<v1::RevokeCertificateRequest>,
    ) -> Result<Response<v1::RevokeCertificateResponse>, Status> {
        let (request, _) = self.allow(request)?;
        let serial = request.serial.to_lowercase().replace(':', "");
        let serial = serial.trim_start_matches('0').to_owned();
        if serial.is_empty() || !serial.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(wrong(FieldError::new(
                "serial",
                "must be the serial number in hexadecimal, as `jembatan pki show` prints it",
            )));
        }
        let now = Micros(self.clock.now_micros());
        self.store
            .revoke(serial, request.note, now)
            .await
            .map_err(DoorError::from)?;
        Ok(Response::new(v1::RevokeCertificateResponse {}))
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let (_, registry) = self.allow(request)?;
        let directory = &registry.directory;
        Ok(Response::new(v1::GetPolicyResponse {
            categories: directory
                .categories
                .values()
                .map(wire::category_to_proto)
                .collect(),
            rules: directory.rules.iter().map(wire::rule_to_proto).collect(),
            max_hops: self.policy.max_hops,
            limits: Some(wire::limits_to_proto(&self.limits)),
            version: self.policy.version.clone(),
            effective_on: self.policy.effective_on.clone(),
            attachments_per_event: self.policy.attachments_per_event,
            attachment_bytes: self.policy.attachment_bytes,
        }))
    }
}
