//! Looks at the certificate files that settings name, as a node does when it
//! starts.

use crate::{
    adapter::party_files,
    config::{AdapterConfig, DoorConfig, HubConfig},
    hub::{ca_files, own_files},
    identity::{DoorMaterial, IdentityError, Material, Purpose, Signer, TrustDomain},
    node::door_files,
};

use super::now;

/// What a hub could not start with, or nobody could join with; a sentence each.
pub(super) fn of_hub(config: &HubConfig) -> anyhow::Result<Vec<String>> {
    let domain = TrustDomain::parse(&config.trust_domain)?;
    let own = Material::load(&own_files(config), &Purpose::Hub, &domain, now()).map(drop);
    let mut wrong = Vec::new();
    wrong.extend(told("[tls]", own));
    if let Some(files) = ca_files(config) {
        // It may lie on a medium that is there only while somebody joins.
        if files.key.exists() {
            let ca = Signer::load(&files, &domain, now()).map(drop);
            wrong.extend(told("[enrolment]", ca));
        }
    }
    wrong.extend(of_door(&config.door, &domain));
    Ok(wrong)
}

/// What a party of an adapter would have no link with, or its doors could not be
/// opened with; a sentence each.
pub(super) fn of_adapter(config: &AdapterConfig) -> anyhow::Result<Vec<String>> {
    let domain = TrustDomain::parse(&config.trust_domain)?;
    let mut wrong = Vec::new();
    for party in &config.parties {
        let purpose = Purpose::Party(party.id.clone());
        let files = party_files(config, party);
        let own = Material::load(&files, &purpose, &domain, now()).map(drop);
        wrong.extend(told(&format!("[[party]] {}", party.id), own));
    }
    wrong.extend(of_door(&config.door, &domain));
    Ok(wrong)
}

fn of_door(config: &DoorConfig, domain: &TrustDomain) -> Option<String> {
    let tls = config.tls.as_ref()?;
    told(
        "[door.tls]",
        DoorMaterial::load(&door_files(tls), domain, now()).map(drop),
    )
}

fn told(table: &str, outcome: Result<(), IdentityError>) -> Option<String> {
    let IdentityError { reason, why } = outcome.err()?;
    Some(format!("{table}: {reason}: {why}"))
}
