//! A party's certificate at an adapter. Parties of one node have nothing to do
//! with each other's files: while one has none that can be used, its link
//! stands as refused, and doors and the other links run.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Micros, PartyId},
    identity::{
        Files, IdentityError, Material, Purpose, ReloadState, TrustDomain, finish_install,
        watch_files,
    },
    link::{LinkState, Phase},
    node::CertificateWatch,
    runtime::Clock,
};

/// How often certificate files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// The set in use, once there is one; it may be exchanged for a newer one.
type InUse = Option<watch::Receiver<Arc<Material>>>;

/// Where a party's files are, and who is told of them.
pub(super) struct PartyCertificate {
    pub(super) party: PartyId,
    pub(super) files: Files,
    pub(super) trust_domain: TrustDomain,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) link: Arc<watch::Sender<LinkState>>,
    in_use: watch::Sender<InUse>,
    newest: Option<watch::Sender<Arc<Material>>>,
    state: watch::Sender<ReloadState>,
}

impl PartyCertificate {
    /// Loads the files, if they can be used now.
    pub(super) fn begin(
        party: PartyId,
        files: Files,
        trust_domain: TrustDomain,
        clock: Arc<dyn Clock>,
        link: Arc<watch::Sender<LinkState>>,
    ) -> Self {
        let mut begun = Self {
            party,
            files,
            trust_domain,
            clock,
            link,
            in_use: watch::channel(None).0,
            newest: None,
            state: watch::channel(ReloadState::default()).0,
        };
        // A renewal that a crash has cut; what is in place is loaded anyway.
        let purpose = Purpose::Party(begun.party.clone());
        let now = Micros(begun.clock.now_micros());
        if let Err(error) = finish_install(&begun.files, &purpose, &begun.trust_domain, now) {
            tracing::error!(event = "renewal_not_finished", party = %begun.party, reason = error.reason, why = %error.why);
        }
        begun.load();
        begun
    }

    /// As health sees it.
    pub(super) fn shown(&self) -> CertificateWatch {
        let in_use = self.in_use.subscribe();
        CertificateWatch::of_party(
            self.party.as_str(),
            move || {
                let material = in_use.borrow();
                let identity = material.as_ref()?.borrow().identity().clone();
                Some(identity)
            },
            self.reloads(),
        )
    }

    /// How its reloading goes.
    pub(super) fn reloads(&self) -> watch::Receiver<ReloadState> {
        self.state.subscribe()
    }

    /// Tells how its reloading goes, and its renewing.
    pub(super) fn state(&self) -> watch::Sender<ReloadState> {
        self.state.clone()
    }

    /// The set in use, as soon as there is one; `None`: this node stops.
    pub(super) fn usable(
        &self,
        stop: CancellationToken,
    ) -> impl Future<Output = InUse> + Send + use<> {
        let mut in_use = self.in_use.subscribe();
        async move {
            tokio::select! {
                () = stop.cancelled() => None,
                found = in_use.wait_for(Option::is_some) => found.ok()?.clone(),
            }
        }
    }

    /// Looks at the files until `stop`.
    pub(super) async fn watch(mut self, stop: CancellationToken) {
        let newest = loop {
            if let Some(newest) = self.newest.take() {
                break newest;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_EVERY) => self.load(),
            }
        };
        let purpose = Purpose::Party(self.party);
        let what = (self.files, purpose, self.trust_domain);
        watch_files(newest, self.state, what, self.clock, RELOAD_EVERY, stop).await;
    }

    fn load(&mut self) {
        let now = Micros(self.clock.now_micros());
        let purpose = Purpose::Party(self.party.clone());
        match Material::load(&self.files, &purpose, &self.trust_domain, now) {
            Ok(material) => {
                let (newest, material) = watch::channel(Arc::new(material));
                self.newest = Some(newest);
                self.state.send_modify(|state| state.last_error = None);
                self.in_use.send_replace(Some(material));
            }
            Err(error) => self.refuse(error, now),
        }
    }

    fn refuse(&self, error: IdentityError, now: Micros) {
        let IdentityError { reason, why } = error;
        let phase = Phase::Refused {
            reason: reason.to_owned(),
            why: why.clone(),
        };
        if self.link.borrow().phase != phase {
            tracing::error!(
                event = "link_without_certificate",
                party = %self.party,
                reason,
                why,
                "this party has no link until its files can be used; they are looked at every {} s",
                RELOAD_EVERY.as_secs()
            );
        }
        self.link.send_modify(|state| state.enter(phase, now));
        self.state.send_modify(|state| state.last_error = Some(why));
    }
}
