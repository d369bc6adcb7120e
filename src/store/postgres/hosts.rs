//! Which of several servers is used.
//!
//! Each host is tried for a time of its own, beginning with the one that was
//! used last: a machine that stands still takes connections and says nothing,
//! and must not keep anybody from the standby that has taken its place. When
//! another host is used, whatever is still open to the earlier one is given up.
//!
//! Invariant: a server whose history was overtaken (its timeline is older than
//! one that this program has seen) is not used, though it may take writes.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::ClientWrapper;
use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use tokio::{sync::mpsc, sync::watch, time::timeout};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, NoTls, Notification, SimpleQueryMessage,
    Socket, config::Host, error::Severity, tls::TlsStream,
};

use crate::store::StoreError;

use super::{
    connect::{Settings, SynchronousCommit, read_password},
    tls::Tls,
};

/// How long one host may take, from the first packet to a session that was
/// looked at.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long one address of a host may take to be connected: a name may have
/// several, and the first may be behind a line that says nothing.
const ADDRESS_WITHIN: Duration = Duration::from_secs(2);
/// A setting of no meaning but that the session has it: whoever stands in
/// between and drops settings drops this one.
pub(super) const MARK: &str = "jembatan.session=own";

const LOOK: &str = "SELECT current_setting('synchronous_commit'), current_setting('fsync'), \
     coalesce(current_setting('jembatan.session', true), ''), \
     (SELECT system_identifier FROM pg_control_system()), \
     ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint, \
     extract(epoch FROM pg_postmaster_start_time()) || ' ' \
         || coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())::text, '')";

/// A server, and since when it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Serving {
    /// Of the database cluster: its copies have the same.
    system: String,
    /// Grows with each promotion.
    timeline: u64,
    /// Of the server itself, and of its statistics, which it begins anew when it
    /// has lost a process and recovers without being started again.
    since: String,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NotOpened {
    /// The server says why, or it can't be reached.
    Server(Error),
    /// It takes connections and does not answer.
    Silent(String),
    /// It answers, and can't be used.
    Unfit(StoreError),
}

impl From<NotOpened> for StoreError {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Server(error) => error.into(),
            NotOpened::Silent(host) => Self::Unavailable(format!(
                "PostgreSQL at {host} does not answer within {} s",
                CONNECT_WITHIN.as_secs()
            )),
            NotOpened::Unfit(error) => error,
        }
    }
}

impl NotOpened {
    /// Whether it will not pass by itself.
    pub(super) fn needs_a_person(&self) -> bool {
        match self {
            Self::Server(error) => error.code().is_some_and(|code| {
                let code = code.code();
                // 0A: a function that this server does not offer.
                code.starts_with("28")
                    || code.starts_with("0A")
                    || code.starts_with("42")
                    || code == "3D000"
                    || code == "08P01"
            }),
            Self::Silent(_) => false,
            Self::Unfit(error) => matches!(error, StoreError::Invalid(_)),
        }
    }

    /// For whoever is at work: what a person has to put right is no fault of a
    /// caller, and passes when that is done.
    pub(super) fn in_flight(self) -> StoreError {
        match self.into() {
            StoreError::Invalid(why) => StoreError::Unavailable(why),
            error => error,
        }
    }

    /// What says more is kept: a server that speaks, before one that is away.
    fn or(self, other: Self) -> Self {
        let is_plain = |one: &Self| match one {
            Self::Server(error) => error.code().is_none(),
            Self::Silent(_) => true,
            Self::Unfit(_) => false,
        };
        if is_plain(&self) { other } else { self }
    }
}

/// A connection, and what is heard over it beside answers.
pub(super) struct Opened {
    pub(super) client: ClientWrapper,
    pub(super) serving: Serving,
    /// Which use of a server it belongs to.
    pub(super) used: (watch::Receiver<u64>, u64),
    pub(super) is_doubtful: Arc<AtomicBool>,
    pub(super) notifications: mpsc::UnboundedReceiver<Notification>,
}

