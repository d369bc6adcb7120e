//! What the fleet hands over: whole complaints, from the filing to the answer,
//! spread over the parties as the country's are.

use std::sync::Arc;

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    cli::{bench::load::Templates, now},
    domain::{
        ComplaintId, ComplaintName, EventBody, Handover, IdempotencyKey, InstitutionCode, Item,
        NewComplaint, NewEvent, PartyId, Reference, SystemName,
    },
    exchange::Entry,
    runtime::random_bytes,
    wire::{self, Composing, v1},
};

/// Events of a complaint.
const STEPS: u64 = 12;
/// The step that answers.
const ANSWER: u64 = STEPS - 2;
/// The last step.
const LAST: u64 = STEPS - 1;
/// Each so many-th complaint is copied to another institution.
const COPIED: u64 = 5;
/// The share of a party falls with its rank to this power. Of a thousand the
/// largest has 23 %, and of 5 000 complaints a day half of them have less than
/// one: as `docs/performance.md` says of the country.
const EXPONENT: f64 = 1.2;
/// Bytes of a filing, encoded.
const FILING_BYTES: usize = 1_024;
/// Text of a step.
const STEP_TEXT: &str = "Tim lapangan sudah meninjau lokasi bersama lurah setempat, mencatat \
    kerusakan sepanjang dua belas meter, dan menjadwalkan perbaikan pada pekan ini; warga \
    diminta tidak melintas di sisi timur sampai pekerjaan selesai.";

/// The share of each rank, summed up.
#[derive(Debug)]
struct Zipf {
    until: Vec<f64>,
}

impl Zipf {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let until = (1..=count).map(|rank| {
            sum += (rank as f64).powf(-EXPONENT);
            sum
        });
        Self {
            until: until.collect(),
        }
    }

    /// A rank from 0; `random` in [0, 1).
    fn rank(&self, random: f64) -> usize {
        let wanted = random * self.until.last().copied().unwrap_or_default();
        let found = self.until.partition_point(|until| *until <= wanted);
        found.min(self.until.len().saturating_sub(1))
    }
}

/// One party's work.
struct Desk {
    party: PartyId,
    institution: InstitutionCode,
    /// Events so far.
    events: u64,
}

/// Makes events, one after the other.
pub(super) struct Traffic {
    desks: Vec<Desk>,
    zipf: Zipf,
    random: StdRng,
    filings: Vec<NewComplaint>,
    system: SystemName,
    run: Arc<str>,
    made: u64,
    bytes: u64,
}

impl Traffic {
    /// For these parties; the same seed makes the same traffic, but for salts.
    pub(super) fn new(parties: &[String], run: &str, seed: u64) -> anyhow::Result<Self> {
        let system = SystemName::parse("lapor-kota")?;
        let desks = parties.iter().map(|name| {
            anyhow::Ok(Desk {
                party: PartyId::parse(name)?,
                institution: InstitutionCode::parse(name)?,
                events: 0,
            })
        });
        let templates = Templates::of_size(FILING_BYTES)?;
        let filings = templates.complaints().iter().map(|new| plain(new, &system));
        Ok(Self {
            zipf: Zipf::new(parties.len()),
            desks: desks.collect::<anyhow::Result<_>>()?,
            random: StdRng::seed_from_u64(seed),
            filings: filings.collect::<anyhow::Result<_>>()?,
            system,
            run: run.into(),
            made: 0,
            bytes: 0,
        })
    }

    /// Events made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Bytes of an event and its parts, on average.
    pub(super) fn mean_bytes(&self) -> f64 {
        self.bytes as f64 / self.made.max(1) as f64
    }

    /// The next event, and the place of its party.
    ///
    /// # Errors
    /// It can't be composed, which is this program's mistake.
    pub(super) fn next(&mut self) -> anyhow::Result<(usize, Entry)> {
        let place = self.zipf.rank(self.random.random());
        let handover = self.handover(place)?;
        let desk = self.desks.get_mut(place).context("no such party")?;
        let complaint = desk.events / STEPS;
        let reference = reference(&self.run, complaint)?;
        let composing = Composing {
            party: &desk.party,
            now: now(),
            time_zone: "Asia/Jakarta",
            complaint_id: Some(ComplaintId::derive(&desk.party, &self.system, &reference)),
        };
        desk.events += 1;
        let digest = handover.digest();
        let composed = wire::compose(handover, composing, random_bytes::<16>)?;
        let entry = Entry {
            header: bytes::Bytes::new(),
            event: composed.event_bytes,
            parts: composed.parts,
            handover_digest: Some(digest),
        };
        self.made += 1;
        self.bytes += entry.window_bytes();
        Ok((place, entry))
    }

