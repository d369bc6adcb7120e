//! Connections: how the server is found, and what every session keeps.
//!
//! Readers come from a pool; writer and listener have a line each, and a write
//! that must not be forgotten has one while it lasts ([`super::durable`]). Lines
//! are listened to: a commit that the server warns of counts as one whose outcome
//! is unknown.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts},
};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_postgres::{
    Config, Notification,
    config::{Host, SslMode, TargetSessionAttrs},
};

use crate::store::StoreError;

use super::{
    durable::{SmallWrites, is_answered},
    guard::Guard,
    hosts::{Hosts, MARK, NotOpened, Serving},
    session::{QueryError, Session},
    tls::Tls,
};

/// How long a caller waits for a reader's connection.
pub(super) const READER_WITHIN: Duration = Duration::from_secs(10);
/// How long a batch waits for locks before it is decided anew.
const LOCK_TIMEOUT_MS: u32 = 5_000;
/// How the server plans for a hub. Its statements look rows up by their keys, an
/// array of them at a time: planning such a one anew takes longer than carrying it
/// out. But the plan that is kept is made while the store is empty, when to walk
/// through a table seems cheap: no table that grows may ever be. (`jit` is off for
/// everybody: to compile a statement takes longer than any of ours.)
const PLANNING: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off";
/// How long a transaction may do nothing: a replica that stands still in one
/// must not keep its locks from the others.
const IDLE_TIMEOUT_MS: u32 = 5_000;
/// Unanswered bytes end a line after this time, and the other end is asked whether
/// it is there after as long without a word.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// Whoever does not answer is asked again after so long, so many times: a machine
/// that is gone is known to be within half a minute, at both ends.
const ASKED_AGAIN: Duration = Duration::from_secs(5);
const ASKED_TIMES: u32 = 3;
/// How long an operator's command may do nothing: between two statements it only
/// computes. One that stands still must not keep hubs out for ever.
const PATIENT_IDLE_S: u32 = 60;
/// How often the server looks whether whoever waits for a long statement is there.
const LOOKED_AFTER_S: u32 = 10;
/// A server that says nothing for this much longer than its own time-out is gone.
const GRACE: Duration = Duration::from_secs(2);

/// When the server may say that a commit is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SynchronousCommit {
    /// On the server's disk, and on that of its synchronous standbys.
    #[default]
    On,
    /// Visible on the synchronous standbys as well.
    RemoteApply,
    /// On the server's disk, and in the hands of the standbys' systems.
    RemoteWrite,
}

impl SynchronousCommit {
    /// PostgreSQL's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
            Self::RemoteWrite => "remote_write",
        }
    }
}

/// Where the database is, and how it is spoken with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `postgres://user@host,host/database?sslmode=require`.
    pub url: String,
    /// File with the user's password, if the server asks for one. It is read for
    /// each new connection, so a new one needs no restart.
    pub password_file: Option<PathBuf>,
    /// Roots that sign the server's certificate, PEM.
    pub roots: Option<PathBuf>,
    /// Our certificate for the server, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// When a commit counts.
    pub synchronous_commit: SynchronousCommit,
    /// Connections of readers; the writer and the listener have one more each,
    /// and whoever joins or renews has one, one at a time.
    pub connections: usize,
    /// A statement that takes longer is given up.
    pub statement_timeout: Duration,
}

/// A connection of the pool, for reading and for small writes.
pub(super) type Reader = Object<Readers>;

/// What makes the pool's connections.
pub(super) struct Readers {
    hosts: Arc<Hosts>,
    guard: Arc<Guard>,
    limit: Duration,
}

impl Manager for Readers {
    type Type = Session;
    type Error = StoreError;

    async fn create(&self) -> Result<Session, StoreError> {
        let opened = self.hosts.open().await.map_err(NotOpened::in_flight)?;
        let session = Session::new(opened.client, opened.serving, opened.used, self.limit);
        self.guard.admit(&session).await?;
        Ok(session)
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<StoreError> {
        match session.is_fit() {
            true => Ok(()),
            false => Err(RecycleError::message("it is closed, or owes an answer")),
        }
    }
}

/// How to reach the database.
pub(super) struct Database {
    hosts: Arc<Hosts>,
    /// Every session passes it.
    pub(super) guard: Arc<Guard>,
    pool: Pool<Readers>,
    limit: Duration,
    /// The server on which this replica's writer has committed.
    settled: Mutex<Serving>,
    /// The writer is to take another line: what it knows of the server is old.
    is_line_old: AtomicBool,
    pub(super) small: SmallWrites,
}

impl Database {
    /// For a hub.
    pub(super) fn new(settings: &Settings) -> Result<Self, StoreError> {
        Self::called(settings, None, PLANNING)
    }

    /// For an adapter, which is called so at the server.
    pub(super) fn for_adapter(settings: &Settings, name: &str) -> Result<Self, StoreError> {
        Self::called(settings, Some(name), PLANNING)
    }

