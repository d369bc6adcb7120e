//! What a door refuses at once: every field that is wrong, named as at the door.

use super::{
    Attachment, EventBody, FieldError, Handling, Handover, IdempotencyKey, Item, LocalStatus,
    NamedAttachment, NewComplaint, NewEvent, Policy, Reference, Reporter,
};

const TITLE_CHARS: usize = 255;
const BODY_CHARS: usize = 10_000;
const ADDRESS_CHARS: usize = 1_000;
const SHORT_BYTES: usize = 64;
const NAME_CHARS: usize = 128;
const FILE_NAME_CHARS: usize = 255;
// As long as an own reference may be.
const FOREIGN_BYTES: usize = Reference::MAX_BYTES;

#[derive(Default)]
struct Findings(Vec<FieldError>);

impl Findings {
    fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(FieldError::new(field, problem));
    }

    fn text(&mut self, field: &str, text: &str, least: usize, most: usize) {
        let chars = text.chars().count();
        if chars < least {
            self.add(field, "is missing");
        } else if chars > most {
            self.add(
                field,
                format!("has {chars} characters; at most {most} are allowed"),
            );
        }
        if text.contains('\0') {
            self.add(field, "contains a NUL character");
        }
    }

    fn short(&mut self, field: &str, text: &str) {
        self.bytes(field, text, SHORT_BYTES);
    }

    fn bytes(&mut self, field: &str, text: &str, most: usize) {
        if text.len() > most {
            self.add(
                field,
                format!("has {} bytes; at most {most} are allowed", text.len()),
            );
        }
        if text.contains('\0') {
            self.add(field, "contains a NUL character");
        }
    }

    /// Keys and references can't be erased, so they must not be personal data.
    fn not_personal(&mut self, field: &str, text: &str) {
        let digits = text.chars().filter(char::is_ascii_digit).count();
        if digits == 16
            && text
                .chars()
                .all(|c| c.is_ascii_digit() || c == ' ' || c == '-')
        {
            self.add(
                field,
                "looks like a NIK (16 digits): keys and references are never erased, so they must not hold personal data",
            );
        }
    }

    fn degrees(&mut self, field: &str, value: Option<f64>, most: f64) {
        if let Some(value) = value
            && !(-most..=most).contains(&value)
        {
            self.add(field, format!("must lie between -{most} and {most}"));
        }
    }

    fn attachments<'a>(
        &mut self,
        field: &str,
        attachments: impl ExactSizeIterator<Item = &'a Attachment>,
        policy: &Policy,
    ) {
        let most = policy.attachments_per_event as usize;
        if attachments.len() > most {
            self.add(
                field,
                format!(
                    "{} are too many; at most {most} are allowed",
                    attachments.len()
                ),
            );
        }
        for attachment in attachments {
            if attachment.size_bytes > policy.attachment_bytes {
                self.add(
                    field,
                    format!(
                        "one has {} bytes; at most {} are allowed",
                        attachment.size_bytes, policy.attachment_bytes
                    ),
                );
            }
            self.text(
                &format!("{field}.media_type"),
                &attachment.media_type,
                0,
                NAME_CHARS,
            );
        }
    }

    fn local_status(&mut self, status: &LocalStatus) {
        self.short("local_status.code", &status.code);
        self.text("local_status.name", &status.name, 0, NAME_CHARS);
    }

    fn reporter(&mut self, reporter: &Reporter) {
        self.text("reporter.name", &reporter.name, 0, TITLE_CHARS);
        self.text("reporter.phone", &reporter.phone, 0, SHORT_BYTES);
        self.text("reporter.email", &reporter.email, 0, TITLE_CHARS);
        self.text("reporter.address", &reporter.address, 0, ADDRESS_CHARS);
        let is_nik = reporter.nik.len() == 16 && reporter.nik.bytes().all(|b| b.is_ascii_digit());
        if !reporter.nik.is_empty() && !is_nik {
            self.add("reporter.nik", "a NIK has 16 digits");
        }
    }

    fn complaint(&mut self, complaint: &NewComplaint, policy: &Policy) {
        self.not_personal("reference", complaint.reference.as_str());
        self.short("kind", &complaint.kind);
        self.text("title", &complaint.title, 1, TITLE_CHARS);
        self.text("body", &complaint.body, 1, BODY_CHARS);
        self.text("address", &complaint.address, 0, ADDRESS_CHARS);
        self.degrees("latitude", complaint.latitude, 90.0);
        self.degrees("longitude", complaint.longitude, 180.0);
        self.short("channel", &complaint.channel);
        if !complaint.occurred_on.is_empty() && !is_day(&complaint.occurred_on) {
            self.add("occurred_on", "must be a day such as 2026-11-24");
        }
        if complaint.handling == Handling::Addressed && complaint.addressed_to.is_none() {
            self.add(
                "addressed_to",
                "is missing, though the handling is \"addressed\"",
            );
        }
        self.reporter(&complaint.reporter);
        let attachments: &[NamedAttachment] = &complaint.attachments;
        self.attachments(
            "attachments",
            attachments.iter().map(|named| &named.attachment),
            policy,
        );
        for named in attachments {
            self.text("attachments.name", &named.name, 0, FILE_NAME_CHARS);
        }
        if let Some(status) = &complaint.local_status {
            self.local_status(status);
        }
        if complaint.foreign_references.len() > 8 {
            self.add("foreign_references", "at most 8 are allowed");
        }
        for foreign in &complaint.foreign_references {
            self.not_personal("foreign_references", &foreign.reference);
            self.short("foreign_references.system", &foreign.system);
            self.bytes(
                "foreign_references.reference",
                &foreign.reference,
                FOREIGN_BYTES,
            );
        }
    }

    fn event(&mut self, event: &NewEvent, policy: &Policy) {
        self.text("text", &event.text, 0, BODY_CHARS);
        if let Some(reference) = &event.own_reference {
            self.not_personal("own_reference", reference.as_str());
        }
        let needs_text = matches!(
            event.body,
            EventBody::Responded { .. }
                | EventBody::InformationRequested
                | EventBody::Postponed { .. }
        );
        if needs_text && event.text.is_empty() {
            self.add(
                "text",
                format!("is missing: \"{}\" needs one", event.body.kind()),
            );
        }
        if let Some(status) = &event.local_status {
            self.local_status(status);
        }
        // One for each attachment: more names than attachments mean nothing.
        let most = policy.attachments_per_event as usize;
        if event.attachment_names.len() > most {
            self.add("attachment_names", format!("at most {most} are allowed"));
        }
        for name in event.attachment_names.iter().take(most) {
            self.text("attachment_names", name, 0, FILE_NAME_CHARS);
        }
        match &event.body {
            EventBody::Rated { stars } if !(1..=5).contains(stars) => {
                self.add("stars", "must be 1 (bad) to 5 (good)");
            }
            EventBody::Escalated { consent: false } => {
                self.add("consent", "the reporter's consent is needed");
            }
            EventBody::Copied { institutions } if !(1..=16).contains(&institutions.len()) => {
                self.add("institutions", "1 to 16 institutions are needed");
            }
            EventBody::Forwarded { unit, .. } | EventBody::HandlingStarted { unit } => {
                self.text("unit", unit, 0, NAME_CHARS);
            }
            EventBody::ProgressReported { attachments }
            | EventBody::ReporterReplied { attachments }
            | EventBody::Responded { attachments } => {
                self.attachments("attachments", attachments.iter(), policy);
            }
            EventBody::StatusMirrored { .. } if event.local_status.is_none() => {
                self.add("local_status", "is missing");
            }
            _ => {}
        }
    }
}

