//! What is refused about joining and renewing, as gRPC says it.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::domain::PartyId;

/// Why nobody joins, renews or is invited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// The hub has no `[enrolment]`.
    #[error(
        "nobody can join this hub by a line: its operator sets [enrolment] in the hub's settings, or issues certificates by hand (jembatan pki)"
    )]
    Off,
    /// The CA can't sign now; the text is for the hub's own operator.
    #[error("the hub's CA can't sign now: {0}")]
    CaUnavailable(String),
    /// Nobody of this id is registered.
    #[error("no party {0} is registered: jembatan parties add {0}")]
    PartyUnknown(PartyId),
    /// The party is disabled.
    #[error(
        "this party is disabled at the hub: ask the hub's operator to enable it (jembatan parties enable)"
    )]
    PartyDisabled,
    /// The party stands behind the hub's own door.
    #[error(
        "this party stands behind the hub's own door and needs no certificate: register it as stream or unary first"
    )]
    PartyHasNoLink,
    /// The signing request can't be used.
    #[error("{0}")]
    RequestUnusable(String),
    /// No such code.
    #[error(
        "the hub does not know this code: is it the line of this hub, and the newest one? ask the hub's operator for a new line"
    )]
    CodeUnknown,
    /// Used with another key.
    #[error(
        "this code has been used already, with another key: it works once. If it was not you, tell the hub's operator at once (the certificate can be revoked); else ask for a new line"
    )]
    CodeUsed,
    /// Too late.
    #[error(
        "this code has expired: ask the hub's operator for a new line (if it should be good still, compare both clocks)"
    )]
    CodeExpired,
    /// Taken back, or its certificate revoked.
    #[error("this code was taken back by the hub's operator: ask for a new line")]
    CodeRevoked,
    /// The code is for somebody else.
    #[error("this code is another party's: use the line that was made for this one")]
    WrongParty,
    /// Too many wrong codes.
    #[error(
        "too many wrong codes came from there; nothing was looked at: wait, then try again with the whole line"
    )]
    TooManyWrongCodes(Duration),
    /// The certificate comes from another CA.
    #[error(
        "this certificate was not issued by this hub's [enrolment]: renew it where it was issued (jembatan pki renew)"
    )]
    NotFromEnrolment,
    /// Too many renewals.
    #[error("too many renewals in a short time; nothing was signed: wait")]
    TooManyRenewals(Duration),
}

