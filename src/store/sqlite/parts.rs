//! The parts of an event in its row.

use rusqlite::{OptionalExtension as _, params};

use crate::{
    domain::Part,
    store::{StoreError, parts::ALL_READABLE},
};

pub(super) use crate::store::parts::{pack, readable_bits, unpack};

use super::writer::Tx;

impl Tx<'_> {
    /// The parts of a row's event, wherever it stands.
    pub(super) fn parts_at(&self, row: i64) -> Result<Vec<Part>, StoreError> {
        let packed: Option<Option<Vec<u8>>> = self
            .connection
            .prepare_cached(
                "SELECT parts FROM submission WHERE id = ?1 \
                 UNION ALL SELECT parts FROM delivery WHERE id = ?1",
            )?
            .query_row([row], |found| found.get(0))
            .optional()?;
        unpack(packed.flatten(), ALL_READABLE)
    }

    /// Puts the parts of a row's event in the place of those that stand there.
    pub(super) fn set_parts(&self, row: i64, parts: &[Part]) -> Result<(), StoreError> {
        let packed = pack(parts);
        let changed = self
            .connection
            .prepare_cached("UPDATE submission SET parts = ?2 WHERE id = ?1")?
            .execute(params![row, packed])?;
        if changed == 0 {
            self.connection
                .prepare_cached("UPDATE delivery SET parts = ?2 WHERE id = ?1")?
                .execute(params![row, packed])?;
        }
        Ok(())
    }
}
