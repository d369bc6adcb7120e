//! Where a local system stands in its inbox: `epoch-position`, and within a
//! delivery of several decisions `epoch-position.place`. Opaque to callers.

use std::fmt;

use crate::domain::FieldError;

const MOST: u64 = i64::MAX as u64;

/// A place in an inbox; everything through it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Epoch of the deliveries.
    pub epoch: u64,
    position: u64,
    // A whole delivery counts as beyond each place in it.
    place: u32,
}

impl Cursor {
    /// Through a whole delivery.
    pub fn at(epoch: u64, position: u64) -> Self {
        Self {
            epoch,
            position,
            place: u32::MAX,
        }
    }

    /// Through one decision of several.
    pub fn within(epoch: u64, position: u64, place: u32) -> Self {
        Self {
            epoch,
            position,
            place,
        }
    }

    /// Reads what a caller brings back.
    ///
    /// # Errors
    /// It is none of ours.
    pub fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        let wrong = || {
            FieldError::new(
                field,
                format!("{text:?} is no cursor: use one that came with an item"),
            )
        };
        let (epoch, rest) = text.split_once('-').ok_or_else(wrong)?;
        let (position, place) = match rest.split_once('.') {
            Some((position, place)) => (position, place.parse().map_err(|_| wrong())?),
            None => (rest, u32::MAX),
        };
        // No journal, and no store, counts beyond this.
        let number = |text: &str| text.parse().ok().filter(|number| *number <= MOST);
        Ok(Self {
            epoch: number(epoch).ok_or_else(wrong)?,
            position: number(position).ok_or_else(wrong)?,
            place,
        })
    }

    /// The last delivery that has been read as a whole.
    pub fn whole_deliveries(self) -> u64 {
        if self.place == u32::MAX {
            self.position
        } else {
            self.position.saturating_sub(1)
        }
    }

    /// The delivery from which on something is unread.
    pub fn first_unread(self) -> u64 {
        self.whole_deliveries() + 1
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.position)?;
        if self.place != u32::MAX {
            write!(f, ".{}", self.place)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: cursors of a delivery of three decisions, and of the next one.
    /// Guarantee: they are read back as they were written and stand in order;
    /// acknowledging within a delivery never takes the rest of it along.
    #[test]
    fn cursors_keep_their_order() {
        let all = [
            Cursor::within(9, 7, 0),
            Cursor::within(9, 7, 1),
            Cursor::at(9, 7),
            Cursor::at(9, 8),
        ];
        assert!(all.is_sorted());
        for cursor in all {
            let text = cursor.to_string();
            assert_eq!(Cursor::parse("after", &text), Ok(cursor), "{text}");
        }
        assert_eq!(all[1].whole_deliveries(), 6);
        assert_eq!(all[2].whole_deliveries(), 7);
        assert!(Cursor::parse("after", "7").is_err());
        assert!(Cursor::parse("after", "9-x").is_err());
        assert!(Cursor::parse("after", "9-18446744073709551615").is_err());
    }
}
