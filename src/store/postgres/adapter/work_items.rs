//! Local statuses that no mapping table has a row for: the commit that stores the
//! hand-over notes them.

use crate::domain::{Event, Micros};

use super::world::{Out, WorkKey};

/// Kept of one party, at most: whoever puts a number into a code would else fill
/// the store. The one that was not seen for longest makes room.
pub(super) const PER_PARTY: i64 = 1_000;

/// Notes the local status of an event that was just stored, if it means nothing
/// here yet.
pub(super) fn note(out: &mut Out, event: &Event, now: Micros) {
    let Some(status) = event.unmapped_status() else {
        return;
    };
    let (count, last_seen) = out
        .work_items
        .entry(key(
            event.party.as_str(),
            event.system.as_str(),
            (&status.code, &status.name),
        ))
        .or_insert((0, now));
    *count += 1;
    *last_seen = now;
}

/// By what a status is known again. A text column holds no NUL.
pub(super) fn key(party: &str, system: &str, (code, name): (&str, &str)) -> WorkKey {
    let clean = |text: &str| text.replace('\0', "\u{fffd}");
    (
        party.to_owned(),
        system.to_owned(),
        clean(code),
        clean(name),
    )
}
