//! `jembatan complaint`: a complaint's history, and events by hand, so that a
//! pilot's triage can be served without an application.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::{
    domain::{ArchiveReason, ComplaintId, TrackingId},
    wire::v1::{self, new_event::Body},
};

use super::{
    Done,
    client::{DoorArgs, refused},
};

/// Which complaint, and through which door.
#[derive(Debug, Args)]
pub(super) struct Which {
    #[command(flatten)]
    door: DoorArgs,
    /// Reference, Tracking ID or id
    complaint: String,
    /// The local system whose reference it is
    #[arg(long, default_value = "")]
    system: String,
}

/// What is said with an event.
#[derive(Debug, Args)]
pub(super) struct Saying {
    #[command(flatten)]
    which: Which,
    /// Text: answer, note or reason
    #[arg(long, short = 'm', default_value = "")]
    text: String,
    /// For institutions only, not for the reporter
    #[arg(long)]
    internal: bool,
    /// Idempotency key [default: a fresh one]
    #[arg(long)]
    key: Option<String>,
    /// Only if nobody else has changed it since this revision
    #[arg(long, value_name = "REVISION")]
    expected_revision: Option<u32>,
}

/// Show a complaint, or say what happened to it, as this node's own party.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan complaint show 92QA5PQ85FTJD
  jembatan complaint forward 92QA5PQ85FTJD --to pemda-33.74 --unit DPU
  jembatan complaint respond 92QA5PQ85FTJD -m 'Sudah diperbaiki.'")]
