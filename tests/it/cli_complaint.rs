//! A whole pilot by hand: every event of a complaint from the command line.

use serde_json::Value;

use crate::{
    cli::{Said, at, filing, until, verdict, write_lines},
    support::{Node, World},
};

/// A complaint and the door at which something is said about it.
fn say(node: &Node, verb: &str, complaint: &str, more: &[&str]) -> Said {
    let mut arguments = vec!["complaint", verb, complaint];
    arguments.extend(more);
    at(node, &arguments)
}

fn show(node: &Node, complaint: &str) -> Value {
    let said = at(node, &["complaint", "show", complaint, "--output", "json"]);
    said.good().json()
}

fn file(world: &World, node: &Node, line: String) {
    let path = world.directory.path().join("one.jsonl");
    write_lines(&path, &[line]);
    at(node, &["submit", path.to_str().unwrap()]).good();
}

/// Files a complaint and waits until the hub has decided; its Tracking ID.
fn filed(world: &World, node: &Node, reference: &str) -> String {
    file(world, node, filing(reference));
    decided(node, reference)
}

fn decided(node: &Node, reference: &str) -> String {
    until("decided", || {
        show(node, reference)["trackingId"].is_string()
    });
    let view = show(node, reference);
    view["trackingId"].as_str().unwrap().to_owned()
}

fn arrived(node: &Node, id: &str, revision: u64) {
    until("arrived", || {
        let said = at(node, &["complaint", "show", id, "--json"]);
        said.code == 0 && said.json()["revision"].as_u64() >= Some(revision)
    });
}

/// Scenario: a city's node whose hub is away files a complaint; the hub comes
/// back.
/// Guarantee: until the hub has decided, `show` says so, and never "national
/// triage"; afterwards it says when the hub accepted it.
#[test]
fn what_is_not_decided_is_not_in_triage() {
    let mut world = World::new();
    let city = world.adapter("pemda-33.74");
    world.hub.kill();
    file(&world, &city, filing("U-1"));
    let text = at(&city, &["complaint", "show", "U-1"]).good().out;
    assert!(text.contains("handler       not decided yet"), "{text}");
    assert!(text.contains("stored here only"), "{text}");
    assert!(!text.contains("triage"), "{text}");
    world.hub.restart();
    decided(&city, "U-1");
    let text = at(&city, &["complaint", "show", "U-1"]).good().out;
    assert!(text.contains("handler       pemda-33.74"), "{text}");
    assert!(text.contains("at the hub  accepted"), "{text}");
}

