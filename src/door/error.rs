//! What a door refuses, as gRPC and as HTTP say it. The one place that turns
//! errors into answers.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    domain::{Digest, FieldError},
    store::{StoreError, SubmitRefusal},
};

/// How soon a caller may try again after an overload or an outage.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How soon a caller may ask again for what is being copied back.
const RESTORED_AFTER: Duration = Duration::from_secs(10);

/// Why a door did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// Fields are missing or out of their limits.
    #[error("{}", fields_text(.0))]
    Invalid(Vec<FieldError>),
    /// Known with other content.
    #[error(
        "this key or reference is known with other content (stored {stored}, refused {refused}); nothing was overwritten: send a correction as a new event, under a new key"
    )]
    Conflict {
        /// Digest of the event that is stored.
        stored: Digest,
        /// Digest of the event that was refused.
        refused: Digest,
    },
    /// Unknown, or the party takes no part in it.
    #[error(
        "no such complaint is known here; look at the reference and the system, or use the Tracking ID"
    )]
    UnknownComplaint,
    /// The own reference names another complaint.
    #[error("this reference already names another complaint, or this complaint has another one")]
    ReferenceTaken,
    /// HTTP: no such path.
    #[error("no such route: see docs/http.md")]
    NoSuchRoute,
    /// HTTP: the path is known, the method is not.
    #[error("this route has another method: see docs/http.md")]
    MethodNotAllowed,
    /// HTTP: the body says that it is something else.
    #[error("the body must be JSON: send Content-Type: application/json")]
    UnsupportedMediaType,
    /// HTTP: the body is larger than what is read.
    #[error("the body is too large; at most {most} bytes are read")]
    TooLarge {
        /// In bytes.
        most: usize,
    },
    /// HTTP: the body did not come to its end in time.
    #[error(
        "the body did not come to its end within {} s; nothing was stored, it is safe to send it again",
        within.as_secs()
    )]
    TooSlow {
        /// How long was waited.
        within: Duration,
    },
    /// No token, or one that is not known.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token does not open this.
    #[error("{0}")]
    Forbidden(String),
    /// The caller's party is not registered for this door, or disabled.
    #[error(
        "this certificate or token opens nothing here; ask the hub's operator to register and enable its party"
    )]
    NotRegistered,
    /// The certificate of this connection has ended since it was made.
    #[error("the certificate of this connection has expired: connect again with a new one")]
    CertificateExpired,
    /// Too much at once; nothing was stored; safe to retry.
    #[error(
        "this node has as many hand-overs in work as it takes at once; nothing was stored, it is safe to send it again"
    )]
    Overloaded,
    /// Not known here, but this node's own past is not all here again.
    #[error(
        "this node lost its disk and is taking its complaints back from the hub ({missing} submissions are still missing): whether this one is known can't be said yet; nothing was stored, ask or send again in a while"
    )]
    Restoring {
        /// Submissions that are still to be copied.
        missing: u64,
    },
    /// Can't be done now; nothing was stored; safe to retry.
    #[error("{0}")]
    Unavailable(String),
    /// A person has to look.
    #[error("{0}")]
    Internal(String),
}

fn fields_text(fields: &[FieldError]) -> String {
    let all: Vec<String> = fields.iter().map(ToString::to_string).collect();
    all.join("; ")
}

impl DoorError {
    /// One field.
    pub fn invalid(field: &str, problem: &str) -> Self {
        Self::Invalid(vec![FieldError::new(field, problem)])
    }

