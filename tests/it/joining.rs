//! Joining in one line, with the real program over real TLS: the whole story,
//! and every way in which it is refused.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use jembatan::{
    domain::{Digest, InvitationCode, InvitationLine, PartyId},
    wire::v1,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    cli::{Said, at, jembatan, program, until},
    support::{Node, World, complaint, connected, eventually, submit},
};

pub(crate) const NEW: &str = "pemda-12";

/// A hub that lets parties join, with certificates of so many seconds.
pub(crate) fn enrolling(lifetime_seconds: u32) -> World {
    World::with_hub(&format!(
        r#"
[enrolment]
ca_certificate = "pki/ca.pem"
ca_key = "pki/ca.key"
addresses = ["LINKS"]
lifetime_seconds = {lifetime_seconds}
"#
    ))
}

pub(crate) fn register(hub: &Node, party: &str) {
    at(hub, &["parties", "add", party]).good();
    at(hub, &["institutions", "add", party, "--through", party]).good();
}

pub(crate) fn invite(hub: &Node, party: &str, more: &[&str]) -> String {
    let mut arguments = vec!["parties", "invite", party];
    arguments.extend(more);
    let said = at(hub, &arguments).good();
    assert_eq!(said.out.lines().count(), 1, "one line: {}", said.out);
    said.out.trim().to_owned()
}

pub(crate) fn config(world: &World, name: &str) -> PathBuf {
    world.directory.path().join(format!("{name}.toml"))
}

pub(crate) fn pair(world: &World, name: &str, party: &str) -> PathBuf {
    let data = world.directory.path().join(format!("{name}-data"));
    data.join("identity").join(format!("{party}.pem"))
}

fn command(world: &World, line: &str, name: &str, more: &[&str]) -> std::process::Command {
    let mut command = program();
    command.args(["join", line, "--config"]);
    command.arg(config(world, name)).arg("--data-dir");
    command.arg(world.directory.path().join(format!("{name}-data")));
    command.args(more);
    command
}

pub(crate) fn join(world: &World, line: &str, name: &str, more: &[&str]) -> Said {
    Said::of(&command(world, line, name, more).output().unwrap())
}

/// What the node is started with: its doors on free ports, its log for tests.
pub(crate) fn with_free_doors(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text
        .replace("grpc = \"127.0.0.1:7070\"", "grpc = \"127.0.0.1:0\"")
        .replace("http = \"127.0.0.1:7080\"", "http = \"127.0.0.1:0\"")
        .replace("format = \"text\"", "format = \"json\"");
    std::fs::write(path, text).unwrap();
}

pub(crate) fn joined(world: &World, party: &str, name: &str) -> Node {
    let line = invite(&world.hub, party, &[]);
    join(world, &line, name, &[]).good();
    let config = config(world, name);
    with_free_doors(&config);
    Node::start("adapter", &config)
}

pub(crate) fn certificates(hub: &Node, party: &str) -> Vec<serde_json::Value> {
    let shown = at(hub, &["parties", "show", party, "--output", "json"]).good();
    let all = shown.json()["certificates"].as_array().cloned();
    all.unwrap_or_default()
}

pub(crate) fn invitations(hub: &Node) -> serde_json::Value {
    at(hub, &["parties", "invites", "--output", "json"])
        .good()
        .json()
}

/// A complaint of its own goes from a node to the hub, which accepts it.
pub(crate) async fn hands_over(node: &Node, reference: &str) {
    let mut new = complaint(reference);
    new.handling = v1::Handling::Own as i32;
    let answer = node.gateway().await.submit(submit(new, 20_000)).await;
    let receipt = answer.unwrap().into_inner().receipt.unwrap();
    assert_eq!(receipt.progress, v1::Progress::Accepted as i32);
}

