//! An invitation: one line that a hub's operator passes on, and that a region
//! trades for its first certificate.
//!
//! The line survives e-mail and messengers: letters, digits and `/ , . : -`
//! only, no blanks, upper and lower case mean the same, and its last field
//! tells a line that was cut or mistyped from a whole one. Whoever has the line
//! may become the party, so only a digest of the code is ever kept.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Digest, FieldError, Micros, PartyId};

/// First field of a line, with the version of its form.
const FORM: &str = "jembatan1";
/// Fields of a line.
const FIELDS: usize = 7;
/// Bytes of a code that name its invitation and are no secret.
const NAME_BYTES: usize = 5;
/// Bytes of a code that are secret: 160 bits.
const SECRET_BYTES: usize = 20;
const CODE_BYTES: usize = NAME_BYTES + SECRET_BYTES;
/// Bytes of the check field.
const CHECK_BYTES: usize = 5;
/// Addresses of a hub in one line.
const MAX_ADDRESSES: usize = 8;
/// Crockford's digits: nothing that looks like something else.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A one-time code. Its first eight characters name the invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationCode([u8; CODE_BYTES]);

impl InvitationCode {
    /// Of random bytes.
    pub fn of(random: [u8; 25]) -> Self {
        Self(random)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is not 40 characters of base 32.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let bytes = decode(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            FieldError::new(
                "code",
                "is not a code: 40 letters and digits, the fifth field of the line",
            )
        })
    }

    /// Names the invitation; no secret.
    pub fn id(&self) -> String {
        encode(&self.0[..NAME_BYTES])
    }

    /// The code itself. A secret: for the line, and for nothing else.
    pub fn reveal(&self) -> String {
        encode(&self.0)
    }

    /// What a hub keeps of it. The code is random, so a plain hash hides it.
    pub fn digest(&self) -> Digest {
        Digest::of(&[b"jembatan/1 invitation\0".as_slice(), &self.0].concat())
    }
}

impl fmt::Debug for InvitationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvitationCode({}…)", self.id())
    }
}

/// All that a region needs to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationLine {
    /// Who is invited.
    pub party: PartyId,
    /// Where the hub is, `host:port` each; IPv6 in brackets.
    pub addresses: Vec<String>,
    /// SHA-256 of the root certificate under which the hub stands.
    pub root: Digest,
    /// The one-time code.
    pub code: InvitationCode,
    /// The hub takes the code until then; whole seconds.
    pub expires_at: Micros,
}

/// Why a line can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not begin as one.
    #[error(
        "this is no invitation: a line begins with {FORM}/ and comes from the hub's operator (jembatan parties invite)"
    )]
    NotALine,
    /// The end is missing.
    #[error(
        "the line is cut: its end is missing ({0} of {FIELDS} fields are there); copy it again, from {FORM}/ to its last character, or ask for it again"
    )]
    Cut(usize),
    /// The check field does not fit.
    #[error(
        "a character of the line is wrong, missing or too many: its check field does not fit; copy it again as a whole, or ask for it again"
    )]
    Mistyped,
    /// The check fits, and what stands there can't be used.
    #[error(
        "the line can't be used here ({0}): it may come from a newer hub; update this software"
    )]
    Unusable(FieldError),
}

impl InvitationLine {
    /// Reads a line as people paste it: blanks and line breaks in it, quotes
    /// and brackets around it, and the case of its letters do not count.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let is_blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{200b}';
        let text: String = text.chars().filter(|c| !is_blank(*c)).collect();
        let is_around = |c: char| !c.is_ascii_alphanumeric();
        let text = text.trim_matches(is_around).to_ascii_lowercase();
        let fields: Vec<&str> = text.split('/').collect();
        if fields[0] != FORM {
            return Err(LineError::NotALine);
        }
        let &[_, party, addresses, root, code, expires_at, check] = fields.as_slice() else {
            return Err(match fields.len() {
                found if found < FIELDS => LineError::Cut(found),
                _ => LineError::Mistyped,
            });
        };
        if check.len() < encoded_len(CHECK_BYTES) {
            return Err(LineError::Cut(FIELDS));
        }
        let (before, _) = text.rsplit_once('/').ok_or(LineError::NotALine)?;
        if decode(check).as_deref() != Some(&check_of(before)) {
            return Err(LineError::Mistyped);
        }
        let unusable = |field: &str| LineError::Unusable(FieldError::new(field, "can't be read"));
        let seconds: i64 = expires_at.parse().map_err(|_| unusable("expiry"))?;
        let addresses: Option<Vec<String>> = addresses.split(',').map(with_brackets).collect();
        Ok(Self {
            party: PartyId::parse(party).map_err(LineError::Unusable)?,
            addresses: addresses
                .filter(|all| all.len() <= MAX_ADDRESSES)
                .ok_or_else(|| unusable("address"))?,
            root: decode(root)
                .and_then(|bytes| Digest::from_slice(bytes.get(..32)?))
                .ok_or_else(|| unusable("root"))?,
            code: InvitationCode::parse(code).map_err(LineError::Unusable)?,
            expires_at: Micros(seconds.saturating_mul(1_000_000)),
        })
    }
}

impl InvitationLine {
    /// These fields with their check field behind them. It tells a line that was
    /// cut or mistyped, and is no secret: anybody can make one.
    pub fn sealed(before: &str) -> String {
        format!("{before}/{}", encode(&check_of(before)))
    }
}

