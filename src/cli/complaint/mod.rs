//! `jembatan complaint`: a complaint's history, and events by hand, so that a
//! pilot's triage can be served without an application.

mod say;
mod show;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    domain::{ArchiveReason, ComplaintId, TrackingId},
    wire::v1::{self, new_event::Body},
};

use super::{
    Done,
    client::{DoorArgs, Gateway, refused},
    output::Output,
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
    /// The institution on whose behalf this party acts [default: its own]
    #[arg(long, value_name = "INSTITUTION", default_value = "")]
    acting_institution: String,
    /// This system's own reference for a complaint that it was given
    #[arg(long, value_name = "REFERENCE", default_value = "")]
    own_reference: String,
}

/// What a part of an event holds.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Part {
    /// Texts
    Content,
    /// The reporter's identity and contact
    Reporter,
}

/// Show a complaint, or say what happened to it, as this node's own party.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan complaint show 92QA5PQ85FTJD
  jembatan complaint show A-1 --system lapor-semar --output json
  jembatan complaint verify 92QA5PQ85FTJD
  jembatan complaint forward 92QA5PQ85FTJD --to pemda-33.74 --unit DPU -m 'Mohon ditindaklanjuti.'
  jembatan complaint copy 92QA5PQ85FTJD --to pemda-33
  jembatan complaint decline 92QA5PQ85FTJD --suggest pemda-33 -m 'Kewenangan provinsi.'
  jembatan complaint postpone 92QA5PQ85FTJD --until 2027-01-15T00:00:00+07:00 -m 'Menunggu anggaran.'
  jembatan complaint respond 92QA5PQ85FTJD -m 'Sudah diperbaiki.' --acting-institution pemda-33.74
  jembatan complaint merge 92QA5PQ85FTJD --into 5F1T0Q9M2XK7B
  jembatan complaint erase 92QA5PQ85FTJD --revision 1 --part reporter