pub(crate) fn state_of(hub: &Node, line: &str) -> String {
    let id = parsed(line).code.id();
    let all = invitations(hub);
    let mut all = all["invitations"].as_array().unwrap().iter();
    let found = all.find(|found| found["id"] == id.as_str()).unwrap();
    found["state"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn parsed(line: &str) -> InvitationLine {
    InvitationLine::parse(line).unwrap()
}

/// The line, changed as somebody would who knows its form.
pub(crate) fn forged(line: &str, change: impl FnOnce(&mut InvitationLine)) -> String {
    let mut parts = parsed(line);
    change(&mut parts);
    parts.to_string()
}

pub(crate) fn refused(said: &Said, words: &[&str]) {
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    for word in words {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
}

/// Scenario: a hub's operator registers a party and sends one line; the region
/// runs `join` with it, starts the adapter with the settings that were written,
/// and files a complaint. Then the operator revokes the certificate by the
/// serial that the hub shows.
/// Guarantee: three commands from nothing to an accepted complaint; the key is
/// its owner's alone and nowhere at the hub; the hub keeps who used which line,
/// and not the code; settings are not overwritten; revoked is out.
#[tokio::test(flavor = "multi_thread")]
async fn from_a_line_to_an_accepted_complaint() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    assert_eq!(state_of(&world.hub, &line), "INVITATION_STATE_OPEN");
    let said = join(&world, &line.to_uppercase(), "node", &[]).good();
    assert!(
        said.err.contains("jembatan adapter --config"),
        "{}",
        said.err
    );
    let config = config(&world, "node");
    assert_eq!(said.out.trim(), config.display().to_string());

    let pair = pair(&world, "node", NEW);
    let mode = std::fs::metadata(&pair).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&pair).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY") && text.contains("BEGIN CERTIFICATE"));
    let code = parsed(&line).code.reveal();
    for file in std::fs::read_dir(world.directory.path().join("hub-data")).unwrap() {
        let kept = std::fs::read(file.unwrap().path()).unwrap();
        let secret = &code.as_bytes()[8..];
        assert!(!kept.windows(secret.len()).any(|found| found == secret));
    }
    assert!(!world.hub.log().contains(&code[8..]));

    with_free_doors(&config);
    let node = Node::start("adapter", &config);
    connected(&world, &node, NEW).await;
    hands_over(&node, "J-1").await;

    assert_eq!(state_of(&world.hub, &line), "INVITATION_STATE_USED");
    let issued = certificates(&world.hub, NEW);
    assert_eq!(issued.len(), 1);
    let serial = issued[0]["serial"].as_str().unwrap();
    assert_eq!(
        invitations(&world.hub)["invitations"][0]["serial"].as_str(),
        Some(serial)
    );
    eventually("it stands in the log", async || {
        world.hub.log().contains("\"party_joined\"")
    })
    .await;
    refused(&join(&world, &line, "node", &[]), &["--force", ".old"]);

    at(&world.hub, &["parties", "revoke", serial]).good();
    eventually("out", || async {
        node.sync(NEW).await.verdict == v1::Verdict::Refused as i32
    })
    .await;
    assert_eq!(certificates(&world.hub, NEW)[0]["revoked"], true);
    // Neither does the line lead to another certificate now.
    let again = join(&world, &line, "node", &["--force"]);
    refused(&again, &["CODE_REVOKED", "ask for a new line"]);
}

/// Scenario: a line is cut; it is of another hub, or something in between shows
/// another certificate; it is for another party; it has expired, was taken
/// back, was used elsewhere, was never made; the party is disabled.
/// Guarantee: each is refused under its own name with what to do, before a
/// certificate is made; what the hub refused stands in its list and its log.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_what_to_do() {
    let world = enrolling(86_400);
    let hub = &world.hub;
    register(hub, NEW);
    let line = invite(hub, NEW, &[]);
    let attempt = |line: &str| join(&world, line, "refused", &[]);
    refused(
        &attempt(&line[..line.len() - 12]),
        &["cut", "copy it again"],
    );
    refused(&attempt("halo"), &["no invitation", "parties invite"]);

    let wrong_zone = join(&world, &line, "refused", &["--time-zone", "WIB"]);
    refused(&wrong_zone, &["time_zone", "Asia/Jakarta"]);

    let other_root = forged(&line, |line| line.root = Digest::of(b"another root"));
    refused(
        &attempt(&other_root),
        &[
            "FINGERPRINT_MISMATCH",
            "opens TLS",
            "another hub",
            "Jembatan CA",
        ],
    );
    let nobody = crate::support::free_port().to_string();
    let dead = forged(&line, |line| line.addresses = vec![nobody]);
    refused(&attempt(&dead), &["HUB_UNREACHABLE", "is it running?"]);

    let other_party = forged(&line, |line| {
        line.party = PartyId::parse("pemda-33").unwrap()
    });
    refused(&attempt(&other_party), &["WRONG_PARTY", "another party's"]);
    let never_made = forged(&line, |line| line.code = InvitationCode::of([3; 25]));
    refused(&attempt(&never_made), &["CODE_UNKNOWN", "newest"]);

    let short = invite(hub, NEW, &["--valid", "1s"]);
    until("expired", || {
        state_of(hub, &short) == "INVITATION_STATE_EXPIRED"
    });
    refused(&attempt(&short), &["CODE_EXPIRED", "clocks"]);
    let id = parsed(&line).code.id();
    at(hub, &["parties", "invite", "--revoke", &id]).good();
    refused(&attempt(&line), &["CODE_REVOKED", "new line"]);

    let line = invite(hub, NEW, &[]);
    at(hub, &["parties", "disable", NEW]).good();
    refused(&attempt(&line), &["PARTY_DISABLED", "parties enable"]);
    let invited = at(hub, &["parties", "invite", NEW]);
    refused(&invited, &["disabled"]);
    at(hub, &["parties", "enable", NEW]).good();
    assert_eq!(certificates(hub, NEW).len(), 0, "nothing was signed so far");

    join(&world, &line, "first", &[]).good();
    refused(
        &attempt(&line),
        &["CODE_USED", "works once", "tell the hub's operator"],
    );
    refused(
        &at(hub, &["parties", "invite", "pemda-99"]),
        &["parties add pemda-99"],
    );
    refused(
        &at(hub, &["parties", "invite", "nasional"]),
        &["behind the hub's own door"],
    );

    let listed = invitations(hub)["refused"].clone();
    let reasons: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["reason"].as_str().unwrap())
        .collect();
    let expected = [
        "CODE_USED",
        "PARTY_DISABLED",
        "CODE_REVOKED",
        "CODE_EXPIRED",
        "CODE_UNKNOWN",
        "WRONG_PARTY",
    ];
    assert_eq!(reasons, expected, "the newest first");
    for reason in expected {
        eventually("the reason stands in the log", async || {
            hub.log().contains(reason)
        })
        .await;
    }
    let shown = at(hub, &["parties", "invites"]).good().out;
    assert!(shown.contains("WRONG_PARTY") && shown.contains("127.0.0.1"));
}

