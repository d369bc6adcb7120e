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
    identity: Arc<dyn Fn() -> PeerIdentity + Send + Sync>,
    reload: watch::Receiver<ReloadState>,
}

impl CertificateWatch {
    /// A certificate of links: `hub`, or a party's id.
    pub fn of_links(
        name: impl Into<String>,
        material: watch::Receiver<Arc<Material>>,
        reload: watch::Receiver<ReloadState>,
    ) -> Self {
        Self {
            name: name.into(),
            serves: CertificateFor::Links,
            identity: Arc::new(move || material.borrow().identity().clone()),
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
            identity: Arc::new(move || material.borrow().identity().clone()),
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
            not_before: identity.not_before,
            not_after: identity.not_after,
            reloads: reload.reloads,
            reload_failures: reload.failures,
            last_error: reload.last_error,
        }
    }
}
