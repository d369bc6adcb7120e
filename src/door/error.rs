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
    /// No token, or one that is not known.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token does not open this.
    #[error("{0}")]
    Forbidden(String),
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
            Self::ReferenceTaken => "REFERENCE_TAKEN",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Conflict { .. } | Self::ReferenceTaken => Code::AlreadyExists,
            Self::UnknownComplaint => Code::NotFound,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Forbidden(_) => Code::PermissionDenied,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// The HTTP code.
    pub fn http(&self) -> u16 {
        match self {
            Self::Invalid(_) => 400,
            Self::Conflict { .. } | Self::ReferenceTaken => 409,
            Self::UnknownComplaint => 404,
            Self::Unauthenticated(_) => 401,
            Self::Forbidden(_) => 403,
            Self::Unavailable(_) => 503,
            Self::Internal(_) => 500,
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
        if let DoorError::Unavailable(_) = &error {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(error.code(), error.to_string(), details)
    }
}
