//! Prints a complaint: where it stands, and who said what when.

use crate::{
    cli::{
        Done,
        output::{json, line, or_dash, time, word},
    },
    wire::v1,
};

use super::{Which, find};

pub(super) async fn show(which: Which, as_json: bool) -> anyhow::Result<Done> {
    let mut gateway = which.door.gateway().await?;
    let view = find(&mut gateway, &which.complaint, &which.system).await?;
    if as_json {
        json(&view)?;
        return Ok(Done::All);
    }
    for text in head(&view) {
        line(text)?;
    }
    for step in &view.history {
        line("")?;
        for text in lines_of(step) {
            line(text)?;
        }
    }
    Ok(Done::All)
}

/// Where it stands. Until the hub has decided nobody knows who handles it.
fn head(view: &v1::ComplaintView) -> Vec<String> {
    let is_decided = view.revision > 0;
    let status = v1::Status::try_from(view.status).unwrap_or_default();
    let handler = match (is_decided, view.handler.as_str()) {
        (false, _) => "not decided yet",
        (true, "") => "national triage (meja Admin Nasional)",
        (true, handler) => handler,
    };
    let mut lines = Vec::new();
    let mut say = |what: &str, text: &str| lines.push(format!("{what:<14}{text}"));
    say("Tracking ID", or_dash(&view.tracking_id));
    say("id", &view.complaint_id);
    say(
        "origin",
        &format!(
            "{} {} {}",
            or_dash(&view.origin_party),
            view.origin_system,
            view.origin_reference
        ),
    );
    if !view.own_reference.is_empty() {
        say("own reference", &view.own_reference);
    }
    say(
        "status",
        &if is_decided {
            word(status.as_str_name(), "STATUS_")
        } else {
            "not decided yet".to_owned()
        },
    );
    say("handler", handler);
    if let Some(unit) = unit(view) {
        say("unit", unit);
    }
    say("revision", &view.revision.to_string());
    say("hops", &hops(view).to_string());
    say(
        "visibility",
        match (view.anonymous, view.confidential) {
            (false, false) => "open",
            (true, false) => "anonymous (anonim)",
            (false, true) => "confidential (rahasia)",
            (true, true) => "anonymous (anonim), confidential (rahasia)",
        },
    );
    if view.answer_missing {
        say("answer", "missing: it was closed without one");
    }
    lines
}

fn headers(view: &v1::ComplaintView) -> impl Iterator<Item = &v1::EventHeader> {
    view.history
        .iter()
        .filter_map(|step| step.event.as_ref()?.header.as_ref())
}

fn hops(view: &v1::ComplaintView) -> u32 {
    headers(view).map(|header| header.hops).max().unwrap_or(0)
}

/// The unit in charge, by the last accepted event that says one for the
/// present handler.
fn unit(view: &v1::ComplaintView) -> Option<&str> {
    use v1::event::Body;
    let decided = view.history.iter().rev().filter(|step| step.revision > 0);
    let mine = decided.take_while(|step| {
        let header = step.event.as_ref().and_then(|found| found.header.as_ref());
        header.is_none_or(|header| header.handler == view.handler)
    });
    let mut units = mine.filter_map(|step| {
        let event = step.event.as_ref()?.event.as_ref()?;
        match event.body.as_ref()? {
            Body::Forwarded(forwarded) => Some(forwarded.unit.as_str()),
            Body::HandlingStarted(started) if !started.unit.is_empty() => {
                Some(started.unit.as_str())
            }
            _ => None,
        }
    });
    units.next().filter(|unit| !unit.is_empty())
}

/// One step of the history.
fn lines_of(step: &v1::HistoryItem) -> Vec<String> {
    let found = step.event.clone().unwrap_or_default();
    let event = found.event.clone().unwrap_or_default();
    let mut lines = Vec::new();
    let revision = match step.revision {
        0 => "not decided yet".to_owned(),
        revision => format!("revision {revision}"),
    };
    if step.not_kept {
        lines.push(format!("{revision}: an own event, no longer at this node"));
        lines.push(format!("  {:<12}{}", "at the hub", at_hub(step, None)));
        lines.push(format!(
            "  {:<12}what it said: settled for longer than it is kept here, or lost with a disk; the hub has it",
            "gone"
        ));
        return lines;
    }
    let acting = if event.acting_institution.is_empty() {
        String::new()
    } else {
        format!(" for {}", event.acting_institution)
    };
    lines.push(format!(
        "{revision}: {} by {}{acting} ({})",
        kind(&event),
        or_dash(&event.party),
        or_dash(&event.system)
    ));
    let mut say = |what: &str, text: &str| lines.push(format!("  {what:<12}{text}"));
    let accepted = found.header.as_ref().and_then(|h| h.accepted_at.as_ref());
    say("occurred", &time(event.occurred_at.as_ref()));
    say("recorded", &time(event.recorded_at.as_ref()));
    say("at the hub", &at_hub(step, accepted));
    if let Some(header) = &found.header {
        let status = v1::Status::try_from(header.status).unwrap_or_default();
        say(
            "then",
            &format!(
                "status {}, handler {}, hops {}",
                word(status.as_str_name(), "STATUS_"),
                if header.handler.is_empty() {
                    "national triage"
                } else {
                    &header.handler
                },
                header.hops
            ),
        );
    }
    if let Some(rejection) = step.decision.as_ref().and_then(|d| d.rejection.as_ref()) {
        say("rejected", &rejection.text_en);
    }
    if event.audience == v1::Audience::Institutions as i32 {
        say("audience", "institutions only");
    }
    if let Some(status) = &event.local_status {
        say("local code", &format!("{} {}", status.code, status.name));
    }
    let parts = parts(&found, &event);
    if !parts.is_empty() {
        say("parts here", &parts.join(", "));
    }
    if let Some(content) = &found.content {
        for (what, text) in [
            ("title", &content.title),
            ("body", &content.body),
            ("address", &content.address),
            ("text", &content.text),
        ] {
            if !text.is_empty() {
                say(what, text);
            }
        }
    }
    if let Some(reporter) = &found.reporter {
        say("reporter", or_dash(&reporter.name));
    }
    lines
}

