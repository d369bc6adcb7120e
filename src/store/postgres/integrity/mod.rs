//! Whether the record still holds together: chains recomputed over the rows of
//! every journal, decisions for every submission, nothing that points nowhere.
//!
//! It reads one moment of the database, while hubs run or not, and changes
//! nothing. It walks through everything, so it takes as long as the record is
//! large; meanwhile the server keeps the old versions of rows for it.

mod complaints;
mod journals;
mod links;

use std::collections::BTreeMap;

use crate::{
    domain::{DeliveryRecord, PartyId},
    store::StoreError,
};

use super::{
    connect::{Database, Settings},
    schema,
    session::execute,
};

/// Findings of one kind that are named; of the others it is said how many.
const NAMED: usize = 100;

/// Reads the header of a delivery. Given to the check, since engines do not know
/// the wire; `None`: it can't be read.
pub type ReadHeader = fn(&[u8]) -> Option<DeliveryRecord>;

/// Something that should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, for machines.
    pub kind: &'static str,
    /// Where: party/epoch/position, or an id.
    pub place: String,
    /// For people. No texts of citizens.
    pub why: String,
}

/// What is there of one party, in all its epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartyTotals {
    /// Whose.
    pub party: PartyId,
    /// Epochs that it has been in, the one in force among them.
    pub epochs: u64,
    /// Submissions.
    pub submissions: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Submissions with each outcome.
    pub accepted: u64,
    /// See `accepted`.
    pub duplicates: u64,
    /// See `accepted`.
    pub rejected: u64,
    /// See `accepted`.
    pub parked: u64,
}

/// What [`check_integrity`] has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Integrity {
    /// The parties, by id.
    pub parties: Vec<PartyTotals>,
    /// What should not be; at most a hundred of each kind.
    pub findings: Vec<Finding>,
    /// Findings beyond those, by kind.
    pub more: BTreeMap<&'static str, u64>,
}

impl Integrity {
    /// Nothing was found.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, kind: &'static str, place: impl Into<String>, why: impl Into<String>) {
        let known = self.findings.iter().filter(|found| found.kind == kind);
        if known.count() >= NAMED {
            *self.more.entry(kind).or_default() += 1;
            return;
        }
        self.findings.push(Finding {
            kind,
            place: place.into(),
            why: why.into(),
        });
    }
}

/// Looks at everything, at one moment.
///
/// # Errors
/// The database can't be reached or read, or the schema does not fit.
pub async fn check_integrity(
    settings: &Settings,
    read_header: ReadHeader,
) -> Result<Integrity, StoreError> {
    let line = Database::for_operator(settings)?.patient_line().await?;
    let session = line.client();
    schema::must_fit(session).await?;
    let moment = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    execute(session, moment, &[]).await?;
    let mut found = Integrity::default();
    journals::check(session, read_header, &mut found).await?;
    links::check(session, &mut found).await?;
    complaints::check(session, &mut found).await?;
    execute(session, "COMMIT", &[]).await?;
    Ok(found)
}