/// Scenario: the CA's key is taken away, somebody is invited and somebody
/// joins; it comes back. Another hub has no `[enrolment]`.
/// Guarantee: the operator is told which file, the region is not; the line is
/// not used up; where joining is off nobody is invited and nobody gets in.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_its_key_waits_and_one_without_enrolment_says_so() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    let (key, aside) = (world.pki("ca.key"), world.pki("aside"));
    std::fs::rename(&key, &aside).unwrap();
    let invited = at(&world.hub, &["parties", "invite", NEW]);
    refused(&invited, &["ca.key", "can't sign now"]);
    let said = join(&world, &line, "node", &[]);
    refused(
        &said,
        &["CA_UNAVAILABLE", "ask the hub's operator", "stays good"],
    );
    assert!(!said.err.contains("ca.key"), "{}", said.err);
    std::fs::rename(&aside, &key).unwrap();
    join(&world, &line, "node", &[]).good();

    let off = World::new();
    register(&off.hub, NEW);
    refused(&at(&off.hub, &["parties", "invite", NEW]), &["[enrolment]"]);
    let wrong = forged(&line, |line| line.addresses = vec![off.links().to_string()]);
    refused(
        &join(&off, &wrong, "node", &[]),
        &["ENROLMENT_OFF", "switch [enrolment] on"],
    );
    eventually("its log says so too", async || {
        off.hub.log().contains("a caller comes to join")
    })
    .await;
}

