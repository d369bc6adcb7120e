//! The settings of a node that has joined: the documented default file, with
//! what the line and the hub have said in its places.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    config::{ADAPTER_FILE, AdapterConfig, parse},
    identity::write_new,
};

use super::Joined;

/// Whether a node could be started with what would be written.
pub(super) fn check(joined: &Joined, path: &Path) -> anyhow::Result<String> {
    let text = text(joined);
    parse::<AdapterConfig>(path, &text)?;
    Ok(text)
}

/// Writes the settings; what was there is kept beside.
pub(super) fn write(joined: &Joined, path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let text = check(joined, &path)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    if path.exists() {
        let kept = free_beside(&path);
        fs::copy(&path, &kept).with_context(|| kept.display().to_string())?;
        eprintln!("What was there is kept as {}.", kept.display());
    }
    // A proxy's password is nobody else's.
    let is_secret = joined
        .proxy
        .as_ref()
        .is_some_and(|proxy| proxy.contains('@'));
    let owner = owner_of(&path);
    write_new(&path, &text, is_secret, true)?;
    if is_secret && let Some((group, mode)) = owner {
        // The node's own user has to read it.
        std::os::unix::fs::chown(&path, None, Some(group))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| path.display().to_string())?;
    }
    Ok(path)
}

/// Whose settings they are: those of the file that is there, else of the
/// directory's group, which may read them and nobody else.
fn owner_of(path: &Path) -> Option<(u32, u32)> {
    if let Ok(found) = fs::metadata(path) {
        return Some((found.gid(), found.mode() & 0o640));
    }
    let directory = fs::metadata(path.parent()?).ok()?;
    Some((directory.gid(), 0o640))
}

fn free_beside(path: &Path) -> PathBuf {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(".old");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let mut number = 0;
    while named(number).exists() {
        number += 1;
    }
    named(number)
}

fn text(joined: &Joined) -> String {
    let mut table = String::new();
    let mut text = String::new();
    for line in ADAPTER_FILE.lines() {
        if line.starts_with('[') {
            line.clone_into(&mut table);
        }
        let bare = line.strip_prefix('#').unwrap_or(line);
        let key = bare.split_once(" = ").map_or("", |(key, _)| key);
        match replaced(joined, &table, key) {
            // Any name of a local system is taken until somebody lists them.
            _ if table == "[[party.system]]" && !line.is_empty() && !line.starts_with('#') => {
                text.push('#');
                text.push_str(line);
            }
            Some(value) => {
                text.push_str(key);
                text.push_str(" = ");
                text.push_str(&value);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// What stands behind a key now; `None`: what stood there.
fn replaced(joined: &Joined, table: &str, key: &str) -> Option<String> {
    let addresses = &joined.line.addresses;
    let path = |path: &Path| Some(quoted(&path.display().to_string()));
    match (table, key) {
        ("", "trust_domain") => Some(quoted(&joined.trust_domain.to_string())),
        ("", "directory") => path(&joined.data_dir),
        ("[hub]", "address") => addresses.first().map(|first| quoted(first)),
        ("[hub]", "fallback") if addresses.len() > 1 => {
            let more: Vec<String> = addresses[1..].iter().map(|more| quoted(more)).collect();
            Some(format!("[{}]", more.join(", ")))
        }
        ("[hub]", "name") => joined.hub_name.as_deref().map(quoted),
        ("[hub]", "proxy") => joined.proxy.as_deref().map(quoted),
        ("[[party]]", "id") => Some(quoted(joined.line.party.as_str())),
        ("[[party]]", "certificate" | "key") => path(&joined.pair),
        ("[[party]]", "time_zone") => Some(quoted(&joined.time_zone)),
        ("[tls]", "roots") => path(&joined.roots),
        _ => None,
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::ProxyAddress,
        domain::{Digest, InvitationCode, InvitationLine, Micros, PartyId},
        identity::TrustDomain,
    };

    /// Scenario: a line with two addresses, a proxy with a password, paths with
    /// a blank; written twice over settings that are there.
    /// Guarantee: the file reads as what was said, keeps every sentence of the
    /// documented one, and what was there before is kept both times.
    #[test]
    fn settings_say_what_the_line_said() {
        let place = tempfile::tempdir().unwrap();
        let joined = Joined {
            line: InvitationLine {
                party: PartyId::parse("kl-pu").unwrap(),
                addresses: vec!["a.example:1".to_owned(), "[::1]:2".to_owned()],
                root: Digest::of(b"root"),
                code: InvitationCode::of([7; 25]),
                expires_at: Micros(0),
            },
            trust_domain: TrustDomain::parse("uji.example").unwrap(),
            data_dir: place.path().join("my data"),
            pair: place.path().join("my data/identity/kl-pu.pem"),
            roots: place.path().join("my data/identity/roots.pem"),
            proxy: Some("http://dinas:rahasia@proxy.example:3128".to_owned()),
            hub_name: None,
            time_zone: "Asia/Jayapura".to_owned(),
        };
        let path = place.path().join("adapter.toml");
        fs::write(&path, "before").unwrap();
        write(&joined, &path).unwrap();
        write(&joined, &path).unwrap();
        let config: AdapterConfig = crate::config::load(&path).unwrap();
        assert_eq!(config.trust_domain, "uji.example");
        assert_eq!(config.directory, joined.data_dir);
        assert_eq!(
            (config.hub.address.as_str(), config.hub.fallback.as_slice()),
            ("a.example:1", ["[::1]:2".to_owned()].as_slice())
        );
        let proxy = ProxyAddress::try_from(joined.proxy.clone().unwrap()).unwrap();
        assert_eq!((config.hub.name, config.hub.proxy), (None, Some(proxy)));
        let party = &config.parties[0];
        assert_eq!(
            (&party.certificate, &party.key),
            (&joined.pair, &joined.pair)
        );
        assert_eq!(party.time_zone, "Asia/Jayapura");
        assert!(party.systems.is_empty());
        let written = fs::read_to_string(&path).unwrap();
        let sentences = |text: &str| text.lines().filter(|line| line.starts_with("# ")).count();
        assert_eq!(sentences(&written), sentences(ADAPTER_FILE));
        let kept = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
        assert_eq!(kept("adapter.toml.old"), "before");
        assert_eq!(kept("adapter.toml.old.1"), written);
    }
}
