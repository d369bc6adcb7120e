//! Hands one event over and tells what the hub made of it.

use anyhow::Context as _;

use crate::{
    cli::{
        Done,
        client::refused,
        output::{Output, json, line, or_dash, word},
    },
    domain::ComplaintId,
    wire::v1::{self, new_event::Body},
};

use super::{Part, Saying, find, name};

/// How long the hub's decision is waited for.
const WAIT_MS: u32 = 5_000;

pub(super) async fn say(saying: Saying, body: Body, output: Output) -> anyhow::Result<Done> {
    let Saying {
        which,
        text,
        internal,
        key,
        expected_revision,
        acting_institution,
        own_reference,
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
        acting_institution,
        own_reference,
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
        wait_for_hub_ms: WAIT_MS,
    };
    let mut gateway = which.door.gateway().await?;
    let answer = gateway.submit(request).await.map_err(refused)?.into_inner();
    let receipt = answer.receipt.unwrap_or_default();
    let printed = if output.is_json(false) {
        json(&receipt)
    } else {
        line(in_words(&receipt))
    };
    // A rejection is told even when whoever read the output has gone away.
    let rejection = receipt.decision.and_then(|decision| decision.rejection);
    if let Some(rejection) = rejection {
        anyhow::bail!("{}\n{}", rejection.text_en, rejection.text_id);
    }
    printed?;
    Ok(Done::All)
}

fn in_words(receipt: &v1::Receipt) -> String {
    let progress = v1::Progress::try_from(receipt.progress).unwrap_or_default();
    let progress = word(progress.as_str_name(), "PROGRESS_");
    let Some(decision) = &receipt.decision else {
        return format!(
            "{progress}: event {}; the hub has not decided yet, it goes on by itself",
            receipt.event_id
        );
    };
    if decision.rejection.is_some() {
        return format!("{progress}: event {}", receipt.event_id);
    }
    let status = v1::Status::try_from(decision.status).unwrap_or_default();
    format!(
        "{progress}: {} at revision {}, status {}, handler {}",
        or_dash(&decision.tracking_id),
        decision.revision,
        word(status.as_str_name(), "STATUS_"),
        if decision.handler.is_empty() {
            "national triage (meja Admin Nasional)"
        } else {
            &decision.handler
        }
    )
}

/// A time as people and programs write it.
pub(super) fn time_of(text: &str) -> anyhow::Result<crate::wire::Timestamp> {
    let time: jiff::Timestamp = text.parse().with_context(|| {
        format!("--until: {text:?} is no RFC 3339 time such as 2027-01-15T00:00:00+07:00")
    })?;
    let micros = crate::domain::Micros(time.as_microsecond());
    Ok(crate::wire::timestamp(micros))
}

/// The event names the other complaint by its id; people know it by others.
pub(super) async fn merge(saying: &Saying, into: &str) -> anyhow::Result<Body> {
    let id = match ComplaintId::from_text(into) {
        Some(id) => id,
        None => {
            let mut gateway = saying.which.door.gateway().await?;
            let view = find(&mut gateway, into, &saying.which.system)
                .await
                .with_context(|| format!("--into {into}"))?;
            ComplaintId::from_text(&view.complaint_id).context("the node gave no complaint id")?
        }
    };
    Ok(Body::Merged(v1::Merged {
        into_complaint_id: id.as_bytes().to_vec().into(),
    }))
}

/// The event names the part by its digest, which the history has.
pub(super) async fn erase(saying: &Saying, revision: u32, part: Part) -> anyhow::Result<Body> {
    let which = &saying.which;
    let mut gateway = which.door.gateway().await?;
    let view = find(&mut gateway, &which.complaint, &which.system).await?;
    let step = view.history.iter().find(|step| step.revision == revision);
    let event = step
        .and_then(|step| step.event.as_ref()?.event.as_ref())
        .with_context(|| {
            format!(
                "there is no revision {revision} here; the last is {}",
                view.revision
            )
        })?;
    let (kind, what) = match part {
        Part::Content => (v1::PartKind::Content, "content"),
        Part::Reporter => (v1::PartKind::Reporter, "reporter"),
    };
    let found = event.parts.iter().find(|part| part.kind == kind as i32);
    let part = found.with_context(|| format!("revision {revision} has no {what} part"))?;
    Ok(Body::PartErased(v1::PartErased {
        event_id: event.event_id.clone(),
        sha256: part.sha256.clone(),
    }))
}