/// A CA under a root of its own; the root's certificate.
fn intermediate(world: &World) -> String {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let params = |name: &str, depth| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
        params
    };
    let key = KeyPair::generate().unwrap();
    let above = params("Akar lain", 1);
    let root = above.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(above, key);
    let key = KeyPair::generate().unwrap();
    let signed = params("Di bawahnya", 0).signed_by(&key, &issuer).unwrap();
    std::fs::write(world.pki("middle.pem"), signed.pem()).unwrap();
    jembatan::identity::write_new(&world.pki("middle.key"), &key.serialize_pem(), true, false)
        .unwrap();
    root
}

/// Scenario: the CA of `[enrolment]` stands under another root than the hub's
/// own certificate; the hub knows both.
/// Guarantee: nobody could verify what it signs with what a line leads to, so
/// nobody is invited, a line from before is not used up, and the log says at the
/// start what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_nobody_could_verify_is_found_first() {
    let mut world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    let both = std::fs::read_to_string(world.pki("ca.pem")).unwrap() + &intermediate(&world);
    std::fs::write(world.pki("both.pem"), both).unwrap();
    let config = world.directory.path().join("hub.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let changed = before
        .replace("roots = \"pki/ca.pem\"", "roots = \"pki/both.pem\"")
        .replace("= \"pki/ca.", "= \"pki/middle.");
    std::fs::write(&config, changed).unwrap();
    world.hub.restart();
    until("it says so at the start", || {
        world.hub.log().contains("under another root")
    });
    refused(
        &at(&world.hub, &["parties", "invite", NEW]),
        &["under another root", "use a CA under the hub's root"],
    );
    let said = join(&world, &line, "node", &[]);
    refused(&said, &["CA_UNAVAILABLE"]);
    assert_eq!(state_of(&world.hub, &line), "INVITATION_STATE_OPEN");
    std::fs::write(&config, before).unwrap();
    world.hub.restart();
    join(&world, &line, "node", &[]).good();
}

/// Scenario: the line is cut between "the hub has signed" and "the region has
/// the answer"; the same line is run again, then by somebody else.
/// Guarantee: the region is told to run it again, and joins with the key that it
/// made first; nobody else does.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_costs_nothing() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let line = invite(&world.hub, NEW, &[]);
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap().to_string();
    let deaf = forged(&line, |line| line.addresses = vec![address]);
    let mut joining = tokio::process::Command::from(command(&world, &deaf, "node", &[]));
    joining.stderr(std::process::Stdio::piped());
    let joining = joining.spawn().unwrap();
    let (node, _) = relay.accept().await.unwrap();
    let hub = TcpStream::connect(world.links()).await.unwrap();
    let ((mut from_node, mut to_node), (mut from_hub, mut to_hub)) =
        (node.into_split(), hub.into_split());
    let has_spoken = std::sync::atomic::AtomicBool::new(false);
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_node.read(&mut buffer).await {
            to_hub.write_all(&buffer[..count]).await.unwrap();
            // The hub has spoken: this is the end of the handshake and the
            // call, and nothing comes back from here on.
            if has_spoken.load(std::sync::atomic::Ordering::SeqCst) {
                break;
            }
        }
        let _ = tokio::io::copy(&mut from_node, &mut to_hub).await;
    };
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        // Long enough for the hub's whole first flight, in one read or more.
        let mut passed = 0;
        while passed < 1_500 {
            let count = from_hub.read(&mut buffer).await.unwrap();
            passed += count;
            to_node.write_all(&buffer[..count]).await.unwrap();
            has_spoken.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        eventually("the hub has signed", || async {
            world.hub.log().contains("\"party_joined\"")
        })
        .await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    drop((from_node, to_node, from_hub, to_hub));
    let said = Said::of(&joining.wait_with_output().await.unwrap());
    refused(&said, &["run the same line again"]);
    assert_eq!(certificates(&world.hub, NEW).len(), 1);
    assert!(!config(&world, "node").exists(), "no half settings");

    join(&world, &line, "node", &[]).good();
    assert_eq!(certificates(&world.hub, NEW).len(), 2);
    refused(&join(&world, &line, "thief", &[]), &["CODE_USED"]);
}