impl fmt::Display for InvitationLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self
            .addresses
            .iter()
            .map(|address| address.replace(['[', ']'], "").to_ascii_lowercase())
            .collect();
        // 32 bytes are no whole number of digits: three zero bytes fill up.
        let mut root = self.root.as_bytes().to_vec();
        root.extend([0; 3]);
        let before = format!(
            "{FORM}/{}/{}/{}/{}/{}",
            self.party,
            addresses.join(","),
            encode(&root),
            self.code.reveal(),
            self.expires_at.0.div_euclid(1_000_000)
        );
        f.write_str(&Self::sealed(&before))
    }
}

fn check_of(before: &str) -> [u8; CHECK_BYTES] {
    let digest = Sha256::digest(before.as_bytes());
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest[..CHECK_BYTES]);
    check
}

/// In a line IPv6 has no brackets, which shells read; the port is always the
/// last.
fn with_brackets(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    match host {
        "" => None,
        v6 if v6.contains(':') => Some(format!("[{v6}]:{port}")),
        host => Some(format!("{host}:{port}")),
    }
}

const fn encoded_len(bytes: usize) -> usize {
    bytes * 8 / 5
}

/// Whole groups of five bytes only: eight digits each.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(encoded_len(bytes.len()));
    for group in bytes.chunks_exact(5) {
        let bits = group
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            let digit = (bits >> (5 * place) & 31) as usize;
            text.push(char::from(DIGITS[digit]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(8) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    for group in text.as_bytes().chunks_exact(8) {
        let mut bits = 0_u64;
        for digit in group {
            let digit = match digit.to_ascii_lowercase() {
                b'o' => b'0',
                b'i' | b'l' => b'1',
                other => other,
            };
            let value = DIGITS.iter().position(|known| *known == digit)?;
            bits = bits << 5 | value as u64;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> InvitationLine {
        let mut random = [0; CODE_BYTES];
        for (place, byte) in random.iter_mut().enumerate() {
            *byte = (place * 11 + 7) as u8;
        }
        InvitationLine {
            party: PartyId::parse("pemda-33.74").unwrap(),
            addresses: vec![
                "hub.example:8443".to_owned(),
                "[2001:db8::1]:443".to_owned(),
            ],
            root: Digest::of(b"root"),
            code: InvitationCode::of(random),
            expires_at: Micros(1_790_000_000_000_000),
        }
    }

    /// Scenario: a line is passed on as it is, in capitals, in quotes, broken
    /// over several lines by a mail program, between brackets.
    /// Guarantee: it means the same; it has no blank and nothing that a shell
    /// or a messenger reads as its own.
    #[test]
    fn a_line_survives_its_way() {
        let text = line().to_string();
        let is_plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/,.:-".contains(c);
        assert!(text.chars().all(is_plain), "{text}");
        let broken = format!("{}\r\n> {}", &text[..60], &text[60..]).replace("> ", " ");
        for way in [
            text.clone(),
            text.to_ascii_uppercase(),
            format!("\u{201c}{text}\u{201d}."),
            format!("<{text}>\n"),
            broken,
        ] {
            assert_eq!(InvitationLine::parse(&way), Ok(line()), "{way}");
        }
    }

    /// Scenario: the line of the test vectors, which was made by other means.
    /// Guarantee: it means what it says, and is written again as it was.
    #[test]
    fn the_line_of_the_vectors_is_read() {
        let root = "t78x3meht78x3meht78x3meht78x3meht78x3meht78x3meht78g0000";
        let code = "k7qd2m9xpv4t8r1c0aehg53wznj6bfsyk7qd2m9x";
        let text = format!(
            "jembatan1/pemda-33.74/hub.contoh.example:8443/{root}/{code}/1790000002/s408x57s"
        );
        let found = InvitationLine::parse(&text).unwrap();
        assert_eq!(found.root.as_bytes(), &[0xd1; 32]);
        assert_eq!(found.code.id(), "k7qd2m9x");
        assert_eq!(found.addresses, ["hub.contoh.example:8443"]);
        assert_eq!(found.to_string(), text);
    }

    /// Scenario: a line is cut at every place; each of its characters is
    /// mistyped in turn; something else is pasted.
    /// Guarantee: never taken for a line; a cut one is named as cut, or as no
    /// line where not even its beginning is there.
    #[test]
    fn what_was_cut_or_mistyped_is_named() {
        let text = line().to_string();
        for end in 1..text.len() {
            let found = InvitationLine::parse(&text[..end]).unwrap_err();
            let expected = match end {
                0..9 => matches!(found, LineError::NotALine),
                _ => matches!(found, LineError::Cut(_)),
            };
            assert!(expected, "{end}: {found}");
        }
        for place in FORM.len() + 1..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[place] = if wrong[place] == b'7' { b'8' } else { b'7' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(InvitationLine::parse(&wrong).is_err(), "{wrong}");
        }
        for other in ["", "https://hub.example:8443", "jembatan2/a"] {
            let found = InvitationLine::parse(other).unwrap_err();
            assert_eq!(found, LineError::NotALine);
            assert!(found.to_string().contains("jembatan1/"), "{found}");
        }
    }

    /// Scenario: a code is printed for debugging, its id is taken, another is
    /// compared.
    /// Guarantee: the secret part shows nowhere but in `reveal`; the id is the
    /// beginning of the code; digests differ where codes do.
    #[test]
    fn a_code_keeps_its_secret() {
        let code = line().code;
        let text = code.reveal();
        assert_eq!((text.len(), &text[..8]), (40, code.id().as_str()));
        assert!(!format!("{:?}", line()).contains(&text[8..]));
        let mut other = code.clone();
        other.0[24] ^= 1;
        assert_eq!(other.id(), code.id());
        assert_ne!(other.digest(), code.digest());
        assert_eq!(InvitationCode::parse(&text.to_uppercase()), Ok(code));
        assert!(InvitationCode::parse(&text[1..]).is_err());
    }
}
