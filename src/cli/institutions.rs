//! `jembatan institutions`: who can own a complaint, and through which party
//! each is reached.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::wire::v1;

use super::{
    Done,
    client::{Directory, DoorArgs, refused},
    output::{Output, Table, json, or_dash},
};

/// Institutions, and the party through which each is reached.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  jembatan institutions list
  jembatan institutions add pemda-33.74 --through pemda-33.74 --region 33.74
  jembatan institutions disable pemda-33.74    no complaint goes to it any more;
                                               those that it has stay with it
  jembatan institutions enable pemda-33.74
They work at the hub's own door: see --door.")]
pub(super) enum Institutions {
    /// List them
    #[command(
        after_help = "Examples:\n  jembatan institutions list\n  jembatan institutions list --output json"
    )]
    List {
        #[command(flatten)]
        door: DoorArgs,
        /// The same as --output json
        #[arg(long)]
        json: bool,
    },
    /// Add one, or change what is said here of one that is there
    Add(Add),
    /// Give it complaints again
    #[command(after_help = "Examples:\n  jembatan institutions enable pemda-33.74")]
    Enable {
        #[command(flatten)]
        door: DoorArgs,
        /// Its code
        code: String,
    },
    /// Give it no complaint any more; those that it has stay with it
    #[command(after_help = "Examples:\n  jembatan institutions disable pemda-33.74")]
    Disable {
        #[command(flatten)]
        door: DoorArgs,
        /// Its code
        code: String,
    },
}

/// Adds an institution. Of one that is there only what is said changes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan institutions add pemda-33.74 --through pemda-33.74 --region 33.74
  jembatan institutions add pemda-33.74 --name 'Pemerintah Kota Semarang' --parent pemda-33")]
pub(super) struct Add {
    #[command(flatten)]
    door: DoorArgs,
    /// Its code
    code: String,
    /// Name for people
    #[arg(long)]
    name: Option<String>,
    /// The party through which it is reached; needed for a new one
    #[arg(long, value_name = "PARTY")]
    through: Option<String>,
    /// The institution above it
    #[arg(long, value_name = "INSTITUTION")]
    parent: Option<String>,
    /// Kemendagri region code
    #[arg(long)]
    region: Option<String>,
}

impl Institutions {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Done> {
        match self {
            Self::List { door, json: alias } => {
                let institutions = list(&mut door.directory().await?).await?;
                if output.is_json(alias) {
                    json(&institutions)?;
                } else {
                    print_table(institutions)?;
                }
            }
            Self::Add(add) => add.run(output).await?,
            Self::Enable { door, code } => set_disabled(&door, &code, false, output).await?,
            Self::Disable { door, code } => set_disabled(&door, &code, true, output).await?,
        }
        Ok(Done::All)
    }
}

impl Add {
    async fn run(self, output: Output) -> anyhow::Result<()> {
        let mut directory = self.door.directory().await?;
        let known = list(&mut directory).await?;
        let known = known.into_iter().find(|found| found.code == self.code);
        let mut institution = known.unwrap_or_default();
        institution.code = self.code;
        for (field, said) in [
            (&mut institution.name, self.name),
            (&mut institution.party, self.through),
            (&mut institution.parent, self.parent),
            (&mut institution.region, self.region),
        ] {
            if let Some(said) = said {
                *field = said;
            }
        }
        anyhow::ensure!(
            !institution.party.is_empty(),
            "{} is new: say --through, the party through which it is reached",
            institution.code
        );
        put(&mut directory, institution, output).await
    }
}

async fn list(directory: &mut Directory) -> anyhow::Result<Vec<v1::Institution>> {
    let request = v1::ListInstitutionsRequest {};
    let answer = directory.list_institutions(request).await;
    Ok(answer.map_err(refused)?.into_inner().institutions)
}

async fn set_disabled(
    door: &DoorArgs,
    code: &str,
    disabled: bool,
    output: Output,
) -> anyhow::Result<()> {
    let mut directory = door.directory().await?;
    let known = list(&mut directory).await?;
    let mut institution = known
        .into_iter()
        .find(|found| found.code == code)
        .with_context(|| {
            format!("no institution {code} is registered: see jembatan institutions list")
        })?;
    institution.disabled = disabled;
    put(&mut directory, institution, output).await
}

async fn put(
    directory: &mut Directory,
    institution: v1::Institution,
    output: Output,
) -> anyhow::Result<()> {
    let request = v1::PutInstitutionRequest {
        institution: Some(institution),
    };
    let answer = directory.put_institution(request).await.map_err(refused)?;
    let institution = answer.into_inner().institution.unwrap_or_default();
    if output.is_json(false) {
        json(&institution)
    } else {
        print_table(vec![institution])
    }
}

fn print_table(institutions: Vec<v1::Institution>) -> anyhow::Result<()> {
    let mut table = Table::new([
        "institution",
        "through",
        "enabled",
        "region",
        "parent",
        "name",
    ]);
    for found in institutions {
        table.row([
            found.code,
            found.party,
            if found.disabled { "no" } else { "yes" }.to_owned(),
            or_dash(&found.region).to_owned(),
            or_dash(&found.parent).to_owned(),
            found.name,
        ]);
    }
    table.print()
}