    /// The word for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_ARGUMENT",
            Self::Conflict { .. } => "CONFLICT",
            Self::UnknownComplaint => "UNKNOWN_COMPLAINT",
            Self::NoSuchRoute => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::TooSlow { .. } => "BODY_TIMEOUT",
            Self::ReferenceTaken => "REFERENCE_TAKEN",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::NotRegistered => "PARTY_NOT_REGISTERED",
            Self::CertificateExpired => "CERTIFICATE_EXPIRED",
            Self::Overloaded => "OVERLOADED",
            Self::Restoring { .. } => "RESTORING",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::UnsupportedMediaType | Self::TooLarge { .. } => {
                Code::InvalidArgument
            }
            Self::NoSuchRoute | Self::MethodNotAllowed => Code::Unimplemented,
            Self::Conflict { .. } | Self::ReferenceTaken => Code::AlreadyExists,
            Self::UnknownComplaint => Code::NotFound,
            Self::TooSlow { .. } => Code::DeadlineExceeded,
            Self::Unauthenticated(_) | Self::CertificateExpired => Code::Unauthenticated,
            Self::Forbidden(_) | Self::NotRegistered => Code::PermissionDenied,
            Self::Overloaded => Code::ResourceExhausted,
            Self::Restoring { .. } | Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// The HTTP code.
    pub fn http(&self) -> u16 {
        match self {
            Self::Invalid(_) => 400,
            Self::Conflict { .. } | Self::ReferenceTaken => 409,
            Self::UnknownComplaint | Self::NoSuchRoute => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow { .. } => 408,
            Self::TooLarge { .. } => 413,
            Self::UnsupportedMediaType => 415,
            Self::Unauthenticated(_) | Self::CertificateExpired => 401,
            Self::Forbidden(_) | Self::NotRegistered => 403,
            Self::Overloaded => 429,
            Self::Restoring { .. } | Self::Unavailable(_) => 503,
            Self::Internal(_) => 500,
        }
    }

    /// When the same may be sent again, if waiting helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(_) | Self::Overloaded => Some(RETRY_AFTER),
            Self::Restoring { .. } => Some(RESTORED_AFTER),
            _ => None,
        }
    }

    /// The same in Indonesian, for the people at a local system.
    pub fn indonesian(&self) -> String {
        match self {
            Self::Invalid(fields) => {
                let names: Vec<&str> = fields.iter().map(|found| found.field.as_str()).collect();
                format!(
                    "Isian tidak benar: {}. Perbaiki, lalu kirim lagi. (Rincian: {self})",
                    names.join(", ")
                )
            }
            Self::Conflict { .. } => "Kunci atau nomor rujukan ini sudah dipakai untuk isi yang lain; yang tersimpan tidak diubah. Kirim koreksi sebagai kejadian baru dengan kunci baru.".to_owned(),
            Self::UnknownComplaint => "Laporan ini tidak dikenal di sini. Periksa nomor rujukan dan sistemnya, atau pakai Tracking ID.".to_owned(),
            Self::NoSuchRoute => "Alamat ini tidak ada. Lihat docs/http.md.".to_owned(),
            Self::MethodNotAllowed => "Alamat ini memakai metode lain. Lihat docs/http.md.".to_owned(),
            Self::UnsupportedMediaType => "Isi kiriman harus JSON: kirim Content-Type: application/json.".to_owned(),
            Self::TooLarge { most } => format!("Kiriman terlalu besar; paling banyak {most} bita."),
            Self::TooSlow { within } => format!("Isi kiriman tidak selesai diterima dalam {} detik. Tidak ada yang disimpan; aman untuk dikirim lagi.", within.as_secs()),
            Self::ReferenceTaken => "Nomor rujukan ini sudah dipakai untuk laporan lain, atau laporan ini sudah punya nomor rujukan lain.".to_owned(),
            Self::Unauthenticated(_) => "Token tidak ada atau tidak dikenal. Kirim header Authorization: Bearer <token>.".to_owned(),
            Self::Forbidden(_) => "Token ini tidak berlaku untuk permintaan ini. Mintalah hak (scope) yang sesuai kepada operator simpul.".to_owned(),
            Self::NotRegistered => "Sertifikat atau token ini tidak berlaku di sini. Mintalah operator pusat untuk mendaftarkan dan mengaktifkan pihak Anda.".to_owned(),
            Self::CertificateExpired => "Masa berlaku sertifikat sambungan ini sudah habis. Sambungkan lagi dengan sertifikat yang baru.".to_owned(),
            Self::Overloaded => "Simpul sedang penuh. Kiriman ini belum diproses dan aman untuk dikirim lagi.".to_owned(),
            Self::Restoring { missing } => format!("Simpul ini kehilangan penyimpanannya dan sedang mengambil kembali laporannya dari pusat (masih kurang {missing} kiriman). Tidak ada yang diproses; tanyakan atau kirim lagi nanti."),
            Self::Unavailable(_) => "Simpul sedang tidak dapat menyimpan. Kiriman ini belum diproses dan aman untuk dikirim lagi.".to_owned(),
            Self::Internal(_) => "Penyimpanan simpul bermasalah; operatornya harus memeriksa.".to_owned(),
        }
    }

    /// Fields concerned.
    pub fn fields(&self) -> Vec<String> {
        match self {
            Self::Invalid(fields) => fields.iter().map(|found| found.field.clone()).collect(),
            _ => Vec::new(),
        }
    }
}

