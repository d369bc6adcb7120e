//! `handover_digest`: the same whenever the same fields are handed over.
//!
//! SHA-256 over `"jembatan/1 handover" ‖ 0x00` and then, for every field that
//! is not empty, in the order below, `len16(name) ‖ name ‖ len32(value) ‖ value`
//! (lengths big-endian). Names are those of the gateway contract. Values are
//! UTF-8 text: numbers and times (microseconds since 1970 UTC) in decimal,
//! `true` for a flag that is set, degrees as the 16 hex digits of their IEEE
//! 754 bits, digests in lower-case hex. A repeated field comes once per value.
//!
//! It is taken of the hand-over itself, before any mapping, default or salt.
//! Key and system are not part of it: a second filing of a known reference is
//! a duplicate or a conflict, whatever its key.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{
    Attachment, ComplaintName, Digest, EventBody, Handover, Item, LocalStatus, NewComplaint,
    NewEvent, Reporter,
};

struct Fields {
    hash: Sha256,
    /// Values on their way into text.
    scratch: String,
}

impl Fields {
    fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.hash.update((name.len() as u16).to_be_bytes());
        self.hash.update(name);
        self.hash.update((value.len() as u32).to_be_bytes());
        self.hash.update(value);
    }

    fn shown(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // A string takes whatever is written.
        let _ = scratch.write_fmt(value);
        self.text(name, &scratch);
        self.scratch = scratch;
    }

    fn number(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.shown(name, format_args!("{value}"));
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.text(name, "true");
        }
    }

    fn choice(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.text(name, if value { "true" } else { "false" });
        }
    }

    fn degrees(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.shown(name, format_args!("{:016x}", value.to_bits()));
        }
    }

    fn attachment(&mut self, attachment: &Attachment) {
        self.number("attachment.sha256", Some(attachment.sha256));
        self.number("attachment.size_bytes", Some(attachment.size_bytes));
        self.text("attachment.media_type", &attachment.media_type);
    }

    fn local_status(&mut self, status: Option<&LocalStatus>) {
        if let Some(status) = status {
            self.text("local_status.code", &status.code);
            self.text("local_status.name", &status.name);
        }
    }

    fn reporter(&mut self, reporter: &Reporter) {
        self.text("reporter.name", &reporter.name);
        self.text("reporter.nik", &reporter.nik);
        self.text("reporter.phone", &reporter.phone);
        self.text("reporter.email", &reporter.email);
        self.text("reporter.address", &reporter.address);
    }

    fn complaint(&mut self, complaint: &NewComplaint) {
        self.text("item", "complaint");
        self.text("reference", complaint.reference.as_str());
        self.text("kind", &complaint.kind);
        self.text("title", &complaint.title);
        self.text("body", &complaint.body);
        self.number("category", complaint.category.as_ref());
        self.number("region", complaint.region.as_ref());
        self.text("address", &complaint.address);
        self.degrees("latitude", complaint.latitude);
        self.degrees("longitude", complaint.longitude);
        self.text("occurred_on", &complaint.occurred_on);
        self.number("filed_at", complaint.filed_at.map(|at| at.0));
        self.text("channel", &complaint.channel);
        self.flag("anonymous", complaint.anonymous);
        self.flag("confidential", complaint.confidential);
        self.text(
            "handling",
            match complaint.handling {
                super::Handling::Own => "own",
                super::Handling::Addressed => "addressed",
                super::Handling::Route => "route",
            },
        );
        self.number("addressed_to", complaint.addressed_to.as_ref());
        self.reporter(&complaint.reporter);
        for named in &complaint.attachments {
            self.attachment(&named.attachment);
            self.text("attachment.name", &named.name);
        }
        for foreign in &complaint.foreign_references {
            self.text("foreign_reference.system", &foreign.system);
            self.text("foreign_reference.reference", &foreign.reference);
        }
        self.local_status(complaint.local_status.as_ref());
    }

    fn event(&mut self, event: &NewEvent) {
        self.text("item", event.body.kind());
        match &event.complaint {
            ComplaintName::Reference(name) => self.text("complaint.reference", name.as_str()),
            ComplaintName::TrackingId(name) => self.text("complaint.tracking_id", name.as_str()),
            ComplaintName::Id(name) => self.number("complaint.complaint_id", Some(name)),
        }
        self.number("own_reference", event.own_reference.as_ref());
        self.number("occurred_at", event.occurred_at.map(|at| at.0));
        self.number("expected_revision", event.expected_revision);
        self.number("acting_institution", event.acting_institution.as_ref());
        if event.audience == super::Audience::Institutions {
            self.text("audience", "institutions");
        }
        self.text("text", &event.text);
        for name in &event.attachment_names {
            self.text("attachment_name", name);
        }
        self.local_status(event.local_status.as_ref());
        self.body(&event.body);
    }

    fn body(&mut self, body: &EventBody) {
        match body {
            EventBody::Classified {
                kind,
                category,
                region,
                oversight,
            } => {
                self.number("kind", kind.as_ref());
                self.number("category", category.as_ref());
                self.number("region", region.as_ref());
                self.choice("oversight", *oversight);
            }
            EventBody::Forwarded { institution, unit } => {
                self.number("institution", institution.as_ref());
                self.text("unit", unit);
            }
            EventBody::Copied { institutions } => {
                for code in institutions {
                    self.text("institution", code.as_str());
                }
            }
            EventBody::Declined {
                suggested_institution,
            } => self.number("suggested_institution", suggested_institution.as_ref()),
            EventBody::HandlingStarted { unit } => self.text("unit", unit),
            EventBody::ProgressReported { attachments }
            | EventBody::ReporterReplied { attachments }
            | EventBody::Responded { attachments } => {
                attachments.iter().for_each(|found| self.attachment(found));
            }
            EventBody::Postponed { until } => self.number("until", until.map(|at| at.0)),
            EventBody::Archived { reason } => self.text("reason", reason.code()),
            EventBody::Merged { into } => self.number("into_complaint_id", Some(into)),
            EventBody::Rated { stars } => self.number("stars", Some(stars)),
            EventBody::Escalated { consent } => self.flag("consent", *consent),
            EventBody::VisibilityChanged {
                anonymous,
                confidential,
            } => {
                self.choice("anonymous", *anonymous);
                self.choice("confidential", *confidential);
            }
            EventBody::AttachmentAdded { attachment } => self.attachment(attachment),
            EventBody::PartErased { event_id, sha256 } => {
                self.number("event_id", Some(event_id));
                self.number("sha256", Some(sha256));
            }
            // What the mapping table made of a status is not what was handed
            // over; the raw status above is.
            EventBody::StatusMirrored { .. }
            | EventBody::Filed { .. }
            | EventBody::Verified
            | EventBody::InformationRequested
            | EventBody::Closed
            | EventBody::Reopened
            | EventBody::Withdrawn
            | EventBody::Unknown => {}
        }
    }
}

impl Handover {
    /// The same whenever the same fields are handed over.
    pub fn digest(&self) -> Digest {
        let mut fields = Fields {
            hash: Sha256::new(),
            scratch: String::new(),
        };
        fields.hash.update("jembatan/1 handover");
        fields.hash.update([0]);
        match &self.item {
            Item::Complaint(complaint) => fields.complaint(complaint),
            Item::Event(event) => fields.event(event),
        }
        Digest(fields.hash.finalize().into())
    }
}
