//! The contract: nothing that was promised goes away, and everything has its
//! comment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use jembatan::{
    domain::{EVENT_BYTES, Limits, PART_BYTES, PARTS_PER_EVENT, Policy, RejectionReason},
    wire::v1,
};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The image of the last release; `buf build -o` makes it.
const IMAGE: &[u8] = include_bytes!("../../proto/jembatan-v1.binpb");

/// Everything that a client may rely on, as lines.
fn promises(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in ours(set) {
        for message in &file.message_type {
            message_promises("", message, &mut found);
        }
        for kind in &file.enum_type {
            for value in &kind.value {
                found.insert(format!(
                    "{} {} = {}",
                    kind.name(),
                    value.name(),
                    value.number()
                ));
            }
        }
        for service in &file.service {
            for method in &service.method {
                found.insert(format!(
                    "{}.{} {} {} {} {}",
                    service.name(),
                    method.name(),
                    method.input_type(),
                    method.output_type(),
                    method.client_streaming(),
                    method.server_streaming()
                ));
            }
        }
    }
    found
}

fn ours(set: &FileDescriptorSet) -> impl Iterator<Item = &FileDescriptorProto> {
    set.file
        .iter()
        .filter(|file| file.package() == "jembatan.v1")
}

fn message_promises(prefix: &str, message: &DescriptorProto, found: &mut BTreeSet<String>) {
    let name = format!("{prefix}{}", message.name());
    for field in &message.field {
        found.insert(format!(
            "{name} {} {} = {} {:?} {}",
            field.type_name(),
            field.name(),
            field.number(),
            field.label(),
            field.r#type() as i32
        ));
    }
    for nested in &message.nested_type {
        message_promises(&format!("{name}."), nested, found);
    }
}

/// Scenario: the checked-in image of the contract against the contract now.
/// Guarantee: every message field, enum value and RPC of the image is still
/// there with its number and its type.
#[test]
fn nothing_promised_goes_away() {
    let image = FileDescriptorSet::decode(IMAGE).unwrap();
    let now = FileDescriptorSet::decode(v1::DESCRIPTOR_SET).unwrap();
    let promised = promises(&image);
    assert!(
        promised.len() > 300,
        "the image is whole: {}",
        promised.len()
    );
    let broken: Vec<_> = promised.difference(&promises(&now)).cloned().collect();
    assert_eq!(broken, Vec::<String>::new());
}

/// Scenario: the contract now against the checked-in image.
/// Guarantee: the image holds all of it, so that what is new is promised too;
/// `(cd proto && buf build -o jembatan-v1.binpb)` brings it up to date.
#[test]
fn the_image_holds_all_of_the_contract() {
    let image = FileDescriptorSet::decode(IMAGE).unwrap();
    let now = FileDescriptorSet::decode(v1::DESCRIPTOR_SET).unwrap();
    let new: Vec<_> = promises(&now)
        .difference(&promises(&image))
        .cloned()
        .collect();
    assert_eq!(new, Vec::<String>::new());
}

/// Scenario: a field is removed from a copy of the contract; another changes
/// its number.
/// Guarantee: the gate turns red for each.
#[test]
fn removing_a_field_turns_the_gate_red() {
    let image = FileDescriptorSet::decode(IMAGE).unwrap();
    let promised = promises(&image);
    let mut removed = image.clone();
    let event = find(&mut removed, "Event");
    let gone = event.field.remove(3);
    let broken: Vec<_> = promised.difference(&promises(&removed)).cloned().collect();
    assert_eq!(broken.len(), 1);
    assert!(broken[0].contains(gone.name()));
    let mut renumbered = image.clone();
    find(&mut renumbered, "Event").field[3].number = Some(99);
    assert_eq!(promised.difference(&promises(&renumbered)).count(), 1);
}

fn find<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut DescriptorProto {
    set.file
        .iter_mut()
        .filter(|file| file.package() == "jembatan.v1")
        .flat_map(|file| &mut file.message_type)
        .find(|message| message.name() == name)
        .unwrap()
}

/// Status codes with which an RPC may end.
const CODES: [&str; 10] = [
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "UNAVAILABLE",
];

