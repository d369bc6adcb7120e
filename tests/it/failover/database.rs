//! A database that is away, full, or that somebody stands in front of.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    cli::jembatan,
    doors::{curl, has},
    replicas::cluster::{Cluster, is_root, programs},
    support::{Node, complaint, missing, submit},
};

use super::{
    checks::count_in_is_count_out,
    load::Load,
    nation::{Nation, eventually},
    servers::url_of,
};

fn readiness(node: &Node) -> u16 {
    curl(&[&format!("http://{}/readyz", node.http)]).0
}

/// A hub's file on this url, with a directory and certificates of its own.
async fn nation_at(url: &str) -> Nation {
    Nation::start(url, "statement_timeout_seconds = 3", 2, 3).await
}

/// Scenario: PostgreSQL is not there when a hub starts, and comes; later it is
/// killed under load and is away for a while.
/// Guarantee: the hub waits and says so, and starts by itself; later health is
/// red, callers get an error after which they may try again, adapters keep what
/// they have; then all of it goes on by itself, and count in = count out.
#[tokio::test(flavor = "multi_thread")]
async fn hubs_wait_for_their_database() {
    let Some(programs) = programs() else { return };
    if !has("curl") {
        return missing("curl");
    }
    let mut cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    let mut nation = nation_at(&url_of(&[&cluster], "national")).await;
    nation.hubs[0].kill();
    cluster.kill();
    let mut hub = nation.hubs.remove(0);
    let starting = tokio::task::spawn_blocking(move || {
        hub.start_again();
        hub
    });
    let log = nation.directory.path().join("hub-0.log");
    eventually("the hub says that it waits", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("store_waited_for"))
    })
    .await;
    assert!(!starting.is_finished());
    cluster.run();
    nation.hubs.insert(0, starting.await.unwrap());
    nation.all_linked().await;

    let load = Load::start(&nation, Duration::from_millis(30));
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.kill();
    for hub in &nation.hubs {
        eventually("red", async || readiness(hub) == 503).await;
    }
    let refused = nation.door(0).submit(submit(complaint("away"), 0)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.run();
    for hub in &nation.hubs {
        eventually("green again", async || readiness(hub) == 200).await;
    }
    let all = load.stop().await;
    count_in_is_count_out(&nation, &cluster, &all).await;
}

