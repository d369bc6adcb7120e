//! Looks at the certificate files that settings name, as a node does when it
//! starts.

use crate::{
    config::{AdapterConfig, DoorConfig, HubConfig},
    identity::{
        CaFiles, DoorFiles, DoorMaterial, Files, IdentityError, Material, Purpose, Signer,
        TrustDomain,
    },
};

use super::now;

/// What a hub could not start with, or nobody could join with; a sentence each.
pub(super) fn of_hub(config: &HubConfig) -> anyhow::Result<Vec<String>> {
    let domain = TrustDomain::parse(&config.trust_domain)?;
    let files = Files {
        certificate: config.tls.certificate.clone(),
        key: config.tls.key.clone(),
        roots: config.tls.roots.clone(),
        crls: config.tls.crls.clone(),
    };
    let own = Material::load(&files, &Purpose::Hub, &domain, now()).map(drop);
    let mut wrong = Vec::new();
    wrong.extend(told("[tls]", own));
    if let Some((certificate, key)) = config.enrolment.ca() {
        let files = CaFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        // It may lie on a medium that is there only while somebody joins.
        if key.exists() {
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
        let files = Files {
            certificate: party.certificate.clone(),
            key: party.key.clone(),
            roots: config.tls.roots.clone(),
            crls: config.tls.crls.clone(),
        };
        let purpose = Purpose::Party(party.id.clone());
        let own = Material::load(&files, &purpose, &domain, now()).map(drop);
        wrong.extend(told(&format!("[[party]] {}", party.id), own));
    }
    wrong.extend(of_door(&config.door, &domain));
    Ok(wrong)
}

fn of_door(config: &DoorConfig, domain: &TrustDomain) -> Option<String> {
    let tls = config.tls.as_ref()?;
    let files = DoorFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
    };
    told(
        "[door.tls]",
        DoorMaterial::load(&files, domain, now()).map(drop),
    )
}

fn told(table: &str, outcome: Result<(), IdentityError>) -> Option<String> {
    let IdentityError { reason, why } = outcome.err()?;
    Some(format!("{table}: {reason}: {why}"))
}
