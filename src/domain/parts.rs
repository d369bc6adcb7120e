//! Parts: free text and personal data, beside the event and named by it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Digest, EventId};

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Texts.
    Content,
    /// The reporter's identity and contact.
    Reporter,
}

/// Names one part of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReference {
    /// What the part holds.
    pub kind: PartKind,
    /// SHA-256 of the part's bytes.
    pub sha256: Digest,
    /// Length of the part's bytes.
    pub size_bytes: u32,
}

/// A part beside an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What the part holds.
    pub kind: PartKind,
    /// SHA-256 of its bytes, as the event names it.
    pub sha256: Digest,
    /// The bytes, or why they are not here.
    pub state: PartState,
}

/// A part's bytes, or why they are not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartState {
    /// 16 random salt bytes and the encoded message.
    Present(Bytes),
    /// This node has no right to it.
    Withheld,
    /// Erased at every node, by this event.
    Erased(EventId),
}

/// Texts of an event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Content {
    /// Judul, at most 255 characters.
    pub title: String,
    /// Isi, at most 10 000 characters.
    pub body: String,
    /// Address in words, at most 1 000 characters.
    pub address: String,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// Answer, note, reason or question, at most 10 000 characters.
    pub text: String,
    /// File names of attachments.
    pub attachment_names: Vec<String>,
}

/// The reporter (pelapor).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Reporter {
    /// Name.
    pub name: String,
    /// Nomor Induk Kependudukan, 16 digits.
    pub nik: String,
    /// Telephone.
    pub phone: String,
    /// E-mail.
    pub email: String,
    /// Postal address.
    pub address: String,
}

// Personal data never enters logs: not even by a careless `{:?}`.
impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter(..)")
    }
}

impl Content {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl Reporter {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}