impl From<SubmitRefusal> for DoorError {
    fn from(refusal: SubmitRefusal) -> Self {
        match refusal {
            SubmitRefusal::Conflict { stored, refused } => Self::Conflict { stored, refused },
            SubmitRefusal::UnknownComplaint => Self::UnknownComplaint,
            SubmitRefusal::ReferenceTaken => Self::ReferenceTaken,
        }
    }
}

impl From<StoreError> for DoorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(why) => Self::invalid("request", &why),
            StoreError::Unavailable(_) | StoreError::Closed => Self::Unavailable(format!(
                "{error}; nothing was stored, it is safe to send it again"
            )),
            StoreError::Fenced | StoreError::Mismatch(_) | StoreError::Corrupt(_) => {
                tracing::error!(event = "door_store_error", %error);
                Self::Internal("the store is in trouble: its operator has to look".to_owned())
            }
        }
    }
}

impl From<DoorError> for Status {
    fn from(error: DoorError) -> Self {
        let mut details = ErrorDetails::new();
        let mut metadata = std::collections::HashMap::new();
        if let DoorError::Conflict { stored, refused } = &error {
            metadata.insert("stored_digest".to_owned(), stored.to_string());
            metadata.insert("refused_digest".to_owned(), refused.to_string());
        }
        details.set_error_info(error.reason(), "jembatan", metadata);
        if let DoorError::Invalid(fields) = &error {
            for found in fields {
                details.add_bad_request_violation(found.field.clone(), found.problem.clone());
            }
        }
        if let Some(after) = error.retry_after() {
            details.set_retry_info(Some(after));
        }
        details.set_localized_message("id", error.indonesian());
        Status::with_error_details(error.code(), error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: an overload, and an unregistered party, as gRPC tells them.
    /// Guarantee: the code, the reason for machines, when to come back, and
    /// the Indonesian message beside the English one.
    #[test]
    fn details_say_reason_delay_and_indonesian() {
        let status = Status::from(DoorError::Overloaded);
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
        assert!(details.retry_info().unwrap().retry_delay.is_some());
        let localized = details.localized_message().unwrap();
        assert_eq!(localized.locale, "id");
        assert!(localized.message.contains("aman untuk dikirim lagi"));

        let status = Status::from(DoorError::NotRegistered);
        assert_eq!(status.code(), Code::PermissionDenied);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "PARTY_NOT_REGISTERED");
        assert!(details.retry_info().is_none());
    }

    /// Scenario: every error of a door.
    /// Guarantee: each has an English and an Indonesian text that are not the
    /// same, and a word of its own for machines.
    #[test]
    fn each_error_speaks_both_languages() {
        let errors = [
            DoorError::invalid("title", "is missing"),
            DoorError::Conflict {
                stored: Digest::of(b"1"),
                refused: Digest::of(b"2"),
            },
            DoorError::UnknownComplaint,
            DoorError::ReferenceTaken,
            DoorError::NoSuchRoute,
            DoorError::MethodNotAllowed,
            DoorError::UnsupportedMediaType,
            DoorError::TooLarge { most: 7 },
            DoorError::TooSlow {
                within: Duration::from_secs(7),
            },
            DoorError::Unauthenticated("no token came with this call".to_owned()),
            DoorError::Forbidden("this token does not open this".to_owned()),
            DoorError::NotRegistered,
            DoorError::CertificateExpired,
            DoorError::Overloaded,
            DoorError::Restoring { missing: 7 },
            DoorError::Unavailable("the store is busy".to_owned()),
            DoorError::Internal("the store is broken".to_owned()),
        ];
        let mut reasons = std::collections::BTreeSet::new();
        for error in errors {
            assert!(reasons.insert(error.reason()), "{}", error.reason());
            let texts = [error.to_string(), error.indonesian()];
            assert!(texts.iter().all(|text| text.trim().len() > 15), "{texts:?}");
            assert_ne!(texts[0], texts[1], "{}", error.reason());
        }
    }
}