/// Scenario: triage, a city and a province serve complaints with nothing but
/// this program: every verb there is, each at the door of whoever may say it.
/// Guarantee: each is accepted and moves the complaint as it says; `show` tells
/// who, for whom, when, the unit, the hops, and which parts are here; what may
/// not be is refused with the reason and exit code 1.
#[test]
fn every_event_by_hand() {
    let world = World::new();
    let hub = &world.hub;
    let city = world.adapter("pemda-33.74");
    let province = world.adapter("pemda-33");
    // Without a region no rule fits: it stands in triage.
    file(&world, &province, filing("P-1").replace("33.74", ""));
    let id = decided(&province, "P-1");
    arrived(hub, &id, 1);
    let text = at(&province, &["complaint", "show", &id]).good().out;
    assert!(text.contains("handler       national triage"), "{text}");
    let at_revision = |revision: u64| {
        for node in [&city, &province] {
            arrived(node, &id, revision);
        }
    };
    say(hub, "verify", &id, &[]).good();
    let classified = [
        "--kind",
        "complaint",
        "--category",
        "street-light",
        "--oversight",
        "true",
    ];
    say(hub, "classify", &id, &classified).good();
    say(
        hub,
        "forward",
        &id,
        &["--to", "pemda-33.74", "--unit", "OPD"],
    )
    .good();
    at_revision(4);
    let started = ["--unit", "DPU", "--own-reference", "SMG-7"];
    say(&city, "start", &id, &started).good();
    let note = ["-m", "Cek lapangan.", "--internal"];
    say(&city, "progress", &id, &note).good();
    let until_when = ["--until", "2027-01-15T00:00:00+07:00", "-m", "Anggaran."];
    let postponed = say(&city, "postpone", &id, &until_when).good();
    assert!(
        postponed.out.contains("status postponed"),
        "{}",
        postponed.out
    );
    say(&city, "ask", &id, &["-m", "Di mana?"]).good();
    at_revision(8);
    say(&province, "reply", &id, &["-m", "Depan pasar."]).good();
    at_revision(9);
    let answer = ["-m", "Selesai.", "--acting-institution", "pemda-33.74"];
    say(&city, "respond", &id, &answer).good();
    let strange = ["-m", "x", "--acting-institution", "pemda-33"];
    let refused = say(&city, "respond", &id, &strange);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("pemda-33"), "{}", refused.err);
    at_revision(10);
    let stale = say(&province, "rate", &id, &["4", "--expected-revision", "1"]);
    assert_eq!(stale.code, 1, "{}", stale.out);
    say(&city, "close", &id, &[]).good();
    at_revision(11);
    say(&province, "rate", &id, &["5"]).good();
    say(&province, "reopen", &id, &["-m", "Padam lagi."]).good();
    at_revision(13);
    let competent = ["--suggest", "pemda-33", "-m", "Kewenangan provinsi."];
    say(&city, "decline", &id, &competent).good();
    arrived(&province, &id, 14);
    let copied = say(&province, "copy", &id, &["--to", "pemda-33.74"]).good();
    assert!(copied.out.contains("handler pemda-33"), "{}", copied.out);
    let unit = ["--to", "pemda-33.74", "--unit", "Dinas Perkim"];
    say(&province, "forward", &id, &unit).good();
    at_revision(16);
    let hidden = say(&province, "visibility", &id, &["--anonymous", "true"]).good();
    assert!(hidden.out.contains("revision 17"), "{}", hidden.out);
    at_revision(17);

    assert_eq!(
        show(&city, "SMG-7")["trackingId"],
        id.as_str(),
        "own reference"
    );
    let text = at(&city, &["complaint", "show", &id]).good().out;
    for part in [
        "unit          Dinas Perkim",
        "hops          3",
        "visibility    anonymous",
        "revision 10: responded by pemda-33.74 for pemda-33.74",
        "audience    institutions only",
        "parts here  content present",
        "at the hub  accepted 20",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let erased = [
        "--revision",
        "1",
        "--part",
        "reporter",
        "-m",
        "Permintaan pelapor.",
    ];
    say(&province, "erase", &id, &erased).good();
    let wrong = say(
        &province,
        "erase",
        &id,
        &["--revision", "99", "--part", "content"],
    );
    assert!(wrong.err.contains("no revision 99"), "{}", wrong.err);
    until("erased at the city too", || {
        let text = at(&city, &["complaint", "show", &id]).good().out;
        text.contains("reporter erased")
    });

    file(&world, &province, filing("P-2").replace("33.74", ""));
    let other = decided(&province, "P-2");
    arrived(hub, &other, 1);
    let into = ["--into", id.as_str()];
    let refused = say(&province, "merge", &other, &into);
    assert!(refused.err.contains("national desk"), "{}", refused.err);
    say(hub, "merge", &other, &into).good();
    arrived(&province, &other, 2);
    assert_eq!(show(&province, &other)["status"], "STATUS_MERGED");

    let third = filed(&world, &province, "P-3");
    say(&province, "withdraw", &third, &["-m", "Sudah diperbaiki."]).good();
    assert_eq!(show(&province, &third)["status"], "STATUS_ARCHIVED");
    let fourth = filed(&world, &province, "P-4");
    let escalated = say(&province, "escalate", &fourth, &[]);
    assert!(escalated.err.contains("--consent"), "{}", escalated.err);
    let escalated = say(&province, "escalate", &fourth, &["--consent"]).good();
    assert!(
        escalated.out.contains("status escalated"),
        "{}",
        escalated.out
    );
    let fifth = filed(&world, &province, "P-5");
    arrived(&city, &fifth, 1);
    let archived = ["--reason", "duplicate", "-m", "Sama dengan P-1."];
    say(&city, "archive", &fifth, &archived).good();
    let wrong = say(&city, "archive", &fifth, &["--reason", "bored"]);
    assert!(wrong.err.contains("out_of_scope"), "{}", wrong.err);
}

