//! One number of parties, from the first link to the last figure.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::cli::{
    bench::{report::Latency, usage},
    lab::{self, Node},
    now,
};

use super::{
    Fleet,
    crowd::Crowd,
    database,
    ledger::Ledger,
    report::{Backfill, Day, FullSpeed, Idle, Paced, Replicas, Size},
    traffic::Traffic,
};

/// What a hub may still tidy up before its memory is read.
const QUIET: Duration = Duration::from_secs(2);

/// What all measurements of one size work with.
struct Bench<'a> {
    crowd: &'a Crowd,
    ledger: &'a Ledger,
    traffic: &'a mut Traffic,
}

impl Fleet {
    pub(super) async fn one_size(
        &self,
        directory: &Path,
        table: &str,
        names: &[String],
        run: &str,
    ) -> anyhow::Result<Size> {
        let count = names.len();
        self.say(&format!("{count} parties: the hub registers them"));
        let mut hub = start_hub(directory, table, names).await?;
        let links = hub.links();
        let ledger = Arc::new(Ledger::new());
        let crowd = Crowd::new(&directory.join("../pki"), names, &ledger)?;
        let mut traffic = Traffic::new(names, run, self.seed)?;

        self.say("all link and are idle");
        // One comes and goes, so that what any link needs is in memory already.
        let since = now();
        let first = crowd.link(&[links], 1);
        crowd.all_in(1, since).await?;
        first.stop().await?;
        tokio::time::sleep(QUIET).await;
        let without = usage::resident_bytes(hub.pid());
        let since = now();
        let running = crowd.link(&[links], count);
        let linked = crowd.all_in(count, since).await?.took();
        let idle = self.idle(&hub, without, count).await;

        self.say("the hub is restarted, with a word");
        let since = now();
        hub.restart_in_order().await?;
        let served = now();
        let announced = crowd.all_in(count, since).await?.after(served);

        let mut bench = Bench {
            crowd: &crowd,
            ledger: &ledger,
            traffic: &mut traffic,
        };
        let stood = database::standing(directory, table).await?;
        self.say("at a pace");
        let paced = self.paced(&mut bench).await?;
        self.say("at full speed");
        let full_speed = self.full_speed(&mut bench, &[&hub]).await?;
        self.say("a day at once");
        let day = self.day(&mut bench).await?;
        let hub_peak = usage::peak_resident_bytes(hub.pid());

        self.say("the hub is away without a word");
        let since = now();
        hub.kill().await?;
        tokio::time::sleep(Duration::from_secs(u64::from(self.outage))).await;
        hub.restart().await?;
        let served = now();
        let unannounced = crowd.all_in(count, since).await?.after(served);

        let backfill = match self.backfill {
            0 => None,
            events => {
                self.say("events of the past");
                Some(self.past(&mut bench, events).await?)
            }
        };
        running.stop().await?;
        let mut others = Vec::new();
        for number in 2..=self.replicas {
            // Beside the first: settings name the certificates by their place.
            let beside = format!("{count}-parties-replica-{number}");
            let beside = directory.with_file_name(beside);
            others.push(start_hub(&beside, table, names).await?);
        }
        let replicas = if others.is_empty() {
            None
        } else {
            self.say("at full speed, over several replicas");
            let all: Vec<&Node> = std::iter::once(&hub).chain(&others).collect();
            let addresses: Vec<_> = all.iter().map(|hub| hub.links()).collect();
            let since = now();
            let running = crowd.link(&addresses, count);
            crowd.all_in(count, since).await?;
            let speed = self.full_speed(&mut bench, &all).await?;
            running.stop().await?;
            Some(Replicas {
                replicas: self.replicas,
                speed,
            })
        };
        for other in others {
            other.stop().await;
        }
        hub.stop().await;
        let ceiling = match stood {
            Some(stood) => {
                self.say("the same rows without a hub");
                Some(
                    database::ceiling(directory, table, stood, &full_speed, replicas.as_ref())
                        .await?,
                )
            }
            None => None,
        };
        Ok(Size {
            parties: count,
            linked_seconds: linked.as_secs_f64(),
            idle,
            announced,
            paced,
            full_speed,
            replicas,
            day,
            hub_peak_resident_bytes: hub_peak,
            outage_seconds: self.outage,
            unannounced,
            backfill,
            ceiling,
            event_bytes: traffic.mean_bytes(),
        })
    }

    async fn idle(&self, hub: &Node, without: u64, count: usize) -> Idle {
        let during = Duration::from_secs(u64::from(self.idle));
        tokio::time::sleep(during / 3).await;
        let (began, cpu) = (Instant::now(), usage::cpu_seconds(hub.pid()));
        tokio::time::sleep(during - during / 3).await;
        let cpu = usage::cpu_seconds(hub.pid()) - cpu;
        let with = usage::resident_bytes(hub.pid());
        Idle {
            hub_without_bytes: without,
            hub_with_bytes: with,
            bytes_per_party: (with as f64 - without as f64) / count as f64,
            hub_cpu_percent: 100.0 * cpu / began.elapsed().as_secs_f64().max(1e-3),
        }
    }

    async fn paced(&self, bench: &mut Bench<'_>) -> anyhow::Result<Paced> {
        let count = u64::from(self.rate) * u64::from(self.seconds);
        let began = Instant::now();
        bench.ledger.measure();
        for number in 0..count {
            let (place, entry) = bench.traffic.next()?;
            let due = began + Duration::from_secs_f64(number as f64 / f64::from(self.rate));
            tokio::time::sleep_until(due).await;
            bench.hand_over(place, [entry]);
        }
        bench.all_acknowledged().await?;
        let took = bench.ledger.measured();
        bench.all_accepted().await?;
        Ok(Paced {
            rate: self.rate,
            latency: Latency::of(&took),
        })
    }

