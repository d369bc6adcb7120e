//! The whole road of a certificate, with the real program: made, signed,
//! used, renewed, revoked.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    cli::{Said, at, filing, jembatan, until, verdict, write_lines},
    support::{Node, free_port},
};

/// Two machines that share nothing but what is carried between them.
struct Place {
    hub: PathBuf,
    region: PathBuf,
}

impl Place {
    fn hub(&self, name: &str) -> String {
        self.hub.join(name).display().to_string()
    }

    fn region(&self, name: &str) -> String {
        self.region.join(name).display().to_string()
    }

    /// To the hub's operator.
    fn up(&self, name: &str) {
        std::fs::copy(self.region.join(name), self.hub.join(name)).unwrap();
    }

    /// Back to the region.
    fn down(&self, name: &str) {
        std::fs::copy(self.hub.join(name), self.region.join(name)).unwrap();
    }
}

fn pki(arguments: &[&str]) -> Said {
    let mut all = vec!["pki"];
    all.extend(arguments);
    jembatan(&all)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn serial(path: &str) -> String {
    let shown = pki(&["show", path, "--output", "json"]).good().json();
    shown["serial"].as_str().unwrap().to_owned()
}

/// The settings of `jembatan config init`, with what a pilot changes.
fn settings(directory: &Path, kind: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = jembatan(&["config", "init", kind]).good().out;
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is in the default file");
        text = text.replace(from, to);
    }
    let path = directory.join(format!("{kind}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

const DOORS: [(&str, &str); 2] = [
    ("grpc = \"127.0.0.1:7070\"", "grpc = \"127.0.0.1:0\""),
    ("http = \"127.0.0.1:7080\"", "http = \"127.0.0.1:0\""),
];

/// Scenario: a hub's operator makes an authority and the hub's certificate; a
/// region makes its key and a request, gets it signed, and both start with the
/// settings files that `config init` writes. The region renews with a fresh
/// key while its node runs; the hub renews its own; the region's is revoked.
/// Guarantee: the steps join up without renaming a file; no key leaves its
/// machine or is overwritten; the running nodes take the new certificates
/// without a restart; revoked is out, and the next one opens again.
#[test]
fn the_whole_road_of_a_certificate() {
    let root = tempfile::TempDir::new().unwrap();
    let place = Place {
        hub: root.path().join("hub"),
        region: root.path().join("region"),
    };
    for directory in [&place.hub, &place.region] {
        std::fs::create_dir(directory).unwrap();
    }
    let (ca, party) = (place.hub("ca"), "pemda-33.74");
    pki(&["init", "--dir", &ca]).good();
    assert_eq!(pki(&["init", "--dir", &ca]).code, 1, "not twice");
    let here = place.hub.display().to_string();
    let hub_names = ["--hub", "--name", "localhost", "--name", "127.0.0.1"];
    let mut issue = vec!["issue", "--dir", ca.as_str(), "--out", here.as_str()];
    issue.extend(hub_names);
    pki(&issue).good();
    let again = pki(&issue);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("not overwritten"), "{}", again.err);
    std::fs::copy(place.hub("ca/ca.pem"), place.hub("roots.pem")).unwrap();

    let there = place.region.display().to_string();
    let csr = pki(&["csr", "--party", party, "--out", &there]).good();
    let key = place.region(&format!("{party}.key"));
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first_key = read(&key);
    let again = pki(&["csr", "--party", party, "--out", &there]);
    assert!(
        again.code == 1 && read(&key) == first_key,
        "not overwritten"
    );
    place.up(&format!("{party}.csr"));
    let sign = |csr: &str| {
        let csr = place.hub(csr);
        pki(&["sign", "--dir", &ca, "--party", party, "--csr", &csr])
    };
    let signed = sign(&format!("{party}.csr")).good();
    let digest = |said: &Said| {
        let line = said
            .err
            .lines()
            .find(|line| line.contains("SHA-256"))
            .unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(digest(&csr), digest(&signed), "what is read by telephone");
    place.down(&format!("{party}.crt"));
    std::fs::copy(place.hub("ca/ca.pem"), place.region("roots.pem")).unwrap();

    let (hub, city) = start(&place, party);
    let connected = || verdict(&city, party) == "VERDICT_HEALTHY";
    until("connected", connected);
    let file = place.region.join("one.jsonl");
    write_lines(&file, &[filing("A-1")]);
    at(&city, &["submit", file.to_str().unwrap()]).good();
    let decided = |reference: &str| {
        let shown = at(&city, &["complaint", "show", reference, "--json"]);
        shown.good().json()["trackingId"].is_string()
    };
    until("decided", || decided("A-1"));

    // The region renews. Until the signed one is here nothing has changed.
    let live = place.region(&format!("{party}.crt"));
    let first = serial(&live);
    pki(&["renew", "--certificate", &live]).good();
    assert!(read(&key) == first_key && serial(&live) == first);
    let again = pki(&["renew", "--certificate", &live]);
    assert!(
        again.code == 1 && again.err.contains("--force"),
        "{}",
        again.err
    );
    let early = pki(&["install", "--certificate", &live]);
    assert_eq!(early.code, 1, "nothing is signed yet");
    place.up(&format!("{party}.next.csr"));
    sign(&format!("{party}.next.csr")).good();
    place.down(&format!("{party}.next.crt"));
    // A certificate of another key is refused, and nothing is touched.
    std::fs::copy(&live, place.region("other.crt")).unwrap();
    let other = place.region("other.crt");
    let wrong = pki(&["install", "--certificate", &live, "--new", &other]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("nothing was changed"), "{}", wrong.err);
    assert!(read(&key) == first_key);
    pki(&["install", "--certificate", &live]).good();
    let second = serial(&live);
    assert_ne!(second, first);
    assert!(read(&key) != first_key, "a fresh key");
    assert!(read(&place.region(&format!("{party}.old.key"))) == first_key);
    assert!(!place.region.join(format!("{party}.next.key")).exists());

    // The first is revoked: only who took the second into use stays.
    at(&hub, &["parties", "revoke", &first]).good();
    write_lines(&file, &[filing("A-2")]);
    at(&city, &["submit", file.to_str().unwrap()]).good();
    until("decided under the new certificate", || decided("A-2"));
    until("connected with the new one", connected);

    // The hub's own, where the authority is at hand: the names are kept.
    let hub_live = place.hub("hub.crt");
    let before = pki(&["show", &hub_live, "--output", "json"]).good().json();
    pki(&["renew", "--certificate", &hub_live, "--dir", &ca]).good();
    pki(&["install", "--certificate", &hub_live]).good();
    let after = pki(&["show", &hub_live, "--output", "json"]).good().json();
    assert_ne!(before["serial"], after["serial"]);
    for same in ["hosts", "uris"] {
        assert_eq!(before[same], after[same], "{same}");
    }

    // The second is revoked too: out, and told why; a third opens again.
    let revoked = pki(&["revoke", "--dir", &ca, &live]).good();
    assert_eq!(revoked.out.trim(), second);
    at(&hub, &["parties", "revoke", &second]).good();
    until("out", || verdict(&city, party) == "VERDICT_REFUSED");
    pki(&["renew", "--certificate", &live]).good();
    place.up(&format!("{party}.next.csr"));
    let over = sign(&format!("{party}.next.csr"));
    assert_eq!(over.code, 1, "the earlier .next.crt stands there still");
    std::fs::remove_file(place.hub(&format!("{party}.next.crt"))).unwrap();
    sign(&format!("{party}.next.csr")).good();
    place.down(&format!("{party}.next.crt"));
    pki(&["install", "--certificate", &live]).good();
    until("in again", connected);
}

fn start(place: &Place, party: &str) -> (Node, Node) {
    let port = free_port();
    let links = format!("links = \"{port}\"");
    let mut changes = vec![
        ("links = \"0.0.0.0:8443\"", links.as_str()),
        ("/etc/jembatan/", ""),
        ("/var/lib/jembatan/", ""),
    ];
    changes.extend(DOORS);
    let hub = Node::start("hub", &settings(&place.hub, "hub", &changes));
    at(&hub, &["parties", "add", party]).good();
    let institution = ["institutions", "add", party, "--through", party];
    at(&hub, &institution).good();
    let address = format!("address = \"{port}\"");
    let mut changes = vec![
        ("address = \"hub.example:8443\"", address.as_str()),
        ("#name = \"hub.example\"", "name = \"localhost\""),
        ("name = \"lapor-semar\"", "name = \"default\""),
        ("/etc/jembatan/", ""),
        ("/var/lib/jembatan/", ""),
    ];
    changes.extend(DOORS);
    let adapter = settings(&place.region, "adapter", &changes);
    let said = jembatan(&["config", "check", "adapter", adapter.to_str().unwrap()]);
    said.good();
    (hub, Node::start("adapter", &adapter))
}