/// Whether the hub holds it, as far as this node has heard.
fn at_hub(step: &v1::HistoryItem, accepted: Option<&crate::wire::Timestamp>) -> String {
    if accepted.is_some() {
        return format!("accepted {}", time(accepted));
    }
    match v1::Progress::try_from(step.progress).unwrap_or_default() {
        v1::Progress::Unspecified if step.revision > 0 => "accepted".to_owned(),
        v1::Progress::Unspecified | v1::Progress::Stored => {
            "not yet, as far as this node has heard: stored here only".to_owned()
        }
        v1::Progress::AtHub => "stored there, not decided yet".to_owned(),
        other => word(other.as_str_name(), "PROGRESS_"),
    }
}

/// What this side holds of the event's parts: the sender of a withheld part
/// and the hub have it, of an erased one nobody has.
fn parts(found: &v1::InboxEvent, event: &v1::Event) -> Vec<String> {
    let parts = event.parts.iter().map(|part| {
        let kind = v1::PartKind::try_from(part.kind).unwrap_or_default();
        let state = if found.erased_parts.contains(&part.kind) {
            "erased (at every node)".to_owned()
        } else if found.withheld_parts.contains(&part.kind) {
            "withheld (the hub has it, this party may not read it)".to_owned()
        } else {
            let is_here = match kind {
                v1::PartKind::Content => found.content.is_some(),
                v1::PartKind::Reporter => found.reporter.is_some(),
                v1::PartKind::Unspecified => false,
            };
            if is_here {
                format!("present ({} bytes)", part.size_bytes)
            } else {
                "not here".to_owned()
            }
        };
        format!("{} {state}", word(kind.as_str_name(), "PART_KIND_"))
    });
    parts.collect()
}

/// What happened, in the contract's word.
fn kind(event: &v1::Event) -> String {
    let json = serde_json::to_value(event).unwrap_or_default();
    let fields = json.as_object().into_iter().flatten();
    let mut bodies =
        fields.filter(|(name, value)| value.is_object() && name.as_str() != "localStatus");
    bodies
        .next()
        .map_or_else(|| "unknown".to_owned(), |(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a complaint that only this node has, and the same once the
    /// hub has put it into triage.
    /// Guarantee: an undecided one is never said to be in national triage.
    #[test]
    fn undecided_is_not_triage() {
        let mut view = v1::ComplaintView::default();
        let text = head(&view).join("\n");
        assert!(text.contains("handler       not decided yet"), "{text}");
        assert!(!text.contains("triage"), "{text}");
        view.revision = 1;
        let text = head(&view).join("\n");
        assert!(text.contains("handler       national triage"), "{text}");
    }

    /// Scenario: an own event that was accepted as revision 3 and whose bytes are
    /// not at this node any more.
    /// Guarantee: its revision and outcome stand there, it says what is gone and
    /// who has it, and no kind or time is made up.
    #[test]
    fn what_is_not_kept_is_said() {
        let step = v1::HistoryItem {
            revision: 3,
            progress: v1::Progress::Accepted as i32,
            not_kept: true,
            ..v1::HistoryItem::default()
        };
        let text = lines_of(&step).join("\n");
        assert!(text.contains("revision 3: an own event"), "{text}");
        assert!(text.contains("at the hub  accepted"), "{text}");
        assert!(text.contains("the hub has it"), "{text}");
        assert!(
            !text.contains("unknown") && !text.contains("occurred"),
            "{text}"
        );
    }

    /// Scenario: an event with a part that is here, one that is withheld, and
    /// then one that was erased.
    /// Guarantee: each is told apart.
    #[test]
    fn parts_are_told_apart() {
        let part = |kind: v1::PartKind| v1::PartReference {
            kind: kind as i32,
            size_bytes: 77,
            ..v1::PartReference::default()
        };
        let event = v1::Event {
            parts: vec![part(v1::PartKind::Content), part(v1::PartKind::Reporter)],
            ..v1::Event::default()
        };
        let mut found = v1::InboxEvent {
            content: Some(v1::Content::default()),
            withheld_parts: vec![v1::PartKind::Reporter as i32],
            ..v1::InboxEvent::default()
        };
        let text = parts(&found, &event).join("; ");
        assert!(text.contains("content present (77 bytes)"), "{text}");
        assert!(text.contains("reporter withheld"), "{text}");
        found.withheld_parts.clear();
        found.erased_parts = vec![v1::PartKind::Reporter as i32];
        let text = parts(&found, &event).join("; ");
        assert!(text.contains("reporter erased"), "{text}");
    }
}
