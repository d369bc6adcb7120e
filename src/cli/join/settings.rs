//! The settings of a node that has joined: the documented default file, with
//! what the line and the hub have said in its places.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    config::{ADAPTER_FILE, AdapterConfig, parse},
    identity::{Rights, write_for, write_new},
};

use super::Joined;

/// Whether a node could be started with what would be written.
pub(super) fn check(joined: &Joined, path: &Path) -> anyhow::Result<String> {
    let text = text(joined, store_of(path).as_deref());
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
    let given = rights_of(&path).filter(|_| is_secret);
    match given.map(|rights| write_for(&path, &text, rights)) {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            write_new(&path, &text, true, true)?;
            eprintln!(
                "{error}. So that nobody else reads the proxy's password it is yours alone now: give it to the node's own user."
            );
        }
        None => write_new(&path, &text, is_secret, true)?,
    }
    Ok(path)
}

/// Who may read settings with a secret: whoever could read those that are
/// there, without the rest of the world; else the directory's group, which is
/// that of the node's own user.
fn rights_of(path: &Path) -> Option<Rights> {
    if let Ok(found) = fs::metadata(path) {
        return Some(Rights {
            user: Some(found.uid()),
            group: Some(found.gid()),
            mode: found.mode() & 0o640,
        });
    }
    let directory = fs::metadata(path.parent()?).ok()?;
    Some(Rights {
        user: None,
        group: Some(directory.gid()),
        mode: 0o640,
    })
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

/// The store that settings name which are there: a node that joins again keeps what
/// it has. As TOML; `None`: they name none, or can't be read.
fn store_of(path: &Path) -> Option<String> {
    let before: toml::Table = toml::from_str(&fs::read_to_string(path).ok()?).ok()?;
    let store = before.get("store")?.clone();
    toml::to_string(&toml::Table::from_iter([("store".to_owned(), store)])).ok()
}

fn text(joined: &Joined, store: Option<&str>) -> String {
    let mut table = String::new();
    let mut text = String::new();
    for line in ADAPTER_FILE.lines() {
        if line.starts_with('[') {
            line.clone_into(&mut table);
        }
        if let ("#[store]", Some(store)) = (line, store) {
            text.push_str(store);
            continue;
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

    fn joined(place: &Path) -> Joined {
        Joined {
            line: InvitationLine {
                party: PartyId::parse("kl-pu").unwrap(),
                addresses: vec!["a.example:1".to_owned(), "[::1]:2".to_owned()],
                root: Digest::of(b"root"),
                code: InvitationCode::of([7; 25]),
                expires_at: Micros(0),
            },
            trust_domain: TrustDomain::parse("uji.example").unwrap(),
            data_dir: place.join("my data"),
            pair: place.join("my data/identity/kl-pu.pem"),
            roots: place.join("my data/identity/roots.pem"),
            proxy: Some("http://dinas:rahasia@proxy.example:3128".to_owned()),
            hub_name: None,
            time_zone: "Asia/Jayapura".to_owned(),
        }
    }

    /// Scenario: a line with two addresses, a proxy with a password, paths with
    /// a blank; written twice over settings that are there.
    /// Guarantee: the file reads as what was said, keeps every sentence of the
    /// documented one, and what was there before is kept both times.
    #[test]
    fn settings_say_what_the_line_said() {
        let place = tempfile::tempdir().unwrap();
        let joined = joined(place.path());
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

    /// Scenario: a node whose store is in PostgreSQL joins again.
    /// Guarantee: its settings name the same store: it does not begin an empty one in
    /// its directory.
    #[test]
    fn a_node_that_joins_again_keeps_its_store() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("adapter.toml");
        let store = "[store]\nurl = \"postgres://jembatan@db1/adapter\"\nconnections = 3\n";
        fs::write(&path, format!("directory = \"data\"\n{store}")).unwrap();
        write(&joined(place.path()), &path).unwrap();
        let config: AdapterConfig = crate::config::load(&path).unwrap();
        let kept = config.store.unwrap();
        assert_eq!(kept.url, "postgres://jembatan@db1/adapter");
        assert_eq!(kept.connections, 3);
        assert_eq!(config.directory, place.path().join("my data"));
    }

    /// Scenario: settings with a proxy's password go into a directory of another
    /// group, as `/etc/jembatan` is; over settings of another user that the
    /// world can read; without a password.
    /// Guarantee: the node's own user can read them, the world can't, the copy
    /// of what was there is no more readable than that was; without a secret
    /// they are as any settings are. (Another user and group need root; for
    /// others the modes alone are looked at.)
    #[test]
    fn a_password_is_for_the_node_alone() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        const SERVICE: u32 = 4_242;
        let place = tempfile::tempdir().unwrap();
        let mut joined = joined(place.path());
        let own = fs::metadata(place.path()).unwrap();
        let is_root = chown(place.path(), None, Some(SERVICE)).is_ok();
        let group = if is_root { SERVICE } else { own.gid() };
        let rights = |path: &Path| {
            let found = fs::metadata(path).unwrap();
            (found.uid(), found.gid(), found.mode() & 0o777)
        };
        let path = place.path().join("adapter.toml");
        write(&joined, &path).unwrap();
        assert_eq!(rights(&path), (own.uid(), group, 0o640));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let user = if is_root { SERVICE } else { own.uid() };
        chown(&path, Some(user), None).unwrap();
        write(&joined, &path).unwrap();
        assert_eq!(rights(&path), (user, group, 0o600));

        joined.proxy = None;
        let open = place.path().join("open.toml");
        write(&joined, &open).unwrap();
        assert_eq!(rights(&open).2, 0o644);
    }
}
