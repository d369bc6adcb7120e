//! The partner of whoever tries a client: three desks (the nation, the
//! province, the city) that take whatever the spare party files to its end.
//!
//! A desk keeps a list of complaints to look at. It reads where a complaint
//! stands, does the one next step, and strikes it off only when no step is
//! left; a step that fails is tried again later, so nothing is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::{
    cli::{
        client::{Gateway, refused},
        output::line,
    },
    wire::v1::{self, new_event::Body},
};

use super::{
    people::{Person, by_tracking_id},
    world::{CITY, NATIONAL, PROVINCE, SPARE},
};

/// Longest wait for something to arrive; a step that waits comes sooner.
const LONGEST_FETCH: Duration = Duration::from_secs(2);
/// Pause after a failed step, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One desk.
pub(super) struct Desk<'a> {
    person: &'a mut Person,
    /// What it handles: the institutions of its party.
    party: &'static str,
    after: String,
    waiting: BTreeMap<String, Retry>,
    /// Complaints in which the spare party takes part.
    followed: BTreeSet<String>,
}

struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            pause: FIRST_PAUSE,
        }
    }
}

impl<'a> Desk<'a> {
    /// A desk that looks at what comes from now on.
    pub(super) async fn open(
        person: &'a mut Person,
        party: &'static str,
    ) -> anyhow::Result<Desk<'a>> {
        let mut after = String::new();
        loop {
            let items = fetch(&mut person.gateway, &after, Duration::ZERO).await?;
            match items.last() {
                Some(last) => after.clone_from(&last.cursor),
                None => break,
            }
        }
        Ok(Self {
            person,
            party,
            after,
            waiting: BTreeMap::new(),
            followed: BTreeSet::new(),
        })
    }

    /// Looks at a complaint that this desk itself began.
    pub(super) fn follow(&mut self, tracking_id: &str) {
        self.followed.insert(tracking_id.to_owned());
    }

    /// Works until it is dropped.
    pub(super) async fn work(mut self) {
        loop {
            if let Err(error) = self.round().await {
                eprintln!("   robot ({}): {error:#}; it goes on", self.party);
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let next = self.waiting.values().map(|retry| retry.at).min();
        let wait = next.map_or(LONGEST_FETCH, |at| at.saturating_duration_since(now));
        let wait = wait.min(LONGEST_FETCH);
        let items = fetch(&mut self.person.gateway, &self.after, wait).await?;
        for item in items {
            self.after.clone_from(&item.cursor);
            self.note(item);
        }
        let due: Vec<String> = self
            .waiting
            .iter()
            .filter(|(_, retry)| retry.at <= Instant::now())
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            match self.serve(&id).await {
                Ok(()) => {
                    self.waiting.remove(&id);
                }
                Err(error) => {
                    let Some(retry) = self.waiting.get_mut(&id) else {
                        continue;
                    };
                    eprintln!(
                        "   robot ({}): {id}: {error:#}; again in {:.1} s",
                        self.party,
                        retry.pause.as_secs_f64()
                    );
                    retry.at = Instant::now() + retry.pause;
                    retry.pause = (retry.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        Ok(())
    }

    /// Puts the complaint of an item on the list, if the spare party is in it.
    fn note(&mut self, item: v1::InboxItem) {
        let Some(v1::inbox_item::Item::Event(found)) = item.item else {
            return;
        };
        let (Some(event), Some(header)) = (found.event, found.header) else {
            return;
        };
        let id = header.tracking_id;
        if event.party == SPARE || self.followed.contains(&id) {
            self.followed.insert(id.clone());
            self.waiting.insert(id, Retry::now());
        }
    }

    /// Does the next step, and the next, until none is left for this desk.
    async fn serve(&mut self, id: &str) -> anyhow::Result<()> {
        loop {
            let request = v1::GetComplaintRequest {
                complaint: Some(by_tracking_id(id)),
                system: String::new(),
            };
            let gateway = &mut self.person.gateway;
            let answer = gateway.get_complaint(request).await.map_err(refused)?;
            let view = answer.into_inner().complaint.context("no complaint")?;
            let Some(step) = next_step(self.party, &view) else {
                return Ok(());
            };
            let decision = self.person.say(id, step.text, step.body).await?;
            // With no reader the robots work on.
            let _ = line(format!("   robot ({}): {} {id}", self.party, step.told));
            // The own view follows the decision; the next step builds on it.
            self.person.sees(id, decision.revision).await?;
        }
    }
}

async fn fetch(
    gateway: &mut Gateway,
    after: &str,
    wait: Duration,
) -> anyhow::Result<Vec<v1::InboxItem>> {
    let request = v1::FetchInboxRequest {
        after: after.to_owned(),
        wait_ms: wait.as_millis() as u32,
        limit: 500,
    };
    let answer = gateway.fetch_inbox(request).await.map_err(refused)?;
    Ok(answer.into_inner().items)
}

struct Step {
    told: &'static str,
    text: &'static str,
    body: Body,
}

/// What a desk does next, by where the complaint stands; `None`: nothing.
fn next_step(desk: &str, view: &v1::ComplaintView) -> Option<Step> {
    let step = |told, text, body| Some(Step { told, text, body });
    let attachments = Vec::new;
    if view.revision == 0 {
        return None;
    }
    if view.origin_party == desk
        && let Some(step) = origin_step(view)
    {
        return Some(step);
    }
    let status = v1::Status::try_from(view.status).unwrap_or_default();
    let is_open = !matches!(
        status,
        v1::Status::Closed | v1::Status::Archived | v1::Status::Merged | v1::Status::Escalated
    );
    if !is_open {
        return None;
    }
    let verified = || Body::Verified(v1::Verified {});
    let was_verified = has(view, |body| matches!(body, v1::event::Body::Verified(_)));
    // The partner handles it itself (HANDLING_OWN, or it was forwarded there):
    // the national desk confirms it, and what comes then is the partner's.
    if view.handler == SPARE {
        return match desk {
            NATIONAL if !was_verified => step("verified", "", verified()),
            _ => None,
        };
    }
    if desk == NATIONAL && view.handler.is_empty() {
        if !was_verified {
            return step("verified", "", verified());
        }
        let body = Body::Forwarded(v1::Forwarded {
            institution: CITY.to_owned(),
            unit: "Dinas Perhubungan".to_owned(),
        });
        return step("routed to pemda-33.74", "Mohon ditindaklanjuti.", body);
    }
    let is_ours = match desk {
        NATIONAL => view.handler != PROVINCE && view.handler != CITY,
        other => view.handler == other,
    };
    if !is_ours {
        return None;
    }
    match status {
        v1::Status::Received => step("verified", "", verified()),
        v1::Status::Responded => step("closed", "", Body::Closed(v1::Closed {})),
        v1::Status::AwaitingReporter => None,
        v1::Status::InProgress => {
            let attachments = attachments();
            let body = Body::Responded(v1::Responded { attachments });
            step("answered", "Sudah kami tangani. Terima kasih.", body)
        }
        _ => {
            let unit = String::new();
            let body = Body::HandlingStarted(v1::HandlingStarted { unit });
            step("began to handle", "", body)
        }
    }
}

/// As the origin it speaks for the reporter: replies to a question, rates at
/// the end.
fn origin_step(view: &v1::ComplaintView) -> Option<Step> {
    match v1::Status::try_from(view.status).unwrap_or_default() {
        v1::Status::AwaitingReporter => Some(Step {
            told: "replied for the reporter",
            text: "Di depan pasar, sebelah timur.",
            body: Body::ReporterReplied(v1::ReporterReplied {
                attachments: Vec::new(),
            }),
        }),
        v1::Status::Closed if !has(view, |body| matches!(body, v1::event::Body::Rated(_))) => {
            Some(Step {
                told: "rated",
                text: "",
                body: Body::Rated(v1::Rated { stars: 5 }),
            })
        }
        _ => None,
    }
}

fn has(view: &v1::ComplaintView, wanted: impl Fn(&v1::event::Body) -> bool) -> bool {
    let events = view.history.iter();
    let mut bodies = events.filter_map(|step| step.event.as_ref()?.event.as_ref()?.body.as_ref());
    bodies.any(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(handler: &str, status: v1::Status) -> v1::ComplaintView {
        v1::ComplaintView {
            origin_party: SPARE.to_owned(),
            handler: handler.to_owned(),
            status: status as i32,
            revision: 1,
            ..v1::ComplaintView::default()
        }
    }

    /// Scenario: whatever the partner can file: to triage, to a region, to an
    /// institution behind the national application, to itself.
    /// Guarantee: exactly one desk has a step for it, and none once it is
    /// closed; what the partner handles is confirmed and then left to it.
    #[test]
    fn each_complaint_has_one_desk() {
        let told = |view: &v1::ComplaintView| {
            let desks = [NATIONAL, PROVINCE, CITY].into_iter();
            desks
                .filter_map(|desk| next_step(desk, view).map(|step| (desk, step.told)))
                .collect::<Vec<_>>()
        };
        let received = |handler: &str| told(&view(handler, v1::Status::Received));
        assert_eq!(received(""), [(NATIONAL, "verified")]);
        assert_eq!(received(SPARE), [(NATIONAL, "verified")]);
        let forwarded = |handler: &str| told(&view(handler, v1::Status::Forwarded));
        assert_eq!(forwarded(PROVINCE), [(PROVINCE, "began to handle")]);
        assert_eq!(forwarded(CITY), [(CITY, "began to handle")]);
        assert_eq!(forwarded("kl-pu"), [(NATIONAL, "began to handle")]);
        let worked = told(&view(CITY, v1::Status::InProgress));
        assert_eq!(worked, [(CITY, "answered")]);
        let answered = told(&view(PROVINCE, v1::Status::Responded));
        assert_eq!(answered, [(PROVINCE, "closed")]);
        assert_eq!(told(&view(CITY, v1::Status::Closed)), []);
    }
}
