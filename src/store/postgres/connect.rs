//! Connections: how the server is found, and what every session keeps.
//!
//! Readers come from a pool; writer and listener have a line each, and a write
//! that must not be forgotten has one while it lasts ([`super::durable`]). Lines
//! are listened to: a commit that the server warns of counts as one whose outcome
//! is unknown.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
    Timeouts,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio_postgres::{
    AsyncMessage, Config, Connection, NoTls, Notification, Row, Socket,
    config::{Host, SslMode, TargetSessionAttrs},
    error::Severity,
    tls::TlsStream,
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

use super::tls;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a caller waits for a reader's connection.
const READER_WITHIN: Duration = Duration::from_secs(10);
/// How long a batch waits for locks before it is decided anew.
const LOCK_TIMEOUT_MS: u32 = 5_000;
/// Unanswered bytes end a line after this time.
const SILENT_FOR: Duration = Duration::from_secs(10);

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
    /// The user's password, if the server asks for one.
    pub password: Option<SecretString>,
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
pub(super) type Reader = Object;

/// How to reach the database.
pub(super) struct Database {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    pool: Pool,
    synchronous_commit: SynchronousCommit,
    pub(super) statement_timeout: Duration,
    /// Whose turn it is for a line of [`Database::execute_durably`].
    pub(super) durable: tokio::sync::Mutex<()>,
}

impl Database {
    pub(super) fn new(settings: &Settings) -> Result<Self, StoreError> {
        let mut config: Config = settings.url.parse().map_err(|error| {
            StoreError::Invalid(format!(
                "[store] url can't be read: {}",
                describe_url(&error)
            ))
        })?;
        prepare(&mut config, settings);
        let is_local = config
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
                Some(tls::connector(settings)?)
            }
        };
        let how = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &tls {
            Some(tls) => Manager::from_config(config.clone(), tls.clone(), how),
            None => Manager::from_config(config.clone(), NoTls, how),
        };
        let pool = Pool::builder(manager)
            .max_size(settings.connections.max(1))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(READER_WITHIN),
                create: Some(READER_WITHIN),
                recycle: Some(READER_WITHIN),
            })
            .build()
            .map_err(|error| StoreError::Invalid(format!("the pool of connections: {error}")))?;
        Ok(Self {
            config,
            tls,
            pool,
            synchronous_commit: settings.synchronous_commit,
            statement_timeout: settings.statement_timeout,
            durable: tokio::sync::Mutex::default(),
        })
    }

    /// A connection for reading, as soon as one is free.
    pub(super) async fn reader(&self) -> Result<Reader, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Closed => StoreError::Closed,
            PoolError::Timeout(_) => StoreError::Unavailable(format!(
                "all {} connections to PostgreSQL were in use, or no new one came about",
                self.pool.status().max_size
            )),
            other => StoreError::Unavailable(other.to_string()),
        })
    }

    /// A line of its own, with its session checked.
    pub(super) async fn line(&self) -> Result<Line, StoreError> {
        let opening = async {
            let line = match &self.tls {
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    Line::new(client, connection)
                }
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    Line::new(client, connection)
                }
            };
            self.check_session(line.client()).await?;
            Ok(line)
        };
        let waits = CONNECT_WITHIN * self.config.get_hosts().len().max(1) as u32 * 2;
        tokio::time::timeout(waits, opening)
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::Unavailable(
                    "PostgreSQL did not answer in time".to_owned(),
                ))
            })
    }

    /// Whoever says "stored" must be able to keep the word.
    async fn check_session(&self, client: &ClientWrapper) -> Result<(), StoreError> {
        let row = one(
            client,
            "SELECT current_setting('synchronous_commit'), current_setting('fsync')",
            &[],
        )
        .await?;
        let commit: String = row.try_get(0)?;
        let fsync: String = row.try_get(1)?;
        let wanted = self.synchronous_commit.name();
        if commit != wanted {
            return Err(StoreError::Invalid(format!(
                "the server keeps synchronous_commit={commit}, not {wanted}: a connection pooler \
                 may drop session settings; connect to the server itself"
            )));
        }
        if fsync != "on" {
            return Err(StoreError::Invalid(
                "the server runs with fsync=off: what it calls stored is not on its disk; turn \
                 fsync on"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Closes what readers hold; whoever waits is told.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// What every session keeps, whatever the url says.
fn prepare(config: &mut Config, settings: &Settings) {
    let statement_ms = settings.statement_timeout.as_millis();
    let options = format!(
        "{} -c synchronous_commit={} -c statement_timeout={statement_ms} \
         -c lock_timeout={LOCK_TIMEOUT_MS} -c default_transaction_isolation=read\\ committed \
         -c client_min_messages=warning",
        config.get_options().unwrap_or_default(),
        settings.synchronous_commit.name(),
    );
    config.options(options.trim());
    if let Some(password) = &settings.password {
        config.password(password.expose_secret());
    }
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_WITHIN);
    }
    config.tcp_user_timeout(SILENT_FOR);
    config.keepalives_idle(SILENT_FOR);
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
    client: ClientWrapper,
    is_doubtful: Arc<AtomicBool>,
    notifications: mpsc::UnboundedReceiver<Notification>,
}

impl Line {
    fn new<T>(client: tokio_postgres::Client, connection: Connection<Socket, T>) -> Self
    where
        T: TlsStream + Send + Unpin + 'static,
    {
        let is_doubtful = Arc::new(AtomicBool::new(false));
        // Bounded by what the server coalesces between two looks of ours.
        let (heard, notifications) = mpsc::unbounded_channel();
        let task = tokio::spawn(drive(connection, is_doubtful.clone(), heard));
        Self {
            client: ClientWrapper::new(client, task),
            is_doubtful,
            notifications,
        }
    }

    pub(super) fn client(&self) -> &ClientWrapper {
        &self.client
    }

    /// For migrations, which want the client itself.
    pub(super) fn client_mut(&mut self) -> &mut tokio_postgres::Client {
        &mut self.client
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

async fn drive<T>(
    mut connection: Connection<Socket, T>,
    is_doubtful: Arc<AtomicBool>,
    heard: mpsc::UnboundedSender<Notification>,
) where
    T: TlsStream + Unpin,
{
    while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                if notice.parsed_severity() == Some(Severity::Warning) {
                    is_doubtful.store(true, Ordering::SeqCst);
                    tracing::warn!(
                        event = "postgres_warns",
                        code = notice.code().code(),
                        "{}",
                        notice.message()
                    );
                }
            }
            Ok(AsyncMessage::Notification(notification)) => {
                let _ = heard.send(notification);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(event = "postgres_line_ended", %error);
                return;
            }
        }
    }
}

/// The rows of a statement, which is prepared once per connection.
pub(super) async fn rows(
    client: &ClientWrapper,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, values).await
}

/// The row of a statement that has one or none.
pub(super) async fn maybe(
    client: &ClientWrapper,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query_opt(&statement, values).await
}

/// The row of a statement that always has one.
pub(super) async fn one(
    client: &ClientWrapper,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Row, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query_one(&statement, values).await
}

/// Carries a statement out.
pub(super) async fn execute(
    client: &ClientWrapper,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, values).await
}
