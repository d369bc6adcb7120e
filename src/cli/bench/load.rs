//! The load: complaints of a fixed size, as fast as they go, at a pace, and
//! one at a time.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream, stream::FuturesUnordered};

use crate::{
    cli::{
        client::{Gateway, refused},
        lab::Node,
        records::Record,
    },
    wire::v1,
};

use super::PARTY;

/// The complaints that the load is made of; `examples/README.md` says where
/// they come from.
const COMPLAINTS: &str = include_str!("../../../examples/complaints.jsonl");
/// Longest wait for the end of a run without any progress.
const STUCK: Duration = Duration::from_secs(120);

/// Complaints that differ in their references, each of a fixed size.
pub(super) struct Templates {
    complaints: Vec<v1::NewComplaint>,
}

impl Templates {
    /// `size` is that of the encoded hand-over, bytes.
    pub(super) fn of_size(size: usize) -> anyhow::Result<Self> {
        use prost::Message as _;
        let mut complaints = Vec::new();
        for line in COMPLAINTS.lines() {
            let record: Record = serde_json::from_str(line).context("an example complaint")?;
            let mut complaint = record.complaint()?;
            // What a city handles itself: the usual case of a city channel.
            complaint.handling = v1::Handling::Own as i32;
            complaint.addressed_to.clear();
            complaint.reference = reference("", 0);
            let bare = complaint.encoded_len();
            if bare < size {
                let words = "jalan rusak di depan pasar, mohon segera diperbaiki. ";
                let filler: String = words.chars().cycle().take(size - bare - 2).collect();
                complaint.body.push(' ');
                complaint.body.push_str(&filler);
            } else {
                let mut keep = complaint.body.len().saturating_sub(bare - size);
                while !complaint.body.is_char_boundary(keep) {
                    keep -= 1;
                }
                complaint.body.truncate(keep.max(1));
            }
            complaints.push(complaint);
        }
        Ok(Self { complaints })
    }

    pub(super) fn mean_bytes(&self) -> f64 {
        use prost::Message as _;
        let total: usize = self.complaints.iter().map(|one| one.encoded_len()).sum();
        total as f64 / self.complaints.len() as f64
    }

    pub(super) fn complaints(&self) -> &[v1::NewComplaint] {
        &self.complaints
    }

    fn handover(&self, run: &str, number: u64) -> v1::Handover {
        let template = &self.complaints[number as usize % self.complaints.len()];
        let mut complaint = template.clone();
        complaint.reference = reference(run, number);
        v1::Handover {
            item: Some(v1::handover::Item::Complaint(complaint)),
            ..v1::Handover::default()
        }
    }
}

fn reference(run: &str, number: u64) -> String {
    format!("B{run:>4}-{number:010}")
}

/// Hands over `events` on several streams; returns when the node has
/// answered "stored" to each.
pub(super) async fn hand_over(
    node: &Node,
    templates: &std::sync::Arc<Templates>,
    run: &str,
    events: u64,
    streams: u64,
) -> anyhow::Result<()> {
    let mut running = FuturesUnordered::new();
    for place in 0..streams {
        let gateway = node.gateway().await?;
        let numbers = (place..events).step_by(streams as usize);
        let templates = templates.clone();
        let run = run.to_owned();
        running.push(tokio::spawn(one_stream(gateway, templates, run, numbers)));
    }
    while let Some(done) = running.next().await {
        done??;
    }
    Ok(())
}

async fn one_stream(
    mut gateway: Gateway,
    templates: std::sync::Arc<Templates>,
    run: String,
    numbers: impl Iterator<Item = u64> + Send + 'static,
) -> anyhow::Result<()> {
    let requests = numbers.map(move |number| v1::SubmitStreamRequest {
        handover: Some(templates.handover(&run, number)),
    });
    let answers = gateway.submit_stream(stream::iter(requests)).await;
    let mut answers = answers.map_err(refused)?.into_inner();
    while let Some(answer) = answers.message().await.map_err(refused)? {
        if let Some(v1::submit_stream_response::Result::Error(error)) = answer.result {
            anyhow::bail!("a hand-over was refused: {}", error.message);
        }
    }
    Ok(())
}

/// How far the hub's acknowledgements have come, over time.
pub(super) struct Pace {
    samples: Vec<(Duration, u64)>,
}

/// How often the pace is looked at.
const LOOK: Duration = Duration::from_millis(100);

