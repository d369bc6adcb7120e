//! The certificates of a node, as health sees them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    health::{CertificateFor, CertificateHealth},
    identity::{DoorMaterial, Material, PeerIdentity, ReloadState},
};

/// One certificate in use, and how its reloading goes.
#[derive(Clone)]
pub struct CertificateWatch {
    name: String,
    serves: CertificateFor,
    identity: Arc<dyn Fn() -> Option<PeerIdentity> + Send + Sync>,
    reload: watch::Receiver<ReloadState>,
}

impl CertificateWatch {
    /// The certificate of a hub's links.
    pub fn of_links(
        name: impl Into<String>,
        material: watch::Receiver<Arc<Material>>,
        reload: watch::Receiver<ReloadState>,
    ) -> Self {
        Self {
            name: name.into(),
            serves: CertificateFor::Links,
            identity: Arc::new(move || Some(material.borrow().identity().clone())),
            reload,
        }
    }

    /// The certificate of a party's link, if there is one that can be used.
    pub fn of_party(
        name: impl Into<String>,
        identity: impl Fn() -> Option<PeerIdentity> + Send + Sync + 'static,
        reload: watch::Receiver<ReloadState>,
    ) -> Self {
        Self {
            name: name.into(),
            serves: CertificateFor::Links,
            identity: Arc::new(identity),
            reload,
        }
    }

    /// The certificate of the doors.
    pub fn of_doors(
        material: watch::Receiver<Arc<DoorMaterial>>,
        reload: watch::Receiver<ReloadState>,
    ) -> Self {
        Self {
            name: "door".to_owned(),
            serves: CertificateFor::Doors,
            identity: Arc::new(move || Some(material.borrow().identity().clone())),
            reload,
        }
    }

    /// How it stands now.
    pub fn read(&self) -> CertificateHealth {
        let identity = (self.identity)();
        let reload = self.reload.borrow().clone();
        CertificateHealth {
            name: self.name.clone(),
            serves: self.serves,
            lifetime: identity.map(|found| (found.not_before, found.not_after)),
            reloads: reload.reloads,
            reload_failures: reload.failures,
            renewals: reload.renewals,
            renewal_failures: reload.renewal_failures,
            last_error: reload.last_error,
        }
    }
}
