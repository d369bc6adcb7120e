//! Bad disks beneath real processes: full, read-only, failing, slow.

use std::{
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use jembatan::wire::v1;
use serde_json::Value;

use crate::{
    doors::{curl, has},
    support::{
        Node, World, complaint, connected, eventually, missing, same_at_both_ends, submit,
        submit_many,
    },
};

const CITY: &str = "pemda-33.74";
const LOCAL: &str = "grpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"";

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

pub(crate) fn readiness(node: &Node) -> (u16, Value) {
    curl(&[&format!("http://{}/readyz", node.http)])
}

/// strace at a running process, which changes what its system calls do until
/// it is dropped; `None`: it is not here, or may not.
pub(crate) struct Injected(Child);

impl Injected {
    pub(crate) async fn at(node: &Node, what: &str) -> Option<Self> {
        Self::on(node, "fsync,fdatasync", &[], what).await
    }

    /// At some system calls only; with files, only where they concern those.
    pub(crate) async fn on(
        node: &Node,
        calls: &str,
        files: &[PathBuf],
        what: &str,
    ) -> Option<Self> {
        if !has("strace") || !is_root() {
            missing("strace, as root");
            return None;
        }
        let status = format!("/proc/{}/status", node.pid());
        let files = files.iter().flat_map(|file| [Path::new("-P"), file]);
        let child = Command::new("strace")
            .args(["-qq", "-f", "-o", "/dev/null"])
            .args(files)
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{what}")])
            .args(["-p", &node.pid().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self(child);
        eventually("strace has attached", || async {
            let text = std::fs::read_to_string(&status).unwrap();
            !text.contains("TracerPid:\t0\n")
        })
        .await;
        Some(this)
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // SIGTERM: it lets the process go on as it was.
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

/// Hands over until one is refused; the references that were stored before.
async fn until_refused(node: &Node, name: &str) -> (Vec<String>, tonic::Status) {
    let mut door = node.gateway().await;
    let mut stored = Vec::new();
    for n in 0..5_000 {
        let reference = format!("{name}-{n}");
        let mut new = complaint(&reference);
        new.body = "x".repeat(9_000);
        match door.submit(submit(new, 0)).await {
            Ok(_) => stored.push(reference),
            Err(status) => return (stored, status),
        }
    }
    panic!("the store never refused anything");
}

async fn is_stored(node: &Node, reference: &str) -> bool {
    let mut new = complaint(reference);
    new.body = "x".repeat(9_000);
    let answer = node.gateway().await.submit(submit(new, 0)).await.unwrap();
    answer.into_inner().receipt.unwrap().repeated_handover
}

/// Trouble at the city's disk, while the province goes on; then it is over.
async fn survives(world: &World, city: &Node, trouble: impl AsyncFnOnce() -> Vec<String>) {
    let province = world.adapter("pemda-33");
    eventually("green", || async { readiness(city).0 == 200 }).await;
    let told = trouble().await;
    eventually("green again", || async { readiness(city).0 == 200 }).await;
    for reference in &told {
        assert!(
            is_stored(city, reference).await,
            "{reference} was told stored"
        );
    }
    let least = told.len() as u64;
    same_at_both_ends(&world.hub, city, CITY, v1::Journal::Submissions, least).await;
    same_at_both_ends(&world.hub, city, CITY, v1::Journal::Deliveries, 1).await;
    submit_many(&province, vec![complaint("P-1")]).await;
    same_at_both_ends(
        &world.hub,
        &province,
        "pemda-33",
        v1::Journal::Submissions,
        1,
    )
    .await;
}

async fn turns_red(city: &Node) {
    eventually("red", || async {
        let (code, answer) = readiness(city);
        code == 503 && answer["ready"] == false
    })
    .await;
}

/// Scenario: the node's data directory stands on a disk of 2 MiB in a mount
/// namespace of its own, and is filled; then there is room again.
/// Guarantee: the caller gets an error that says that nothing was stored and
/// that it may be sent again; health turns red and says why; the node lives;
/// afterwards it is green by itself, everything that was told "stored" is there
/// and at the hub, and another party was never held up.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_turns_red_and_recovers() {
    if !has("unshare") || !is_root() || !has("curl") {
        return missing("unshare and curl, as root");
    }
    let world = World::new();
    let config = world.adapter_file(CITY, "", LOCAL);
    let data = world.directory.path().join(format!("{CITY}-data"));
    std::fs::create_dir(&data).unwrap();
    let script = "mount -t tmpfs -o size=2m none \"$0\" && chmod 700 \"$0\" && exec \"$@\"";
    let before = ["unshare", "-m", "sh", "-c", script, data.to_str().unwrap()];
    let before = before.map(str::to_owned);
    let city = Node::start_under(&before, "adapter", &config);
    survives(&world, &city, async || {
        let inside = format!("/proc/{}/root{}", city.pid(), data.display());
        let filler = Path::new(&inside).join("filler");
        // Little room is left, and the first to need it takes it.
        let few = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "count=64"])
            .arg(format!("of={}", filler.display()))
            .output()
            .unwrap();
        assert!(!few.status.success(), "the disk is full");
        let (mut stored, status) = until_refused(&city, "F").await;
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        assert!(
            status.message().contains("nothing was stored"),
            "{status:?}"
        );
        assert!(status.message().contains("full"), "{status:?}");
        turns_red(&city).await;
        std::fs::remove_file(filler).unwrap();
        eventually("stores again", || async {
            let new = complaint("F-after");
            let mut door = city.gateway().await;
            door.submit(submit(new, 0)).await.is_ok()
        })
        .await;
        stored.retain(|reference| reference != "F-after");
        stored
    })
    .await;
}

/// Scenario: the disk fails: each fdatasync says EIO; then it works again.
/// Guarantee: the caller gets an error, health turns red, nothing that was told
/// "stored" is lost, and the node recovers by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_turns_red_and_recovers() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let city = world.adapter(CITY);
    let Some(injected) = Injected::at(&city, "error=EIO").await else {
        return;
    };
    drop(injected);
    survives(&world, &city, async || {
        let mut door = city.gateway().await;
        let mut stored = Vec::new();
        for n in 0..20 {
            let mut new = complaint(&format!("B-{n}"));
            new.body = "x".repeat(9_000);
            stored.push(new.reference.clone());
            door.submit(submit(new, 0)).await.unwrap();
        }
        let injected = Injected::at(&city, "error=EIO").await.unwrap();
        let (more, status) = until_refused(&city, "I").await;
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        turns_red(&city).await;
        drop(injected);
        stored.extend(more);
        stored
    })
    .await;
}

/// Scenario: both stores are slow (each fdatasync takes 30 ms longer), and both
/// directions of one stream are loaded with several windows at once.
/// Guarantee: neither end waits for the other for ever: all of it arrives, in
/// one session.
#[tokio::test(flavor = "multi_thread")]
async fn full_load_both_ways_with_slow_disks_does_not_deadlock() {
    let limits = "[limits]\nwindow_entries = 64\nwindow_bytes = 65536\nframe_bytes = 8192";
    let world = World::with_hub(limits);
    let city = world.adapter(CITY);
    let before = connected(&world, &city, CITY).await;
    let slow = "delay_exit=30000";
    let (Some(_hub), Some(_city)) = (
        Injected::at(&world.hub, slow).await,
        Injected::at(&city, slow).await,
    ) else {
        return;
    };
    let many = |name: &str| {
        (0..800)
            .map(|n| complaint(&format!("{name}-{n}")))
            .collect()
    };
    let (up, down) = tokio::join!(
        submit_many(&city, many("U")),
        submit_many(&world.hub, many("D")),
    );
    assert_eq!((up, down), (800, 800));
    same_at_both_ends(&world.hub, &city, CITY, v1::Journal::Submissions, 800).await;
    same_at_both_ends(&world.hub, &city, CITY, v1::Journal::Deliveries, 801).await;
    assert_eq!(world.sessions(CITY), before, "{}", world.hub.log());
}

fn everybody_may_read(path: &Path) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        chown(&path, Some(65_534), Some(65_534)).unwrap();
        if path.is_dir() {
            everybody_may_read(&path);
        }
    }
}