    /// For an operator's command, which the server can tell from a hub.
    pub(super) fn for_operator(settings: &Settings) -> Result<Self, StoreError> {
        Self::called(settings, Some("jembatan operator"), "")
    }

    fn called(settings: &Settings, name: Option<&str>, planning: &str) -> Result<Self, StoreError> {
        let mut config: Config = settings.url.parse().map_err(|error| {
            StoreError::Invalid(format!(
                "[store] url can't be read: {}",
                describe_url(&error)
            ))
        })?;
        prepare(&mut config, settings, planning);
        if let Some(name) = name {
            config.application_name(name);
        }
        // `hostaddr` may stand without any `host`.
        let is_local = config.get_hostaddrs().is_empty()
            && config
                .get_hosts()
                .iter()
                .all(|host| !matches!(host, Host::Tcp(_)));
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            // A socket in the file system is guarded by the file system.
            _ if is_local => {
                config.ssl_mode(SslMode::Disable);
                None
            }
            // `prefer` would let anyone in between turn TLS off.
            _ => {
                config.ssl_mode(SslMode::Require);
                Some(Tls::new(settings)?)
            }
        };
        let hosts = Arc::new(Hosts::new(&config, tls, settings));
        let limit = settings.statement_timeout + GRACE;
        let guard = Arc::new(Guard::default());
        let readers = Readers {
            hosts: hosts.clone(),
            guard: guard.clone(),
            limit,
        };
        let pool = Pool::builder(readers)
            .max_size(settings.connections.max(1))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(READER_WITHIN),
                // Each host has a time of its own.
                create: Some(hosts.open_within() + GRACE),
                recycle: None,
            })
            .build()
            .map_err(|error| StoreError::Invalid(format!("the pool of connections: {error}")))?;
        Ok(Self {
            hosts,
            guard,
            pool,
            limit,
            settled: Mutex::default(),
            is_line_old: AtomicBool::new(false),
            small: SmallWrites::new(settings.connections),
        })
    }

    /// A connection for reading, as soon as one is free.
    pub(super) async fn reader(&self) -> Result<Reader, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => StoreError::Closed,
            PoolError::Timeout(_) => StoreError::Unavailable(format!(
                "all {} connections to PostgreSQL were in use",
                self.pool.status().max_size
            )),
            other => StoreError::Unavailable(other.to_string()),
        })
    }

    /// A connection for reading from a server that shows nothing which could still be
    /// lost; `prove` makes a commit durable there.
    pub(super) async fn settled_reader<'a>(
        &self,
        prove: impl Fn() -> BoxFuture<'a, Result<(), StoreError>>,
    ) -> Result<Reader, StoreError> {
        for is_again in [false, true] {
            let reader = self.reader().await?;
            if self.is_settled(&reader) {
                return Ok(reader);
            }
            if is_again {
                // Begun before what the writer's line sees, or after it: neither is of
                // any use.
                drop(Reader::take(reader));
                self.line_is_old();
            } else {
                drop(reader);
            }
            // A server that has begun since: nothing is read from it before a commit
            // there has been made durable.
            prove().await?;
        }
        let reader = self.reader().await?;
        if self.is_settled(&reader) {
            return Ok(reader);
        }
        drop(Reader::take(reader));
        Err(StoreError::Unavailable(
            "PostgreSQL has just begun again".to_owned(),
        ))
    }

    /// A line of its own.
    pub(super) async fn line(&self) -> Result<Line, NotOpened> {
        let opened = self.hosts.open().await?;
        let session = Session::new(opened.client, opened.serving, opened.used, self.limit);
        self.guard.admit(&session).await.map_err(NotOpened::Unfit)?;
        Ok(Line {
            session,
            is_doubtful: opened.is_doubtful,
            notifications: opened.notifications,
        })
    }

    /// A line whose statements and transactions may take as long as they like, but
    /// for as long only as somebody is there who waits for them.
    pub(super) async fn patient_line(&self) -> Result<Line, StoreError> {
        let mut line = self.line().await?;
        line.session.wait_for_ever();
        let patience = format!(
            "SET statement_timeout = 0; SET lock_timeout = 0; \
             SET idle_in_transaction_session_timeout = '{PATIENT_IDLE_S}s'; \
             SET idle_session_timeout = '{PATIENT_IDLE_S}s'"
        );
        let asked = line.session.batch_execute(&patience);
        line.session.within(asked).await?;
        // Without it a statement is carried out to its end though nobody waits.
        let looking = format!("SET client_connection_check_interval = '{LOOKED_AFTER_S}s'");
        let asked = line.session.batch_execute(&looking);
        match line.session.within(asked).await {
            // Not every system that a server runs on can tell.
            Err(error) if error.code().is_some() => {}
            outcome => outcome?,
        }
        Ok(line)
    }

    /// How long an answer may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// How long a line may take to come about.
    pub(super) fn line_within(&self) -> Duration {
        self.hosts.open_within()
    }

    /// The writer has committed at this server, as durably as it always does:
    /// whatever can be read there now is as safe.
    pub(super) fn settle(&self, serving: &Serving) {
        self.settled().clone_from(serving);
    }

    /// Whether what is read over this connection can't be lost with the server.
    /// One that has just recovered shows commits that its standby may not have.
    pub(super) fn is_settled(&self, session: &Session) -> bool {
        *self.settled() == *session.serving()
    }

    /// Sessions that begin now see another server than the writer's line does:
    /// that line is to be taken anew.
    pub(super) fn line_is_old(&self) {
        self.is_line_old.store(true, Ordering::SeqCst);
    }

    /// Whether the writer has to take another line, asked once.
    pub(super) fn takes_new_line(&self) -> bool {
        self.is_line_old.swap(false, Ordering::SeqCst)
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, Serving> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what readers hold; whoever waits is told.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// Whether the database can be reached by now, and makes commits durable; why not
/// is logged. However often it is asked, of those that ask one at most leaves
/// something at the server that waits.
///
/// # Errors
/// It will not pass by itself: a person has to act.
pub async fn is_reachable(settings: &Settings) -> Result<bool, StoreError> {
    let why = match Database::new(settings)?.line().await {
        Ok(line) => match is_answered(line.client()).await {
            Ok(true) if !line.is_doubtful() => return Ok(true),
            Ok(_) => NotOpened::Unfit(StoreError::Unavailable(
                "PostgreSQL does not make commits durable: a synchronous standby is away \
                 (pg_stat_replication, synchronous_standby_names)"
                    .to_owned(),
            )),
            Err(QueryError::Server(error)) => NotOpened::Server(error),
            Err(QueryError::Silent) => NotOpened::Unfit(QueryError::Silent.into()),
        },
        Err(why) => why,
    };
    if why.needs_a_person() {
        return Err(why.into());
    }
    let error = StoreError::from(why);
    tracing::warn!(event = "store_waited_for", %error, "this node waits for its database");
    Ok(false)
}

/// The password in a file, without the end of its line.
///
/// # Errors
/// [`StoreError::Invalid`]: the file can't be read.
pub fn read_password(path: &Path) -> Result<SecretString, StoreError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        StoreError::Invalid(format!(
            "the password file {} can't be read: {error}",
            path.display()
        ))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

/// What every session keeps, whatever the url says.
fn prepare(config: &mut Config, settings: &Settings, planning: &str) {
    let statement_ms = settings.statement_timeout.as_millis();
    let (silent_s, again_s) = (SILENT_FOR.as_secs(), ASKED_AGAIN.as_secs());
    // By itself a server asks after two hours whether a hub's machine is there, and
    // keeps its locks till then. Over a socket in the file system it asks nobody,
    // and a system that knows no such limit leaves it out.
    let gone_ms = (SILENT_FOR + ASKED_AGAIN * ASKED_TIMES).as_millis();
    let options = format!(
        "{} {planning} -c jit=off -c synchronous_commit={} -c statement_timeout={statement_ms} \
         -c lock_timeout={LOCK_TIMEOUT_MS} -c {MARK} \
         -c idle_in_transaction_session_timeout={IDLE_TIMEOUT_MS} \
         -c tcp_keepalives_idle={silent_s} -c tcp_keepalives_interval={again_s} \
         -c tcp_keepalives_count={ASKED_TIMES} -c tcp_user_timeout={gone_ms} \
         -c default_transaction_isolation=read\\ committed \
         -c client_min_messages=warning",
        config.get_options().unwrap_or_default(),
        settings.synchronous_commit.name(),
    );
    config.options(options.trim());
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config.tcp_user_timeout(SILENT_FOR);
    config.keepalives_idle(SILENT_FOR);
    config.keepalives_interval(ASKED_AGAIN);
    config.keepalives_retries(ASKED_TIMES);
    if config.get_application_name().is_none() {
        config.application_name("jembatan hub");
    }
}

/// Why a url can't be read, without the url: it holds a password.
fn describe_url(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A connection whose messages are listened to.
pub(super) struct Line {
    session: Session,
    is_doubtful: Arc<AtomicBool>,
    notifications: mpsc::UnboundedReceiver<Notification>,
}

impl Line {
    pub(super) fn client(&self) -> &Session {
        &self.session
    }

    /// For migrations, which want the client itself and take their time.
    pub(super) fn client_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Whether the server has warned since the line began. The one warning of
    /// a commit is that it may not have reached the standbys.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::SeqCst)
    }

    /// The next notification; `None`: the line has ended.
    pub(super) async fn heard(&mut self) -> Option<Notification> {
        self.notifications.recv().await
    }
}
