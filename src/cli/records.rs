//! Complaints in JSON Lines or CSV, as `submit` and the demo read them.

use anyhow::Context as _;
use serde::Deserialize;

use crate::wire::v1;

/// One line. Fields that a system does not have may be left out.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Record {
    pub(super) reference: String,
    #[serde(default)]
    pub(super) kind: String,
    pub(super) title: String,
    pub(super) body: String,
    #[serde(default)]
    pub(super) category: Option<Category>,
    #[serde(default, alias = "region")]
    pub(super) region_code: Option<String>,
    #[serde(default)]
    pub(super) address: Option<String>,
    #[serde(default)]
    pub(super) latitude: Option<f64>,
    #[serde(default)]
    pub(super) longitude: Option<f64>,
    #[serde(default)]
    pub(super) occurred_on: Option<String>,
    #[serde(default)]
    pub(super) filed_at: Option<String>,
    #[serde(default)]
    pub(super) channel: Option<String>,
    #[serde(default)]
    pub(super) anonymous: bool,
    #[serde(default)]
    pub(super) confidential: bool,
    #[serde(default)]
    pub(super) addressed_to: Option<String>,
    #[serde(default)]
    pub(super) handling: Option<String>,
    #[serde(default)]
    pub(super) reporter: Option<Reporter>,
    #[serde(default)]
    pub(super) party: Option<String>,
}

/// A code alone, or with its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Category {
    Code(String),
    Named { code: String, name: String },
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reporter {
    name: Option<String>,
    nik: Option<String>,
    phone: Option<String>,
    email: Option<String>,
    address: Option<String>,
}

impl Category {
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Code(code) | Self::Named { code, .. } => code,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Code(code) => code,
            Self::Named { name, .. } => name,
        }
    }
}

impl Record {
    /// What a door takes.
    pub(super) fn complaint(&self) -> anyhow::Result<v1::NewComplaint> {
        let filed_at = self
            .filed_at
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(|text| {
                let time: jiff::Timestamp = text.parse().with_context(|| {
                    format!(
                        "filed_at: {text:?} is no RFC 3339 time such as 2026-11-24T09:00:00+07:00"
                    )
                })?;
                anyhow::Ok(crate::wire::timestamp(crate::domain::Micros(
                    time.as_microsecond(),
                )))
            })
            .transpose()?;
        let handling = match self.handling.as_deref() {
            None | Some("") => v1::Handling::Unspecified,
            Some("own") => v1::Handling::Own,
            Some("addressed") => v1::Handling::Addressed,
            Some("route") => v1::Handling::Route,
            Some(other) => anyhow::bail!("handling: {other:?} is not own, addressed or route"),
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let reporter = self.reporter.as_ref().map(|found| v1::Reporter {
            name: text(&found.name),
            nik: text(&found.nik),
            phone: text(&found.phone),
            email: text(&found.email),
            address: text(&found.address),
        });
        Ok(v1::NewComplaint {
            reference: self.reference.clone(),
            kind: self.kind.clone(),
            title: self.title.clone(),
            body: self.body.clone(),
            category: self.category.as_ref().map_or("", Category::code).to_owned(),
            region: text(&self.region_code),
            address: text(&self.address),
            latitude: self.latitude,
            longitude: self.longitude,
            occurred_on: text(&self.occurred_on),
            filed_at,
            channel: text(&self.channel),
            anonymous: self.anonymous,
            confidential: self.confidential,
            handling: handling as i32,
            addressed_to: text(&self.addressed_to),
            reporter,
            attachments: Vec::new(),
            foreign_references: Vec::new(),
            local_status: None,
        })
    }
}