/// Scenario: the synchronous standby is away when a hub starts, which is killed
/// while it waits and started again; then the standby is no longer waited for.
/// Guarantee: the hub waits and says for what; of all the starts one leaves a
/// session that waits at the server; it serves by itself, and nothing waits then.
#[tokio::test(flavor = "multi_thread")]
async fn hubs_wait_for_a_standby() {
    let Some(programs) = programs() else { return };
    if !has("curl") {
        return missing("curl");
    }
    let cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    let mut nation = nation_at(&url_of(&[&cluster], "national")).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
         AND query LIKE '%logical_emit_message%'";
    let names = |names: &str| {
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        cluster.psql("postgres", &set);
        cluster.psql("postgres", "SELECT pg_reload_conf()");
    };
    nation.hubs[0].kill();
    names("elsewhere");
    // The other one has noticed: no commit is durable any more.
    eventually("red", async || readiness(&nation.hubs[1]) == 503).await;
    let mut hub = nation.hubs.remove(0);
    let log = nation.directory.path().join("hub-0.log");
    let waits = |times: usize| {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = said.lines().filter(|line| {
            line.contains("store_waited_for") && line.contains("synchronous standby")
        });
        lines.count() >= times
    };
    let file = nation.directory.path().join("hub-0.toml");
    let mut first = Command::new(env!("CARGO_BIN_EXE_jembatan"))
        .args(["hub", "--config", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(std::fs::OpenOptions::new().append(true).open(&log).unwrap())
        .spawn()
        .unwrap();
    eventually("it says that it waits", async || waits(3)).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let starting = tokio::task::spawn_blocking(move || {
        hub.start_again();
        hub
    });
    eventually("it says that it waits", async || waits(8)).await;
    assert!(!starting.is_finished());
    assert_eq!(cluster.psql("postgres", waiting).trim(), "1");
    names("");
    nation.hubs.insert(0, starting.await.unwrap());
    for hub in &nation.hubs {
        eventually("green", async || readiness(hub) == 200).await;
    }
    nation.all_linked().await;
    assert_eq!(cluster.psql("postgres", waiting).trim(), "0");
}

/// Scenario: a hub whose database lets nobody in with this password, one whose
/// user may do nothing there, one whose database is not there.
/// Guarantee: none of them waits for what will not come: each ends and says
/// what to do, without the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_ends_when_a_person_has_to_act() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    cluster.psql("postgres", "CREATE ROLE guarded LOGIN PASSWORD 'right'");
    let mut nation = nation_at(&url_of(&[&cluster], "national")).await;
    // Its ports are free.
    nation.hubs[0].kill();
    let file = nation.directory.path().join("hub-0.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let other = nation.directory.path().join("other.toml");
    let ends = |change: &dyn Fn(&str) -> String| {
        std::fs::write(&other, change(&text)).unwrap();
        let said = jembatan(&["hub", "--config", other.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{}", said.err);
        said.err
    };
    let password = nation.directory.path().join("password");
    let with = |word: &str| {
        std::fs::write(&password, word).unwrap();
        ends(&|text| {
            let file = format!("[store]\npassword_file = \"{}\"", password.display());
            text.replace("jembatan@", "guarded@")
                .replace("[store]", &file)
        })
    };
    let said = with("secret");
    assert!(
        said.contains("pg_hba.conf") && !said.contains("secret"),
        "{said}"
    );
    let said = with("right");
    assert!(said.contains("lacks a right"), "{said}");
    let said = ends(&|text| text.replace("/national?", "/nowhere?"));
    assert!(said.contains("make the database first"), "{said}");
}

/// A pooler that gives a server's connection to a client for one transaction.
struct Pooler(std::process::Child, u16);

impl Pooler {
    /// `None`: it is not here.
    fn start(cluster: &Cluster, more: &str) -> Option<Self> {
        if !has("pgbouncer") {
            missing("pgbouncer");
            return None;
        }
        let port = crate::support::free_port().port();
        let directory = &cluster.directory;
        let file = directory.join(format!("pooler-{port}.ini"));
        let users = directory.join("users.txt");
        std::fs::write(&users, "\"jembatan\" \"\"\n").unwrap();
        let text = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\n{more}\n",
            directory.display(),
            cluster.port,
            users.display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
                command.arg("pgbouncer");
                command
            }
            false => Command::new("pgbouncer"),
        };
        let child = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self(child, port))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Scenario: pgbouncer in transaction mode stands in front of the server, as it
/// comes, and told to ignore what sessions want to keep.
/// Guarantee: both are noticed: the program says what stands there and what to
/// do, and serves nobody through it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_front_is_refused() {
    let Some(programs) = programs() else { return };
    let cluster = Cluster::start(&programs, &[]);
    cluster.create("national");
    let nation = nation_at(&url_of(&[&cluster], "national")).await;
    let text = std::fs::read_to_string(nation.directory.path().join("hub-0.toml")).unwrap();
    for more in ["", "ignore_startup_parameters = options"] {
        let Some(pooler) = Pooler::start(&cluster, more) else {
            return;
        };
        eventually("the pooler listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", pooler.1))
                .await
                .is_ok()
        })
        .await;
        let other = nation.directory.path().join("other.toml");
        let own = format!("127.0.0.1:{}", cluster.port);
        let through = text.replace(&own, &format!("127.0.0.1:{}", pooler.1));
        std::fs::write(&other, through).unwrap();
        for command in ["hub", "store"] {
            let check = ["check", "--config", other.to_str().unwrap()];
            let words = match command {
                "hub" => [&["hub"], &check[1..]].concat(),
                _ => [&["store"], &check[..]].concat(),
            };
            let said = jembatan(&words);
            assert_eq!(said.code, 1, "{more}: {}", said.err);
            let is_said = said.err.contains("pooler") && said.err.contains("server itself");
            assert!(is_said, "{more}: {}", said.err);
        }
    }
}

/// Scenario: the database stands on a disk of its own, in a mount namespace of
/// the server's, which is filled under load; then there is room again.
/// Guarantee: health is red, callers get an error that says that the server's
/// disk is full, or that nothing was stored, and may try again; nothing that was
/// acknowledged is lost, and everything goes on by itself: count in = count out.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_server_loses_nothing() {
    let Some(programs) = programs() else { return };
    if !has("unshare") || !is_root() || !has("curl") {
        return missing("unshare and curl, as root");
    }
    let cluster = Cluster::start(&programs, &[]).with_small_disk("48m");
    let disk = cluster.small_disk();
    cluster.create("national");
    cluster.psql("postgres", "ALTER DATABASE national SET TABLESPACE small");
    let nation = nation_at(&url_of(&[&cluster], "national")).await;
    let load = Load::start(&nation, Duration::from_millis(30));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let filler = disk.join("filler");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", filler.display()))
        .stderr(Stdio::null())
        .status();
    assert!(!filled.unwrap().success(), "until there is no room");
    for hub in &nation.hubs {
        eventually("red", async || readiness(hub) == 503).await;
    }
    let mut door = nation.door(0);
    let refused = door.submit(submit(complaint("full"), 0)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    assert!(nation.logs().contains("the server's disk is full"));
    std::fs::remove_file(&filler).unwrap();
    for hub in &nation.hubs {
        eventually("green again", async || readiness(hub) == 200).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = load.stop().await;
    count_in_is_count_out(&nation, &cluster, &all).await;
}
