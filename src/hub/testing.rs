//! Certificates for this room's tests.

use crate::{
    domain::{Micros, PartyId},
    identity::{
        Authority, Files, Lifetime, Material, PeerIdentity, Purpose, Subject, TrustDomain,
        write_new,
    },
    runtime::{Clock as _, SystemClock},
};

pub(super) fn now() -> Micros {
    Micros(SystemClock.now_micros())
}

pub(super) fn domain() -> TrustDomain {
    TrustDomain::parse("jembatan.example").unwrap()
}

pub(super) fn party(id: &str) -> PartyId {
    PartyId::parse(id).unwrap()
}

/// A CA in a directory of its own.
pub(super) struct Lab {
    pub(super) directory: tempfile::TempDir,
    pub(super) authority: Authority,
}

impl Lab {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::init(directory.path(), &domain(), now(), false).unwrap();
        Self {
            directory,
            authority,
        }
    }

    /// A fresh certificate; `with_crl`: its holder keeps the CA's list.
    pub(super) fn material(&self, subject: &Subject, with_crl: bool) -> Material {
        let issued = self
            .authority
            .issue(subject, Lifetime::days(now(), 30))
            .unwrap();
        let at = |name: &str| self.directory.path().join(name);
        write_new(&at("t.key"), &issued.key.unwrap(), true, true).unwrap();
        write_new(&at("t.pem"), &issued.certificate, false, true).unwrap();
        let files = Files {
            certificate: at("t.pem"),
            key: at("t.key"),
            roots: at("ca.pem"),
            crls: with_crl.then(|| at("crl.pem")).into_iter().collect(),
        };
        let purpose = match subject {
            Subject::Hub(_) => Purpose::Hub,
            Subject::Door(_) => panic!("a door has no link"),
            Subject::Party(party) => Purpose::Party(party.clone()),
        };
        Material::load(&files, &purpose, &domain(), now()).unwrap()
    }

    pub(super) fn party(&self, id: &str) -> PeerIdentity {
        let subject = Subject::Party(party(id));
        self.material(&subject, false).identity().clone()
    }

    pub(super) fn hub(&self) -> Material {
        self.material(&Subject::Hub(vec!["localhost".to_owned()]), true)
    }
}

/// A hub's.
pub(super) fn material() -> Material {
    Lab::new().hub()
}
