//! The command line: one file per subcommand; parses, wires, reports. Data go
//! to standard output, everything else to standard error. The only room that
//! prints.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the room that prints"
)]

mod backup;
mod bench;
mod certificate_files;
mod client;
mod complaint;
mod config;
mod dead_letters;
mod demo;
mod inbox;
mod institutions;
mod invitations;
mod join;
mod lab;
mod node_file;
mod output;
mod parties;
mod pki;
mod records;
mod recover;
mod restore;
mod serve;
mod status;
mod store;
mod submit;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit codes, as `jembatan --help` lists them.
const EXIT_HELP: &str = "\
Examples:
  jembatan demo                                 watch it, with the proof
  jembatan config init adapter > adapter.toml   then: jembatan adapter --config adapter.toml
  jembatan submit examples/complaints.jsonl
  jembatan status --output json
Each command has its own --help with examples. --output table|json says how data
are printed; data go to standard output, everything else to standard error.
Exit codes: 0 done; 1 failed (the message says why); 2 wrong usage; \
3 done in part: some items were refused (they are listed).";

/// Carries citizen complaints between regional complaint systems and a
/// national hub, and never loses, doubles or strands one.
#[derive(Debug, Parser)]
#[command(name = "jembatan", version, after_help = EXIT_HELP)]
struct Cli {
    #[command(flatten)]
    output: output::Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole thing: two regions, a hub, real mutual TLS, a cut line, a
    /// crash, a lost disk, and the proof that nothing is lost or doubled
    Demo(demo::Demo),
    /// Measure: hub and adapter as separate processes over mutual TLS, fully durable
    Bench(bench::Bench),
    /// Run the national node
    #[command(after_help = serve::HUB_EXAMPLES)]
    Hub(serve::Serve),
    /// Run the node of a region
    #[command(after_help = serve::ADAPTER_EXAMPLES)]
    Adapter(serve::Serve),
    /// Join a hub with the line that its operator sent: key, certificate, settings
    Join(join::Join),
    /// Certificates for labs and pilots
    #[command(subcommand)]
    Pki(pki::Pki),
    /// Write, check and show configuration files
    #[command(subcommand)]
    Config(config::Config),
    /// Hand complaints or events over at a door (JSON Lines or CSV)
    Submit(submit::Submit),
    /// Read the inbox of a door
    Inbox(inbox::Inbox),
    /// Show a complaint, or say what happened to it
    #[command(subcommand)]
    Complaint(complaint::Complaint),
    /// Parties that may connect to the hub
    #[command(subcommand)]
    Parties(parties::Parties),
    /// Institutions, and the party through which each is reached
    #[command(subcommand)]
    Institutions(institutions::Institutions),
    /// How the synchronisation stands
    Status(status::Status),
    /// What the hub refused or parked and what could not be read, and what to do
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Copy a node's store while it runs
    Backup(backup::Backup),
    /// Put a copy in place of a lost store
    Restore(restore::Restore),
    /// Begin a new epoch after the hub went back
    Recover(recover::Recover),
    /// The schema of a hub's PostgreSQL
    #[command(subcommand)]
    Store(store::Store),
    /// Make a token for a local system
    Token(token::Token),
}

/// How a command ended well.
pub(crate) enum Done {
    /// All of it.
    All,
    /// Some items were refused, and listed.
    Part,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads = match &cli.command {
        // One would do on one processor, but a slow look-up of a name may not
        // hold up a link.
        Command::Hub(_) | Command::Adapter(_) => {
            std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4))
        }
        _ => 2,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    // Of `submit` a reader that has gone away hides what was not handed over.
    let may_be_cut = !matches!(cli.command, Command::Submit(_));
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli.command, cli.output)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Part) => ExitCode::from(3),
        Err(error) if may_be_cut && error.is::<output::ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jembatan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command, output: output::Output) -> anyhow::Result<Done> {
    match command {
        Command::Demo(demo) => demo.run().await,
        Command::Bench(bench) => bench.run().await,
        Command::Hub(serve) => serve.hub().await,
        Command::Adapter(serve) => serve.adapter().await,
        Command::Join(join) => join.run(output).await,
        Command::Pki(pki) => pki.run(output),
        Command::Config(config) => config.run(output),
        Command::Submit(submit) => submit.run(output).await,
        Command::Inbox(inbox) => inbox.run(output).await,
        Command::Complaint(complaint) => complaint.run(output).await,
        Command::Parties(parties) => parties.run(output).await,
        Command::Institutions(institutions) => institutions.run(output).await,
        Command::Status(status) => status.run(output).await,
        Command::DeadLetters(letters) => letters.run(output).await,
        Command::Backup(backup) => backup.run(output).await,
        Command::Restore(restore) => restore.run(output).await,
        Command::Recover(recover) => recover.run(output).await,
        Command::Store(store) => store.run(output).await,
        Command::Token(token) => token.run(output),
    }
}

/// Now, by this machine's clock.
fn now() -> crate::domain::Micros {
    use crate::runtime::Clock as _;
    crate::domain::Micros(crate::runtime::SystemClock.now_micros())
}
