//! What went wrong at the server, and what that means for what was asked.

use tokio_postgres::{Error, error::SqlState};

use crate::store::StoreError;

use super::{hosts::NotOpened, session::QueryError};

/// No answer came, and none is waited for any more.
const SILENT: &str = "PostgreSQL says nothing any more";

/// The same words wherever a commit of somebody else's is waited for.
pub(super) const BLOCKED: &str = "an earlier commit has no answer from PostgreSQL, and what it \
     holds is waited for: is a synchronous standby away (pg_stat_replication, \
     synchronous_standby_names)?";

/// What became of a statement that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Something has moved since it was read: read again, decide again.
    Moved,
    /// Others have held what it needs for as long as a statement may wait for it;
    /// nothing was written. Nobody thinks under a lock, so theirs is a commit that
    /// has no answer.
    Blocked,
    /// The outcome is unknown, or nothing reached the server: look.
    Lost(String),
    /// The server does not take these very values; others it might.
    Unfit(StoreError),
    /// Nothing was written, and trying again at once would not help.
    Refused(StoreError),
}

/// A commit of which the server has warned.
pub(super) fn doubtful() -> Failure {
    Failure::Lost("the server does not know whether its standbys have what it commits".to_owned())
}

/// What callers are told of a commit of which it can't be found out whether it was made.
pub(super) fn not_known(why: &str, error: Failure) -> String {
    let error = error.into_error();
    format!(
        "{why}; whether it was stored is not known, since the server can't be asked ({error}); send \
         it again: it is not stored twice"
    )
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            return Self::Lost(describe(&error));
        };
        let code = answer.code();
        if *code == SqlState::ADMIN_SHUTDOWN
            || *code == SqlState::CRASH_SHUTDOWN
            || *code == SqlState::CANNOT_CONNECT_NOW
            || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        {
            return Self::Lost(describe(&error));
        }
        match code.code() {
            "JB001" => return Self::Moved,
            "JB002" => return Self::Lost(describe(&error)),
            "JB003" => return Self::Refused(StoreError::Corrupt(describe(&error))),
            _ => {}
        }
        if *code == SqlState::UNIQUE_VIOLATION
            || *code == SqlState::T_R_SERIALIZATION_FAILURE
            || *code == SqlState::T_R_DEADLOCK_DETECTED
        {
            return Self::Moved;
        }
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return Self::Blocked;
        }
        match &code.code()[..2] {
            "08" => Self::Lost(describe(&error)),
            "22" | "23" | "54" => Self::Unfit(error.into()),
            _ => Self::Refused(error.into()),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Server(error) => error.into(),
            QueryError::Silent => Self::Lost(SILENT.to_owned()),
        }
    }
}

impl From<NotOpened> for Failure {
    fn from(why: NotOpened) -> Self {
        Self::Refused(why.in_flight())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    /// Whether it may be one of many that has brought it about: what the server does
    /// not take, or asks for a row that can't be read.
    pub(super) fn is_of_one(&self) -> bool {
        matches!(self, Self::Unfit(_) | Self::Refused(StoreError::Corrupt(_)))
    }

    /// What was tried again and again: others were faster, or blocked it.
    pub(super) fn given_up(is_blocked: bool) -> StoreError {
        let why = if is_blocked {
            Self::Blocked
        } else {
            Self::Moved
        };
        why.into_error()
    }

    /// For whoever reads and does not try again.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Moved => {
                StoreError::Unavailable("others were faster, again and again".to_owned())
            }
            Self::Blocked => StoreError::Unavailable(BLOCKED.to_owned()),
            Self::Lost(why) => StoreError::Unavailable(why),
            Self::Unfit(error) | Self::Refused(error) => error,
        }
    }
}

/// What the server says beneath an error of somebody who used its client.
pub(super) fn beneath(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if let Some(server) = found.downcast_ref::<Error>() {
            return Some(describe(server));
        }
        cause = found.source();
    }
    None
}

/// The server's words without the values that it may name: they can be a
/// citizen's.
fn describe(error: &Error) -> String {
    let Some(answer) = error.as_db_error() else {
        let mut text = format!("PostgreSQL: {error}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        return text;
    };
    let code = answer.code().code();
    let hint = match code {
        "08P01" if answer.message().contains("startup parameter") => {
            ": a connection pooler stands in between; connect to the server itself"
        }
        "28P01" | "28000" => ": check user, password and pg_hba.conf",
        "3D000" => ": make the database first",
        "42501" => ": the user lacks a right; see docs/operate.md",
        "53100" => ": the server's disk is full",
        "53300" => ": the server has no connection left; see [store] connections",
        _ => "",
    };
    format!("PostgreSQL {code}: {}{hint}", answer.message())
}

impl From<QueryError> for StoreError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Server(error) => error.into(),
            QueryError::Silent => Self::Unavailable(SILENT.to_owned()),
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        use SqlState as S;
        let text = describe(&error);
        match error.code() {
            Some(code) if *code == S::DATA_CORRUPTED || *code == S::INDEX_CORRUPTED => {
                Self::Corrupt(text)
            }
            _ => Self::Unavailable(text),
        }
    }
}
