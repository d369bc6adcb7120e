//! Institutions, parties, categories and rules.

use crate::domain::{
    Category, CategoryCode, FieldError, Institution, InstitutionCode, Party, PartyId, RegionCode,
    RoutingRule,
};

use super::{
    header::institution as code_text,
    scalar::{Parsed, optional_id, optional_value, party_mode_from, party_mode_to, text_id},
    v1,
};

/// A party on the wire.
pub fn party_to_proto(party: &Party) -> v1::Party {
    v1::Party {
        id: party.id.as_str().to_owned(),
        name: party.name.clone(),
        mode: party_mode_to(party.mode),
        enabled: party.enabled,
        certificate_fingerprints: party.certificate_fingerprints.clone(),
        observes_all: party.observes_all,
        observes_institutions: party
            .observes_institutions
            .iter()
            .map(|code| code.as_str().to_owned())
            .collect(),
    }
}

/// A party from the wire.
///
/// # Errors
/// Names the field.
pub fn party_from_proto(party: Option<v1::Party>) -> Parsed<Party> {
    let party = party.ok_or_else(|| FieldError::new("party", "is missing"))?;
    let v1::Party {
        id,
        name,
        mode,
        enabled,
        certificate_fingerprints,
        observes_all,
        observes_institutions,
    } = party;
    for fingerprint in &certificate_fingerprints {
        let is_hex = fingerprint.len() == 64
            && fingerprint
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        if !is_hex {
            return Err(FieldError::new(
                "party.certificate_fingerprints",
                "a SHA-256 fingerprint is 64 lower-case hexadecimal digits",
            ));
        }
    }
    Ok(Party {
        id: text_id("party.id", &id, PartyId::parse)?,
        name,
        mode: optional_value("party.mode", mode, party_mode_from)?.unwrap_or_default(),
        enabled,
        certificate_fingerprints,
        observes_all,
        observes_institutions: observes_institutions
            .iter()
            .map(|code| text_id("party.observes_institutions", code, InstitutionCode::parse))
            .collect::<Result<_, _>>()?,
    })
}

/// An institution on the wire.
pub fn institution_to_proto(institution: &Institution) -> v1::Institution {
    v1::Institution {
        code: institution.code.as_str().to_owned(),
        name: institution.name.clone(),
        parent: code_text(institution.parent.as_ref()),
        party: institution.party.as_str().to_owned(),
        region: institution
            .region
            .as_ref()
            .map_or("", |code| code.as_str())
            .to_owned(),
        disabled: !institution.enabled,
    }
}

/// An institution from the wire.
///
/// # Errors
/// Names the field.
pub fn institution_from_proto(institution: Option<v1::Institution>) -> Parsed<Institution> {
    let institution = institution.ok_or_else(|| FieldError::new("institution", "is missing"))?;
    let v1::Institution {
        code,
        name,
        parent,
        party,
        region,
        disabled,
    } = institution;
    Ok(Institution {
        code: text_id("institution.code", &code, InstitutionCode::parse)?,
        name,
        parent: optional_id("institution.parent", &parent, InstitutionCode::parse)?,
        party: text_id("institution.party", &party, PartyId::parse)?,
        region: optional_id("institution.region", &region, RegionCode::parse)?,
        enabled: !disabled,
    })
}

/// A category on the wire.
pub fn category_to_proto(category: &Category) -> v1::Category {
    v1::Category {
        code: category.code.as_str().to_owned(),
        name: category.name.clone(),
    }
}

/// A routing rule on the wire.
pub fn rule_to_proto(rule: &RoutingRule) -> v1::RoutingRule {
    v1::RoutingRule {
        region: rule
            .region
            .as_ref()
            .map_or("", RegionCode::as_str)
            .to_owned(),
        category: rule
            .category
            .as_ref()
            .map_or("", CategoryCode::as_str)
            .to_owned(),
        institution: rule.institution.as_str().to_owned(),
    }
}
