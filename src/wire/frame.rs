//! Frames of a link.

use bytes::Bytes;

use crate::{
    domain::{EVENT_BYTES, FieldError, Limits, PART_BYTES, PartyId},
    exchange::{
        Acknowledgement, CopyRequest, Direction, Drain, DrainReason, Entries, Entry, Frame,
        Heartbeat, Open, Opened, Place, PreviousEpoch,
    },
};

use super::{
    parts::{part_from_proto, part_to_proto},
    scalar::{
        Parsed, copied, digest, id16, optional_digest, optional_micros, required_micros, text_id,
        timestamp, unknown_value,
    },
    v1,
};

/// A frame as it travels.
pub fn frame_to_proto(frame: Frame) -> v1::Frame {
    use v1::frame::Kind;
    let kind = match frame {
        Frame::Open(open) => Some(Kind::Open(open_to(*open))),
        Frame::Opened(opened) => Some(Kind::Opened(opened_to(*opened))),
        Frame::Entries(entries) => Some(Kind::Entries(v1::Entries {
            journal: journal_to(entries.direction),
            epoch: entries.epoch,
            first_position: entries.first_position,
            previous_chain: copied(entries.previous_chain.as_bytes()),
            entries: entries.entries.into_iter().map(entry_to).collect(),
            copy: entries.copy,
        })),
        Frame::Acknowledgement(acknowledgement) => {
            Some(Kind::Acknowledgement(v1::Acknowledgement {
                journal: journal_to(acknowledgement.direction),
                epoch: acknowledgement.epoch,
                position: acknowledgement.place.position,
                chain: copied(acknowledgement.place.chain.as_bytes()),
            }))
        }
        Frame::Heartbeat(heartbeat) => Some(Kind::Heartbeat(heartbeat_to(*heartbeat))),
        Frame::Drain(drain) => Some(Kind::Drain(v1::Drain {
            reason: drain_reason_to(drain.reason) as i32,
            retry_after_ms: drain.retry_after_ms,
        })),
        Frame::CopyRequest(request) => Some(Kind::CopyRequest(v1::CopyRequest {
            epoch: request.epoch,
            first_position: request.first_position,
            last_position: request.last_position,
        })),
        Frame::Unknown => None,
    };
    v1::Frame { kind }
}

/// A frame from the wire; one of a kind that is not known here is no error.
///
/// # Errors
/// Names the field that can't be read.
pub fn frame_from_proto(frame: v1::Frame) -> Parsed<Frame> {
    use v1::frame::Kind;
    let v1::Frame { kind } = frame;
    Ok(match kind {
        None => Frame::Unknown,
        Some(Kind::Open(open)) => Frame::Open(Box::new(open_from(open)?)),
        Some(Kind::Opened(opened)) => Frame::Opened(Box::new(opened_from(opened)?)),
        Some(Kind::Entries(entries)) => Frame::Entries(entries_from(entries)?),
        Some(Kind::Acknowledgement(acknowledgement)) => {
            let v1::Acknowledgement {
                journal,
                epoch,
                position,
                chain,
            } = acknowledgement;
            Frame::Acknowledgement(Acknowledgement {
                direction: journal_from("acknowledgement.journal", journal)?,
                epoch,
                place: Place {
                    position,
                    chain: digest("acknowledgement.chain", &chain)?,
                },
            })
        }
        Some(Kind::Heartbeat(heartbeat)) => Frame::Heartbeat(Box::new(heartbeat_from(heartbeat)?)),
        Some(Kind::Drain(drain)) => {
            let v1::Drain {
                reason,
                retry_after_ms,
            } = drain;
            Frame::Drain(Drain {
                reason: drain_reason_from(reason),
                retry_after_ms,
            })
        }
        Some(Kind::CopyRequest(request)) => {
            let v1::CopyRequest {
                epoch,
                first_position,
                last_position,
            } = request;
            Frame::CopyRequest(CopyRequest {
                epoch,
                first_position,
                last_position,
            })
        }
    })
}

