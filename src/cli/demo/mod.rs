//! `jembatan demo`: the main job on real input, in one command.

mod disk;
mod invite;
mod load;
mod people;
mod proof;
mod relay;
mod robot;
mod stay;
mod story;
mod tell;
mod world;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::{Done, lab::LabDirectory, records::Record, serve::on_signal};
use tell::Teller;
use world::World;

/// The complaints of the demo; `examples/README.md` says where they come from.
const COMPLAINTS: &str = include_str!("../../../examples/complaints.jsonl");

/// Shows the whole thing in under a minute: a hub and two regional nodes as
/// separate processes with real mutual TLS on free loopback ports.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan demo
  jembatan demo --stay        leave it running, with a partner for your own client
  jembatan demo --copies 50   more load: numbered copies of the real complaints")]
pub(super) struct Demo {
    /// Leave it running afterwards, and say how to connect
    #[arg(long)]
    stay: bool,
    /// Numbered copies of each complaint for the load
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    copies: u32,
    /// Keep the directory with configuration, certificates, stores and logs
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<Done> {
        let records = read_records()?;
        let mut directory = LabDirectory::new(self.keep.as_deref())?;
        let mut teller = Teller::new();
        teller.opening(records.len());
        // Whatever ends the demo ends its nodes: they stop with it (see Node).
        let stop = on_signal()?;
        let played = tokio::select! {
            outcome = self.play(&directory.path, &records, &mut teller) => outcome,
            () = stop.cancelled() => anyhow::bail!("interrupted before its end"),
        };
        let (world, mut cast) = played.map_err(|error| {
            directory.is_kept = true;
            error.context(format!(
                "the demo failed; configuration, stores and logs are in {}",
                directory.path.display()
            ))
        })?;
        teller.proven();
        let stayed = if self.stay {
            tokio::select! {
                outcome = stay::stay(&world, &mut cast) => outcome,
                () = stop.cancelled() => Ok(()),
            }
        } else {
            Ok(())
        };
        world.stop().await;
        stayed?;
        teller.closing(self.stay);
        Ok(Done::All)
    }

    async fn play(
        &self,
        directory: &std::path::Path,
        records: &[Record],
        teller: &mut Teller,
    ) -> anyhow::Result<(World, story::Cast)> {
        teller.doing("starting three nodes");
        let mut world = World::build(directory, records).await?;
        teller.world(&world);
        let mut cast = story::Cast::meet(&world).await?;
        story::own_matter(&mut cast, records, teller).await?;
        story::declined(&mut cast, records, teller).await?;
        story::triage(&mut cast, records, teller).await?;
        story::from_above(&mut cast, records, teller).await?;
        story::again(&mut cast, records, teller).await?;
        let mut ledger =
            load::under_load(&mut world, &mut cast, records, self.copies, teller).await?;
        let copies = self.copies;
        disk::lost(
            &mut world,
            &mut cast,
            (records, copies),
            &mut ledger,
            teller,
        )
        .await?;
        proof::prove(&world, &mut cast, &ledger, teller).await?;
        Ok((world, cast))
    }
}

fn read_records() -> anyhow::Result<Vec<Record>> {
    COMPLAINTS
        .lines()
        .map(|line| serde_json::from_str(line).context("an example complaint"))
        .collect()
}