/// Which host is used, and the newest history that was seen.
#[derive(Debug, Default)]
struct Chosen {
    host: Option<usize>,
    newest: Option<Serving>,
}

/// All hosts of the url.
pub(super) struct Hosts {
    each: Vec<(String, Config)>,
    tls: Option<Tls>,
    password_file: Option<PathBuf>,
    synchronous_commit: SynchronousCommit,
    chosen: Mutex<Chosen>,
    used: watch::Sender<u64>,
}

impl Hosts {
    pub(super) fn new(config: &Config, tls: Option<Tls>, settings: &Settings) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        Self {
            each: (0..count).map(|host| alone(config, host)).collect(),
            tls,
            password_file: settings.password_file.clone(),
            synchronous_commit: settings.synchronous_commit,
            chosen: Mutex::default(),
            used: watch::Sender::new(0),
        }
    }

    /// The longest that [`Hosts::open`] takes.
    pub(super) fn open_within(&self) -> Duration {
        CONNECT_WITHIN * (self.each.len().max(1) as u32)
    }

    /// A session at the first host that takes writes.
    ///
    /// # Errors
    /// What the hosts say, those first that say something.
    pub(super) async fn open(&self) -> Result<Opened, NotOpened> {
        let last = self.chosen().host;
        let Some(last) = last else {
            return self.first().await;
        };
        let mut why = None;
        for host in (last..self.each.len()).chain(0..last) {
            let opened = self.at(host).await;
            match opened.and_then(|opened| self.choose(host, opened)) {
                Ok(opened) => return Ok(opened),
                Err(error) => why = Some(or(why, error)),
            }
        }
        Err(why.unwrap_or_else(nowhere))
    }

    /// Nothing is known yet: of those that take writes the one with the newest
    /// history, since an old primary may have come back beside its successor.
    async fn first(&self) -> Result<Opened, NotOpened> {
        let tried = join_all((0..self.each.len()).map(|host| self.at(host))).await;
        let mut newest: Option<(usize, Opened)> = None;
        let mut why = None;
        for (host, tried) in tried.into_iter().enumerate() {
            match tried {
                Ok(opened) => {
                    let is_newer = newest
                        .as_ref()
                        .is_none_or(|(_, found)| opened.serving.timeline > found.serving.timeline);
                    if is_newer {
                        newest = Some((host, opened));
                    }
                }
                Err(error) => why = Some(or(why, error)),
            }
        }
        match newest {
            Some((host, opened)) => self.choose(host, opened),
            None => Err(why.unwrap_or_else(nowhere)),
        }
    }

    /// From now on this host is used, unless its history was overtaken.
    fn choose(&self, host: usize, mut opened: Opened) -> Result<Opened, NotOpened> {
        let mut chosen = self.chosen();
        if let Some(newest) = &chosen.newest
            && newest.system == opened.serving.system
            && newest.timeline > opened.serving.timeline
        {
            let name = &self.each[host].0;
            return Err(NotOpened::Unfit(StoreError::Unavailable(format!(
                "PostgreSQL at {name} takes writes, but another server was promoted since: \
                 stop it, and make it a standby of the new one"
            ))));
        }
        if chosen.host != Some(host) {
            if chosen.host.is_some() {
                tracing::warn!(event = "postgres_host_changed", host = %self.each[host].0);
            }
            self.used.send_modify(|used| *used += 1);
        }
        chosen.host = Some(host);
        chosen.newest = Some(opened.serving.clone());
        opened.used.1 = *self.used.borrow();
        Ok(opened)
    }

    /// A session at this host, which was looked at.
    async fn at(&self, host: usize) -> Result<Opened, NotOpened> {
        let (name, config) = &self.each[host];
        let mut config = Cow::Borrowed(config);
        if let Some(path) = &self.password_file {
            let password = read_password(path).map_err(NotOpened::Unfit)?;
            config.to_mut().password(password.expose_secret());
        }
        let opening = async {
            let (client, is_doubtful, notifications) = match &self.tls {
                Some(tls) => {
                    let connecting = config.connect(tls.connector());
                    driven(connecting.await.map_err(NotOpened::Server)?)
                }
                None => driven(config.connect(NoTls).await.map_err(NotOpened::Server)?),
            };
            let serving = look(&client, self.synchronous_commit).await?;
            Ok(Opened {
                client,
                serving,
                used: (self.used.subscribe(), 0),
                is_doubtful,
                notifications,
            })
        };
        let opened = timeout(CONNECT_WITHIN, opening).await;
        opened.unwrap_or_else(|_| Err(NotOpened::Silent(name.clone())))
    }

    fn chosen(&self) -> std::sync::MutexGuard<'_, Chosen> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn or(before: Option<NotOpened>, error: NotOpened) -> NotOpened {
    match before {
        Some(before) => before.or(error),
        None => error,
    }
}

