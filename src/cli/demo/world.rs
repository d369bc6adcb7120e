//! The world of the demo: a temporary directory with a CA, certificates,
//! configuration files, and three nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::cli::{
    lab::{self, Node, adapter_file, hub_file},
    records::Record,
};

use super::relay::Relay;

/// Province and city.
pub(super) const PROVINCE: &str = "pemda-33";
pub(super) const CITY: &str = "pemda-33.74";
pub(super) const NATIONAL: &str = "nasional";
/// A unary party for visitors.
pub(super) const SPARE: &str = "mitra";

/// Everything that runs.
pub(super) struct World {
    pub(super) directory: PathBuf,
    pub(super) hub: Node,
    pub(super) province: Node,
    pub(super) city: Node,
    pub(super) city_line: Relay,
}

impl World {
    pub(super) async fn build(directory: &Path, records: &[Record]) -> anyhow::Result<Self> {
        lab::certificates(directory, &[PROVINCE, CITY, SPARE])?;
        let at = |name: &str| directory.join(name);
        std::fs::write(at("directory.toml"), directory_file(records))?;
        std::fs::write(at("hub.toml"), hub_file())?;
        let hub = Node::start("hub", &at("hub.toml")).await?;
        let links = hub.addresses.links.context("the hub has no links port")?;
        let province_line = Relay::start(links).await?;
        let city_line = Relay::start(links).await?;
        std::fs::write(
            at("province.toml"),
            adapter_file(PROVINCE, "laporgub", province_line.address),
        )?;
        std::fs::write(
            at("city.toml"),
            adapter_file(CITY, "lapor-semar", city_line.address),
        )?;
        let province = Node::start("adapter", &at("province.toml")).await?;
        let city = Node::start("adapter", &at("city.toml")).await?;
        Ok(Self {
            directory: directory.to_owned(),
            hub,
            province,
            city,
            city_line,
        })
    }

    pub(super) async fn stop(self) {
        self.city.stop().await;
        self.province.stop().await;
        self.hub.stop().await;
    }
}

/// Parties, institutions and rules: whoever has no adapter in this demo is
/// reached through the national application.
fn directory_file(records: &[Record]) -> String {
    let mut file = String::new();
    for (id, name, mode) in [
        (NATIONAL, "SP4N (demo)", "local"),
        (PROVINCE, "Provinsi Jawa Tengah", "stream"),
        (CITY, "Kota Semarang", "stream"),
        (SPARE, "Mitra uji", "unary"),
    ] {
        let _ = writeln!(
            file,
            "[[party]]\nid = {id:?}\nname = {name:?}\nmode = {mode:?}"
        );
        // So that the robot hears of what the visitor handles himself.
        if id == NATIONAL {
            let _ = writeln!(file, "observes_institutions = [{SPARE:?}]");
        }
        file.push('\n');
    }
    let mut institutions: BTreeSet<&str> = BTreeSet::from([PROVINCE, CITY, SPARE]);
    let mut categories: BTreeMap<&str, &str> = BTreeMap::new();
    for record in records {
        institutions.extend(record.addressed_to.as_deref());
        if let Some(category) = &record.category {
            categories.insert(category.code(), category.name());
        }
    }
    for code in institutions {
        let party = match code {
            PROVINCE | CITY | SPARE => code,
            _ => NATIONAL,
        };
        let _ = writeln!(
            file,
            "[[institution]]\ncode = {code:?}\nparty = {party:?}\n"
        );
    }
    for (code, name) in categories {
        let _ = writeln!(file, "[[category]]\ncode = {code:?}\nname = {name:?}\n");
    }
    for (region, institution) in [("33", PROVINCE), ("33.74", CITY)] {
        let _ = writeln!(
            file,
            "[[rule]]\nregion = {region:?}\ninstitution = {institution:?}\n"
        );
    }
    file
}
