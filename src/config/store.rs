//! Where a node keeps its store, if not in its own directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::shared::{resolve, wrong};

/// A PostgreSQL: one that several hub replicas share, or one of an adapter's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Hosts, user and database; the password stands in a file of its own.
    pub url: String,
    /// File with the password; `None`: the server asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Roots that sign the server's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<PathBuf>,
    /// Our certificate for the server, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// When a commit counts. There is no word for "not on disk".
    #[serde(default)]
    pub synchronous_commit: CommitLevel,
    /// Connections for reading; writing takes one more, and at a hub listening one,
    /// and joining one for a moment.
    #[serde(default = "connections")]
    pub connections: u32,
    /// A statement that takes longer is given up, seconds.
    #[serde(default = "statement_timeout_seconds")]
    pub statement_timeout_seconds: u32,
}

/// When a commit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitLevel {
    /// On the server's disk, and on that of its synchronous standbys.
    #[default]
    On,
    /// Visible on the synchronous standbys as well.
    RemoteApply,
    /// On the server's disk, and in the hands of the standbys' systems.
    RemoteWrite,
}

fn connections() -> u32 {
    8
}

fn statement_timeout_seconds() -> u32 {
    30
}

impl StoreConfig {
    pub(super) fn resolve(&mut self, directory: &Path) {
        let files = [
            &mut self.password_file,
            &mut self.roots,
            &mut self.certificate,
            &mut self.key,
        ];
        for file in files.into_iter().flatten() {
            resolve(directory, file);
        }
    }

    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| self.url.strip_prefix(scheme));
        let Some(rest) = rest else {
            return wrong(
                "store.url",
                "must begin with postgres://, such as postgres://jembatan@db1,db2/jembatan",
            );
        };
        let user = rest.split(['/', '?']).next().unwrap_or_default();
        let has_password = user
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'));
        if has_password || rest.contains("password=") {
            return wrong(
                "store.url",
                "holds a password: put it into a file that only the node's user may read, and name \
                 that in store.password_file",
            );
        }
        if self.certificate.is_some() != self.key.is_some() {
            return wrong("store.certificate", "and store.key belong together");
        }
        if !(1..=200).contains(&self.connections) {
            return wrong("store.connections", "must be between 1 and 200");
        }
        if !(1..=600).contains(&self.statement_timeout_seconds) {
            return wrong(
                "store.statement_timeout_seconds",
                "must be between 1 and 600",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<String> {
        let config: Result<StoreConfig, _> = toml::from_str(text);
        match config {
            Ok(config) => config.check().err().map(|(key, _)| key),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Scenario: urls with and without a password, commits that are not
    /// durable, half of a certificate.
    /// Guarantee: a password in the file, and a commit that is on no disk, are
    /// refused by their keys.
    #[test]
    fn nothing_unsafe_can_be_set() {
        let good = "url = \"postgres://jembatan@db1:5432,db2/jembatan?sslmode=require\"\n";
        assert_eq!(problem(good), None);
        for level in ["on", "remote_apply", "remote_write"] {
            let text = format!("{good}synchronous_commit = \"{level}\"");
            assert_eq!(problem(&text), None, "{level}");
        }
        for level in ["off", "local"] {
            let text = format!("{good}synchronous_commit = \"{level}\"");
            let found = problem(&text).unwrap();
            assert!(found.contains("unknown variant"), "{found}");
        }
        let url = Some("store.url".to_owned());
        for text in [
            "url = \"mysql://db/jembatan\"",
            "url = \"postgres://jembatan:secret@db/jembatan\"",
            "url = \"postgres:///jembatan?host=/run&password=secret\"",
        ] {
            assert_eq!(problem(text), url, "{text}");
        }
        let half = format!("{good}certificate = \"hub.crt\"");
        assert_eq!(problem(&half), Some("store.certificate".to_owned()));
    }
}