/// Scenario: a node runs as an unprivileged user on a data directory that it
/// may not write in.
/// Guarantee: it does not start; it says which directory, what is wrong and
/// what to do; nothing is made there.
#[test]
fn a_directory_that_may_not_be_written_is_named() {
    if !has("setpriv") || !is_root() {
        return missing("setpriv, as root");
    }
    let world = World::new();
    let config = world.adapter_file(CITY, "", LOCAL);
    let data = world.directory.path().join(format!("{CITY}-data"));
    std::fs::create_dir(&data).unwrap();
    let program = world.directory.path().join("jembatan");
    std::fs::copy(env!("CARGO_BIN_EXE_jembatan"), &program).unwrap();
    everybody_may_read(world.directory.path());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.directory.path(), open).unwrap();
    let closed = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(&data, closed).unwrap();
    chown(&data, Some(0), Some(0)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["adapter", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&data.display().to_string()), "{said}");
    assert!(said.to_lowercase().contains("permission"), "{said}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
}

/// Scenario: keys, certificates and lists are written, and a renewed pair is put
/// in the place of the old one, while every system call is written down.
/// Guarantee: after each file has got its name, the directory that holds the name
/// is written to the disk before anything is said: a loss of power takes no key
/// that was told to be there.
#[test]
fn a_key_that_was_written_outlives_the_power() {
    if !has("strace") {
        missing("strace");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let place = place.path().canonicalize().unwrap();
    let at = |name: &str| place.join(name).display().to_string();
    let (calls, ca, hub) = (at("calls"), at("ca"), at("ca/hub.crt"));
    let mut names = 0;
    for arguments in [
        vec!["init", "--dir", &ca],
        vec!["issue", "--dir", &ca, "--hub", "--name", "localhost"],
        vec!["renew", "--certificate", &hub, "--dir", &ca],
        vec![
            "install",
            "--certificate",
            &hub,
            "--roots",
            &at("ca/ca.pem"),
        ],
    ] {
        let status = Command::new("strace")
            .args(["-qq", "-f", "-y", "-o", &calls])
            .args(["-e", "trace=rename,renameat,renameat2,fsync"])
            .arg(env!("CARGO_BIN_EXE_jembatan"))
            .arg("pki")
            .args(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{arguments:?}");
        let calls = std::fs::read_to_string(&calls).unwrap();
        let lines: Vec<&str> = calls.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.contains(" rename") {
                names += 1;
                let synced = format!("<{ca}>)");
                let next = lines.get(at + 1).copied().unwrap_or_default();
                assert!(
                    next.contains("fsync(") && next.contains(&synced),
                    "{line}\n{next}"
                );
            }
        }
    }
    assert!(names >= 9, "{names} files got a name");
}