    fn handover(&mut self, place: usize) -> anyhow::Result<Handover> {
        let desk = self.desks.get(place).context("no such party")?;
        let (complaint, step) = (desk.events / STEPS, desk.events % STEPS);
        let reference = reference(&self.run, complaint)?;
        if step == 0 {
            let filings = self.filings.len().max(1) as u64;
            let filing = self
                .filings
                .get(((complaint + place as u64) % filings) as usize);
            let mut new = filing.context("no example complaint")?.clone();
            new.reference = reference;
            return Ok(Handover {
                system: self.system.clone(),
                key: None,
                item: Item::Complaint(Box::new(new)),
            });
        }
        let key = IdempotencyKey::parse(&format!("{reference}/{step}"))?;
        let is_copied = complaint % COPIED == COPIED - 1;
        let other = self.zipf.rank(self.random.random());
        let other = self.desks.get(other).filter(|_| other != place);
        let attachments = Vec::new();
        let body = match step {
            1 => EventBody::Verified,
            2 => match other.filter(|_| is_copied) {
                Some(other) => EventBody::Copied {
                    institutions: vec![other.institution.clone()],
                },
                None => EventBody::HandlingStarted {
                    unit: "Dinas Pekerjaan Umum".to_owned(),
                },
            },
            ANSWER => EventBody::Responded { attachments },
            LAST => EventBody::Closed,
            _ => EventBody::ProgressReported { attachments },
        };
        let mut new = NewEvent::new(ComplaintName::Reference(reference), body);
        new.text = STEP_TEXT.to_owned();
        Ok(Handover {
            system: self.system.clone(),
            key: Some(key),
            item: Item::Event(Box::new(new)),
        })
    }
}

fn reference(run: &str, complaint: u64) -> anyhow::Result<Reference> {
    Ok(Reference::parse(&format!("A{run}-{complaint:08}"))?)
}

fn plain(new: &v1::NewComplaint, system: &SystemName) -> anyhow::Result<NewComplaint> {
    let handover = v1::Handover {
        item: Some(v1::handover::Item::Complaint(new.clone())),
        ..v1::Handover::default()
    };
    let read = wire::handover_from_proto(handover, Some(system));
    match read.map(|handover| handover.item) {
        Ok(Item::Complaint(new)) => Ok(*new),
        Ok(Item::Event(_)) => anyhow::bail!("an example complaint is an event"),
        Err(problems) => anyhow::bail!("an example complaint: {problems:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a thousand parties, and many draws.
    /// Guarantee: the largest has a fifth to a third of all; of 5 000 complaints
    /// half of the parties have less than one each; everybody's turn comes.
    #[test]
    fn the_shares_are_those_of_the_country() {
        let zipf = Zipf::new(1_000);
        let all = zipf.until.last().copied().unwrap();
        let share = |rank: usize| {
            let before = rank.checked_sub(1).map_or(0.0, |before| zipf.until[before]);
            (zipf.until[rank] - before) / all
        };
        assert!((0.2..=0.34).contains(&share(0)), "{}", share(0));
        assert!(5_000.0 * share(500) < 1.0, "{}", share(500));
        let first = (0..10_000).filter(|n| zipf.rank(f64::from(*n) / 1e4) == 0);
        assert!((first.count() as f64 / 1e4 - share(0)).abs() < 1e-3);
        assert_eq!(zipf.rank(0.999_999_999), 999);
        assert_eq!(Zipf::new(1).rank(0.7), 0);
    }

    /// Scenario: the traffic of three parties, made twice with one seed.
    /// Guarantee: the same parties in the same order; each complaint has its
    /// twelve events, filing first.
    #[test]
    fn a_seed_makes_the_same_traffic() {
        let parties = ["a-1", "a-2", "a-3"].map(str::to_owned);
        let places = |seed| {
            let mut traffic = Traffic::new(&parties, "x", seed).unwrap();
            let places: Vec<usize> = (0..200).map(|_| traffic.next().unwrap().0).collect();
            assert_eq!(traffic.made(), 200);
            places
        };
        assert_eq!(places(7), places(7));
        assert_ne!(places(7), places(8));
        let mut traffic = Traffic::new(&parties[..1], "x", 1).unwrap();
        let kinds: Vec<&str> = (0..24)
            .map(|_| wire::decode_event(&traffic.next().unwrap().1.event).unwrap())
            .map(|event| event.body.kind())
            .collect();
        assert_eq!(kinds[..12], kinds[12..]);
        assert_eq!(
            (kinds[0], kinds[10], kinds[11]),
            ("filed", "responded", "closed")
        );
    }
}