Exit code 1 if the hub rejects it; the reason is on standard error. If the hub
does not answer within five seconds it is stored here, and goes on by itself.")]
pub(super) enum Complaint {
    /// Its whole history: who, when, revision, and which parts are here
    #[command(
        after_help = "Examples:\n  jembatan complaint show 92QA5PQ85FTJD\n  jembatan complaint show A-1 --system lapor-semar --output json"
    )]
    Show {
        #[command(flatten)]
        which: Which,
        /// The same as --output json
        #[arg(long)]
        json: bool,
    },
    /// Verify (verifikasi)
    #[command(after_help = "Examples:\n  jembatan complaint verify 92QA5PQ85FTJD")]
    Verify(Saying),
    /// Set kind, category, region, oversight
    #[command(
        after_help = "Examples:\n  jembatan complaint classify 92QA5PQ85FTJD --category jalan --region 33.74"
    )]
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
    #[command(
        after_help = "Examples:\n  jembatan complaint forward 92QA5PQ85FTJD --to pemda-33.74 --unit DPU -m 'Mohon ditindaklanjuti.'"
    )]
    Forward {
        #[command(flatten)]
        saying: Saying,
        /// The institution that owns it from now on [default: the present one]
        #[arg(long, value_name = "INSTITUTION", default_value = "")]
        to: String,
        /// Unit in charge (OPD)
        #[arg(long, default_value = "")]
        unit: String,
    },
    /// Give a copy (tembusan): who has one sees it and does not own it
    #[command(
        after_help = "Examples:\n  jembatan complaint copy 92QA5PQ85FTJD --to pemda-33 --to kl-pu"
    )]
    Copy {
        #[command(flatten)]
        saying: Saying,
        /// Who gets a copy (may be repeated)
        #[arg(long, value_name = "INSTITUTION", required = true)]
        to: Vec<String>,
    },
    /// Decline (bukan wewenang)
    #[command(
        after_help = "Examples:\n  jembatan complaint decline 92QA5PQ85FTJD --suggest pemda-33 -m 'Kewenangan provinsi.'"
    )]
    Decline {
        #[command(flatten)]
        saying: Saying,
        /// Who is competent
        #[arg(long, value_name = "INSTITUTION", default_value = "")]
        suggest: String,
    },
    /// Begin handling
    #[command(after_help = "Examples:\n  jembatan complaint start 92QA5PQ85FTJD --unit DPU")]
    Start {
        #[command(flatten)]
        saying: Saying,
        /// Unit in charge (OPD)
        #[arg(long, default_value = "")]
        unit: String,
    },
    /// Report progress (tindak lanjut)
    #[command(
        after_help = "Examples:\n  jembatan complaint progress 92QA5PQ85FTJD -m 'Bahan sudah dipesan.'"
    )]
    Progress(Saying),
    /// Ask the reporter
    #[command(
        after_help = "Examples:\n  jembatan complaint ask 92QA5PQ85FTJD -m 'Di depan nomor berapa?'"
    )]
    Ask(Saying),
    /// The reporter replied
    #[command(
        after_help = "Examples:\n  jembatan complaint reply 92QA5PQ85FTJD -m 'Di depan nomor 12.'"
    )]
    Reply(Saying),
    /// Answer (tanggapan)
    #[command(
        after_help = "Examples:\n  jembatan complaint respond 92QA5PQ85FTJD -m 'Sudah diperbaiki.' --acting-institution pemda-33.74"
    )]
    Respond(Saying),
    /// Put off (tunda), with a reason
    #[command(
        after_help = "Examples:\n  jembatan complaint postpone 92QA5PQ85FTJD --until 2027-01-15T00:00:00+07:00 -m 'Menunggu anggaran.'"
    )]
    Postpone {
        #[command(flatten)]
        saying: Saying,
        /// Until when, RFC 3339, for example 2027-01-15T00:00:00+07:00
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Close (selesai)
    #[command(after_help = "Examples:\n  jembatan complaint close 92QA5PQ85FTJD")]
    Close(Saying),
    /// Archive, with a reason
    #[command(
        after_help = "Examples:\n  jembatan complaint archive 92QA5PQ85FTJD --reason unclear -m 'Lokasi tidak disebut.'"
    )]
    Archive {
        #[command(flatten)]
        saying: Saying,
        /// duplicate, unclear, irrelevant, spam, out_of_scope, incomplete, withdrawn, other
        #[arg(long)]
        reason: String,
    },
    /// Open again
    #[command(
        after_help = "Examples:\n  jembatan complaint reopen 92QA5PQ85FTJD -m 'Lampu padam lagi.'"
    )]
    Reopen(Saying),
    /// The reporter withdraws it
    #[command(
        after_help = "Examples:\n  jembatan complaint withdraw 92QA5PQ85FTJD -m 'Sudah selesai sendiri.'"
    )]
    Withdraw(Saying),
    /// Join it into another one (digabung)
    #[command(
        after_help = "Examples:\n  jembatan complaint merge 92QA5PQ85FTJD --into 5F1T0Q9M2XK7B"
    )]
    Merge {
        #[command(flatten)]
        saying: Saying,
        /// The complaint that goes on: reference, Tracking ID or id
        #[arg(long, value_name = "COMPLAINT")]
        into: String,
    },
    /// Rate, 1 to 5
    #[command(
        after_help = "Examples:\n  jembatan complaint rate 92QA5PQ85FTJD 5 -m 'Terima kasih.'"
    )]
    Rate {
        #[command(flatten)]
        saying: Saying,
        /// 1 (bad) to 5 (good)
        stars: u32,
    },
    /// Pass it to the Ombudsman; needs the reporter's consent
    #[command(after_help = "Examples:\n  jembatan complaint escalate 92QA5PQ85FTJD --consent")]
    Escalate {
        #[command(flatten)]
        saying: Saying,
        /// The reporter has consented
        #[arg(long)]
        consent: bool,
    },
    /// Change anonymity (anonim) or confidentiality (rahasia)
    #[command(
        after_help = "Examples:\n  jembatan complaint visibility 92QA5PQ85FTJD --anonymous true"
    )]
    Visibility {
        #[command(flatten)]
        saying: Saying,
        /// Hide the reporter from handler and public
        #[arg(long, value_name = "BOOL", required_unless_present = "confidential")]
        anonymous: Option<bool>,
        /// Hide the content from the public
        #[arg(long, value_name = "BOOL")]
        confidential: Option<bool>,
    },
    /// Erase a part at every node, for good; what happened stays provable
    #[command(
        after_help = "Examples:\n  jembatan complaint erase 92QA5PQ85FTJD --revision 1 --part reporter"
    )]
    Erase {
        #[command(flatten)]
        saying: Saying,
        /// The revision whose part it is; see `complaint show`
        #[arg(long)]
        revision: u32,
        /// Which part
        #[arg(long)]
        part: Part,
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

async fn find(
    gateway: &mut Gateway,
    complaint: &str,
    system: &str,
) -> anyhow::Result<v1::ComplaintView> {
    let request = v1::GetComplaintRequest {
        complaint: Some(name(complaint)),
        system: system.to_owned(),
    };
    let answer = gateway.get_complaint(request).await.map_err(refused)?;
    Ok(answer.into_inner().complaint.unwrap_or_default())
}

impl Complaint {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let attachments = Vec::new;
        let (saying, body) = match self {
            Self::Show { which, json } => return show::show(which, output.is_json(json)).await,
            Self::Verify(saying) => (saying, Body::Verified(v1::Verified {})),
            Self::Classify {
                saying,
                kind,
                category,
                region,
                oversight,
            } => {
                let classified = v1::Classified {
                    kind,
                    category,
                    region,
                    oversight,
                };
                (saying, Body::Classified(classified))
            }
            Self::Forward { saying, to, unit } => {
                let institution = to;
                (saying, Body::Forwarded(v1::Forwarded { institution, unit }))
            }
            Self::Copy { saying, to } => {
                let institutions = to;
                (saying, Body::Copied(v1::Copied { institutions }))
            }
            Self::Decline { saying, suggest } => {
                let declined = v1::Declined {
                    suggested_institution: suggest,
                };
                (saying, Body::Declined(declined))
            }
            Self::Start { saying, unit } => {
                (saying, Body::HandlingStarted(v1::HandlingStarted { unit }))
            }
            Self::Progress(saying) => {
                let attachments = attachments();
                let body = Body::ProgressReported(v1::ProgressReported { attachments });
                (saying, body)
            }
            Self::Ask(saying) => {
                let body = Body::InformationRequested(v1::InformationRequested {});
                (saying, body)
            }
            Self::Reply(saying) => {
                let attachments = attachments();
                let body = Body::ReporterReplied(v1::ReporterReplied { attachments });
                (saying, body)
            }
            Self::Respond(saying) => {
                let attachments = attachments();
                (saying, Body::Responded(v1::Responded { attachments }))
            }
            Self::Postpone { saying, until } => {
                let until = until.as_deref().map(say::time_of).transpose()?;
                (saying, Body::Postponed(v1::Postponed { until }))
            }
            Self::Close(saying) => (saying, Body::Closed(v1::Closed {})),
            Self::Archive { saying, reason } => {
                let reason = archive_reason(&reason)?;
                (saying, Body::Archived(v1::Archived { reason }))
            }
            Self::Reopen(saying) => (saying, Body::Reopened(v1::Reopened {})),
            Self::Withdraw(saying) => (saying, Body::Withdrawn(v1::Withdrawn {})),
            Self::Merge { saying, into } => {
                let body = say::merge(&saying, &into).await?;
                (saying, body)
            }
            Self::Rate { saying, stars } => (saying, Body::Rated(v1::Rated { stars })),
            Self::Escalate { saying, consent } => {
                anyhow::ensure!(
                    consent,
                    "a complaint goes to the Ombudsman with the reporter's consent only: say --consent once it is given"
                );
                (saying, Body::Escalated(v1::Escalated { consent }))
            }
            Self::Visibility {
                saying,
                anonymous,
                confidential,
            } => {
                let changed = v1::VisibilityChanged {
                    anonymous,
                    confidential,
                };
                (saying, Body::VisibilityChanged(changed))
            }
            Self::Erase {
                saying,
                revision,
                part,
            } => {
                let body = say::erase(&saying, revision, part).await?;
                (saying, body)
            }
        };
        say::say(saying, body, output).await
    }
}

fn archive_reason(reason: &str) -> anyhow::Result<i32> {
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
    Ok(place as i32 + 1)
}
