//! `jembatan parties invite` and `invites`: lines with which regions join, and
//! what came of them.

use clap::Args;

use crate::wire::v1;

use super::{
    client::{DoorArgs, refused},
    output::{Output, Table, json, line, or_dash, time, word},
};

/// Prints one line for the region: where the hub is, the fingerprint of its
/// root, and a code that works once. Whoever has the line can become the party:
/// send it to the right person only, and look at `parties invites` afterwards.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan parties invite pemda-33.74
  jembatan parties invite pemda-33.74 --valid 7d
  jembatan parties invite --revoke k7qd2m9x        the first eight characters of its code
In the region: jembatan join '<the line>'")]
pub(super) struct Invite {
    #[command(flatten)]
    door: DoorArgs,
    /// The party, which is registered already
    #[arg(required_unless_present = "revoke")]
    id: Option<String>,
    /// How long the code can be used: 30m, 72h, 7d; at most 30 days
    #[arg(long, default_value = "72h", value_parser = seconds)]
    valid: u32,
    /// Take this invitation back
    #[arg(long, value_name = "INVITATION", conflicts_with = "id")]
    revoke: Option<String>,
}

/// Lists invitations, the newest first, and attempts to join that were refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  jembatan parties invites
  jembatan parties invites --output json")]
pub(super) struct Invites {
    #[command(flatten)]
    door: DoorArgs,
}

impl Invite {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let mut enrolment = self.door.enrolment().await?;
        if let Some(id) = self.revoke {
            let request = v1::RevokeInvitationRequest { id: id.clone() };
            enrolment
                .revoke_invitation(request)
                .await
                .map_err(refused)?;
            return match output.is_json(false) {
                true => json(&serde_json::json!({"revoked": id})),
                false => line(id),
            };
        }
        let request = v1::InviteRequest {
            party: self.id.unwrap_or_default(),
            valid_seconds: self.valid,
        };
        let answer = enrolment.invite(request).await.map_err(refused)?;
        let answer = answer.into_inner();
        if output.is_json(false) {
            return json(&answer);
        }
        eprintln!(
            "Good until {}, once. In the region: jembatan join '<this line>'. Take it back: jembatan parties invite --revoke {}",
            time(answer.expires_at.as_ref()),
            answer.id
        );
        line(answer.line)
    }
}

impl Invites {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<()> {
        let mut enrolment = self.door.enrolment().await?;
        let answer = enrolment
            .list_invitations(v1::ListInvitationsRequest {})
            .await;
        let answer = answer.map_err(refused)?.into_inner();
        if output.is_json(false) {
            return json(&answer);
        }
        let mut table = Table::new([
            "invitation",
            "party",
            "state",
            "expires",
            "used",
            "from",
            "serial",
        ]);
        for found in answer.invitations {
            let state = v1::InvitationState::try_from(found.state).unwrap_or_default();
            table.row([
                found.id,
                found.party,
                word(state.as_str_name(), "INVITATION_STATE_"),
                time(found.expires_at.as_ref()),
                time(found.used_at.as_ref()),
                or_dash(&found.used_from).to_owned(),
                or_dash(&found.serial).to_owned(),
            ]);
        }
        table.print()?;
        if answer.refused.is_empty() {
            return Ok(());
        }
        line("")?;
        let mut table = Table::new(["refused", "from", "said to be", "invitation", "reason"]);
        for found in answer.refused {
            table.row([
                time(found.at.as_ref()),
                found.remote,
                or_dash(&found.party).escape_debug().to_string(),
                or_dash(&found.invitation).to_owned(),
                found.reason,
            ]);
        }
        table.print()
    }
}

/// `90s`, `30m`, `72h`, `7d`.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no duration such as 30m, 72h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(factor).filter(|found| *found > 0);
    seconds.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    /// Scenario: durations as people write them, and others.
    /// Guarantee: understood, or refused with what would be right.
    #[test]
    fn durations_are_understood() {
        assert_eq!(seconds("72h"), Ok(259_200));
        assert_eq!(seconds("30m"), Ok(1_800));
        assert_eq!(seconds("2d"), Ok(172_800));
        for wrong in ["", "h", "72", "0h", "-1h", "99999999d", "1\u{a0}h", "3é"] {
            assert!(seconds(wrong).unwrap_err().contains("such as"), "{wrong}");
        }
    }
}
