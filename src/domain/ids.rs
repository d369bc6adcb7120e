//! Identifiers: opaque, bounded, parsed once. Derived ids are the same
//! wherever they are derived, so a node that lost its disk finds them again.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use smol_str::SmolStr;

/// Microseconds since 1970-01-01 UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Micros(pub i64);

/// A field that does not keep its limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The field, as in `google.rpc.BadRequest`, for example `filed.region`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl FieldError {
    /// Names a field and its problem.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// Written as it is shown, without a copy of its own.
macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $label:literal, $max_bytes:literal, $allowed:expr, $shape:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(SmolStr);

        as_text!($name);

        impl $name {
            /// The longest that is accepted, in bytes.
            pub const MAX_BYTES: usize = $max_bytes;

            /// Accepts a text that keeps the limits.
            ///
            /// # Errors
            /// Says which limit is broken.
            pub fn parse(text: &str) -> Result<Self, FieldError> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() {
                    return Err(FieldError::new($label, "is empty"));
                }
                if text.len() > Self::MAX_BYTES {
                    return Err(FieldError::new(
                        $label,
                        format!("has {} bytes; at most {} are allowed", text.len(), Self::MAX_BYTES),
                    ));
                }
                if let Some(wrong) = text.chars().find(|c| !allowed(*c)) {
                    return Err(FieldError::new(
                        $label,
                        format!("contains {wrong:?}; {}", $shape),
                    ));
                }
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = FieldError;
            fn try_from(text: String) -> Result<Self, FieldError> {
                Self::parse(&text)
            }
        }

    };
}

fn is_code(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.'
}

fn is_printable(c: char) -> bool {
    !c.is_control()
}

text_id!(
    /// A party: has a certificate, a link and journals. For example `pemda-33.74`.
    PartyId, "party", 64, is_code,
    "lower-case letters, digits, '-' and '.' are allowed"
);
text_id!(
    /// An institution: can own a complaint. For example `kl-pu`.
    InstitutionCode, "institution", 64, is_code,
    "lower-case letters, digits, '-' and '.' are allowed"
);
text_id!(
    /// A local system within a party, for example `lapor-semar`.
    SystemName, "system", 64, is_printable,
    "control characters are not allowed"
);
text_id!(
    /// Idempotency key, unique within a local system. No personal data.
    IdempotencyKey, "key", 128, is_printable,
    "control characters are not allowed"
);
text_id!(
    /// A local system's own name for a complaint. No personal data.
    Reference, "reference", 128, is_printable,
    "control characters are not allowed"
);
text_id!(
    /// Category code of a complaint, for example `road-damage`.
    CategoryCode, "category", 64, is_printable,
    "control characters are not allowed"
);
text_id!(
    /// Kemendagri region code, for example `33.74`: province 2 digits,
    /// regency or city 2, district 2, village 4.
    RegionCode, "region", 13, |c| c.is_ascii_digit() || c == '.',
    "a Kemendagri code such as 33.74 is digits and '.'"
);

impl SystemName {
    /// The system that is meant when none is named.
    pub const DEFAULT: &'static str = "default";
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name([u8; 16]);

        as_text!($name);

        impl $name {
            /// From 16 bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// From a slice, if it has 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// From the text form of a uuid.
            pub fn from_text(text: &str) -> Option<Self> {
                uuid::Uuid::try_parse(text).ok().map(|id| Self(id.into_bytes()))
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = FieldError;
            fn try_from(text: String) -> Result<Self, FieldError> {
                Self::from_text(&text).ok_or_else(|| FieldError::new(stringify!($name), "is not a uuid"))
            }
        }

    };
}

uuid_id!(
    /// Identifies an event: uuid v8 over party, system and key.
    EventId
);
uuid_id!(
    /// Identifies a complaint: uuid v8 over the origin's party, system and reference.
    ComplaintId
);

