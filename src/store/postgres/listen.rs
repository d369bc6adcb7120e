//! Between replicas: what this one has committed is said, what others say is
//! heard, and once a second it is looked for without having been told.
//!
//! Notifications are sent after the commit and joined: inside it they would
//! make all commits of the server wait for each other. They only save time;
//! the look finds whatever was not heard.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{domain::PartyId, store::StoreError};

use super::{
    Shared,
    connect::Line,
    directory,
    rows::party,
    session::{Session, one, rows},
    watching::News,
};

/// The channel of notifications.
const CHANNEL: &str = "jembatan";
/// Says that the directory has changed; no party's id begins so.
const DIRECTORY: &str = "!";
/// PostgreSQL takes less than 8000 bytes.
const PAYLOAD_BYTES: usize = 7_000;
/// How often a replica looks by itself.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) const LOOK: &str = "SELECT s.party, s.position, d.position, h.position, h.consumed \
     FROM submission_head s JOIN delivery_head d ON d.party = s.party \
         JOIN delivery_held h ON h.party = s.party";

/// Where a party's journals stood at the last look.
type Seen = HashMap<PartyId, [i64; 4]>;

/// Runs until it is told to stop; a lost line is begun anew.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut seen = Seen::new();
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = listen(&shared, &mut seen) => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(event = "postgres_listener_lost", %error);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn listen(shared: &Shared, seen: &mut Seen) -> Result<(), StoreError> {
    let mut line = shared.database.line().await?;
    // What is said only saves time: no notification waits for a disk.
    let begin = format!("SET synchronous_commit = off; LISTEN {CHANNEL}");
    let begun = line.client().batch_execute(&begin);
    line.client().within(begun).await?;
    let own = one(line.client(), "SELECT pg_backend_pid()", &[]).await?;
    let own: i32 = own.try_get(0)?;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => look(line.client(), shared, seen).await?,
            news = shared.wakers.news() => say(&line, news).await?,
            heard = line.heard() => match heard {
                Some(said) if said.process_id() != own => {
                    hear(line.client(), shared, said.payload()).await?;
                }
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

async fn say(line: &Line, news: News) -> Result<(), StoreError> {
    let mut words: Vec<String> = Vec::new();
    if news.is_directory {
        words.push(DIRECTORY.to_owned());
    }
    for party in &news.parties {
        match words.last_mut() {
            Some(last) if last.len() + party.as_str().len() < PAYLOAD_BYTES => {
                last.push(' ');
                last.push_str(party.as_str());
            }
            _ => words.push(party.to_string()),
        }
    }
    for payload in words {
        one(
            line.client(),
            "SELECT pg_notify($1, $2)",
            &[&CHANNEL, &payload],
        )
        .await?;
    }
    Ok(())
}

async fn hear(client: &Session, shared: &Shared, said: &str) -> Result<(), StoreError> {
    for word in said.split(' ') {
        if word == DIRECTORY {
            shared.learn(directory::read_registry(client).await?);
        } else if let Ok(party) = PartyId::parse(word) {
            shared.wakers.wake(&party);
        }
    }
    Ok(())
}

async fn look(client: &Session, shared: &Shared, seen: &mut Seen) -> Result<(), StoreError> {
    let before = shared.known().version;
    let row = one(client, super::world::DIRECTORY_VERSION, &[]).await?;
    if row.try_get::<_, i64>(0)? != before {
        shared.learn_anew(before, directory::read_registry(client).await?);
    }
    for row in rows(client, LOOK, &[]).await? {
        let party = party(&row, 0)?;
        let now = [
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
            row.try_get(4)?,
        ];
        if seen.get(&party) != Some(&now) {
            shared.wakers.wake(&party);
            seen.insert(party, now);
        }
    }
    Ok(())
}
