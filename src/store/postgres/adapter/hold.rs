//! Who writes: one process, which holds an advisory lock of its line for as long as
//! it runs, and takes it again with every new line.
//!
//! Invariants: nothing is written without the lock; once a new line has its
//! generation, nothing that an earlier one has left can commit; an adapter whose
//! database was written by somebody else, or went back, writes nothing more.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::sleep;

use crate::store::StoreError;

use super::{
    super::{
        connect::{Database, Line},
        error::{Failure, doubtful},
        left_behind::LeftBehind,
        session::{Session, execute, maybe, one},
    },
    load, moving, prune, save,
};

/// How often the lock is asked for before its holder is named: the server sees a
/// moment later that a process has ended.
const ASKED: u32 = 50;
/// The pause between two times.
const PAUSE: Duration = Duration::from_millis(100);

/// A machine that is cut off must not keep the lock: the server looks for it.
const LOOKED_FOR: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
     SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000";
const LOCK: &str = "SELECT pg_try_advisory_lock(7302, 1)";
const HOLDER: &str = "SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'this machine'), \
         to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') \
     FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
         JOIN pg_stat_activity a ON a.pid = l.pid \
     WHERE d.datname = current_database() AND l.locktype = 'advisory' \
         AND l.classid = 7302 AND l.objid = 1 AND l.objsubid = 2 AND l.granted";
// Not one that is at work: a commit that waits for a standby would be let go of, and
// be seen, before the standby has it.
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE pid = $1 AND state <> 'active'";
const TAKE: &str =
    "UPDATE writer SET generation = generation + 1 RETURNING generation, batch, holder";
const SIGN: &str = "UPDATE writer SET holder = $1";

const OTHERS_WROTE: &str = "another process has written to this adapter's database meanwhile: this one has to \
     be started anew";
const GONE_BACK: &str = "the database has gone back: it lacks what this adapter has committed, which has to be \
     started anew; its links then take back what the hub has";

/// One process among those that may want to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process(pub(super) [u8; 8]);

impl Process {
    /// What it is called at the server: its own lines are told from another's.
    pub(super) fn name(self) -> String {
        format!(
            "jembatan adapter, process {} {}",
            std::process::id(),
            hex::encode(self.0)
        )
    }
}

/// What this process knows of the writer's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    /// Of its last line.
    pub(super) generation: i64,
    /// The last batch that was committed for sure.
    pub(super) batch: i64,
}

/// Takes the lock and a new generation; says the last batch that was committed.
/// `own`: what an earlier line of this process has left.
pub(super) async fn take(
    database: &Database,
    process: Process,
    own: Option<Own>,
    left_behind: &LeftBehind,
) -> Result<(Line, Own), Failure> {
    left_behind.check()?;
    let line = database.line().await?;
    let client = line.client();
    client.within(client.batch_execute(LOOKED_FOR)).await?;
    lock(client, &process.name(), own.is_some(), left_behind).await?;
    // Waits for whatever an earlier line of this process is still doing.
    let row = one(client, TAKE, &[]).await?;
    let now = Own {
        generation: row.try_get(0)?,
        batch: row.try_get(1)?,
    };
    let holder: &[u8] = row.try_get(2)?;
    let why = match own {
        Some(own) if now.generation <= own.generation || now.batch < own.batch => Some(GONE_BACK),
        Some(_) if holder != process.0 => Some(OTHERS_WROTE),
        _ => None,
    };
    if let Some(why) = why {
        left_behind.end(why, why);
        return Err(Failure::Refused(StoreError::Unavailable(why.to_owned())));
    }
    if holder != process.0 {
        execute(client, SIGN, &[&process.0.as_slice()]).await?;
    }
    if line.is_doubtful() {
        return Err(doubtful());
    }
    let statements = save::ALL
        .into_iter()
        .chain(load::ALL)
        .chain(moving::ALL)
        .chain(prune::ALL);
    let prepared = statements.map(|sql| client.prepare_cached(sql));
    client.within(try_join_all(prepared)).await?;
    database.settle(client.serving());
    Ok((line, now))
}

/// Takes the lock. An earlier line of this process that the server still keeps is
/// ended, or waited for if it is at work; anybody else is named, and whoever had the
/// lock before has to be started anew then.
async fn lock(
    client: &Session,
    name: &str,
    is_again: bool,
    left_behind: &LeftBehind,
) -> Result<(), Failure> {
    for again in (0..ASKED).rev() {
        if one(client, LOCK, &[]).await?.try_get(0)? {
            return Ok(());
        }
        let Some(holder) = maybe(client, HOLDER, &[]).await? else {
            continue;
        };
        let (pid, called): (i32, &str) = (holder.try_get(0)?, holder.try_get(1)?);
        let is_own = called == name;
        if is_own {
            maybe(client, END, &[&pid]).await?;
        }
        // Whoever is at work has callers that wait; who begins has time.
        if !is_own && (again == 0 || is_again) {
            let (from, since): (&str, &str) = (holder.try_get(2)?, holder.try_get(3)?);
            let why = format!(
                "another process keeps its store in this database: \"{called}\" on {from} \
                 (the server's pid {pid}, since {since}). One adapter has one database: stop the \
                 other one, or give this one a database of its own"
            );
            return Err(Failure::Refused(match is_again {
                true => {
                    left_behind.end(OTHERS_WROTE, &why);
                    StoreError::Unavailable(why)
                }
                false => StoreError::Invalid(why),
            }));
        }
        sleep(PAUSE).await;
    }
    Err(Failure::Lost(
        "an earlier commit of this process is still under way at the server, or waits there \
         for a standby"
            .to_owned(),
    ))
}
