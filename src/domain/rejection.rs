//! Rejections: a closed list, each said to machines, in Indonesian and in
//! English, with what to do.

use super::{Digest, EventId, Rejection, RejectionReason, Status};

impl Rejection {
    fn new(
        reason: RejectionReason,
        text_id: impl Into<String>,
        text_en: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            fields: Vec::new(),
            text_id: text_id.into(),
            text_en: text_en.into(),
            current_revision: None,
            digests: None,
        }
    }

    fn with_field(mut self, field: &str) -> Self {
        self.fields.push(field.to_owned());
        self
    }

    /// The bytes can't be read as an event.
    pub fn unreadable(why: &str, fields: Vec<String>) -> Self {
        let mut rejection = Self::new(
            RejectionReason::Unreadable,
            format!(
                "Kiriman tidak dapat dibaca ({why}). Perbaiki lalu kirim lagi dengan kunci baru."
            ),
            format!(
                "The bytes can't be read as an event ({why}). Correct them and send under a new key."
            ),
        );
        rejection.fields = fields;
        rejection
    }

    /// A field is missing or out of its limits.
    pub fn invalid(field: &str, problem: &str) -> Self {
        Self::new(
            RejectionReason::InvalidEvent,
            format!(
                "Isian {field} tidak benar ({problem}). Perbaiki lalu kirim lagi dengan kunci baru."
            ),
            format!("Field {field} is wrong: {problem}. Correct it and send under a new key."),
        )
        .with_field(field)
    }

    /// The ids or the party do not fit the certificate.
    pub fn forged(field: &str) -> Self {
        Self::new(
            RejectionReason::ForgedId,
            format!("Isian {field} tidak cocok dengan sertifikat pengirim. Periksa konfigurasi jembatan."),
            format!(
                "Field {field} does not fit the sender's certificate. Check the node's configuration."
            ),
        )
        .with_field(field)
    }

    /// The id is known with other content.
    pub fn conflict(stored: Digest, refused: Digest) -> Self {
        let mut rejection = Self::new(
            RejectionReason::Conflict,
            "Kunci atau nomor rujukan ini sudah dipakai untuk isi yang lain; yang tersimpan tidak diubah. Kirim koreksi sebagai kejadian baru dengan kunci baru.",
            format!(
                "This key or reference is known with other content (stored {stored}, refused {refused}); nothing was overwritten. Send a correction as a new event under a new key."
            ),
        );
        rejection.digests = Some((stored, refused));
        rejection
    }

    /// No such complaint, or the party takes no part in it: they look alike.
    pub fn unknown_complaint() -> Self {
        Self::new(
            RejectionReason::UnknownComplaint,
            "Laporan ini tidak dikenal, atau instansi Anda tidak terlibat di dalamnya. Periksa Tracking ID.",
            "No such complaint, or this party takes no part in it. Check the Tracking ID.",
        )
        .with_field("complaint_id")
    }

    /// The party may not do this.
    pub fn not_permitted(kind: &str, who_may: &str, who_may_id: &str) -> Self {
        Self::new(
            RejectionReason::NotPermitted,
            format!("\"{kind}\" hanya dapat dilakukan oleh {who_may_id}."),
            format!("\"{kind}\" is for {who_may} only."),
        )
    }

    /// The status does not allow it.
    pub fn illegal_move(kind: &str, status: Status, hint_en: &str, hint_id: &str) -> Self {
        Self::new(
            RejectionReason::IllegalMove,
            format!(
                "\"{kind}\" tidak dapat dilakukan karena status laporan \"{}\". {hint_id}",
                status.indonesian()
            ),
            format!(
                "\"{kind}\" is not possible while the complaint is {}. {hint_en}",
                status.code()
            ),
        )
    }

    /// Others changed it meanwhile.
    pub fn stale(expected: u32, current: u32) -> Self {
        let mut rejection = Self::new(
            RejectionReason::StaleRevision,
            format!(
                "Laporan sudah berubah: revisi sekarang {current}, bukan {expected}. Baca dahulu, lalu kirim lagi dengan kunci baru."
            ),
            format!(
                "The complaint has changed: it is at revision {current}, not {expected}. Read it, then send again under a new key."
            ),
        )
        .with_field("expected_revision");
        rejection.current_revision = Some(current);
        rejection
    }

    /// No such institution, or nobody reads for it.
    pub fn unknown_institution(field: &str, code: &str) -> Self {
        Self::new(
            RejectionReason::UnknownInstitution,
            format!("Instansi {code} tidak dikenal atau belum terhubung. Pilih instansi lain atau kembalikan ke meja Admin Nasional."),
            format!("There is no institution {code}, or nobody reads for it. Choose another one, or decline to national triage."),
        )
        .with_field(field)
    }

    /// The complaint is full.
    pub fn too_many_events(limit: u32) -> Self {
        Self::new(
            RejectionReason::TooManyEvents,
            format!(
                "Laporan ini sudah memiliki {limit} kejadian, yaitu batasnya. Tutup laporan ini dan buat yang baru."
            ),
            format!(
                "The complaint has {limit} events, which is the limit. Close it and file a new one."
            ),
        )
    }

    /// The reference names another complaint.
    pub fn reference_taken(reference: &str) -> Self {
        Self::new(
            RejectionReason::ReferenceTaken,
            format!("Nomor rujukan {reference} sudah dipakai untuk laporan lain."),
            format!("Reference {reference} already names another complaint, or this complaint has another one."),
        )
        .with_field("reference")
    }

    /// For a reason that a newer hub has; its texts prevail, if there are any.
    pub fn unknown_reason(number: i32) -> Self {
        Self::new(
            RejectionReason::Unknown(number),
            format!(
                "Ditolak pusat karena alasan yang belum dikenal versi ini ({number}). Perbarui perangkat lunak simpul ini, lalu baca lagi."
            ),
            format!(
                "Rejected for a reason that this version does not know ({number}). Update this node's software, then read it again."
            ),
        )
    }

    /// An outcome that a newer hub has. Nobody knows here what became of it,
    /// so nobody may send it again.
    pub fn unknown_outcome(number: i32) -> Self {
        Self::new(
            RejectionReason::Unknown(0),
            format!(
                "Pusat memutuskan dengan hasil yang belum dikenal versi ini ({number}). Perbarui perangkat lunak simpul ini. Jangan kirim lagi."
            ),
            format!(
                "The hub decided with an outcome that this version does not know ({number}). Update this node's software. Do not send it again."
            ),
        )
    }

    /// The hub's operator has given a parked one up, and says why.
    pub fn dropped(note: &str) -> Self {
        Self::new(
            RejectionReason::InvalidEvent,
            format!(
                "Pusat tidak dapat memutuskan kiriman ini, dan operatornya menutupnya (\"{note}\"). Perbaiki lalu kirim lagi dengan kunci baru."
            ),
            format!(
                "The hub could not decide this, and its operator has given it up (\"{note}\"). Correct it and send under a new key."
            ),
        )
    }

    /// Deciding it panicked three times.
    pub fn parked(event: &EventId) -> Self {
        Self::new(
            RejectionReason::InvalidEvent,
            "Kiriman ini belum dapat diputuskan oleh pusat dan menunggu operator. Tidak perlu dikirim lagi.",
            format!(
                "The hub failed to decide event {event}; its operator has to look. Do not send it again."
            ),
        )
    }
}

