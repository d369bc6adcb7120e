//! `jembatan inbox`: what came for a local system.

use clap::Args;

use crate::wire::v1;

use super::{
    Done,
    client::{DoorArgs, refused},
    output::{Output, json, line, time, word},
};

/// Reads the inbox of a door: one JSON object a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan inbox                      what has not been acknowledged yet
  jembatan inbox --follow             and whatever comes
  jembatan inbox --follow --ack       and acknowledge each page once it is written
  jembatan inbox --output table       one readable line for each
  jembatan inbox --ack-through 1790000000-42
With --ack a page is acknowledged after it has been written; if it can't be
written, it is not, and comes again.")]
pub(super) struct Inbox {
    #[command(flatten)]
    door: DoorArgs,
    /// Begin after this cursor instead of after what was acknowledged
    #[arg(long, value_name = "CURSOR", default_value = "")]
    after: String,
    /// Go on with whatever comes
    #[arg(long, short)]
    follow: bool,
    /// Acknowledge what has been written to standard output
    #[arg(long)]
    ack: bool,
    /// Only acknowledge through this cursor
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["follow", "ack", "after"])]
    ack_through: Option<String>,
}

impl Inbox {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        let mut gateway = self.door.gateway().await?;
        if let Some(through) = self.ack_through {
            let answer = gateway
                .acknowledge_inbox(v1::AcknowledgeInboxRequest { through })
                .await
                .map_err(refused)?;
            line(answer.into_inner().through)?;
            return Ok(Done::All);
        }
        let mut after = self.after;
        loop {
            let request = v1::FetchInboxRequest {
                after: after.clone(),
                wait_ms: if self.follow { 25_000 } else { 0 },
                limit: 500,
            };
            let items = gateway
                .fetch_inbox(request)
                .await
                .map_err(refused)?
                .into_inner()
                .items;
            for item in &items {
                if output.is_json_by_default() {
                    json(item)?;
                } else {
                    line(in_words(item))?;
                }
            }
            match items.last() {
                Some(last) => {
                    after.clone_from(&last.cursor);
                    if self.ack {
                        let through = after.clone();
                        gateway
                            .acknowledge_inbox(v1::AcknowledgeInboxRequest { through })
                            .await
                            .map_err(refused)?;
                    }
                }
                None if !self.follow => return Ok(Done::All),
                None => {}
            }
        }
    }
}

fn in_words(item: &v1::InboxItem) -> String {
    let said = match &item.item {
        Some(v1::inbox_item::Item::Event(event)) => {
            let header = event.header.clone().unwrap_or_default();
            let status = v1::Status::try_from(header.status).unwrap_or_default();
            format!(
                "{}  {} revision {} by {}: {}",
                time(header.accepted_at.as_ref()),
                header.tracking_id,
                header.revision,
                header.party,
                word(status.as_str_name(), "STATUS_")
            )
        }
        Some(v1::inbox_item::Item::Decision(decision)) => {
            let outcome = v1::Outcome::try_from(decision.outcome).unwrap_or_default();
            let outcome = word(outcome.as_str_name(), "OUTCOME_");
            match &decision.rejection {
                Some(rejection) => format!("own, {outcome}: {}", rejection.text_en),
                None => format!(
                    "own, {outcome}: {} revision {}",
                    decision.tracking_id, decision.revision
                ),
            }
        }
        Some(v1::inbox_item::Item::Unreadable(item)) => {
            format!("{}: {}", item.reason, item.explanation)
        }
        None => "of a kind that this version does not know".to_owned(),
    };
    format!("{}  {said}", item.cursor)
}
