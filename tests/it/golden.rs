//! Golden bytes and golden canonical JSON of every message of the contract,
//! replayed through the generated code in both directions and through another
//! implementation of protobuf.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use bytes::Bytes;
use jembatan::wire::v1;
use prost::Message;
use prost_types::{FieldDescriptorProto, FileDescriptorSet};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    golden_fill::{Contract, field_numbers},
    support::{TempStubs, python_with_protobuf},
    vectors::{keep, read},
};

/// JSON of bytes, or bytes of JSON, through the generated type of a message.
fn json_of<M: Message + Default + Serialize>(bytes: &[u8]) -> Value {
    serde_json::to_value(M::decode(bytes).unwrap()).unwrap()
}

fn bytes_of<M: Message + DeserializeOwned>(json: &str) -> Vec<u8> {
    serde_json::from_str::<M>(json).unwrap().encode_to_vec()
}

macro_rules! messages {
    ($($name:ident)+) => {
        const NAMES: &[&str] = &[$(stringify!($name)),+];

        fn to_json(message: &str, bytes: &[u8]) -> Value {
            match message {
                $(stringify!($name) => json_of::<v1::$name>(bytes),)+
                other => panic!("{other} is missing in the list of messages! above"),
            }
        }

        fn to_bytes(message: &str, json: &str) -> Vec<u8> {
            match message {
                $(stringify!($name) => bytes_of::<v1::$name>(json),)+
                other => panic!("{other} is missing in the list of messages! above"),
            }
        }
    };
}

messages! {
    AcknowledgeInboxRequest AcknowledgeInboxResponse Acknowledgement Alarm Archived Attachment
    AttachmentAdded AttachmentHeader Category Classified Closed ComplaintName ComplaintView
    Content Copied CopyRequest Counts DeadLetter DeadLetterCounts DeadLetterSelection Decision
    Decisions Declined DeliveryHeader Drain DropDeadLettersRequest DropDeadLettersResponse Entries
    Entry Erased Escalated Event EventHeader ExchangeRequest ExchangeResponse FetchInboxRequest
    FetchInboxResponse Filed ForeignReference Forwarded Frame GetAttachmentRequest
    GetAttachmentResponse GetComplaintRequest GetComplaintResponse GetJournalChainRequest
    GetJournalChainResponse GetPolicyRequest GetPolicyResponse GetSyncStatusRequest
    GetSyncStatusResponse HandlingStarted Handover Heartbeat HistoryItem InboxEvent InboxItem
    InformationRequested Institution Invitation InviteRequest InviteResponse IssuedCertificate ItemError JoinRequest
    JoinResponse JournalState Limits ListCertificatesRequest ListCertificatesResponse
    ListInstitutionsRequest ListInstitutionsResponse ListInvitationsRequest ListInvitationsResponse
    ListPartiesRequest ListPartiesResponse LocalStatus Merged NamedAttachment NewComplaint
    NewEvent Open Opened Part PartErased PartReference Party PartySync Place Postponed
    PreviousEpoch ProgressReported PutAttachmentRequest PutAttachmentResponse
    PutInstitutionRequest PutInstitutionResponse PutPartyRequest PutPartyResponse Rated Receipt RefusedJoin
    Rejection RenewRequest RenewResponse Reopened Reporter ReporterReplied Responded
    RetryDeadLettersRequest RetryDeadLettersResponse RevokeCertificateRequest
    RevokeCertificateResponse RevokeInvitationRequest RevokeInvitationResponse RoutingRule Sealed
    SetPartyEnabledRequest SetPartyEnabledResponse StatusMirrored SubmitRequest SubmitResponse
    SubmitStreamRequest SubmitStreamResponse UnmappedStatus UnreadableItem Verified VisibilityChanged Withdrawn Withheld
}

struct Golden {
    message: String,
    hex: String,
    json: Value,
}

/// Every file that holds messages.
fn files() -> Vec<String> {
    let transcripts = crate::transcripts::NAMES
        .iter()
        .map(|name| format!("transcripts/{name}.json"));
    ["messages.json".to_owned(), "events.json".to_owned()]
        .into_iter()
        .chain(transcripts)
        .collect()
}

/// The messages that the file of this name holds: a list, or a transcript.
fn goldens(name: &str) -> Vec<Golden> {
    let mut file = read(name);
    let all = match file.get_mut("steps") {
        Some(steps) => steps.take(),
        None => file,
    };
    let all = all.as_array().unwrap().iter();
    all.filter(|found| found.get("message").is_some())
        .map(|found| Golden {
            message: found["message"]
                .as_str()
                .unwrap()
                .replace("jembatan.v1.", ""),
            hex: found["hex"].as_str().unwrap().to_owned(),
            json: found["json"].clone(),
        })
        .collect()
}

fn contract() -> FileDescriptorSet {
    FileDescriptorSet::decode(v1::DESCRIPTOR_SET).unwrap()
}