impl EnrolmentError {
    /// The word for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Off => "ENROLMENT_OFF",
            Self::CaUnavailable(_) => "CA_UNAVAILABLE",
            Self::PartyUnknown(_) => "PARTY_UNKNOWN",
            Self::PartyDisabled => "PARTY_DISABLED",
            Self::PartyHasNoLink => "PARTY_HAS_NO_LINK",
            Self::RequestUnusable(_) => "REQUEST_UNUSABLE",
            Self::CodeUnknown => "CODE_UNKNOWN",
            Self::CodeUsed => "CODE_USED",
            Self::CodeExpired => "CODE_EXPIRED",
            Self::CodeRevoked => "CODE_REVOKED",
            Self::WrongParty => "WRONG_PARTY",
            Self::TooManyWrongCodes(_) => "TOO_MANY_WRONG_CODES",
            Self::NotFromEnrolment => "NOT_FROM_ENROLMENT",
            Self::TooManyRenewals(_) => "TOO_MANY_RENEWALS",
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::PartyUnknown(_) => Code::NotFound,
            Self::RequestUnusable(_) => Code::InvalidArgument,
            Self::Off
            | Self::CaUnavailable(_)
            | Self::PartyDisabled
            | Self::PartyHasNoLink
            | Self::NotFromEnrolment => Code::FailedPrecondition,
            Self::CodeUnknown
            | Self::CodeUsed
            | Self::CodeExpired
            | Self::CodeRevoked
            | Self::WrongParty => Code::PermissionDenied,
            Self::TooManyWrongCodes(_) | Self::TooManyRenewals(_) => Code::ResourceExhausted,
        }
    }

    /// The same in Indonesian, for the people of a region.
    pub fn indonesian(&self) -> &'static str {
        match self {
            Self::Off => {
                "Pusat ini belum membuka pendaftaran dengan satu baris. Hubungi operator pusat."
            }
            Self::CaUnavailable(_) => {
                "Pusat sedang tidak dapat menandatangani sertifikat. Baris undangan tetap berlaku; hubungi operator pusat, lalu coba lagi."
            }
            Self::PartyUnknown(_) => "Pihak ini belum terdaftar di pusat.",
            Self::PartyDisabled => {
                "Pihak ini dinonaktifkan di pusat. Mintalah operator pusat untuk mengaktifkannya."
            }
            Self::PartyHasNoLink => {
                "Pihak ini tidak memakai sambungan sendiri, jadi tidak memerlukan sertifikat."
            }
            Self::RequestUnusable(_) => {
                "Permintaan sertifikat tidak dapat dipakai. Perbarui perangkat lunak simpul ini."
            }
            Self::CodeUnknown => {
                "Kode ini tidak dikenal. Periksa apakah barisnya dari pusat ini dan yang terbaru; mintalah baris baru kepada operator pusat."
            }
            Self::CodeUsed => {
                "Kode ini sudah dipakai dengan kunci lain. Jika bukan Anda, segera beri tahu operator pusat; jika Anda sendiri, mintalah baris baru."
            }
            Self::CodeExpired => {
                "Kode ini sudah kedaluwarsa. Mintalah baris baru kepada operator pusat; periksa juga jam mesin ini."
            }
            Self::CodeRevoked => "Kode ini sudah dicabut oleh operator pusat. Mintalah baris baru.",
            Self::WrongParty => {
                "Kode ini milik pihak lain. Pakailah baris yang dibuat untuk pihak ini."
            }
            Self::TooManyWrongCodes(_) => {
                "Terlalu banyak kode salah. Tunggu sebentar, lalu coba lagi dengan baris yang lengkap."
            }
            Self::NotFromEnrolment => {
                "Sertifikat ini diterbitkan di tempat lain; perpanjanglah di sana."
            }
            Self::TooManyRenewals(_) => {
                "Terlalu banyak perpanjangan dalam waktu singkat. Tunggu sebentar."
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyWrongCodes(wait) | Self::TooManyRenewals(wait) => Some(*wait),
            _ => None,
        }
    }

    /// As a caller from outside is told it: what is wrong with the CA's files
    /// is for the hub's own operator.
    pub fn for_outside(self) -> Status {
        let hidden = "ask the hub's operator, whose log says why, and try again; the line, or the certificate in use, stays good";
        match self {
            Self::CaUnavailable(_) => Self::CaUnavailable(hidden.to_owned()).into(),
            told => told.into(),
        }
    }
}

impl From<EnrolmentError> for Status {
    fn from(error: EnrolmentError) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(error.reason(), "jembatan", std::collections::HashMap::new());
        details.set_localized_message("id", error.indonesian());
        if let Some(wait) = error.retry_after() {
            details.set_retry_info(Some(wait));
        }
        Self::with_error_details(error.code(), error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: every refusal; and a CA whose file can't be read.
    /// Guarantee: each has a word of its own and both languages; outsiders are
    /// not told where the CA's files are; who has to wait is told how long.
    #[test]
    fn each_refusal_says_what_to_do() {
        let wait = Duration::from_secs(7);
        let all = [
            EnrolmentError::Off,
            EnrolmentError::CaUnavailable("/secret/ca.key is gone".to_owned()),
            EnrolmentError::PartyUnknown(PartyId::parse("pemda-33").unwrap()),
            EnrolmentError::PartyDisabled,
            EnrolmentError::PartyHasNoLink,
            EnrolmentError::RequestUnusable("the signing request can't be used".to_owned()),
            EnrolmentError::CodeUnknown,
            EnrolmentError::CodeUsed,
            EnrolmentError::CodeExpired,
            EnrolmentError::CodeRevoked,
            EnrolmentError::WrongParty,
            EnrolmentError::TooManyWrongCodes(wait),
            EnrolmentError::NotFromEnrolment,
            EnrolmentError::TooManyRenewals(wait),
        ];
        let mut reasons = std::collections::BTreeSet::new();
        for error in all {
            assert!(reasons.insert(error.reason()), "{error}");
            let status = error.clone().for_outside();
            assert!(!status.message().contains("/secret"), "{status:?}");
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, error.reason());
            assert!(details.localized_message().unwrap().message.len() > 30);
            let waits = details.retry_info().and_then(|info| info.retry_delay);
            assert_eq!(waits, error.retry_after());
        }
    }
}
