//! Fills messages with meaningful values by their descriptors, and writes them
//! with an encoder of its own: the generated code is what is looked at, so it
//! can't be what makes the bytes.

use std::collections::BTreeMap;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// The messages and enumerations of `jembatan.v1`.
pub(crate) struct Contract<'a> {
    messages: Vec<&'a DescriptorProto>,
    enums: BTreeMap<&'a str, &'a EnumDescriptorProto>,
}

impl<'a> Contract<'a> {
    pub(crate) fn new(set: &'a FileDescriptorSet) -> Self {
        let ours = || {
            set.file
                .iter()
                .filter(|file| file.package() == "jembatan.v1")
        };
        Self {
            messages: ours().flat_map(|file| &file.message_type).collect(),
            enums: ours()
                .flat_map(|file| &file.enum_type)
                .map(|found| (found.name(), found))
                .collect(),
        }
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &'a DescriptorProto> {
        self.messages.iter().copied()
    }

    /// How many arms the oneof of a message has; 0: it has none.
    pub(crate) fn arms(&self, message: &DescriptorProto) -> usize {
        message.field.iter().filter(|field| is_arm(field)).count()
    }

    /// A message with every field set, and this arm of its oneof.
    pub(crate) fn example(&self, name: &str, arm: usize) -> Vec<u8> {
        self.fill(name, arm, 0)
    }