impl Pace {
    /// Looks until `through` is acknowledged, while somebody else hands over.
    pub(super) async fn until(node: &Node, through: u64) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut samples = Vec::new();
        loop {
            let found = standing(node).await?.acknowledged;
            samples.push((began.elapsed(), found));
            if found >= through {
                return Ok(Self { samples });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Acknowledged a second in a part of the run, from one share of it to another.
    pub(super) fn between(&self, from: f64, to: f64) -> f64 {
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else {
            return 0.0;
        };
        let events = (last.1 - first.1) as f64;
        let when = |share: f64| {
            let wanted = first.1 as f64 + events * share;
            let later = self.samples.iter().position(|(_, at)| *at as f64 >= wanted);
            let later = later.unwrap_or(self.samples.len() - 1);
            let (t1, n1) = self.samples[later];
            let (t0, n0) = self.samples[later.saturating_sub(1)];
            let step = (n1 - n0) as f64;
            let part = if step > 0.0 {
                (wanted - n0 as f64) / step
            } else {
                1.0
            };
            t0.as_secs_f64() + (t1.as_secs_f64() - t0.as_secs_f64()) * part
        };
        events * (to - from) / (when(to) - when(from)).max(1e-9)
    }
}

/// What a node says of its submissions.
pub(super) struct Standing {
    pub(super) head: u64,
    pub(super) acknowledged: u64,
    pub(super) decided: u64,
}

pub(super) async fn standing(node: &Node) -> anyhow::Result<Standing> {
    let request = v1::GetSyncStatusRequest {
        party: PARTY.to_owned(),
    };
    let status = node.health().await?.get_sync_status(request).await?;
    let party = status
        .into_inner()
        .parties
        .into_iter()
        .next()
        .context("the node does not know its party")?;
    let submissions = party.submissions.unwrap_or_default();
    let position = |place: Option<v1::Place>| place.map_or(0, |place| place.position);
    let counts = party.counts.unwrap_or_default();
    Ok(Standing {
        head: position(submissions.head),
        acknowledged: position(submissions.acknowledged),
        decided: counts.accepted + counts.duplicates + counts.rejected + counts.parked,
    })
}

/// Waits until the hub has acknowledged everything through a position; with
/// `and_decided` also until every decision has come back.
pub(super) async fn acknowledged_through(
    node: &Node,
    position: u64,
    and_decided: bool,
) -> anyhow::Result<()> {
    let mut last = 0;
    let mut progress = Instant::now();
    loop {
        let found = standing(node).await?;
        let is_decided = !and_decided || found.decided >= position;
        if found.acknowledged >= position && is_decided {
            return Ok(());
        }
        if found.acknowledged + found.decided > last {
            last = found.acknowledged + found.decided;
            progress = Instant::now();
        }
        anyhow::ensure!(
            progress.elapsed() < STUCK,
            "no progress: {} of {position} acknowledged, {} decided",
            found.acknowledged,
            found.decided
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One hand-over; answers when the hub's decision is known: durable at both
/// ends.
async fn one(gateway: &mut Gateway, handover: v1::Handover) -> anyhow::Result<()> {
    let request = v1::SubmitRequest {
        handover: Some(handover),
        wait_for_hub_ms: 10_000,
    };
    let answer = gateway.submit(request).await.map_err(refused)?.into_inner();
    let progress = answer.receipt.unwrap_or_default().progress;
    anyhow::ensure!(
        progress == v1::Progress::Accepted as i32,
        "a hand-over did not reach the hub in time"
    );
    Ok(())
}

/// One after the other for a while: how many in a second, and how long each.
pub(super) async fn one_at_a_time(
    node: &Node,
    templates: &std::sync::Arc<Templates>,
    run: &'static str,
    during: Duration,
) -> anyhow::Result<(f64, Vec<Duration>)> {
    let mut gateway = node.gateway().await?;
    let templates = templates.clone();
    // On the threads of the connection: the way there is the generator's.
    let asking = tokio::spawn(async move {
        let began = Instant::now();
        let mut took = Vec::new();
        while began.elapsed() < during {
            let this = Instant::now();
            one(&mut gateway, templates.handover(run, took.len() as u64)).await?;
            took.push(this.elapsed());
        }
        anyhow::Ok((took.len() as f64 / began.elapsed().as_secs_f64(), took))
    });
    let (per_second, mut took) = asking.await??;
    took.sort_unstable();
    Ok((per_second, took))
}

/// At a pace, each at its own time whether or not the one before is done;
/// latencies are taken from the time at which it was due.
pub(super) async fn paced(
    node: &Node,
    templates: &std::sync::Arc<Templates>,
    run: &str,
    per_second: u32,
    during: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let gateway = node.gateway().await?;
    let count = (f64::from(per_second) * during.as_secs_f64()) as u64;
    let began = tokio::time::Instant::now();
    let mut running = FuturesUnordered::new();
    for number in 0..count {
        let due = began + Duration::from_secs_f64(number as f64 / f64::from(per_second));
        let handover = templates.handover(run, number);
        let mut gateway = gateway.clone();
        running.push(tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            // The timer's own grain (1 ms) is the generator's, not the bridge's.
            let began = Instant::now();
            one(&mut gateway, handover).await?;
            anyhow::Ok(began.elapsed())
        }));
    }
    let mut took = Vec::new();
    while let Some(done) = running.next().await {
        took.push(done??);
    }
    took.sort_unstable();
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a run of a thousand that goes at a hundred a second and, from
    /// the middle on, at half of that.
    /// Guarantee: each part of it has its own pace, also where nobody has looked
    /// just then.
    #[test]
    fn each_part_of_a_run_has_its_pace() {
        let at = |seconds: u64, count: u64| (Duration::from_secs(seconds), count);
        let pace = Pace {
            samples: vec![at(0, 0), at(2, 200), at(5, 500), at(9, 700), at(15, 1_000)],
        };
        let is_near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found}");
        is_near(pace.between(0.0, 0.1), 100.0);
        is_near(pace.between(0.3, 0.4), 100.0);
        is_near(pace.between(0.9, 1.0), 50.0);
        is_near(pace.between(0.0, 1.0), 1_000.0 / 15.0);
    }
}