fn nowhere() -> NotOpened {
    NotOpened::Unfit(StoreError::Invalid("[store] url names no host".to_owned()))
}

/// The settings of one host of several, and what it is called.
fn alone(config: &Config, host: usize) -> (String, Config) {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    let mut called = String::new();
    match config.get_hosts().get(host) {
        Some(Host::Tcp(name)) => {
            one.host(name);
            called.clone_from(name);
        }
        Some(Host::Unix(path)) => {
            one.host_path(path);
            called = path.display().to_string();
        }
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(host) {
        one.hostaddr(*address);
        if called.is_empty() {
            called = address.to_string();
        }
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(host).or_else(|| ports.first()) {
        one.port(*port);
        called = format!("{called}:{port}");
    }
    one.ssl_mode(config.get_ssl_mode());
    one.ssl_negotiation(config.get_ssl_negotiation());
    one.channel_binding(config.get_channel_binding());
    one.target_session_attrs(config.get_target_session_attrs());
    one.connect_timeout(ADDRESS_WITHIN);
    if let Some(limit) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    one.keepalives(config.get_keepalives());
    one.keepalives_idle(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    (called, one)
}

/// Whoever says "stored" must be able to keep the word.
async fn look(client: &Client, wanted: SynchronousCommit) -> Result<Serving, NotOpened> {
    let unfit = |why: String| NotOpened::Unfit(StoreError::Invalid(why));
    let said = client.simple_query(LOOK).await.map_err(NotOpened::Server)?;
    let row = said.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let found: Vec<&str> = (0..6)
        .filter_map(|column| row.and_then(|row| row.get(column)))
        .collect();
    let [commit, fsync, mark, system, timeline, since] = found[..] else {
        return Err(unfit("the server does not say who it is".to_owned()));
    };
    let wanted = wanted.name();
    if mark != MARK.rsplit('=').next().unwrap_or_default() || commit != wanted {
        return Err(unfit(format!(
            "the server keeps synchronous_commit={commit}, and not the settings of this session: a \
             connection pooler stands in between and drops them; connect to the server itself"
        )));
    }
    if fsync != "on" {
        return Err(unfit(
            "the server runs with fsync=off: what it calls stored is not on its disk; turn fsync on"
                .to_owned(),
        ));
    }
    Ok(Serving {
        system: system.to_owned(),
        timeline: timeline.parse().unwrap_or_default(),
        since: since.to_owned(),
    })
}

type Driven = (
    ClientWrapper,
    Arc<AtomicBool>,
    mpsc::UnboundedReceiver<Notification>,
);

/// A connection with the task that drives it.
fn driven<T>((client, connection): (Client, Connection<Socket, T>)) -> Driven
where
    T: TlsStream + Send + Unpin + 'static,
{
    let is_doubtful = Arc::new(AtomicBool::new(false));
    // Bounded by what the server coalesces between two looks of ours.
    let (heard, notifications) = mpsc::unbounded_channel();
    let task = tokio::spawn(drive(connection, is_doubtful.clone(), heard));
    (ClientWrapper::new(client, task), is_doubtful, notifications)
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