impl RejectionReason {
    /// Every reason of this version, in the order of the contract.
    pub const ALL: [Self; 12] = [
        Self::Unreadable,
        Self::InvalidEvent,
        Self::ForgedId,
        Self::Conflict,
        Self::UnknownComplaint,
        Self::NotPermitted,
        Self::IllegalMove,
        Self::StaleRevision,
        Self::UnknownInstitution,
        Self::TooManyEvents,
        Self::ReferenceTaken,
        Self::UnmappedStatus,
    ];

    /// The word for machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreadable => "UNREADABLE",
            Self::InvalidEvent => "INVALID_EVENT",
            Self::ForgedId => "FORGED_ID",
            Self::Conflict => "CONFLICT",
            Self::UnknownComplaint => "UNKNOWN_COMPLAINT",
            Self::NotPermitted => "NOT_PERMITTED",
            Self::IllegalMove => "ILLEGAL_MOVE",
            Self::StaleRevision => "STALE_REVISION",
            Self::UnknownInstitution => "UNKNOWN_INSTITUTION",
            Self::TooManyEvents => "TOO_MANY_EVENTS",
            Self::ReferenceTaken => "REFERENCE_TAKEN",
            Self::UnmappedStatus => "UNMAPPED_STATUS",
            Self::Unknown(_) => "UNKNOWN",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rejection for each reason; `None` for what is a note and rejects
    /// nothing. A new reason does not compile without its place here.
    fn example(reason: RejectionReason) -> Option<Rejection> {
        let event = EventId::from_bytes([7; 16]);
        Some(match reason {
            RejectionReason::Unreadable => Rejection::unreadable("x", Vec::new()),
            RejectionReason::InvalidEvent => Rejection::invalid("text", "x"),
            RejectionReason::ForgedId => Rejection::forged("event_id"),
            RejectionReason::Conflict => Rejection::conflict(Digest::of(b"1"), Digest::of(b"2")),
            RejectionReason::UnknownComplaint => Rejection::unknown_complaint(),
            RejectionReason::NotPermitted => Rejection::not_permitted("closed", "x", "y"),
            RejectionReason::IllegalMove => {
                Rejection::illegal_move("closed", Status::Closed, "x", "y")
            }
            RejectionReason::StaleRevision => Rejection::stale(1, 2),
            RejectionReason::UnknownInstitution => Rejection::unknown_institution("to", "x"),
            RejectionReason::TooManyEvents => Rejection::too_many_events(7),
            RejectionReason::ReferenceTaken => Rejection::reference_taken("A-1"),
            RejectionReason::UnmappedStatus => {
                let parked = Rejection::parked(&event);
                assert_ne!(parked.text_en, parked.text_id);
                let dropped = Rejection::dropped("x");
                assert_ne!(dropped.text_en, dropped.text_id);
                return None;
            }
            RejectionReason::Unknown(number) => Rejection::unknown_reason(number),
        })
    }

    /// Scenario: a rejection for each reason of the contract.
    /// Guarantee: it has that reason, and a text in English and another one in
    /// Indonesian; every reason has a word of its own for machines.
    #[test]
    fn each_reason_speaks_both_languages() {
        let mut codes = std::collections::BTreeSet::new();
        let later = RejectionReason::Unknown(99);
        for reason in RejectionReason::ALL.into_iter().chain([later]) {
            assert!(codes.insert(reason.code()), "{}", reason.code());
            let Some(rejection) = example(reason) else {
                continue;
            };
            assert_eq!(rejection.reason, reason);
            let texts = [rejection.text_en.trim(), rejection.text_id.trim()];
            assert!(texts.iter().all(|text| text.len() > 20), "{texts:?}");
            assert_ne!(texts[0], texts[1], "{}", reason.code());
        }
    }
}
