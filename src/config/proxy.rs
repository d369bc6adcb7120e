//! An HTTP proxy on the way out, as a settings file writes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::shared::host_port;

/// `host:port`, or `http://user:password@host:port/`.
///
/// Printed without its password: settings are shown to people and in logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ProxyAddress {
    /// `host:port`.
    pub address: String,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

impl TryFrom<String> for ProxyAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The text itself is not repeated: it may hold a password.
        let wrong = |what: &str| {
            format!(
                "{what}; a proxy is written as proxy.example:3128, or http://user:password@proxy.example:3128"
            )
        };
        let bare = text.strip_prefix("http://").unwrap_or(&text);
        if bare.contains("://") {
            return Err(wrong("only http:// proxies can be used"));
        }
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let (credentials, address) = match bare.rsplit_once('@') {
            None => (None, bare),
            Some((user, address)) => {
                let (user, password) = user
                    .split_once(':')
                    .ok_or_else(|| wrong("before the '@' stands no user:password"))?;
                let both = decoded(user).zip(decoded(password));
                let both = both.ok_or_else(|| {
                    wrong("user or password has a '%' that is not followed by two hex digits, or is not text")
                })?;
                (Some(both), address)
            }
        };
        host_port(address).map_err(|_| wrong("this is not a host and a port"))?;
        Ok(Self {
            address: address.to_owned(),
            credentials,
        })
    }
}

/// Percent-decoding: a password may hold '@', ':' and '/'. Control characters
/// would break the request's head.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let mut one = [0];
            hex::decode_to_slice(digits, &mut one).ok()?;
            bytes.extend(one);
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

impl Serialize for ProxyAddress {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.credentials {
            Some((user, _)) => write!(f, "http://{user}:***@{}", self.address),
            None => f.write_str(&self.address),
        }
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ProxyAddress, String> {
        ProxyAddress::try_from(text.to_owned())
    }

    /// Scenario: proxies as people write them, with and without a password.
    /// Guarantee: they are understood, and a password is never printed, not
    /// even when what is around it is wrong.
    #[test]
    fn a_password_is_understood_and_never_printed() {
        assert_eq!(
            parse("http://proxy.example:3128/").unwrap().credentials,
            None
        );
        let proxy = parse("http://dinas:r%40hasia%3A1@proxy.example:3128").unwrap();
        assert_eq!(proxy.address, "proxy.example:3128");
        let (user, password) = proxy.credentials.clone().unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("dinas", "r@hasia:1"));
        assert_eq!(proxy.to_string(), "http://dinas:***@proxy.example:3128");
        assert!(!format!("{proxy:?}").contains("hasia"));
        for wrong in [
            "http://dinas:rahasia@proxy.example",
            "https://dinas:rahasia@proxy.example:3128",
            "http://dinas:rahasia%0d%0a@proxy.example:3128",
            "http://rahasia@proxy.example:3128",
        ] {
            let why = parse(wrong).unwrap_err();
            assert!(!why.contains("rahasia"), "{why}");
        }
    }
}