fn open_to(open: Open) -> v1::Open {
    v1::Open {
        versions: open.versions,
        capabilities: open.capabilities,
        instance_id: copied(&open.instance_id),
        software: open.software,
        epoch: open.epoch,
        acknowledged: Some(place_to(open.acknowledged)),
        head: open.head.position,
        head_chain: copied(open.head.chain.as_bytes()),
        received: Some(place_to(open.received)),
        consumed_through: open.consumed_through,
        sent_at: Some(timestamp(open.sent_at)),
        incarnation: open
            .incarnation
            .map_or_else(Default::default, |incarnation| copied(&incarnation)),
    }
}

fn open_from(open: v1::Open) -> Parsed<Open> {
    let v1::Open {
        versions,
        capabilities,
        instance_id,
        software,
        epoch,
        acknowledged,
        head,
        head_chain,
        received,
        consumed_through,
        sent_at,
        incarnation,
    } = open;
    Ok(Open {
        versions,
        capabilities,
        instance_id: id16("open.instance_id", &instance_id)?,
        software,
        epoch,
        acknowledged: required_place("open.acknowledged", acknowledged)?,
        head: Place {
            position: head,
            chain: digest("open.head_chain", &head_chain)?,
        },
        received: required_place("open.received", received)?,
        consumed_through,
        sent_at: required_micros("open.sent_at", sent_at)?,
        incarnation: match incarnation.is_empty() {
            true => None,
            false => Some(id16("open.incarnation", &incarnation)?),
        },
    })
}

fn opened_to(opened: Opened) -> v1::Opened {
    v1::Opened {
        version: opened.version,
        capabilities: opened.capabilities,
        instance_id: copied(&opened.instance_id),
        software: opened.software,
        epoch: opened.epoch,
        at_acknowledged: opened.at_acknowledged.map(place_to),
        at_shorter_head: Some(place_to(opened.at_shorter_head)),
        head: Some(place_to(opened.head)),
        deliveries_head: opened.deliveries_head,
        at_received: opened.at_received.map(place_to),
        consumed_through: opened.consumed_through,
        limits: Some(limits_to_proto(&opened.limits)),
        sent_at: Some(timestamp(opened.sent_at)),
        previous_epoch: opened.previous_epoch.map(|previous| v1::PreviousEpoch {
            epoch: previous.epoch,
            submissions: Some(place_to(previous.submissions)),
            deliveries: Some(place_to(previous.deliveries)),
        }),
        party: opened.party.as_str().to_owned(),
    }
}

fn opened_from(opened: v1::Opened) -> Parsed<Opened> {
    let v1::Opened {
        version,
        capabilities,
        instance_id,
        software,
        epoch,
        at_acknowledged,
        at_shorter_head,
        head,
        deliveries_head,
        at_received,
        consumed_through,
        limits,
        sent_at,
        previous_epoch,
        party,
    } = opened;
    Ok(Opened {
        version,
        capabilities,
        instance_id: id16("opened.instance_id", &instance_id)?,
        software,
        epoch,
        at_acknowledged: optional_place("opened.at_acknowledged", at_acknowledged)?,
        at_shorter_head: required_place("opened.at_shorter_head", at_shorter_head)?,
        head: required_place("opened.head", head)?,
        deliveries_head,
        at_received: optional_place("opened.at_received", at_received)?,
        consumed_through,
        limits: limits_from(limits.unwrap_or_default()),
        sent_at: required_micros("opened.sent_at", sent_at)?,
        previous_epoch: previous_epoch.map(previous_from).transpose()?,
        party: text_id("opened.party", &party, PartyId::parse)?,
    })
}

fn previous_from(previous: v1::PreviousEpoch) -> Parsed<PreviousEpoch> {
    let v1::PreviousEpoch {
        epoch,
        submissions,
        deliveries,
    } = previous;
    Ok(PreviousEpoch {
        epoch,
        submissions: required_place("opened.previous_epoch.submissions", submissions)?,
        deliveries: required_place("opened.previous_epoch.deliveries", deliveries)?,
    })
}

