//! What part the author of an event takes in the complaint.

use crate::domain::{Complaint, Directory, Event, Rejection};

/// The author's standing towards one complaint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) is_origin: bool,
    pub(super) is_handler: bool,
    pub(super) is_national: bool,
    is_told: bool,
    has_copy: bool,
    is_in_triage: bool,
    acts_for_own: bool,
}

impl Standing {
    pub(super) fn of(complaint: &Complaint, event: &Event, directory: &Directory) -> Self {
        let author = &event.party;
        let reader = complaint
            .handler
            .as_ref()
            .and_then(|handler| directory.reader_of(handler));
        let acting = event.acting_institution.as_ref();
        let acts_for_handler = acting.is_none() || acting == complaint.handler.as_ref();
        Self {
            is_origin: &complaint.origin == author,
            is_handler: reader == Some(author) && acts_for_handler,
            is_national: directory.triage_reader() == Some(author),
            is_told: complaint
                .participants
                .iter()
                .any(|participant| participant.active && &participant.party == author),
            has_copy: complaint
                .copies
                .iter()
                .any(|copy| directory.reader_of(copy) == Some(author)),
            is_in_triage: complaint.handler.is_none(),
            acts_for_own: acting.is_none_or(|code| directory.reader_of(code) == Some(author)),
        }
    }

    /// "Unknown" and "not yours" look the same.
    pub(super) fn takes_part(self) -> bool {
        self.is_origin || self.is_handler || self.is_national || self.is_told
    }

    /// Observers read; they say nothing, of whatever kind.
    pub(super) fn check_may_speak(self, kind: &str) -> Result<(), Rejection> {
        if self.is_origin || self.is_handler || self.is_national || self.has_copy {
            return Ok(());
        }
        Err(Rejection::not_permitted(
            kind,
            "those who take part: an observer only reads",
            "yang ikut menangani: pengamat hanya membaca",
        ))
    }

    /// The national desk acts where the complaint does not stand before it.
    pub(super) fn overrules(self) -> bool {
        self.is_national && !self.is_in_triage && !self.is_handler && !self.is_origin
    }

    /// A party acts only for institutions that are reached through it.
    pub(super) fn check_acting(self, event: &Event) -> Result<(), Rejection> {
        match (&event.acting_institution, self.acts_for_own) {
            (Some(code), false) => Err(Rejection::unknown_institution(
                "acting_institution",
                code.as_str(),
            )),
            _ => Ok(()),
        }
    }

    /// The handler for what stands at it; the national desk for what stands
    /// in triage, and to overrule.
    pub(super) fn require_owner(self, kind: &str) -> Result<(), Rejection> {
        if self.is_handler || self.is_national {
            return Ok(());
        }
        Err(Rejection::not_permitted(
            kind,
            "the handler of the complaint and the national desk",
            "instansi tujuan dan meja Admin Nasional",
        ))
    }

    /// The origin relays the reporter.
    pub(super) fn require_origin(self, kind: &str) -> Result<(), Rejection> {
        if self.is_origin {
            return Ok(());
        }
        Err(Rejection::not_permitted(
            kind,
            "the origin, which relays the reporter",
            "instansi asal, yang menyampaikan suara pelapor",
        ))
    }

    pub(super) fn require_national(self, kind: &str) -> Result<(), Rejection> {
        if self.is_national {
            return Ok(());
        }
        Err(Rejection::not_permitted(
            kind,
            "the national desk",
            "meja Admin Nasional",
        ))
    }

    pub(super) fn require_origin_or_owner(self, kind: &str) -> Result<(), Rejection> {
        if self.is_origin {
            return Ok(());
        }
        self.require_owner(kind)
    }
}
