//! Whether parties may join this hub by themselves.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::shared::{host_port, resolve, wrong};

/// Joining, and renewing over the link. Off unless CA and addresses are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnrolmentConfig {
    /// Certificate of the CA that signs, PEM; it is one of the roots in `[tls]`,
    /// or stands under the root of the hub's own certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_key: Option<PathBuf>,
    /// Where regions reach this hub, `host:port` each, as its certificate names
    /// it: what an invitation says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Life of a certificate that is issued, seconds. Nodes renew when a third
    /// of it is left.
    pub lifetime_seconds: u32,
}

impl Default for EnrolmentConfig {
    fn default() -> Self {
        Self {
            ca_certificate: None,
            ca_key: None,
            addresses: Vec::new(),
            lifetime_seconds: 90 * 86_400,
        }
    }
}

impl EnrolmentConfig {
    /// The CA's certificate and key; `None`: joining is off.
    pub fn ca(&self) -> Option<(&Path, &Path)> {
        self.ca_certificate.as_deref().zip(self.ca_key.as_deref())
    }

    pub(super) fn resolve(&mut self, directory: &Path) {
        let files = self.ca_certificate.iter_mut().chain(&mut self.ca_key);
        files.for_each(|path| resolve(directory, path));
    }

    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let set = [
            self.ca_certificate.is_some(),
            self.ca_key.is_some(),
            !self.addresses.is_empty(),
        ];
        if set.contains(&true) && set.contains(&false) {
            return wrong(
                "enrolment",
                "ca_certificate, ca_key and addresses belong together: set all of them, or none",
            );
        }
        for address in &self.addresses {
            host_port(address).map_err(|why| ("enrolment.addresses".to_owned(), why))?;
        }
        // One line has to carry them.
        if self.addresses.len() > 8 {
            return wrong("enrolment.addresses", "must be at most 8");
        }
        if self.lifetime_seconds < 10 {
            return wrong("enrolment.lifetime_seconds", "must be at least 10");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: nothing set, some of it, all of it, and wrong values.
    /// Guarantee: on only as a whole; what is wrong is told by key.
    #[test]
    fn it_is_on_as_a_whole_or_off() {
        let mut config = EnrolmentConfig::default();
        assert_eq!((config.check(), config.ca()), (Ok(()), None));
        config.ca_key = Some("ca.key".into());
        assert_eq!(config.check().unwrap_err().0, "enrolment");
        config.ca_certificate = Some("ca.pem".into());
        assert!(config.check().unwrap_err().1.contains("addresses"));
        config.addresses = vec!["hub.example:8443".to_owned()];
        assert_eq!(config.check(), Ok(()));
        assert!(config.ca().is_some());
        config.addresses.push("hub.example".to_owned());
        assert_eq!(config.check().unwrap_err().0, "enrolment.addresses");
        config.addresses.pop();
        config.lifetime_seconds = 9;
        assert_eq!(config.check().unwrap_err().0, "enrolment.lifetime_seconds");
    }
}
