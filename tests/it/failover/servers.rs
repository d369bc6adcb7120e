//! What happens to PostgreSQL servers: standbys, promotions, servers that stand
//! still.

use std::{path::PathBuf, process::Command};

use crate::replicas::cluster::{Cluster, USER, own_directory, unprivileged};

use super::nation::eventually;

/// Sends a process a signal.
pub(super) fn signal(pid: u32, name: &str) {
    let told = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(told.unwrap().success(), "{name} to {pid}");
}

/// What a process has started and not yet buried.
fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // Behind the name, which may hold anything: state, then the parent.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let mut words = rest.split_whitespace();
        if words.nth(1).and_then(|word| word.parse().ok()) == Some(pid) {
            found.push(child);
        }
    }
    found
}

/// A machine that stands still, as if it was paused; its kernel goes on taking
/// connections. It goes on when this is dropped.
pub(crate) struct Frozen(Vec<u32>);

impl Frozen {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let server = cluster.pid();
        signal(server, "STOP");
        let mut all = vec![server];
        all.extend(children(server));
        for pid in &all[1..] {
            signal(*pid, "STOP");
        }
        Self(all)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            let _ = Command::new("kill")
                .args(["-CONT", &pid.to_string()])
                .status();
        }
    }
}

impl Cluster {
    /// A database with this name, empty.
    pub(super) fn create(&self, name: &str) {
        let made = Command::new(self.programs.join("createdb"))
            .args(["-h", &self.directory.display().to_string()])
            .args(["-p", &self.port.to_string()])
            .args(["-U", USER, name])
            .output();
        assert!(made.unwrap().status.success());
    }

    /// A streaming standby of this server, with a server of its own.
    pub(crate) fn standby(&self) -> Self {
        let directory = own_directory();
        let made = unprivileged(&self.programs.join("pg_basebackup"))
            .args(["-h", &self.directory.display().to_string()])
            .args(["-p", &self.port.to_string(), "-U", USER, "-R"])
            .args(["-X", "stream", "-c", "fast", "--no-sync", "-D"])
            .arg(directory.join("data"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        Self::start_in(directory, self.programs.clone(), Vec::new())
    }

    /// Starts again with a small disk of its own for the databases in the
    /// tablespace `small`, which nobody but the server sees; needs root.
    pub(super) fn with_small_disk(mut self, size: &str) -> Self {
        self.let_go("keep");
        let place = self.directory.join("small");
        std::fs::create_dir(&place).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={size},uid=$(id -u nobody),gid=$(id -g nobody),mode=700 none \
             \"$0\" && exec \"$@\""
        );
        let place = place.display().to_string();
        let before = ["unshare", "-m", "sh", "-c", &script, &place];
        self.before = before.map(str::to_owned).to_vec();
        self.run();
        let make = format!("CREATE TABLESPACE small LOCATION '{place}'");
        self.psql("postgres", &make);
        self
    }

    /// The small disk, seen from here.
    pub(super) fn small_disk(&self) -> PathBuf {
        let server = PathBuf::from(format!("/proc/{}/root", self.pid()));
        let place = self.directory.join("small");
        server.join(place.strip_prefix("/").unwrap())
    }

    /// The standby takes writes from now on.
    pub(crate) fn promote(&self) {
        let said = self.psql("postgres", "SELECT pg_promote(true, 30)");
        assert_eq!(said.trim(), "t");
    }

    /// What a statement says, columns apart by `|`.
    pub(super) fn psql(&self, database: &str, statement: &str) -> String {
        let said = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", &self.directory.display().to_string()])
            .args(["-p", &self.port.to_string(), "-U", USER])
            .args(["-d", database, "-c", statement])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{statement}: {error}");
        String::from_utf8(said.stdout).unwrap()
    }

    /// Every commit waits until the standby shows it.
    pub(crate) async fn wait_for_standby(&self) {
        let wait = "ALTER SYSTEM SET synchronous_standby_names = '*'";
        self.psql("postgres", wait);
        self.psql("postgres", "SELECT pg_reload_conf()");
        let is_sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        eventually("the standby follows", async || {
            self.psql("postgres", is_sync).trim() == "1"
        })
        .await;
    }

    /// Ends every connection at once and stops, as `pg_ctl -m immediate` does;
    /// it recovers at its next start.
    pub(super) fn stop_at_once(&mut self) {
        signal(self.pid(), "QUIT");
        self.let_go("keep");
    }
}

/// The url of a database on the first of these servers that takes writes, over
/// TCP.
pub(crate) fn url_of(servers: &[&Cluster], database: &str) -> String {
    let hosts: Vec<String> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    format!(
        "postgres://{USER}@{}/{database}?sslmode=disable&target_session_attrs=read-write",
        hosts.join(",")
    )
}