/// Scenario: every message, field, enum, value, service and RPC.
/// Guarantee: each has a comment of its own; an RPC's names the status codes
/// with which it may end.
#[test]
fn everything_has_a_comment() {
    let now = FileDescriptorSet::decode(v1::DESCRIPTOR_SET).unwrap();
    let mut without = Vec::new();
    let mut silent = Vec::new();
    let mut looked_at = 0;
    for file in ours(&now) {
        let info = file.source_code_info.as_ref().unwrap();
        let comments: BTreeMap<&[i32], &str> = info
            .location
            .iter()
            .map(|place| (place.path.as_slice(), place.leading_comments()))
            .collect();
        let mut check = |path: Vec<i32>, name: String| {
            looked_at += 1;
            if comments
                .get(path.as_slice())
                .is_none_or(|text| text.trim().is_empty())
            {
                without.push(name);
            }
        };
        for (m, message) in file.message_type.iter().enumerate() {
            check(vec![4, m as i32], message.name().to_owned());
            for (f, field) in message.field.iter().enumerate() {
                let name = format!("{}.{}", message.name(), field.name());
                check(vec![4, m as i32, 2, f as i32], name);
            }
        }
        for (e, kind) in file.enum_type.iter().enumerate() {
            check(vec![5, e as i32], kind.name().to_owned());
            for (v, value) in kind.value.iter().enumerate() {
                check(vec![5, e as i32, 2, v as i32], value.name().to_owned());
            }
        }
        for (s, service) in file.service.iter().enumerate() {
            check(vec![6, s as i32], service.name().to_owned());
            for (r, rpc) in service.method.iter().enumerate() {
                let path = vec![6, s as i32, 2, r as i32];
                let comment = comments.get(path.as_slice()).copied().unwrap_or_default();
                if !CODES.iter().any(|code| comment.contains(code)) {
                    silent.push(rpc.name().to_owned());
                }
                check(path, rpc.name().to_owned());
            }
        }
    }
    assert!(looked_at > 300, "{looked_at}");
    assert_eq!(without, Vec::<String>::new());
    assert_eq!(silent, Vec::<String>::new(), "name no status code");
}

/// The section of docs/protocol.md with this heading.
fn section(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, after) = document.split_once(&format!("\n## {heading}")).unwrap();
    after.split("\n## ").next().unwrap().to_owned()
}

/// Words such as PARTY_NOT_REGISTERED that stand in quotes in a source file.
fn reasons(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let source = fs::read_to_string(path).unwrap();
    let is_reason =
        |text: &&str| text.len() > 5 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let quoted = source.split('"').skip(1).step_by(2);
    quoted.filter(is_reason).map(str::to_owned).collect()
}

/// Scenario: every reason that a hub or a door can send, from the code, beside
/// the tables of docs/protocol.md; and so every outcome and reason of a drain.
/// Guarantee: none is missing there.
#[test]
fn every_reason_is_in_the_document() {
    let errors = section("11. Errors");
    let sources = [
        "hub/exchange.rs",
        "door/error.rs",
        "link/serve.rs",
        "exchange/opening.rs",
    ];
    let sent: BTreeSet<String> = sources.iter().flat_map(|file| reasons(file)).collect();
    assert!(
        sent.contains("JOURNAL_MISMATCH") && sent.len() >= 12,
        "{sent:?}"
    );
    let missing: Vec<_> = sent
        .iter()
        .filter(|reason| !errors.contains(&format!("`{reason}`")))
        .collect();
    assert_eq!(missing, Vec::<&String>::new(), "not in section 11");
    let decisions = section("8. Decisions");
    for reason in RejectionReason::ALL {
        let row = format!("| `{}` |", reason.code());
        assert!(decisions.contains(&row), "{row}");
    }
    let set = FileDescriptorSet::decode(v1::DESCRIPTOR_SET).unwrap();
    let stream = section("6. The stream");
    for kind in ours(&set).flat_map(|file| &file.enum_type) {
        let (prefix, text) = match kind.name() {
            "DrainReason" => ("DRAIN_REASON_", &stream),
            "Outcome" => ("OUTCOME_", &decisions),
            _ => continue,
        };
        for value in kind.value.iter().skip(1) {
            let word = format!("`{}`", value.name().strip_prefix(prefix).unwrap());
            assert!(text.contains(&word), "{word}");
        }
    }
}

/// A number as the document writes it: 65 536.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && digits.len() > 3 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Scenario: the table of numbers beside the code's own.
/// Guarantee: they are the same.
#[test]
fn the_numbers_are_those_of_the_code() {
    let numbers = section("14. Numbers");
    let limits = Limits::default();
    let policy = Policy::default();
    let window = format!(
        "| window | {} entries, {} bytes |",
        spaced(limits.window_entries.into()),
        spaced(limits.window_bytes)
    );
    let attachments = format!(
        "| attachments of an event | {} of {} bytes |",
        policy.attachments_per_event,
        spaced(policy.attachment_bytes)
    );
    let seconds = |ms: u32| ms / 1_000;
    let rows = [
        format!("| event, encoded | {} bytes |", spaced(EVENT_BYTES as u64)),
        format!(
            "| part, with its salt | {} bytes |",
            spaced(PART_BYTES as u64)
        ),
        format!("| parts of an event | {PARTS_PER_EVENT} |"),
        window,
        format!(
            "| frame | {} bytes, or one entry |",
            spaced(limits.frame_bytes.into())
        ),
        format!("| heartbeat | {} s,", seconds(limits.heartbeat_interval_ms)),
        format!("| dead after | {} s |", seconds(limits.dead_after_ms)),
        format!(
            "| fetch, wait for the hub | {} s |",
            seconds(limits.fetch_wait_ms)
        ),
        format!(
            "| events of a complaint | {} |",
            spaced(policy.events_per_complaint.into())
        ),
        format!("| hops before triage | {} |", policy.max_hops),
        attachments,
    ];
    for row in rows {
        assert!(numbers.contains(&row), "{row}");
    }
}