/// Limits as they are announced.
pub fn limits_to_proto(limits: &Limits) -> v1::Limits {
    v1::Limits {
        window_entries: limits.window_entries,
        window_bytes: limits.window_bytes,
        frame_bytes: limits.frame_bytes,
        event_bytes: EVENT_BYTES as u32,
        part_bytes: PART_BYTES as u32,
        heartbeat_interval_ms: limits.heartbeat_interval_ms,
        dead_after_ms: limits.dead_after_ms,
        fetch_wait_ms: limits.fetch_wait_ms,
        events_per_complaint: limits.events_per_complaint,
    }
}

/// Limits that are not told are the defaults of v1; sizes of events and parts
/// are constants of v1.
pub(super) fn limits_from(limits: v1::Limits) -> Limits {
    let v1::Limits {
        window_entries,
        window_bytes,
        frame_bytes,
        event_bytes: _,
        part_bytes: _,
        heartbeat_interval_ms,
        dead_after_ms,
        fetch_wait_ms,
        events_per_complaint,
    } = limits;
    let known = Limits::default();
    let or = |told: u32, default: u32| if told == 0 { default } else { told };
    Limits {
        window_entries: or(window_entries, known.window_entries),
        window_bytes: if window_bytes == 0 {
            known.window_bytes
        } else {
            window_bytes
        },
        frame_bytes: or(frame_bytes, known.frame_bytes),
        heartbeat_interval_ms: or(heartbeat_interval_ms, known.heartbeat_interval_ms),
        dead_after_ms: or(dead_after_ms, known.dead_after_ms),
        fetch_wait_ms: or(fetch_wait_ms, known.fetch_wait_ms),
        events_per_complaint: or(events_per_complaint, known.events_per_complaint),
    }
}

fn entries_from(entries: v1::Entries) -> Parsed<Entries> {
    let v1::Entries {
        journal,
        epoch,
        first_position,
        previous_chain,
        entries,
        copy,
    } = entries;
    if entries.is_empty() {
        return Err(FieldError::new("entries.entries", "is empty"));
    }
    Ok(Entries {
        direction: journal_from("entries.journal", journal)?,
        epoch,
        first_position,
        previous_chain: digest("entries.previous_chain", &previous_chain)?,
        entries: entries
            .into_iter()
            .map(entry_from)
            .collect::<Result<_, _>>()?,
        copy,
    })
}

fn entry_to(entry: Entry) -> v1::Entry {
    v1::Entry {
        header: entry.header,
        event: entry.event,
        parts: entry.parts.into_iter().map(part_to_proto).collect(),
        handover_digest: entry
            .handover_digest
            .map_or_else(Bytes::new, |digest| copied(digest.as_bytes())),
    }
}

fn entry_from(entry: v1::Entry) -> Parsed<Entry> {
    let v1::Entry {
        header,
        event,
        parts,
        handover_digest,
    } = entry;
    Ok(Entry {
        header,
        event,
        // A part of a kind that is not known here, or a larger one than may
        // be, is left out: the decision will say that it is missing, and the
        // entry never blocks the journal.
        parts: parts
            .into_iter()
            .filter_map(|part| part_from_proto(part).ok())
            .collect(),
        handover_digest: optional_digest("entries.handover_digest", &handover_digest)
            .unwrap_or_default(),
    })
}

fn heartbeat_to(heartbeat: Heartbeat) -> v1::Heartbeat {
    v1::Heartbeat {
        sent_at: Some(timestamp(heartbeat.sent_at)),
        echo: heartbeat.echo.map(timestamp),
        submissions_head: heartbeat.submissions_head,
        deliveries_head: heartbeat.deliveries_head,
        backlog_entries: heartbeat.backlog_entries,
        oldest_waiting: heartbeat.oldest_waiting.map(timestamp),
        consumed_through: heartbeat.consumed_through,
        software: heartbeat.software,
        certificate_expires_at: heartbeat.certificate_expires_at.map(timestamp),
        minimum_version: heartbeat.minimum_version,
        minimum_version_from: heartbeat.minimum_version_from.map(timestamp),
    }
}

