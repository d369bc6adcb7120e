//! A hub and three adapters, and what happens to them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jembatan::{
    domain::{
        ComplaintId, ComplaintName, EventBody, Handover, IdempotencyKey, Item, NewComplaint,
        NewEvent, PartyId, Reference, RegionCode, SystemName,
    },
    link::Phase,
    runtime::Clock as _,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    checks,
    network::{Machine, Net, Weather},
    nodes::{Adapter, Hub, NODES, SimulatedClock, address},
};

/// The peer is taken for dead after 45 s of silence; a look every second, and
/// the last piece's delay.
const STALE: Duration = Duration::from_secs(50);
/// Longest base delay of the retry schedule, and a dial that runs into silence.
const LONGEST_ROUND: Duration = Duration::from_secs(60 + 15 + 3);

/// What a party's local system has handed over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Handed {
    pub(super) all: u64,
    pub(super) filed: u64,
}

pub(super) struct World {
    pub(super) hub: Option<Hub>,
    pub(super) adapters: Vec<Adapter>,
    hub_machine: Arc<Machine>,
    clock: SimulatedClock,
    dice: StdRng,
    handed: BTreeMap<PartyId, Handed>,
    complaints: Vec<ComplaintId>,
    directory: TempDir,
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        let net = Net::new(seed);
        let directory = TempDir::new().unwrap();
        let clock = SimulatedClock::new();
        let adapters = NODES
            .iter()
            .zip(2..)
            .map(|(id, machine)| Adapter::new(id, directory.path(), net.machine(address(machine))));
        let mut world = Self {
            hub: None,
            adapters: adapters.collect(),
            hub_machine: net.machine(address(1)),
            clock,
            dice: StdRng::seed_from_u64(seed),
            handed: BTreeMap::new(),
            complaints: Vec::new(),
            directory,
        };
        world.start_hub().await;
        for adapter in &mut world.adapters {
            adapter.start(&world.clock);
        }
        world
    }

    pub(super) fn handed(&self, party: &PartyId) -> Handed {
        self.handed.get(party).copied().unwrap_or_default()
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.random_range(0..sides)
    }

    async fn start_hub(&mut self) {
        if self.hub.is_none() {
            let at = self.directory.path().join("hub");
            self.hub = Some(Hub::start(&at, &self.hub_machine, &self.clock).await);
        }
    }

    async fn stop_hub(&mut self, says_so: bool) {
        if let Some(hub) = self.hub.take() {
            let machines = self.adapters.iter().map(|adapter| adapter.machine.clone());
            hub.stop(says_so, &machines.collect::<Vec<_>>()).await;
        }
    }

    /// Time passes; nobody says "connected" while nothing flows.
    async fn pass(&mut self, time: Duration) {
        let began = Instant::now();
        let until = began + time;
        while Instant::now() < until {
            // Close looks while somebody may just have fallen silent.
            let look_every = match began.elapsed() < Duration::from_secs(300) {
                true => Duration::from_secs(5),
                false => Duration::from_secs(60),
            };
            tokio::time::sleep_until(until.min(Instant::now() + look_every)).await;
            self.check_links();
        }
    }

    fn check_links(&self) {
        let now = self.clock.now_micros();
        let mut shown: Vec<_> = Vec::new();
        for adapter in &self.adapters {
            if let Some(running) = &adapter.running {
                shown.push(("the node", &adapter.party, running.state.borrow().clone()));
            }
        }
        let board = self.hub.as_ref().map(|hub| hub.board.lock().unwrap());
        for (party, state) in board.iter().flat_map(|board| board.iter()) {
            shown.push(("the hub", party, state.borrow().clone()));
        }
        for (who, party, state) in shown {
            let silent = now - state.last_heard.map_or(0, |at| at.0);
            let is_stale = silent > STALE.as_micros() as i64;
            assert!(
                !(state.phase == Phase::Connected && is_stale),
                "{who} says that {party} is connected, and has heard nothing for {silent} us"
            );
        }
    }

    /// Local systems hand over: complaints, and events of complaints that they
    /// know.
    async fn hand_over(&mut self, n: usize, count: u64) {
        for _ in 0..count {
            let is_filing = self.complaints.is_empty() || self.roll(3) > 0;
            let number = self.handed.values().map(|handed| handed.all).sum::<u64>();
            let about = self.roll(self.complaints.len().max(1) as u64) as usize;
            let adapter = &self.adapters[n];
            let Some(running) = &adapter.running else {
                return;
            };
            let item = if is_filing {
                let reference = Reference::parse(&format!("L-{number}")).unwrap();
                let mut new = NewComplaint::new(reference);
                new.title = "Lampu jalan padam".to_owned();
                new.body = "Sudah tiga hari ".repeat(1 + number as usize % 40);
                new.region = Some(RegionCode::parse("33.74").unwrap());
                Item::Complaint(Box::new(new))
            } else {
                let attachments = Vec::new();
                let body = match adapter.party.as_str() == super::nodes::HANDLER {
                    true => EventBody::ProgressReported { attachments },
                    false => EventBody::ReporterReplied { attachments },
                };
                let name = ComplaintName::Id(self.complaints[about]);
                let mut new = NewEvent::new(name, body);
                new.text = "Petugas ke lokasi".to_owned();
                Item::Event(Box::new(new))
            };
            let handover = Handover {
                system: SystemName::parse("sistem").unwrap(),
                key: Some(IdempotencyKey::parse(&format!("K-{number}")).unwrap()),
                item,
            };
            let door = running.door.clone();
            let stored = door
                .submit(&adapter.caller(), vec![handover])
                .await
                .unwrap();
            let party = adapter.party.clone();
            match stored.into_iter().next().unwrap() {
                Ok(receipt) => {
                    let handed = self.handed.entry(party).or_default();
                    handed.all += 1;
                    if is_filing {
                        handed.filed += 1;
                        self.complaints.push(receipt.complaint_id);
                    }
                }
                // The door knows by itself that this party takes no part in it.
                Err(error) => assert!(!is_filing, "{error}"),
            }
        }
    }

    fn weather(&mut self, n: usize, weather: Weather) {
        let delay_ms = [0, 5, 40, 400, 2_000][self.roll(5) as usize];
        self.adapters[n].machine.set(weather, delay_ms);
    }

    /// Something happens.
    pub(super) async fn step(&mut self) {
        let n = self.roll(NODES.len() as u64) as usize;
        let says_so = self.roll(2) == 0;
        match self.roll(12) {
            0..=3 => {
                let count = 1 + self.roll(30);
                self.hand_over(n, count).await;
            }
            4 => self.adapters[n].machine.cut(),
            5 => self.weather(n, Weather::Silent),
            6 => self.weather(n, Weather::Refusing),
            7 | 8 => self.weather(n, Weather::Good),
            9 => {
                self.adapters[n].stop(says_so).await;
                let away = Duration::from_millis(self.roll(90_000));
                self.pass(away).await;
                self.adapters[n].start(&self.clock);
            }
            10 => {
                self.stop_hub(says_so).await;
                let away = Duration::from_millis(self.roll(90_000));
                self.pass(away).await;
                self.start_hub().await;
            }
            // A silent line that then carries on, or whose flow was forgotten.
            _ => {
                self.weather(n, Weather::Silent);
                let away = Duration::from_millis(self.roll(120_000));
                self.pass(away).await;
                if says_so {
                    self.adapters[n].machine.cut();
                }
                self.weather(n, Weather::Good);
            }
        }
        let pause = Duration::from_millis([0, 20, 500, 5_000, 60_000][self.roll(5) as usize]);
        self.pass(pause).await;
    }

    /// No hub for long: it is off, or out of reach. Local systems go on, and
    /// one node is stopped and started meanwhile.
    pub(super) async fn outage(&mut self, length: Duration) {
        let is_off = self.roll(2) == 0;
        if is_off {
            let says_so = self.roll(2) == 0;
            self.stop_hub(says_so).await;
        } else {
            for n in 0..NODES.len() {
                let weather = [Weather::Silent, Weather::Refusing][self.roll(2) as usize];
                self.weather(n, weather);
            }
        }
        let before: Vec<u64> = self.adapters.iter().map(|a| a.machine.attempts()).collect();
        let restarted = self.roll(NODES.len() as u64) as usize;
        let restart_at = self.roll(10);
        let began = Instant::now();
        for tenth in 0..10 {
            if tenth == restart_at {
                self.adapters[restarted].stop(true).await;
                self.pass(length / 100).await;
                self.adapters[restarted].start(&self.clock);
            }
            let n = self.roll(NODES.len() as u64) as usize;
            let count = 1 + self.roll(5);
            self.hand_over(n, count).await;
            self.pass(length / 10).await;
        }
        let lasted = began.elapsed();
        for (adapter, before) in self.adapters.iter().zip(before) {
            let tried = adapter.machine.attempts() - before;
            // Half of the cap on average, and quick ones at each beginning.
            let most = lasted.as_secs() / 20 + 40;
            let least = (lasted.as_secs() / LONGEST_ROUND.as_secs()).saturating_sub(2);
            assert!(tried <= most, "{tried} attempts in {lasted:?} are a loop");
            assert!(
                tried >= least * 9 / 10,
                "{tried} attempts in {lasted:?}: it gave up"
            );
        }
        for n in 0..NODES.len() {
            self.weather(n, Weather::Good);
        }
        self.start_hub().await;
    }

    /// Everything is up and every line good: soon nothing moves any more.
    pub(super) async fn settle(&mut self) {
        self.start_hub().await;
        let before: Vec<u64> = self.adapters.iter().map(|a| a.machine.attempts()).collect();
        for adapter in &mut self.adapters {
            adapter.machine.set(Weather::Good, 40);
            if adapter.running.is_none() {
                adapter.start(&self.clock);
            }
        }
        let began = Instant::now();
        while !checks::is_settled(self).await {
            // The longest delay, a session that has to be given up, and work.
            assert!(
                began.elapsed() < LONGEST_ROUND + 2 * STALE,
                "not settled after {:?}",
                began.elapsed()
            );
            self.pass(Duration::from_secs(1)).await;
        }
        for (adapter, before) in self.adapters.iter().zip(before) {
            let tried = adapter.machine.attempts() - before;
            assert!(tried <= 10, "{tried} attempts on a good line are a loop");
        }
        checks::check(self).await;
    }

    /// Ends in good order, so that the next one begins with nothing of this.
    pub(super) async fn end(mut self) {
        for adapter in &mut self.adapters {
            adapter.stop(false).await;
        }
        self.stop_hub(false).await;
    }
}
