//! Whether a node can do its work: what is looked at, and what each service
//! needs of it.

use std::time::Duration;

use tokio::time::timeout;

use crate::domain::Micros;

use super::Source;

/// A store that takes longer than this to write one small row can't write.
const PROBE: Duration = Duration::from_secs(5);

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFor {
    /// Links, and at a hub its mutual-TLS port.
    Links,
    /// The node's own doors.
    Doors,
}

/// A certificate in use, and how its reloading goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateHealth {
    /// `hub`, `door`, or the party that it names.
    pub name: String,
    /// What it is for.
    pub serves: CertificateFor,
    /// Valid from and until; `None`: no set of files could be used yet.
    pub lifetime: Option<(Micros, Micros)>,
    /// Sets that were taken into use since the start.
    pub reloads: u64,
    /// Sets that were refused since the start.
    pub reload_failures: u64,
    /// Times that it has renewed itself since the start.
    pub renewals: u64,
    /// Attempts to renew it that failed since the start.
    pub renewal_failures: u64,
    /// Why the files as they stand now are not in use.
    pub last_error: Option<String>,
}

impl CertificateHealth {
    fn problem(&self, now: Micros) -> Option<String> {
        let (not_before, not_after) = self.lifetime.unwrap_or((now, now));
        if now.0 > not_after.0 {
            return Some("the certificate has expired: renew it".to_owned());
        }
        if now.0 < not_before.0 {
            return Some("the certificate is not valid yet: check this machine's clock".to_owned());
        }
        // The old set is still in use, but a restart would not come up.
        self.last_error
            .as_ref()
            .map(|why| format!("the files as they stand can't be used: {why}"))
    }
}

/// What a service can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// It writes.
    pub store: bool,
    /// Whose certificates it needs.
    pub certificates: &'static [CertificateFor],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Node,
    Store,
    Certificate(CertificateFor),
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What, for example `store` or `certificate hub`.
    pub name: String,
    /// What is wrong with it and what to do; `None`: nothing.
    pub problem: Option<String>,
    subject: Subject,
}

/// All that was looked at, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks(pub Vec<Check>);

impl Checks {
    /// Whether everything is well.
    pub fn all_good(&self) -> bool {
        self.0.iter().all(|check| check.problem.is_none())
    }

    /// Whether a service has what it needs.
    pub fn allow(&self, needs: Needs) -> bool {
        self.0
            .iter()
            .filter(|check| match check.subject {
                Subject::Node => true,
                Subject::Store => needs.store,
                Subject::Certificate(serves) => needs.certificates.contains(&serves),
            })
            .all(|check| check.problem.is_none())
    }
}

impl Source {
    /// Looks at everything that the node's work depends on. The store is
    /// asked to write a row, since one that only reads can't take anything.
    pub async fn check(&self, is_stopping: bool) -> Checks {
        let store = match timeout(PROBE, self.store.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!(
                "the store did not write a row within {} s: look at the disk, and for another program that holds its file",
                PROBE.as_secs()
            )),
        };
        let mut checks = vec![
            Check {
                name: "node".to_owned(),
                problem: is_stopping.then(|| "the node is stopping".to_owned()),
                subject: Subject::Node,
            },
            Check {
                name: "store".to_owned(),
                problem: store,
                subject: Subject::Store,
            },
        ];
        let now = Micros(self.clock.now_micros());
        checks.extend((self.certificates)().iter().map(|found| Check {
            name: format!("certificate {}", found.name),
            problem: found.problem(now),
            subject: Subject::Certificate(found.serves),
        }));
        Checks(checks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a certificate in use whose files were replaced by ones that
    /// can't be used; one that has ended; one from tomorrow.
    /// Guarantee: each is a problem that says what to do, and it stops the
    /// services that need it and no other.
    #[test]
    fn an_unusable_certificate_stops_what_needs_it() {
        let mut certificate = CertificateHealth {
            name: "hub".to_owned(),
            serves: CertificateFor::Links,
            lifetime: Some((Micros(10), Micros(20))),
            reloads: 0,
            reload_failures: 0,
            renewals: 0,
            renewal_failures: 0,
            last_error: None,
        };
        assert_eq!(certificate.problem(Micros(15)), None);
        assert!(certificate.problem(Micros(21)).unwrap().contains("renew"));
        assert!(certificate.problem(Micros(9)).unwrap().contains("clock"));
        certificate.last_error = Some("hub.key is not the key of hub.pem".to_owned());
        let problem = certificate.problem(Micros(15));
        assert!(problem.as_ref().unwrap().contains("hub.key"));
        let checks = Checks(vec![Check {
            name: "certificate hub".to_owned(),
            problem,
            subject: Subject::Certificate(CertificateFor::Links),
        }]);
        let needs = |certificates| Needs {
            store: true,
            certificates,
        };
        assert!(!checks.allow(needs(&[CertificateFor::Links])));
        assert!(checks.allow(needs(&[CertificateFor::Doors])));
        assert!(!checks.all_good());
    }
}
