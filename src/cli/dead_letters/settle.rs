//! `dead-letters retry` and `drop`: asks the running node, at its own door, to
//! settle what waits for a person there.

use anyhow::Context as _;
use clap::Args;
use tonic::Code;

use crate::{
    cli::{
        Done,
        client::{DoorArgs, Letters, refused},
        output::{Output, Table, json, line, or_dash, word},
    },
    wire::v1,
};

/// Which letters.
#[derive(Debug, Args)]
pub(in crate::cli) struct Which {
    /// party/epoch/position as the list has it (the epoch may be left out where only one is
    /// meant), or an event id; several may be named
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    which: Vec<String>,
    /// All that can be settled at this node
    #[arg(long)]
    all: bool,
    /// Only this party's
    #[arg(long, value_name = "PARTY")]
    only: Option<String>,
    /// Only say which it would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    door: DoorArgs,
}

/// What to do with them.
enum Task {
    Retry,
    Drop(String),
}

impl Which {
    pub(super) async fn retry(self, output: Output) -> anyhow::Result<Done> {
        self.run(&Task::Retry, output).await
    }

    pub(super) async fn drop(self, note: String, output: Output) -> anyhow::Result<Done> {
        self.run(&Task::Drop(note), output).await
    }

    async fn run(self, task: &Task, output: Output) -> anyhow::Result<Done> {
        let mut client = self.door.letters().await.context(
            "letters are settled by the node itself, while it runs, at its own door (--door)",
        )?;
        let mut done = Vec::new();
        let mut not_found = Vec::new();
        let mut after = 0;
        loop {
            let page = self.page(&mut client, task, after).await?;
            done.extend(page.dead_letters);
            not_found.extend(page.not_found);
            if page.next == 0 {
                break;
            }
            after = page.next;
        }
        anyhow::ensure!(
            !done.is_empty() || self.all,
            "{} is not among what can be settled at this node: at the hub, what is parked; at an adapter, \
             deliveries that it could not read. What was rejected its author corrects and hands over under a new key",
            self.which.join(", ")
        );
        print(&done, output)?;
        if !not_found.is_empty() {
            eprintln!(
                "not among what can be settled at this node: {}",
                not_found.join(", ")
            );
        }
        let is_settled = self.dry_run || done.iter().all(|letter| letter.settled);
        let is_all = is_settled && not_found.is_empty();
        Ok(if is_all { Done::All } else { Done::Part })
    }

    /// Either task has the same answer.
    async fn page(
        &self,
        client: &mut Letters,
        task: &Task,
        after: u64,
    ) -> anyhow::Result<v1::DropDeadLettersResponse> {
        let selection = Some(v1::DeadLetterSelection {
            which: self.which.clone(),
            party: self.only.clone().unwrap_or_default(),
            after,
        });
        let dry_run = self.dry_run;
        let answered = match task {
            Task::Retry => {
                let request = v1::RetryDeadLettersRequest { selection, dry_run };
                let answer = client.retry_dead_letters(request).await;
                answer.map(|found| {
                    let v1::RetryDeadLettersResponse {
                        dead_letters,
                        next,
                        not_found,
                    } = found.into_inner();
                    v1::DropDeadLettersResponse {
                        dead_letters,
                        next,
                        not_found,
                    }
                })
            }
            Task::Drop(note) => {
                let request = v1::DropDeadLettersRequest {
                    selection,
                    note: note.clone(),
                    dry_run,
                };
                let answer = client.drop_dead_letters(request).await;
                answer.map(tonic::Response::into_inner)
            }
        };
        answered.map_err(|status| match status.code() {
            Code::Unimplemented => anyhow::anyhow!(
                "this node's version can't settle letters: update it, or is this another program's port?"
            ),
            _ => refused(status),
        })
    }
}

fn print(letters: &[v1::DeadLetter], output: Output) -> anyhow::Result<()> {
    if output.is_json(false) {
        return letters.iter().try_for_each(json);
    }
    if letters.is_empty() {
        return line("nothing is to be settled at this node");
    }
    let mut table = Table::new(["which", "kind", "event", "settled", "what became of it"]);
    for letter in letters {
        let kind = v1::DeadLetterKind::try_from(letter.kind).unwrap_or_default();
        table.row([
            format!("{}/{}/{}", letter.party, letter.epoch, letter.position),
            word(kind.as_str_name(), "DEAD_LETTER_KIND_"),
            or_dash(&letter.event_id).to_owned(),
            if letter.settled { "yes" } else { "no" }.to_owned(),
            letter.explanation.clone(),
        ]);
    }
    table.print()
}