/// Messages, and fields (each arm of a oneof is one), that no golden shows.
fn not_shown(set: &FileDescriptorSet, goldens: &[Golden]) -> Vec<String> {
    let mut shown: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for golden in goldens {
        let numbers = field_numbers(&hex::decode(&golden.hex).unwrap());
        shown.entry(&golden.message).or_default().extend(numbers);
    }
    let mut missing = Vec::new();
    for message in Contract::new(set).messages() {
        match shown.get(message.name()) {
            None => missing.push(message.name().to_owned()),
            Some(numbers) => missing.extend(
                message
                    .field
                    .iter()
                    .filter(|field| !numbers.contains(&field.number()))
                    .map(|field| format!("{}.{}", message.name(), field.name())),
            ),
        }
    }
    missing
}

/// Scenario: every message of the contract, once for each arm of its oneof,
/// with a value in every field.
/// Guarantee: the bytes mean this JSON, and this JSON gives these bytes; with
/// `JEMBATAN_WRITE_VECTORS=1` what is missing is added and what stands stays.
#[test]
fn golden_messages_stay_as_they_are() {
    let set = contract();
    let kept = goldens("messages.json");
    if std::env::var("JEMBATAN_WRITE_VECTORS").is_ok() {
        let mut all: Vec<Value> = kept.iter().map(written).collect();
        let missing = not_shown(&set, &kept);
        let is_missing = |name: &str| {
            missing
                .iter()
                .any(|found| found.split('.').next() == Some(name))
        };
        let contract = Contract::new(&set);
        for message in contract.messages().filter(|found| is_missing(found.name())) {
            for arm in 0..contract.arms(message).max(1) {
                let bytes = contract.example(message.name(), arm);
                all.push(written(&Golden {
                    message: message.name().to_owned(),
                    json: to_json(message.name(), &bytes),
                    hex: hex::encode(bytes),
                }));
            }
        }
        keep("messages.json", &Value::Array(all));
    }
    for golden in files().iter().flat_map(|name| goldens(name)) {
        let Golden { message, hex, json } = golden;
        let bytes = hex::decode(&hex).unwrap();
        assert_eq!(to_json(&message, &bytes), json, "{message}");
        let back = hex::encode(to_bytes(&message, &json.to_string()));
        assert_eq!(back, hex, "{message} {json}");
    }
}

fn written(golden: &Golden) -> Value {
    json!({"message": format!("jembatan.v1.{}", golden.message), "hex": golden.hex, "json": golden.json})
}

/// Scenario: the descriptor set is laid beside messages.json; then a message
/// loses its examples, an arm loses its own, and the contract gets a field.
/// Guarantee: every message, field and arm has a golden, and each of the three
/// is found by its name.
#[test]
fn every_message_and_every_arm_has_a_golden() {
    let set = contract();
    let mut kept = goldens("messages.json");
    assert_eq!(not_shown(&set, &kept), Vec::<String>::new());
    let names: BTreeSet<&str> = Contract::new(&set).messages().map(|m| m.name()).collect();
    assert_eq!(names, NAMES.iter().copied().collect());

    let mut grown = set.clone();
    let file = grown.file.iter_mut().find(|file| {
        let mut messages = file.message_type.iter();
        messages.any(|message| message.name() == "Place")
    });
    let place = file.unwrap().message_type.iter_mut();
    let place = place.into_iter().find(|message| message.name() == "Place");
    place.unwrap().field.push(FieldDescriptorProto {
        name: Some("grown".to_owned()),
        number: Some(99),
        ..FieldDescriptorProto::default()
    });
    assert_eq!(not_shown(&grown, &kept), ["Place.grown"]);

    kept.retain(|golden| golden.message != "Drain");
    let is_copy_request = |golden: &Golden| golden.json.get("copyRequest").is_some();
    kept.retain(|golden| golden.message != "Frame" || !is_copy_request(golden));
    assert_eq!(not_shown(&set, &kept), ["Frame.copy_request", "Drain"]);
}

/// Scenario: Python's protobuf, with stubs generated from proto/, reads every
/// golden and every frame of every transcript, and writes it again.
/// Guarantee: the same JSON of the bytes, the same bytes of the JSON.
#[test]
fn another_implementation_reads_the_same() {
    let Some(python) = python_with_protobuf() else {
        return;
    };
    let stubs = TempStubs::generate(&python);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/golden.py");
    let output = Command::new(&python)
        .arg(script)
        .arg(stubs.path())
        .args(files().iter().map(|name| crate::vectors::path(name)))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let read: usize = files().iter().map(|name| goldens(name).len()).sum();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), format!("{read} goldens agree"));
}

/// Scenario: a filing with a newer field than this reader knows.
/// Guarantee: it is read, and what is known of it is what it was.
#[test]
fn unknown_fields_are_no_error() {
    let golden = goldens("events.json").remove(0);
    let mut bytes = hex::decode(&golden.hex).unwrap();
    bytes.extend_from_slice(&[0xfa, 0x7f, 0x01, 0x78]); // field 2 047, one byte
    assert_eq!(to_json("Event", &bytes), golden.json);
    assert!(jembatan::wire::decode_event(&Bytes::from(bytes)).is_ok());
}