/// Scenario: a node that has joined makes a new key; the hub is not reached,
/// then refuses the line, then takes a good one.
/// Guarantee: the pair that works is not touched before the hub has answered
/// and what it gave was checked; the key that was begun is the one that is used
/// in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_leaves_the_working_pair_alone() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let first = invite(&world.hub, NEW, &[]);
    join(&world, &first, "node", &[]).good();
    let pair = pair(&world, "node", NEW);
    let working = std::fs::read_to_string(&pair).unwrap();
    let key_of = |text: &str| {
        let end = text.find("-----BEGIN CERTIFICATE").unwrap_or(text.len());
        text[..end].to_owned()
    };
    let begun = pair.with_file_name(format!("{NEW}.pem.joining"));
    let again = |line: &str| join(&world, line, "node", &["--force", "--new-key"]);

    let line = invite(&world.hub, NEW, &[]);
    let nobody = crate::support::free_port().to_string();
    let dead = forged(&line, |line| line.addresses = vec![nobody]);
    refused(&again(&dead), &["HUB_UNREACHABLE"]);
    let key = std::fs::read_to_string(&begun).unwrap();
    assert_ne!(key, key_of(&working));
    refused(&again(&first), &["CODE_USED"]);
    assert_eq!(std::fs::read_to_string(&pair).unwrap(), working);

    again(&line).good();
    let renewed = std::fs::read_to_string(&pair).unwrap();
    assert_eq!(key_of(&renewed), key);
    assert!(!begun.exists());
}

/// Scenario: the only way out is a proxy; of the hub's two addresses the first
/// is dead; the party is registered as unary.
/// Guarantee: joined through both, as the link would go; a unary party gets
/// files and no settings of an adapter.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_and_past_a_dead_address() {
    let world = enrolling(86_400);
    register(&world.hub, NEW);
    let mut proxy = crate::tls_ways::HttpProxy::start(Some("dinas:rahasia"), "127.0.0.1:").await;
    let line = invite(&world.hub, NEW, &[]);
    let dead = crate::support::free_port().to_string();
    let both = forged(&line, |line| line.addresses.insert(0, dead.clone()));
    let way = format!("http://dinas:rahasia@{}", proxy.address);
    let said = join(&world, &both, "node", &["--proxy", &way]).good();
    assert!(!said.err.contains("rahasia"), "{}", said.err);
    let mut through = Vec::new();
    while let Ok(target) = proxy.connected.try_recv() {
        through.push(target);
    }
    let hub = world.links().to_string();
    assert!(through.contains(&hub), "{through:?}");
    let settings = std::fs::read_to_string(config(&world, "node")).unwrap();
    for part in [dead.as_str(), hub.as_str(), way.as_str()] {
        assert!(settings.contains(part), "{part}");
    }

    let line = invite(&world.hub, "mitra", &[]);
    let said = join(&world, &line, "unary", &[]).good();
    assert!(said.err.contains("unary"), "{}", said.err);
    assert!(pair(&world, "unary", "mitra").exists());
    assert!(!config(&world, "unary").exists());
    assert_eq!(jembatan(&["join", "--help"]).code, 0);
}