/// uuid v8 over SHA-256(label ‖ 0x00 ‖ len16(a) ‖ a ‖ len16(b) ‖ b ‖ len16(c) ‖ c).
fn derive_uuid(label: &str, party: &PartyId, system: &SystemName, name: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(label);
    hash.update([0]);
    for field in [party.as_str(), system.as_str(), name] {
        // All three are bounded far below 64 KiB by their types.
        hash.update((field.len() as u16).to_be_bytes());
        hash.update(field);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(first)
        .into_uuid()
        .into_bytes()
}

impl EventId {
    /// The id of what `party`'s `system` hands over under `key`.
    pub fn derive(party: &PartyId, system: &SystemName, key: &IdempotencyKey) -> Self {
        Self(derive_uuid("jembatan/1 event", party, system, key.as_str()))
    }
}

impl ComplaintId {
    /// The id of the complaint that `party`'s `system` calls `reference`.
    pub fn derive(party: &PartyId, system: &SystemName, reference: &Reference) -> Self {
        Self(derive_uuid(
            "jembatan/1 complaint",
            party,
            system,
            reference.as_str(),
        ))
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From a slice, if it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The national identifier of a complaint: 12 Crockford base-32 digits and a
/// check digit (Luhn mod 32), derived from the complaint's id. There is no
/// counter, so deciding again gives the same one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TrackingId(SmolStr);

as_text!(TrackingId);

/// Crockford's alphabet: no I, L, O, U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl TrackingId {
    /// The id of a complaint. `attempt` is 0 but for the rare complaint whose
    /// id collides with an earlier one at the hub.
    pub fn derive(complaint: &ComplaintId, attempt: u8) -> Self {
        Self::from_number(Self::number_of(complaint, attempt))
    }

    /// The 60 bits of an id before they are written in digits.
    pub fn number_of(complaint: &ComplaintId, attempt: u8) -> u64 {
        let mut hash = Sha256::new();
        hash.update("jembatan/1 tracking");
        hash.update([0]);
        hash.update(complaint.as_bytes());
        hash.update([attempt]);
        let hash = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_be_bytes(first) >> 4
    }

    /// The id with these 60 bits.
    pub fn from_number(number: u64) -> Self {
        let mut values = [0; 12];
        for (digit, value) in values.iter_mut().enumerate() {
            *value = ((number >> (55 - 5 * digit)) & 31) as u8;
        }
        let mut digits = [0; 13];
        for (digit, value) in digits.iter_mut().zip(values) {
            *digit = CROCKFORD[value as usize];
        }
        digits[12] = CROCKFORD[check_value(&values) as usize];
        Self::of_digits(&digits)
    }

    /// Of digits that were looked up in the alphabet.
    fn of_digits(digits: &[u8; 13]) -> Self {
        let text = std::str::from_utf8(digits).unwrap_or_default();
        Self(SmolStr::new_inline(text))
    }

    /// The 60 bits of this id.
    pub fn number(&self) -> u64 {
        self.0.bytes().take(12).fold(0, |number, digit| {
            let value = CROCKFORD.iter().position(|found| *found == digit);
            (number << 5) | value.unwrap_or(0) as u64
        })
    }

    /// Reads what a person typed: case, blanks and dashes do not matter, and
    /// O, I and L are read as 0, 1 and 1.
    ///
    /// # Errors
    /// Says whether the length, a character or the check digit is wrong.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let mut values = [0; 13];
        let mut found = 0;
        for c in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
            let folded = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let value = CROCKFORD.iter().position(|digit| *digit as char == folded);
            let Some(value) = value else {
                return Err(FieldError::new(
                    "tracking_id",
                    format!("contains {c:?}, which no Tracking ID has"),
                ));
            };
            if let Some(place) = values.get_mut(found) {
                *place = value as u8;
            }
            found += 1;
        }
        if found != 13 {
            return Err(FieldError::new(
                "tracking_id",
                format!("has {found} characters; a Tracking ID has 13"),
            ));
        }
        if check_value(&values[..12]) != values[12] {
            return Err(FieldError::new(
                "tracking_id",
                "its check digit does not fit: look for a typing mistake",
            ));
        }
        Ok(Self::of_digits(
            &values.map(|value| CROCKFORD[value as usize]),
        ))
    }

    /// The 13 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Luhn mod N with N = 32: finds every single wrong digit and nearly every
/// swap of two neighbours.
fn check_value(values: &[u8]) -> u8 {
    let sum: u32 = values
        .iter()
        .rev()
        .enumerate()
        .map(|(place, value)| {
            let weighted = u32::from(*value) * if place % 2 == 0 { 2 } else { 1 };
            weighted / 32 + weighted % 32
        })
        .sum();
    ((32 - sum % 32) % 32) as u8
}

impl fmt::Display for TrackingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrackingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrackingId({})", self.0)
    }
}

impl TryFrom<String> for TrackingId {
    type Error = FieldError;
    fn try_from(text: String) -> Result<Self, FieldError> {
        Self::parse(&text)
    }
}

impl RegionCode {
    /// Whether `other` is this region or lies in it, by whole levels: `33`
    /// contains `33.74`, and does not contain `331`.
    pub fn contains(&self, other: &Self) -> bool {
        match other.as_str().strip_prefix(self.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        }
    }
}