/// Scenario: an operator disables a party, adds to what is known of it, and
/// starts the hub again, whose settings name a directory file.
/// Guarantee: adding keeps name, fingerprints and observed institutions, and
/// never lets a disabled party in again; nor does the file; `enable` does.
/// `status` says disabled, and no link where there is none.
#[test]
fn adding_a_party_neither_wipes_nor_enables_it() {
    let mut world = World::new();
    let add = |world: &World, more: &[&str]| {
        let mut arguments = vec!["parties", "add", "pemda-33"];
        arguments.extend(more);
        arguments.extend(["--output", "json"]);
        at(&world.hub, &arguments).good()
    };
    let fingerprint = "ab".repeat(32);
    add(
        &world,
        &["--name", "Jawa Tengah", "--fingerprint", &fingerprint],
    );
    at(&world.hub, &["parties", "disable", "pemda-33"]).good();
    let said = add(&world, &["--observes", "pemda-33.74", "--observes-all"]);
    assert!(said.err.contains("stays so"), "{}", said.err);
    let party = said.json();
    assert_eq!(party["name"], "Jawa Tengah");
    assert_eq!(party["certificateFingerprints"][0], fingerprint.as_str());
    assert_eq!(party["observesInstitutions"][0], "pemda-33.74");
    assert_eq!(party["observesAll"], true);
    assert_eq!(party.get("enabled"), None, "still disabled: {party}");
    let party = add(&world, &["--observes-all=false"]).json();
    assert_eq!(party.get("observesAll"), None, "{party}");

    assert_eq!(verdict(&world.hub, "pemda-33"), "VERDICT_DISABLED");
    assert_eq!(verdict(&world.hub, "mitra"), "VERDICT_NO_LINK");
    assert_eq!(verdict(&world.hub, "nasional"), "VERDICT_NO_LINK");
    let table = at(&world.hub, &["status"]).good().out;
    let of = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(
        of("pemda-33 ").contains("parties enable pemda-33"),
        "{table}"
    );
    assert!(of("mitra").contains("no_link"), "{table}");

    world.hub.restart();
    assert_eq!(verdict(&world.hub, "pemda-33"), "VERDICT_DISABLED");
    at(&world.hub, &["parties", "enable", "pemda-33"]).good();
    assert_eq!(verdict(&world.hub, "pemda-33"), "VERDICT_NEVER_CONNECTED");
    let node = world.adapter("pemda-33");
    until("in again", || {
        verdict(&node, "pemda-33") == "VERDICT_HEALTHY"
    });
    let revoked = at(&world.hub, &["parties", "revoke", "0a1b"]).good();
    assert_eq!(revoked.out.trim(), "0a1b");
}

/// Scenario: an institution is disabled while it has a complaint, the hub is
/// started again, another complaint for it comes; then it is enabled.
/// Guarantee: it keeps and can end what it has; what comes meanwhile goes to
/// national triage; then it gets complaints again.
#[test]
fn a_disabled_institution_gets_no_complaint() {
    let mut world = World::new();
    let city = world.adapter("pemda-33.74");
    let had = filed(&world, &city, "D-1");
    let set = |world: &World, verb: &str| {
        let said = at(&world.hub, &["institutions", verb, "pemda-33.74"]);
        said.good().out
    };
    assert!(set(&world, "disable").contains("no"));
    world.hub.restart();
    let listed = at(&world.hub, &["institutions", "list", "--json"])
        .good()
        .json();
    let city_there = listed.as_array().unwrap().iter();
    let mut city_there = city_there.filter(|found| found["code"] == "pemda-33.74");
    assert_eq!(city_there.next().unwrap()["disabled"], true, "{listed}");
    until("connected", || {
        verdict(&city, "pemda-33.74") == "VERDICT_HEALTHY"
    });
    say(&city, "respond", &had, &["-m", "Selesai."]).good();
    say(&city, "close", &had, &[]).good();
    filed(&world, &city, "D-2");
    assert_eq!(show(&city, "D-2").get("handler"), None, "triage");
    set(&world, "enable");
    filed(&world, &city, "D-3");
    assert_eq!(show(&city, "D-3")["handler"], "pemda-33.74");

    let named = [
        "institutions",
        "add",
        "pemda-33.74",
        "--name",
        "Kota Semarang",
    ];
    let table = at(&world.hub, &named).good().out;
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.contains("pemda-33.74  yes") && row.contains("Kota Semarang"),
        "its party stays: {table}"
    );
    let new = at(&world.hub, &["institutions", "add", "kl-pu"]);
    assert_eq!(new.code, 1);
    assert!(new.err.contains("--through"), "{}", new.err);
}
