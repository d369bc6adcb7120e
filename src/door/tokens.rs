//! Who comes in at a node's own door: by token, or, where none is configured,
//! whoever is on this machine.

use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;

use crate::domain::PartyId;

use super::{Access, Caller, DoorError, Scope};

/// A token and what it opens; the token itself stands nowhere.
#[derive(Debug, Clone)]
pub struct TokenRule {
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// Who it is.
    pub caller: Caller,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// Access to a node's own door.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// Tokens; empty: nobody needs one.
    pub rules: Vec<TokenRule>,
    /// The parties behind this door, for callers without a token.
    pub parties: Vec<Caller>,
}

/// The header by which a caller without a token names the party that it means,
/// where a node serves several.
pub const PARTY_HEADER: &str = "x-jembatan-party";

impl Tokens {
    /// Who calls, by the text of `authorization` and of [`PARTY_HEADER`].
    ///
    /// # Errors
    /// No token where one is needed, an unknown one, or one that does not
    /// open this.
    pub fn resolve(
        &self,
        authorization: Option<&str>,
        party: Option<&str>,
        scope: Scope,
    ) -> Result<Caller, DoorError> {
        if self.rules.is_empty() {
            return self.by_party(party);
        }
        let token = authorization
            .and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme
                    .eq_ignore_ascii_case("bearer")
                    .then_some(token.trim())
            })
            .ok_or_else(|| {
                DoorError::Unauthenticated(
                    "a token is needed: send the header Authorization: Bearer <token>".to_owned(),
                )
            })?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        // Digests of secrets are compared, not secrets: timing tells nothing.
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.sha256 == digest)
            .ok_or_else(|| DoorError::Unauthenticated("this token is not known here".to_owned()))?;
        if !rule.scopes.contains(&scope) {
            return Err(DoorError::Forbidden(format!(
                "this token is not for that: it lacks the scope {scope:?}"
            )));
        }
        Ok(rule.caller.clone())
    }

    fn by_party(&self, party: Option<&str>) -> Result<Caller, DoorError> {
        let wanted = party
            .map(PartyId::parse)
            .transpose()
            .map_err(|error| DoorError::Invalid(vec![error]))?;
        let found = match &wanted {
            Some(wanted) => self.parties.iter().find(|caller| &caller.party == wanted),
            None if self.parties.len() == 1 => self.parties.first(),
            None => {
                return Err(DoorError::invalid(
                    "party",
                    &format!(
                        "this node serves {} parties: say which one with the header {PARTY_HEADER}",
                        self.parties.len()
                    ),
                ));
            }
        };
        found.cloned().ok_or_else(|| {
            DoorError::Forbidden("that party does not stand behind this door".to_owned())
        })
    }
}

impl Access for Tokens {
    fn caller(
        &self,
        metadata: &MetadataMap,
        _extensions: &http::Extensions,
        scope: Scope,
    ) -> Result<Caller, DoorError> {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        self.resolve(text("authorization"), text(PARTY_HEADER), scope)
    }
}