pub(super) enum Complaint {
    /// Its whole history: who, when, revision
    Show {
        #[command(flatten)]
        which: Which,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Verify (verifikasi)
    Verify(Saying),
    /// Set kind, category, region, oversight
    Classify {
        #[command(flatten)]
        saying: Saying,
        /// complaint, aspiration, information_request
        #[arg(long)]
        kind: Option<String>,
        /// Category code
        #[arg(long)]
        category: Option<String>,
        /// Region code
        #[arg(long)]
        region: Option<String>,
        /// Berkadar pengawasan
        #[arg(long)]
        oversight: Option<bool>,
    },
    /// Forward (disposisi)
    Forward {
        #[command(flatten)]
        saying: Saying,
        /// The institution that owns it from now on
        #[arg(long, default_value = "")]
        to: String,
        /// Unit in charge (OPD)
        #[arg(long, default_value = "")]
        unit: String,
    },
    /// Decline (bukan wewenang)
    Decline {
        #[command(flatten)]
        saying: Saying,
        /// Who is competent
        #[arg(long, default_value = "")]
        suggest: String,
    },
    /// Begin handling
    Start {
        #[command(flatten)]
        saying: Saying,
        /// Unit in charge (OPD)
        #[arg(long, default_value = "")]
        unit: String,
    },
    /// Report progress (tindak lanjut)
    Progress(Saying),
    /// Ask the reporter
    Ask(Saying),
    /// The reporter replied
    Reply(Saying),
    /// Answer (tanggapan)
    Respond(Saying),
    /// Close (selesai)
    Close(Saying),
    /// Archive, with a reason
    Archive {
        #[command(flatten)]
        saying: Saying,
        /// duplicate, unclear, irrelevant, spam, out_of_scope, incomplete, withdrawn, other
        #[arg(long)]
        reason: String,
    },
    /// Open again
    Reopen(Saying),
    /// Rate, 1 to 5
    Rate {
        #[command(flatten)]
        saying: Saying,
        /// 1 (bad) to 5 (good)
        stars: u32,
    },
}

fn name(text: &str) -> v1::ComplaintName {
    use v1::complaint_name::Name;
    let name = if ComplaintId::from_text(text).is_some() {
        Name::ComplaintId(text.to_owned())
    } else if TrackingId::parse(text).is_ok() {
        Name::TrackingId(text.to_owned())
    } else {
        Name::Reference(text.to_owned())
    };
    v1::ComplaintName { name: Some(name) }
}

impl Complaint {
    pub(super) async fn run(self) -> anyhow::Result<Done> {
        let attachments = Vec::new;
        let (saying, body) = match self {
            Self::Show { which, json } => return show(which, json).await,
            Self::Verify(saying) => (saying, Body::Verified(v1::Verified {})),
            Self::Classify {
                saying,
                kind,
                category,
                region,
                oversight,
            } => (
                saying,
                Body::Classified(v1::Classified {
                    kind,
                    category,
                    region,
                    oversight,
                }),
            ),
            Self::Forward { saying, to, unit } => (
                saying,
                Body::Forwarded(v1::Forwarded {
                    institution: to,
                    unit,
                }),
            ),
            Self::Decline { saying, suggest } => (
                saying,
                Body::Declined(v1::Declined {
                    suggested_institution: suggest,
                }),
            ),
            Self::Start { saying, unit } => {
                (saying, Body::HandlingStarted(v1::HandlingStarted { unit }))
            }
            Self::Progress(saying) => (
                saying,
                Body::ProgressReported(v1::ProgressReported {
                    attachments: attachments(),
                }),
            ),
            Self::Ask(saying) => (
                saying,
                Body::InformationRequested(v1::InformationRequested {}),
            ),
            Self::Reply(saying) => (
                saying,
                Body::ReporterReplied(v1::ReporterReplied {
                    attachments: attachments(),
                }),
            ),
            Self::Respond(saying) => (
                saying,
                Body::Responded(v1::Responded {
                    attachments: attachments(),
                }),
            ),
            Self::Close(saying) => (saying, Body::Closed(v1::Closed {})),
            Self::Archive { saying, reason } => {
                let place = ArchiveReason::ALL
                    .iter()
                    .position(|known| known.code() == reason)
                    .with_context(|| {
                        let known: Vec<&str> = ArchiveReason::ALL
                            .iter()
                            .map(|known| known.code())
                            .collect();
                        format!("{reason:?} is not one of {}", known.join(", "))
                    })?;
                (
                    saying,
                    Body::Archived(v1::Archived {
                        reason: place as i32 + 1,
                    }),
                )
            }
            Self::Reopen(saying) => (saying, Body::Reopened(v1::Reopened {})),
            Self::Rate { saying, stars } => (saying, Body::Rated(v1::Rated { stars })),
        };
        say(saying, body).await
    }
}

async fn say(saying: Saying, body: Body) -> anyhow::Result<Done> {
    let Saying {
        which,
        text,
        internal,
        key,
        expected_revision,
    } = saying;
    let audience = if internal {
        v1::Audience::Institutions
    } else {
        v1::Audience::Public
    };
    let event = v1::NewEvent {
        complaint: Some(name(&which.complaint)),
        text,
        audience: audience as i32,
        expected_revision,
        body: Some(body),
        ..v1::NewEvent::default()
    };
    let key =
        key.unwrap_or_else(|| format!("cli-{}", hex::encode(crate::runtime::random_bytes::<12>())));
    let request = v1::SubmitRequest {
        handover: Some(v1::Handover {
            item: Some(v1::handover::Item::Event(event)),
            key,
            system: which.system,
        }),
        wait_for_hub_ms: 5_000,
    };
    let mut gateway = which.door.gateway().await?;
    let answer = gateway.submit(request).await.map_err(refused)?.into_inner();
    let receipt = answer.receipt.unwrap_or_default();
    println!("{}", serde_json::to_string(&receipt)?);
    let rejection = receipt.decision.and_then(|decision| decision.rejection);
    if let Some(rejection) = rejection {
        anyhow::bail!("{}\n{}", rejection.text_en, rejection.text_id);
    }
    Ok(Done::All)
}

async fn show(which: Which, json: bool) -> anyhow::Result<Done> {
    let request = v1::GetComplaintRequest {
        complaint: Some(name(&which.complaint)),
        system: which.system,
    };
    let mut gateway = which.door.gateway().await?;
    let answer = gateway.get_complaint(request).await.map_err(refused)?;
    let view = answer.into_inner().complaint.unwrap_or_default();
    if json {
        println!("{}", serde_json::to_string(&view)?);
        return Ok(Done::All);
    }
    let status = enum_name(
        v1::Status::try_from(view.status)
            .unwrap_or_default()
            .as_str_name(),
        "STATUS_",
    );
    println!("Tracking ID  {}", or_dash(&view.tracking_id));
    println!("id           {}", view.complaint_id);
    println!(
        "origin       {} {} {}",
        or_dash(&view.origin_party),
        view.origin_system,
        view.origin_reference
    );
    println!("status       {status}");
    println!(
        "handler      {}",
        if view.handler.is_empty() {
            "national triage (meja Admin Nasional)"
        } else {
            &view.handler
        }
    );
    println!("revision     {}", view.revision);
    for step in &view.history {
        print_step(step);
    }
    Ok(Done::All)
}

fn print_step(step: &v1::HistoryItem) {
    let event = step.event.as_ref();
    let what = event.and_then(|found| found.event.as_ref());
    let at = what
        .and_then(|what| what.occurred_at.as_ref())
        .and_then(|at| jiff::Timestamp::from_second(at.seconds).ok())
        .map_or_else(|| "-".to_owned(), |at| at.to_string());
    let kind = what
        .and_then(|what| serde_json::to_value(what).ok())
        .and_then(|json| {
            let kinds = json.as_object()?;
            let found = kinds
                .iter()
                .find(|(name, value)| value.is_object() && !matches!(name.as_str(), "localStatus"));
            found.map(|(name, _)| name.clone())
        })
        .unwrap_or_else(|| "unknown".to_owned());
    let text = event
        .and_then(|event| event.content.as_ref())
        .map(|content| {
            if content.text.is_empty() {
                content.title.clone()
            } else {
                content.text.clone()
            }
        })
        .unwrap_or_default();
    let how_far = enum_name(
        v1::Progress::try_from(step.progress)
            .unwrap_or_default()
            .as_str_name(),
        "PROGRESS_",
    );
    println!(
        "{:>4}  {at}  {:<16} {:<22} {:<10} {text}",
        if step.revision == 0 {
            "-".to_owned()
        } else {
            step.revision.to_string()
        },
        what.map_or("", |what| what.party.as_str()),
        kind,
        if step.progress == 0 { "" } else { &how_far },
    );
}

fn enum_name(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
