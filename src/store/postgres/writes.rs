//! What a batch writes, as the arrays of rows that the server's functions
//! `jembatan_commit_1` and `jembatan_settle_1` take. Names of types and fields are the schema's.

use postgres_types::ToSql;

use super::{connect::Line, error::Failure, session::execute};

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_head_1")]
pub(super) struct HeadRow {
    pub(super) party: String,
    pub(super) read_position: i64,
    pub(super) read_token: Option<Vec<u8>>,
    pub(super) position: i64,
    pub(super) chain: Vec<u8>,
    pub(super) accepted: i64,
    pub(super) duplicates: i64,
    pub(super) rejected: i64,
    pub(super) parked: i64,
    pub(super) repeated: i64,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_seen_1")]
pub(super) struct SeenRow {
    pub(super) id: i64,
    pub(super) version: i32,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_complaint_1")]
pub(super) struct ComplaintRow {
    pub(super) id: i64,
    pub(super) complaint_id: Vec<u8>,
    pub(super) number: i64,
    pub(super) is_open: bool,
    pub(super) handler: Option<String>,
    pub(super) state: String,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_submission_1")]
pub(super) struct SubmissionRow {
    pub(super) id: i64,
    pub(super) stored_at: i64,
    pub(super) event_id: Option<Vec<u8>>,
    /// The event was not here before: its id leads to this row for ever.
    pub(super) is_first: bool,
    pub(super) mac: Vec<u8>,
    pub(super) event: Vec<u8>,
    pub(super) handover_digest: Option<Vec<u8>>,
    pub(super) chain: Vec<u8>,
    pub(super) outcome: i16,
    pub(super) decision: String,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_part_1")]
pub(super) struct PartRow {
    pub(super) row: i64,
    pub(super) place: i16,
    pub(super) kind: i16,
    pub(super) sha256: Vec<u8>,
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) erased_by: Option<Vec<u8>>,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_history_1")]
pub(super) struct HistoryRow {
    pub(super) complaint: i64,
    pub(super) revision: i32,
    pub(super) row: i64,
    pub(super) hops: i32,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_repetition_1")]
pub(super) struct RepetitionRow {
    pub(super) complaint: i64,
    pub(super) row: i64,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_reference_1")]
pub(super) struct ReferenceRow {
    pub(super) party: String,
    pub(super) system: String,
    pub(super) reference: String,
    pub(super) complaint_id: Vec<u8>,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_erasure_1")]
pub(super) struct ErasureRow {
    pub(super) row: i64,
    pub(super) kind: i16,
    /// The part itself; `None`: whatever of this kind is not erased yet.
    pub(super) sha256: Option<Vec<u8>>,
    pub(super) erased_by: Vec<u8>,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_delivery_1")]
pub(super) struct DeliveryRow {
    pub(super) party: String,
    pub(super) stored_at: i64,
    pub(super) header: Vec<u8>,
    pub(super) event_row: Option<i64>,
    pub(super) readable: i16,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_held_1")]
pub(super) struct HeldRow {
    pub(super) party: String,
    pub(super) position: i64,
    pub(super) chain: Vec<u8>,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_work_item_1")]
pub(super) struct WorkItemRow {
    pub(super) party: String,
    pub(super) system: String,
    pub(super) code: String,
    pub(super) name: String,
    pub(super) count: i64,
    pub(super) last_seen: i64,
}

#[derive(Debug, ToSql)]
#[postgres(name = "jembatan_settled_1")]
pub(super) struct SettledRow {
    pub(super) id: i64,
    pub(super) outcome: i16,
    pub(super) decision: String,
}

/// All rows of one batch.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// The directory by which it was decided; `None`: nothing was.
    pub(super) directory: Option<i64>,
    pub(super) heads: Vec<HeadRow>,
    pub(super) seen: Vec<SeenRow>,
    pub(super) filed: Vec<ComplaintRow>,
    pub(super) changed: Vec<ComplaintRow>,
    pub(super) submissions: Vec<SubmissionRow>,
    pub(super) parts: Vec<PartRow>,
    pub(super) histories: Vec<HistoryRow>,
    pub(super) repetitions: Vec<RepetitionRow>,
    pub(super) references: Vec<ReferenceRow>,
    pub(super) erasures: Vec<ErasureRow>,
    pub(super) deliveries: Vec<DeliveryRow>,
    pub(super) held: Vec<HeldRow>,
    pub(super) work_items: Vec<WorkItemRow>,
    /// Submissions that are parked no more.
    pub(super) settled: Vec<SettledRow>,
}

/// Who writes: the replica's row, its generation, and the batch's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) replica: i64,
    pub(super) generation: i64,
    pub(super) batch: i64,
}

/// The one statement that commits.
pub(super) const COMMIT: &str = "SELECT jembatan_commit_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
     $16, $17)";

/// As [`COMMIT`], and nothing that was decided before it commits after it.
const SETTLE: &str = "SELECT jembatan_settle_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
     $16, $17, $18)";

impl Writes {
    /// Commits them, or nothing.
    pub(super) async fn commit(&self, line: &Line, writer: Writer) -> Result<(), Failure> {
        let common: [&(dyn ToSql + Sync); 17] = [
            &writer.replica,
            &writer.generation,
            &writer.batch,
            &self.directory,
            &self.heads,
            &self.seen,
            &self.filed,
            &self.changed,
            &self.submissions,
            &self.parts,
            &self.histories,
            &self.repetitions,
            &self.references,
            &self.erasures,
            &self.deliveries,
            &self.held,
            &self.work_items,
        ];
        if self.settled.is_empty() {
            execute(line.client(), COMMIT, &common).await?;
        } else {
            let mut values = common.to_vec();
            values.push(&self.settled);
            execute(line.client(), SETTLE, &values).await?;
        }
        Ok(())
    }
}