    fn fill(&self, name: &str, arm: usize, depth: usize) -> Vec<u8> {
        let message = self.messages.iter().find(|found| found.name() == name);
        let message = message.unwrap_or_else(|| panic!("a message {name}"));
        let mut fields: Vec<&FieldDescriptorProto> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let chosen = message.field.iter().filter(|field| is_arm(field)).nth(arm);
        let chosen = chosen.map(FieldDescriptorProto::number);
        let mut bytes = Vec::new();
        for field in fields {
            if !is_arm(field) || Some(field.number()) == chosen {
                self.field(name, field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(&self, of: &str, field: &FieldDescriptorProto, depth: usize, bytes: &mut Vec<u8>) {
        let number = field.number() as u64;
        let name = field.name();
        let is_repeated = field.label() == Label::Repeated;
        // Deep down one element is enough to read.
        let times = if is_repeated && depth == 0 { 2 } else { 1 };
        match field.r#type() {
            Type::Message => {
                let kind = field.type_name().rsplit('.').next().unwrap();
                for place in 0..times {
                    let inner = match kind {
                        "Timestamp" => timestamp(number),
                        _ => self.fill(kind, place, depth + 1),
                    };
                    put_bytes(bytes, number, &inner);
                }
            }
            Type::String => {
                let texts = texts(of, name);
                let count = if is_repeated { texts.len() } else { 1 };
                for text in &texts[..count] {
                    put_bytes(bytes, number, text.as_bytes());
                }
            }
            Type::Bytes => (0..times).for_each(|place| {
                put_bytes(bytes, number, &self.raw(of, name, place as u8));
            }),
            Type::Double => {
                put_varint(bytes, number << 3 | 1);
                let degrees: f64 = if name == "latitude" {
                    -6.9903
                } else {
                    110.4229
                };
                bytes.extend_from_slice(&degrees.to_le_bytes());
            }
            Type::Sint64 => {
                put_varint(bytes, number << 3);
                put_varint(bytes, (251 << 1) - 1); // zigzag of −251
            }
            kind => {
                let values = match kind {
                    Type::Enum => self.enum_values(of, field),
                    // An optional flag that says "no" is not the same as none.
                    Type::Bool => {
                        vec![u64::from(!(field.proto3_optional() && name == "anonymous"))]
                    }
                    _ => vec![number_of(of, name)],
                };
                if is_repeated {
                    let mut packed = Vec::new();
                    values
                        .iter()
                        .for_each(|value| put_varint(&mut packed, *value));
                    put_bytes(bytes, number, &packed);
                } else {
                    put_varint(bytes, number << 3);
                    put_varint(bytes, values[0]);
                }
            }
        }
    }

    /// Values of an enumeration that are set; which one comes first depends on
    /// the field, so that together the examples show many.
    fn enum_values(&self, of: &str, field: &FieldDescriptorProto) -> Vec<u64> {
        let kind = field.type_name().rsplit('.').next().unwrap();
        let values = &self.enums[kind].value[1..];
        if (of, field.name()) == ("Part", "kind") {
            return vec![1]; // what its content is, see raw()
        }
        let turn: usize = of
            .bytes()
            .chain(field.name().bytes())
            .map(usize::from)
            .sum();
        (0..values.len())
            .map(|place| values[(turn + place) % values.len()].number() as u64)
            .take(2)
            .collect()
    }

    fn raw(&self, of: &str, name: &str, place: u8) -> Vec<u8> {
        let salt = [0x5a; 16];
        match (of, name) {
            ("Entry", "event") => self.fill("Event", 0, 1),
            ("Entry", "header") => self.fill("DeliveryHeader", 0, 1),
            ("Part", "content") => [&salt, self.fill("Content", 0, 1).as_slice()].concat(),
            (_, "chunk") => b"\xff\xd8\xff\xe0 the next bytes of a file".to_vec(),
            ("Sealed", "ciphertext") => vec![0xc1; 24],
            (_, "signing_request" | "certificate_chain" | "roots") => vec![0x30, 0x82, 1, place],
            (_, "event_id") => id(0xe1),
            (_, "complaint_id") => id(0xc0),
            (_, "into_complaint_id") => id(0xc2),
            (_, "instance_id" | "incarnation") => vec![0x1d; 16],
            (_, "sha256" | "handover_digest") => vec![0xd1; 32],
            (_, "chain" | "head_chain" | "previous_chain") => vec![0xca; 32],
            (_, "stored_digest") => vec![0xd2; 32],
            (_, "refused_digest") => vec![0xd3; 32],
            _ => panic!("say what {of}.{name} holds"),
        }
    }
}

/// Field numbers at the top of a message's bytes.
pub(crate) fn field_numbers(mut bytes: &[u8]) -> Vec<i32> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        found.push((key >> 3) as i32);
        let skip = match key & 7 {
            0 => {
                take_varint(&mut bytes);
                0
            }
            1 => 8,
            2 => take_varint(&mut bytes) as usize,
            other => panic!("no such wire type here: {other}"),
        };
        bytes = &bytes[skip..];
    }
    found
}

fn is_arm(field: &FieldDescriptorProto) -> bool {
    field.oneof_index.is_some() && !field.proto3_optional()
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn put_bytes(bytes: &mut Vec<u8>, number: u64, inner: &[u8]) {
    put_varint(bytes, number << 3 | 2);
    put_varint(bytes, inner.len() as u64);
    bytes.extend_from_slice(inner);
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Each field of a message has a moment of its own.
fn timestamp(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, 1 << 3);
    put_varint(&mut bytes, 1_790_000_000 + number);
    put_varint(&mut bytes, 2 << 3);
    put_varint(&mut bytes, 123_456_000);
    bytes
}

/// Sixteen bytes that have the shape of a uuid v8.
fn id(byte: u8) -> Vec<u8> {
    let mut bytes = vec![byte; 16];
    bytes[6] = 0x8a;
    bytes[8] = 0xb5;
    bytes
}

fn number_of(of: &str, name: &str) -> u64 {
    match (of, name) {
        ("Open", "versions") | ("Opened", "version") => 1,
        ("ItemError", "code") => 6,
        ("Rated", "stars") => 4,
        ("Attachment", "size_bytes") => 248_113,
        (_, "size_bytes") => 187,
        (_, "epoch") => 1_790_000_000,
        (_, "window_entries") => 4_096,
        (_, "window_bytes") => 4_194_304,
        (_, "frame_bytes" | "event_bytes") => 65_536,
        (_, "part_bytes") => 262_144,
        (_, "heartbeat_interval_ms") => 10_000,
        (_, "dead_after_ms") => 45_000,
        (_, "fetch_wait_ms" | "wait_for_hub_ms" | "wait_ms") => 30_000,
        (_, "events_per_complaint" | "limit" | "retry_after_ms") => 1_000,
        (_, "attachments_per_event" | "max_hops") => 5,
        (_, "attachment_bytes") => 5_242_880,
        (_, "hops") => 2,
        (_, "expected_revision" | "revision") => 3,
        (_, "current_revision") => 4,
        (_, "orphans" | "parked" | "unreadable") => 1,
        (_, "valid_seconds") => 259_200,
        (_, "after" | "next") => 68_719_476_748,
        (_, "offset" | "stored_bytes") => 131_072,
        (_, "first_position") => 9,
        (_, "last_position" | "head" | "submissions_head") => 14,
        (_, "position" | "duplicate_of") => 12,
        (_, "deliveries_head") => 21,
        (_, "consumed_through") => 20,
        (_, "backlog_entries" | "backlog" | "in_triage" | "rejected" | "ordinal") => 2,
        (_, "accepted" | "count") => 400,
        (_, "duplicates" | "repeated_handovers") => 7,
        _ => panic!("say which number {of}.{name} holds"),
    }
}

/// Of the form of `domain/invitation.rs`.
const LINE: &str = "jembatan1/pemda-33.74/hub.contoh.example:8443/t78x3meht78x3meht78x3meht78x3meht78x3meht78x3meht78g0000/k7qd2m9xpv4t8r1c0aehg53wznj6bfsyk7qd2m9x/1790000002/s408x57s";

fn texts(of: &str, name: &str) -> &'static [&'static str] {
    match (of, name) {
        ("Party", "id") => &["pemda-33.74"],
        (_, "party" | "origin_party") => &["pemda-33.74"],
        ("ForeignReference", "system") => &["lapor"],
        (_, "system" | "origin_system") => &["lapor-semar"],
        (_, "key") => &["LS-2026-000001/2"],
        ("ForeignReference", "reference") => &["8123456"],
        (_, "reference" | "origin_reference" | "own_reference") => &["LS-2026-000001"],
        (_, "time_zone") => &["Asia/Jakarta"],
        (_, "acting_institution" | "handler" | "institution" | "addressed_to") => &["pemda-33.74"],
        (_, "suggested_institution" | "parent") => &["pemda-33"],
        (_, "institutions" | "observes_institutions") => &["kl-pu", "pemda-33"],
        ("Sealed", "scheme") => &["age-x25519"],
        ("Sealed", "key_ids") => &["kunci-1", "kunci-2"],
        (_, "which") => &["pemda-33.74/12", "d796c993-73f8-8a4d-bbd9-50feae044c33"],
        (_, "not_found") => &["pemda-33.74/1790000000/13"],
        (_, "title") => &["Jalan berlubang"],
        (_, "body") => &["Sudah sebulan jalan di depan pasar berlubang."],
        ("Reporter", "address") => &["Jalan Contoh 9, Semarang"],
        (_, "address") => &["Jalan Pemuda, depan pasar"],
        (_, "text") => &["Perbaikan dijadwalkan pekan depan."],
        (_, "attachment_names") => &["foto-1.jpg", "foto-2.jpg"],
        ("Reporter", "name") => &["Pelapor Uji 900"],
        ("LocalStatus" | "UnmappedStatus", "name") => &["Ditindaklanjuti"],
        ("Category", "name") => &["Jalan rusak"],
        ("NamedAttachment", "name") => &["foto-1.jpg"],
        ("Party" | "Institution", "name") => &["Kota Semarang"],
        (_, "nik") => &["0000000000000900"],
        (_, "phone") => &["+62-000-0000-900"],
        (_, "email") => &["pelapor900@contoh.example"],
        ("LocalStatus" | "UnmappedStatus", "code") => &["followup"],
        ("Institution", "code") => &["pemda-33.74"],
        ("Category", "code") | (_, "category") => &["road-damage"],
        ("JoinRequest", "code") => &["k7qd2m9xpv4t8r1c0aehg53wznj6bfsyk7qd2m9x"],
        ("Invitation" | "InviteResponse" | "RevokeInvitationRequest", "id") | (_, "invitation") => {
            &["k7qd2m9x"]
        }
        (_, "used_from" | "remote") => &["192.0.2.7"],
        (_, "party_name") => &["Kota Semarang"],
        ("RefusedJoin", "reason") => &["CODE_EXPIRED"],
        (_, "media_type") => &["image/jpeg"],
        (_, "kind") => &["complaint"],
        (_, "region") => &["33.74"],
        (_, "occurred_on" | "effective_on") => &["2026-11-24"],
        (_, "channel") => &["web"],
        (_, "unit") => &["DPU"],
        (_, "capabilities") => &["contoh-a", "contoh-b"],
        (_, "software") => &["contoh/1.2.3"],
        (_, "minimum_version") => &["contoh/1.3.0"],
        ("GetPolicyResponse", "version") => &["2026-2"],
        (_, "tracking_id") => &["XRXZ9SNCEDARA"],
        (_, "fields") => &["filed.region", "filed.kind"],
        (_, "text_id") => &["Isian filed.region tidak benar."],
        (_, "text_en" | "message") => &["Field filed.region is wrong."],
        ("UnreadableItem", "reason") => &["UNREADABLE"],
        ("UnmappedStatus", "reason") => &["UNMAPPED_STATUS"],
        ("Alarm", "reason") => &["CRL_EXPIRED"],
        (_, "reason") => &["CONFLICT"],
        (_, "certificate_fingerprints") => {
            &["d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"]
        }
        (_, "serial") => &["5f3a9c01"],
        (_, "note") => &["kunci hilang"],
        (_, "line") => &[LINE],
        (_, "complaint_id") => &["6c5aff43-b551-8fe6-9f9c-da9ace00fc89"],
        (_, "event_id") => &["d796c993-73f8-8a4d-bbd9-50feae044c33"],
        (_, "after" | "through" | "cursor") => &["1790000000000000-21"],
        (_, "role") => &["adapter"],
        (_, "explanation") => &["connected and up to date"],
        _ => panic!("say which text {of}.{name} holds"),
    }
}