impl Handover {
    /// Looks at every field.
    ///
    /// # Errors
    /// All that is wrong, each field named as at the door.
    pub fn validate(&self, policy: &Policy) -> Result<(), Vec<FieldError>> {
        let mut findings = Findings::default();
        if let Some(key) = &self.key {
            findings.not_personal("key", key.as_str());
        }
        match &self.item {
            Item::Complaint(complaint) => findings.complaint(complaint, policy),
            Item::Event(event) => {
                if self.key.is_none() {
                    findings.add(
                        "key",
                        "is missing: every event needs an idempotency key of its own",
                    );
                }
                findings.event(event, policy);
            }
        }
        if findings.0.is_empty() {
            Ok(())
        } else {
            Err(findings.0)
        }
    }

    /// The key under which it is known: its own, or, for a filing, the reference.
    pub fn effective_key(&self) -> Option<IdempotencyKey> {
        match (&self.key, &self.item) {
            (Some(key), _) => Some(key.clone()),
            (None, Item::Complaint(complaint)) => {
                IdempotencyKey::parse(complaint.reference.as_str()).ok()
            }
            (None, Item::Event(_)) => None,
        }
    }
}

/// ISO 8601 calendar day.
pub fn is_day(text: &str) -> bool {
    let mut numbers = text
        .split('-')
        .map(|part| (part.len(), part.parse::<u32>()));
    let parts = (
        numbers.next(),
        numbers.next(),
        numbers.next(),
        numbers.next(),
    );
    let (Some((4, Ok(year))), Some((2, Ok(month))), Some((2, Ok(day))), None) = parts else {
        return false;
    };
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventBody, ForeignReference, Reference, SystemName};

    type Change = Box<dyn FnOnce(&mut NewComplaint)>;

    fn complaint(change: impl FnOnce(&mut NewComplaint)) -> Handover {
        let mut complaint = NewComplaint {
            title: "Jalan berlubang".to_owned(),
            body: "Sudah sebulan.".to_owned(),
            ..NewComplaint::new(Reference::parse("LS-1").unwrap())
        };
        change(&mut complaint);
        Handover {
            system: SystemName::parse("lapor-semar").unwrap(),
            key: None,
            item: Item::Complaint(Box::new(complaint)),
        }
    }

    fn foreign(system: &str, reference: &str) -> ForeignReference {
        ForeignReference {
            system: system.to_owned(),
            reference: reference.to_owned(),
        }
    }

    fn attachment(name: &str, media_type: &str) -> NamedAttachment {
        NamedAttachment {
            attachment: Attachment {
                sha256: crate::domain::Digest::of(b"foto"),
                size_bytes: 4,
                media_type: media_type.to_owned(),
            },
            name: name.to_owned(),
        }
    }

    fn status(code: &str, name: &str) -> LocalStatus {
        LocalStatus {
            code: code.to_owned(),
            name: name.to_owned(),
            mapped: None,
        }
    }

    fn fields(handover: &Handover) -> Vec<String> {
        match handover.validate(&Policy::default()) {
            Ok(()) => Vec::new(),
            Err(found) => found.into_iter().map(|error| error.field).collect(),
        }
    }

    /// Scenario: one field after the other is wrong.
    /// Guarantee: exactly that field is named.
    #[test]
    fn every_wrong_field_is_named() {
        assert!(fields(&complaint(|_| ())).is_empty());
        let cases: Vec<(&str, Change)> = vec![
            ("title", Box::new(|c| c.title = "x".repeat(256))),
            ("title", Box::new(|c| c.title.clear())),
            ("body", Box::new(|c| c.body = "x".repeat(10_001))),
            ("body", Box::new(|c| c.body = "a\0b".to_owned())),
            ("channel", Box::new(|c| c.channel = "x".repeat(65))),
            (
                "foreign_references.system",
                Box::new(|c| c.foreign_references = vec![foreign(&"x".repeat(65), "F-1")]),
            ),
            (
                "foreign_references.reference",
                Box::new(|c| c.foreign_references = vec![foreign("sp4n", &"x".repeat(200_000))]),
            ),
            (
                "foreign_references",
                Box::new(|c| c.foreign_references = vec![foreign("sp4n", "3374000000000001")]),
            ),
            (
                "attachments.media_type",
                Box::new(|c| c.attachments = vec![attachment("foto.jpg", &"x".repeat(129))]),
            ),
            (
                "attachments.name",
                Box::new(|c| c.attachments = vec![attachment(&"x".repeat(256), "image/jpeg")]),
            ),
            (
                "local_status.code",
                Box::new(|c| c.local_status = Some(status(&"x".repeat(65), ""))),
            ),
            (
                "local_status.name",
                Box::new(|c| c.local_status = Some(status("3", "a\0b"))),
            ),
            ("latitude", Box::new(|c| c.latitude = Some(91.0))),
            ("longitude", Box::new(|c| c.longitude = Some(f64::NAN))),
            (
                "occurred_on",
                Box::new(|c| c.occurred_on = "2025-02-29".to_owned()),
            ),
            (
                "reporter.nik",
                Box::new(|c| c.reporter.nik = "123".to_owned()),
            ),
            (
                "addressed_to",
                Box::new(|c| c.handling = Handling::Addressed),
            ),
            (
                "reference",
                Box::new(|c| c.reference = Reference::parse("3374000000000001").unwrap()),
            ),
        ];
        for (field, change) in cases {
            assert_eq!(fields(&complaint(change)), [field]);
        }
    }

    /// Scenario: the same fields under another key and system; then one field differs.
    /// Guarantee: the digest is the same, then another.
    #[test]
    fn digest_is_of_the_fields_alone() {
        let one = complaint(|_| ());
        let mut other = complaint(|_| ());
        other.key = Some(IdempotencyKey::parse("k").unwrap());
        other.system = SystemName::parse("x").unwrap();
        assert_eq!(one.digest(), other.digest());
        let changed = complaint(|c| c.body.push('!'));
        assert_ne!(one.digest(), changed.digest());
        let event = NewEvent::new(
            crate::domain::ComplaintName::Reference(Reference::parse("LS-1").unwrap()),
            EventBody::Closed,
        );
        let event = Handover {
            system: SystemName::parse("x").unwrap(),
            key: None,
            item: Item::Event(Box::new(event)),
        };
        assert_eq!(fields(&event), ["key"]);
    }
}
