//! Statuses: one canonical list for everyone.

use serde::{Deserialize, Serialize};

/// Where a complaint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Received, not verified yet (diterima, belum terverifikasi).
    Received,
    /// A report that can be worked on (terverifikasi).
    Verified,
    /// Waits for the handler to start or to decline (didisposisikan).
    Forwarded,
    /// The handler works on it (diproses, ditindaklanjuti).
    InProgress,
    /// The reporter has been asked (menunggu kelengkapan pelapor).
    AwaitingReporter,
    /// Answered; the reply window runs (ditanggapi).
    Responded,
    /// Put off, with a reason (ditunda).
    Postponed,
    /// Settled (selesai).
    Closed,
    /// Put away, with a reason (diarsipkan).
    Archived,
    /// Joined into another complaint (digabung).
    Merged,
    /// Passed to the Ombudsman (diteruskan ke Ombudsman).
    Escalated,
}

impl Status {
    /// Every status, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::Received,
        Self::Verified,
        Self::Forwarded,
        Self::InProgress,
        Self::AwaitingReporter,
        Self::Responded,
        Self::Postponed,
        Self::Closed,
        Self::Archived,
        Self::Merged,
        Self::Escalated,
    ];

    /// The word for machines, for example `in_progress`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Forwarded => "forwarded",
            Self::InProgress => "in_progress",
            Self::AwaitingReporter => "awaiting_reporter",
            Self::Responded => "responded",
            Self::Postponed => "postponed",
            Self::Closed => "closed",
            Self::Archived => "archived",
            Self::Merged => "merged",
            Self::Escalated => "escalated",
        }
    }

    /// The status that a word for machines means.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The word for people, in Indonesian.
    pub fn indonesian(self) -> &'static str {
        match self {
            Self::Received => "diterima",
            Self::Verified => "terverifikasi",
            Self::Forwarded => "didisposisikan",
            Self::InProgress => "ditindaklanjuti",
            Self::AwaitingReporter => "menunggu kelengkapan pelapor",
            Self::Responded => "ditanggapi",
            Self::Postponed => "ditunda",
            Self::Closed => "selesai",
            Self::Archived => "diarsipkan",
            Self::Merged => "digabung",
            Self::Escalated => "diteruskan ke Ombudsman",
        }
    }

    /// Whether somebody still has to do something about the complaint.
    pub fn is_open(self) -> bool {
        !matches!(
            self,
            Self::Closed | Self::Archived | Self::Merged | Self::Escalated
        )
    }
}
