//! Doors on Unix sockets, and with TLS and tokens.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    doors::{curl, has, run},
    support::{World, eventually, missing},
};

const JSON: &str = "content-type: application/json";
const FILING: &str = r#"{"reference":"U-1","title":"Jalan rusak","body":"Jalan berlubang.","handling":"HANDLING_OWN"}"#;

/// An adapter whose doors are not on plain ports.
struct Process {
    config: PathBuf,
    child: Child,
    addresses: Value,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(config: &Path) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(config.with_extension("log"))
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_jembatan"))
            .args(["adapter", "--config"])
            .arg(config)
            .env("JEMBATAN_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut line).unwrap();
        let mut started = Self {
            config: config.to_owned(),
            child,
            addresses: Value::Null,
        };
        started.addresses = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("it did not start: {}", started.log()));
        started
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }

    /// SIGTERM, and waits.
    fn stop(&mut self) {
        run("kill", &["-TERM", &self.child.id().to_string()]);
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

/// Start, and what it said instead.
fn refused(config: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_jembatan"))
        .args(["adapter", "--config"])
        .arg(config)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn jembatan(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_jembatan"), arguments)
}

/// Scenario: a node with both doors on Unix sockets, where a dead process left
/// one behind; curl and our own command line call it; it stops. Then another
/// file stands in the socket's place.
/// Guarantee: the dead socket is replaced, the new one is for owner and group
/// only, both doors work without ceremony, and the sockets are gone at the
/// end; what is no socket is never taken away.
#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_need_no_ceremony() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let door = "grpc = \"unix:grpc.sock\"\nhttp = \"unix:http.sock\"\n[health]\nhttp = \"unix:health.sock\"";
    let config = world.adapter_file("pemda-33.74", "", door);
    let socket = |name: &str| world.directory.path().join(name);
    drop(std::os::unix::net::UnixListener::bind(socket("http.sock")).unwrap());
    assert!(socket("http.sock").exists(), "a dead socket");
    let mut city = Process::start(&config);
    assert!(
        city.addresses["grpc"]
            .as_str()
            .unwrap()
            .starts_with("unix:/"),
        "{}",
        city.addresses
    );
    for name in ["grpc.sock", "http.sock", "health.sock"] {
        let mode = std::fs::metadata(socket(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660, "{name}");
    }
    let http = socket("http.sock");
    let http = http.to_str().unwrap();
    let complaints = "http://localhost/v1/complaints";
    let (code, filed) = curl(&["--unix-socket", http, "-H", JSON, "-d", FILING, complaints]);
    assert_eq!(code, 200, "{filed}");
    let health = socket("health.sock");
    let health = health.to_str().unwrap();
    let (code, ready) = curl(&["--unix-socket", health, "http://localhost/readyz"]);
    assert_eq!((code, &ready["ready"]), (200, &json!(true)), "{ready}");
    let (code, _) = curl(&["--unix-socket", http, "http://localhost/readyz"]);
    assert_eq!(code, 404, "health has an address of its own");
    let grpc = format!("unix:{}", socket("grpc.sock").display());
    let status = jembatan(&["status", "--door", &grpc]);
    let told = String::from_utf8_lossy(&status.stdout);
    assert!(
        status.status.success() && told.contains("pemda-33.74"),
        "{told}"
    );
    city.stop();
    for name in ["grpc.sock", "http.sock", "health.sock"] {
        assert!(!socket(name).exists(), "{name} is removed at the end");
    }
    std::fs::write(socket("grpc.sock"), "precious").unwrap();
    let told = refused(&config);
    assert!(told.contains("is there and is no socket"), "{told}");
    assert_eq!(std::fs::read(socket("grpc.sock")).unwrap(), b"precious");
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

/// A certificate for a door, as any CA could make it.
fn door_certificate(world: &World) {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(world.pki("door.pem"), made.cert.pem()).unwrap();
    let key = world.pki("door.key");
    let _ = std::fs::remove_file(&key);
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Scenario: doors with TLS at an address that is not taken for loopback (an
/// IPv4-mapped one), three tokens of different scopes; calls without a token,
/// with a wrong one, with one of another scope, and in the clear; the door's
/// certificate is replaced while it runs.
/// Guarantee: only the right token opens; 401 says how to authenticate;
/// metrics and readiness need a token too; the new certificate is used without
/// a restart; no token is ever in the log.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_tls_and_the_right_token() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    door_certificate(&world);
    let old_ca = world.directory.path().join("old.pem");
    std::fs::copy(world.pki("door.pem"), &old_ca).unwrap();
    let mut door = "grpc = \"[::ffff:127.0.0.1]:0\"\nhttp = \"[::ffff:127.0.0.1]:0\"\n\
                    [door.tls]\ncertificate = \"pki/door.pem\"\nkey = \"pki/door.key\"\n"
        .to_owned();
    for (token, scopes) in [
        ("jmb_submit", "\"submit\""),
        ("jmb_read", "\"read\", \"inbox\""),
        ("jmb_operate", "\"operate\""),
    ] {
        door += &format!(
            "[[door.token]]\nname = \"{token}\"\nsha256 = \"{}\"\nsystem = \"web\"\nscopes = [{scopes}]\n",
            digest(token)
        )
        .replace("name = \"jmb_", "name = \"");
    }
    let city = Process::start(&world.adapter_file("pemda-33.74", "", &door));
    let port = |name: &str| {
        let address: std::net::SocketAddr = city.addresses[name].as_str().unwrap().parse().unwrap();
        address.port()
    };
    let base = format!("https://127.0.0.1:{}", port("http"));
    let complaints = format!("{base}/v1/complaints");
    let ca = world.pki("door.pem");
    let ca = ca.to_str().unwrap();
    let call = |token: &str, more: &[&str]| {
        let header = format!("authorization: Bearer {token}");
        let mut all = vec!["--cacert", ca, "-H", JSON];
        if !token.is_empty() {
            all.extend(["-H", &header]);
        }
        all.extend(more);
        curl(&all)
    };

    let (code, problem) = call("", &["-d", FILING, &complaints]);
    assert_eq!((code, &problem["reason"]), (401, &json!("UNAUTHENTICATED")));
    let head = run(
        "curl",
        &[
            "-s",
            "-i",
            "--cacert",
            ca,
            &complaints.replace("complaints", "inbox"),
        ],
    );
    let head = String::from_utf8_lossy(&head.stdout).to_lowercase();
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(call("jmb_wrong", &["-d", FILING, &complaints]).0, 401);
    let (code, problem) = call("jmb_read", &["-d", FILING, &complaints]);
    assert_eq!((code, &problem["reason"]), (403, &json!("FORBIDDEN")));
    let (code, filed) = call("jmb_submit", &["-d", FILING, &complaints]);
    assert_eq!(code, 200, "{filed}");
    let one = format!("{complaints}/U-1");
    assert_eq!(call("jmb_submit", &[&one]).0, 403);
    let (code, view) = call("jmb_read", &[&one]);
    assert_eq!(
        (code, &view["originSystem"]),
        (200, &json!("web")),
        "{view}"
    );
    assert_eq!(call("jmb_read", &[&format!("{base}/v1/inbox")]).0, 200);
    let (code, _) = call("jmb_operate", &[&format!("{base}/readyz")]);
    assert_eq!(code, 200);
    for path in ["readyz", "metrics"] {
        let text = run(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
                ca,
                &format!("{base}/{path}"),
            ],
        );
        assert_eq!(text.stdout, b"401", "{path} tells strangers nothing");
    }
    let clear = run(
        "curl",
        &[
            "-s",
            "--max-time",
            "5",
            &format!("http://127.0.0.1:{}/healthz", port("http")),
        ],
    );
    assert!(!clear.status.success(), "nothing is said in the clear");

    let grpc = format!("https://127.0.0.1:{}", port("grpc"));
    let status =
        |token: &str| jembatan(&["status", "--door", &grpc, "--door-ca", ca, "--token", token]);
    let good = status("jmb_operate");
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    for (token, code) in [
        ("jmb_wrong", "Unauthenticated"),
        ("jmb_submit", "PermissionDenied"),
    ] {
        let told = status(token);
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains(code), "{token}: {told}");
    }
    let told = jembatan(&["status", "--door", &grpc, "--door-ca", ca]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("a token is needed"), "{told}");

    door_certificate(&world);
    eventually("the new certificate is in use", || async {
        run(
            "curl",
            &["-s", "-f", "--cacert", ca, &format!("{base}/healthz")],
        )
        .status
        .success()
    })
    .await;
    let old = run(
        "curl",
        &[
            "-s",
            "--cacert",
            old_ca.to_str().unwrap(),
            &format!("{base}/healthz"),
        ],
    );
    assert!(!old.status.success(), "and the old one is not");
    let log = city.log();
    assert!(log.contains("door_tls_reloaded"), "{log}");
    assert!(!log.contains("jmb_"), "no token in the log");
}