fn heartbeat_from(heartbeat: v1::Heartbeat) -> Parsed<Heartbeat> {
    let v1::Heartbeat {
        sent_at,
        echo,
        submissions_head,
        deliveries_head,
        backlog_entries,
        oldest_waiting,
        consumed_through,
        software,
        certificate_expires_at,
        minimum_version,
        minimum_version_from,
    } = heartbeat;
    Ok(Heartbeat {
        sent_at: required_micros("heartbeat.sent_at", sent_at)?,
        echo: optional_micros("heartbeat.echo", echo)?,
        submissions_head,
        deliveries_head,
        backlog_entries,
        oldest_waiting: optional_micros("heartbeat.oldest_waiting", oldest_waiting)?,
        consumed_through,
        software,
        certificate_expires_at: optional_micros(
            "heartbeat.certificate_expires_at",
            certificate_expires_at,
        )?,
        minimum_version,
        minimum_version_from: optional_micros(
            "heartbeat.minimum_version_from",
            minimum_version_from,
        )?,
    })
}

/// A place as it travels.
pub fn place_to(place: Place) -> v1::Place {
    v1::Place {
        position: place.position,
        chain: copied(place.chain.as_bytes()),
    }
}

fn optional_place(field: &str, place: Option<v1::Place>) -> Parsed<Option<Place>> {
    place
        .map(|v1::Place { position, chain }| {
            Ok(Place {
                position,
                chain: digest(&format!("{field}.chain"), &chain)?,
            })
        })
        .transpose()
}

fn required_place(field: &str, place: Option<v1::Place>) -> Parsed<Place> {
    optional_place(field, place)?.ok_or_else(|| FieldError::new(field, "is missing"))
}

/// A journal as it is named on the wire.
pub fn journal_to(direction: Direction) -> i32 {
    match direction {
        Direction::Submissions => v1::Journal::Submissions as i32,
        Direction::Deliveries => v1::Journal::Deliveries as i32,
    }
}

/// A journal from the wire.
///
/// # Errors
/// Not set, or not known here.
pub fn journal_from(field: &str, number: i32) -> Parsed<Direction> {
    match v1::Journal::try_from(number) {
        Ok(v1::Journal::Submissions) => Ok(Direction::Submissions),
        Ok(v1::Journal::Deliveries) => Ok(Direction::Deliveries),
        Ok(v1::Journal::Unspecified) | Err(_) => Err(unknown_value(field, number)),
    }
}

fn drain_reason_to(reason: DrainReason) -> v1::DrainReason {
    match reason {
        DrainReason::Stopping => v1::DrainReason::Stopping,
        DrainReason::Age => v1::DrainReason::Age,
        DrainReason::CertificateExpires => v1::DrainReason::CertificateExpires,
        DrainReason::Reloaded => v1::DrainReason::Reloaded,
        DrainReason::Revoked => v1::DrainReason::Revoked,
        DrainReason::Fenced => v1::DrainReason::Fenced,
        DrainReason::Unknown => v1::DrainReason::Unspecified,
    }
}

fn drain_reason_from(number: i32) -> DrainReason {
    match v1::DrainReason::try_from(number) {
        Ok(v1::DrainReason::Stopping) => DrainReason::Stopping,
        Ok(v1::DrainReason::Age) => DrainReason::Age,
        Ok(v1::DrainReason::CertificateExpires) => DrainReason::CertificateExpires,
        Ok(v1::DrainReason::Reloaded) => DrainReason::Reloaded,
        Ok(v1::DrainReason::Revoked) => DrainReason::Revoked,
        Ok(v1::DrainReason::Fenced) => DrainReason::Fenced,
        Ok(v1::DrainReason::Unspecified) | Err(_) => DrainReason::Unknown,
    }
}