    /// As many as ever are under way: who is acknowledged makes room.
    async fn full_speed(&self, bench: &mut Bench<'_>, hubs: &[&Node]) -> anyhow::Result<FullSpeed> {
        let during = Duration::from_secs(u64::from(self.seconds));
        let cpu = || {
            (
                hubs.iter().map(|hub| usage::cpu_seconds(hub.pid())).sum(),
                usage::cpu_seconds(std::process::id()),
            )
        };
        bench.ledger.let_in(self.in_flight as usize);
        bench.ledger.measure();
        let (before, cpu_before) = (bench.ledger.count(), cpu());
        let began = Instant::now();
        while began.elapsed() < during {
            bench.next_when_there_is_room().await?;
        }
        let acknowledged = (bench.ledger.count() - before).max(1) as f64;
        let elapsed = began.elapsed();
        let cpu_after = cpu();
        bench.all_acknowledged().await?;
        let took = bench.ledger.measured();
        bench.all_accepted().await?;
        let micros = |after: f64, before: f64| (after - before) * 1e6 / acknowledged;
        Ok(FullSpeed {
            in_flight: self.in_flight,
            acknowledged_per_second: acknowledged / elapsed.as_secs_f64(),
            latency: Latency::of(&took),
            hub_cpu_micros: micros(cpu_after.0, cpu_before.0),
            generator_cpu_micros: micros(cpu_after.1, cpu_before.1),
        })
    }

    /// Everything is handed over in one moment, and was made before.
    async fn day(&self, bench: &mut Bench<'_>) -> anyhow::Result<Day> {
        let mut made: Vec<Vec<_>> = (0..bench.crowd.len()).map(|_| Vec::new()).collect();
        for _ in 0..self.day {
            let (place, entry) = bench.traffic.next()?;
            if let Some(of_party) = made.get_mut(place) {
                of_party.push(entry);
            }
        }
        let began = Instant::now();
        for (place, entries) in made.into_iter().enumerate() {
            bench.hand_over(place, entries);
        }
        bench.all_acknowledged().await?;
        let acknowledged = began.elapsed();
        bench.all_accepted().await?;
        Ok(Day {
            events: self.day,
            acknowledged_seconds: acknowledged.as_secs_f64(),
            decided_seconds: began.elapsed().as_secs_f64(),
        })
    }

    async fn past(&self, bench: &mut Bench<'_>, events: u64) -> anyhow::Result<Backfill> {
        let before = bench.ledger.count();
        bench.ledger.let_in(self.in_flight as usize);
        let tenth = (events / 10).max(1);
        let began = Instant::now();
        let (mut first, mut last) = (None, None);
        for _ in 0..events {
            bench.next_when_there_is_room().await?;
            let count = bench.ledger.count() - before;
            if count >= tenth {
                first.get_or_insert_with(|| (count, Instant::now()));
            }
            if count >= events - tenth {
                last.get_or_insert_with(|| (count, Instant::now()));
            }
        }
        bench.all_acknowledged().await?;
        let end = Instant::now();
        bench.all_accepted().await?;
        let rate = |count: u64, from: Instant, to: Instant| {
            count as f64 / (to - from).as_secs_f64().max(1e-9)
        };
        let (first, first_at) = first.unwrap_or((events, end));
        let (last, last_at) = last.unwrap_or((0, began));
        Ok(Backfill {
            events,
            per_second: rate(events, began, end),
            first_tenth_per_second: rate(first, began, first_at),
            last_tenth_per_second: rate(events - last, last_at, end),
        })
    }
}

impl Bench<'_> {
    fn hand_over(&self, place: usize, entries: impl IntoIterator<Item = crate::exchange::Entry>) {
        if let Some(store) = self.crowd.store(place) {
            store.hand_over(entries);
        }
    }

    async fn next_when_there_is_room(&mut self) -> anyhow::Result<()> {
        self.ledger.place().await;
        let (place, entry) = self.traffic.next()?;
        self.hand_over(place, [entry]);
        Ok(())
    }

    async fn all_acknowledged(&self) -> anyhow::Result<()> {
        self.ledger.acknowledged_all(self.traffic.made()).await
    }

    async fn all_accepted(&self) -> anyhow::Result<()> {
        self.ledger.accepted_all(self.traffic.made()).await
    }
}

/// A hub that knows these parties, on a port to which it comes back.
async fn start_hub(directory: &Path, table: &str, names: &[String]) -> anyhow::Result<Node> {
    std::fs::create_dir_all(directory)?;
    let mut registered = String::new();
    for name in names {
        registered.push_str(&format!("[[party]]\nid = {name:?}\n"));
        registered.push_str(&format!(
            "[[institution]]\ncode = {name:?}\nparty = {name:?}\n"
        ));
    }
    std::fs::write(directory.join("directory.toml"), registered)?;
    let file = directory.join("hub.toml");
    let sessions = names.len() + 64;
    let settings = lab::hub_file().replace("\"pki/", "\"../pki/");
    let settings = format!("{settings}\n[session]\nmax_sessions = {sessions}\n{table}");
    std::fs::write(&file, &settings)?;
    let hub = Node::start("hub", &file).await?;
    let links = hub.links();
    let fixed = settings.replace("links = \"127.0.0.1:0\"", &format!("links = \"{links}\""));
    std::fs::write(&file, fixed)?;
    hub.stop().await;
    // Registering leaves memory behind that no other start has.
    Node::start("hub", &file).await
}
