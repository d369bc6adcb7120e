//! One party's link: dial, run, wait, again; for ever. New certificates are
//! taken into use beside the running session, which ends only when the hub has
//! let the next one in.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    domain::{Micros, PartyId},
    exchange::{DrainReason, End, Retry, RetryCause},
    identity::{Material, TrustDomain},
    link::{
        Admitted, LinkAlarm, LinkEnd, LinkState, NodeLink, Phase, admit, run_admitted, run_node,
        serves,
    },
    runtime::{Clock, random_unit},
    store::AdapterStore,
    transport::{Dialed, LastWords},
};

use super::{
    end::{Next, of_dial, of_end},
    hubs::Hubs,
};

/// A session that lived for less did not renew anything: the hub lets us in
/// and throws us out, and to come back at once would be to hammer it.
const RENEWED_AFTER: Duration = Duration::from_secs(5);
/// Longest wait for the old session's last words; the hub waits for the new
/// one's first for three times as long.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long an alarm about another machine stands after the link is back: the
/// other one takes over again within 90 s, if it is still there.
const ALARM_SHOWN_MICROS: i64 = 900_000_000;

/// A party's link, and what it needs.
pub struct PartyLink {
    /// Whose.
    pub party: PartyId,
    /// Where it reads and writes.
    pub store: Arc<dyn AdapterStore>,
    /// The party's certificate; a newer one is taken into use.
    pub material: watch::Receiver<Arc<Material>>,
    /// Whose names count.
    pub trust_domain: TrustDomain,
    /// Where the hub is.
    pub hubs: Hubs,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
    /// What it tells of itself.
    pub state: Arc<watch::Sender<LinkState>>,
    /// Made at the start of this process.
    pub incarnation: [u8; 16],
    /// The connection of the session that runs, for whoever renews over it.
    pub channel: watch::Sender<Option<Channel>>,
}

/// A session that runs.
struct Running {
    session: Pin<Box<dyn Future<Output = LinkEnd> + Send>>,
    last_words: LastWords,
    tell: watch::Sender<Option<DrainReason>>,
    is_told: bool,
    /// When the first of both certificates ends.
    ends_at: Instant,
    /// When the link goes back to its own address; `None`: it is there.
    returns_at: Option<Instant>,
    /// When it began.
    since: Micros,
    /// It is at the link's own address, to which it went back.
    is_home_again: bool,
}

impl Running {
    fn tell(&mut self, reason: DrainReason) {
        self.is_told = true;
        self.tell.send_replace(Some(reason));
    }
}

/// Why a second connection is made beside a running session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There are new certificates.
    Certificates,
    /// The link had to move, and tries its own address again.
    Home,
}

/// A second connection, on which the hub has let us in.
struct Renewed {
    why: Why,
    material: Arc<Material>,
    /// They know where it is.
    hubs: Hubs,
    dialed: Dialed,
    admitted: Admitted,
}

type Renewal = BoxFuture<'static, Result<Renewed, (Why, Next)>>;

impl PartyLink {
    /// Runs until `stop`; then the session is drained first.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retry = Retry::new();
        loop {
            let began = Instant::now();
            let next = self.once(&stop).await;
            if stop.is_cancelled() {
                self.enter(Phase::Disconnected {
                    why: "this node is stopping".to_owned(),
                });
                return;
            }
            let lived = began.elapsed();
            let Some(next) = next else {
                continue;
            };
            let cause = match next.cause {
                RetryCause::Renew if lived < RENEWED_AFTER => RetryCause::Lost,
                cause => cause,
            };
            self.show(next);
            let wait = retry.delay(cause, lived, random_unit());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                // New certificates may be what was missing; but whoever lost
                // against another machine waits, whatever he has.
                _ = self.material.changed(), if cause != RetryCause::Fenced => {}
            }
        }
    }

    /// Dials and runs sessions until one ends without a successor; `None`:
    /// again at once.
    async fn once(&mut self, stop: &CancellationToken) -> Option<Next> {
        let material = self.material.borrow_and_update().clone();
        if matches!(self.state.borrow().phase, Phase::NeverConnected) {
            self.enter(Phase::Connecting);
        }
        let dialed = tokio::select! {
            () = stop.cancelled() => return None,
            dialed = self.hubs.dial(&material, &self.trust_domain) => dialed,
        };
        let dialed = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return Some(of_dial(&self.party, error)),
        };
        let mut running = self.start(&material, dialed, None);
        let mut newest = self.material.clone();
        let mut renewal: Option<Renewal> = None;
        let mut retry = Retry::new();
        loop {
            tokio::select! {
                end = &mut running.session => {
                    self.channel.send_replace(None);
                    self.learn(&running, &end);
                    return of_end(&self.party, end, &running.last_words);
                }
                () = stop.cancelled(), if !running.is_told => running.tell(DrainReason::Stopping),
                () = tokio::time::sleep_until(running.ends_at), if !running.is_told => {
                    running.tell(DrainReason::CertificateExpires);
                }
                Ok(()) = newest.changed(), if !running.is_told => {
                    self.material.mark_unchanged();
                    self.settle(&running);
                    renewal = Some(self.renewal(newest.borrow_and_update().clone(), Duration::ZERO));
                }
                () = at(running.returns_at), if renewal.is_none() && !running.is_told => {
                    running.returns_at = None;
                    renewal = Some(self.going_home(newest.borrow().clone()));
                }
                renewed = wait_for(&mut renewal), if renewal.is_some() && !running.is_told => {
                    renewal = None;
                    match renewed {
                        Ok(renewed) => running = self.replace(running, renewed).await,
                        Err((Why::Home, next)) => {
                            tracing::debug!(event = "link_stays", party = %self.party, why = next.why());
                            running.returns_at = self.returns_at();
                        }
                        Err((Why::Certificates, next)) => {
                            let wait = retry.delay(next.cause, Duration::ZERO, random_unit());
                            self.not_renewed(next);
                            renewal = Some(self.renewal(newest.borrow().clone(), wait));
                        }
                    }
                }
            }
        }
    }

    fn start(&self, material: &Material, dialed: Dialed, admitted: Option<Admitted>) -> Running {
        let now = Micros(self.clock.now_micros());
        let own_ends = material.identity().not_after;
        self.state.send_modify(|state| {
            state.peer_certificate_expires_at = Some(dialed.hub.not_after);
        });
        self.channel.send_replace(Some(dialed.channel.clone()));
        let (tell, told) = watch::channel(None);
        let link = NodeLink {
            party: self.party.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            stop: told,
            state: self.state.clone(),
            certificate_expires_at: Some(own_ends),
            incarnation: Some(self.incarnation),
        };
        let ends = own_ends.min(dialed.hub.not_after);
        let left = Duration::from_micros((ends.0 - now.0).max(0).unsigned_abs());
        let session: Pin<Box<dyn Future<Output = LinkEnd> + Send>> = match admitted {
            Some(admitted) => Box::pin(run_admitted(link, admitted)),
            None => Box::pin(run_node(link, dialed.channel)),
        };
        Running {
            session,
            last_words: dialed.last_words,
            tell,
            is_told: false,
            ends_at: Instant::now() + left,
            returns_at: self.returns_at(),
            since: now,
            is_home_again: false,
        }
    }

    /// When a link that begins, or stays, goes back to its own address.
    fn returns_at(&self) -> Option<Instant> {
        self.hubs.stays().map(|stays| Instant::now() + stays)
    }

    /// Whether a session has got as far as hearing its hub.
    fn has_opened(&self, session: &Running) -> bool {
        let heard = self.state.borrow().last_heard;
        heard.is_some_and(|heard| heard >= session.since)
    }

    /// A link that went home is there once its session has opened; before that
    /// the next one is tried where the last one ran.
    fn settle(&mut self, running: &Running) {
        if running.is_home_again && self.has_opened(running) {
            self.hubs.is_home();
        }
    }

    /// How it went at this address decides where the next session is tried.
    fn learn(&mut self, ended: &Running, end: &LinkEnd) {
        self.settle(ended);
        let has_opened = self.has_opened(ended);
        // In the hub's own words; a line that breaks says nothing of the hub, and
        // an opening that brings the journals in line has served.
        let has_failed = match end {
            LinkEnd::Status(status) if !status.details().is_empty() => match status.code() {
                // No store, or no room.
                tonic::Code::Unavailable | tonic::Code::ResourceExhausted => true,
                // A hub that is cut off from its database knows no newer party.
                tonic::Code::PermissionDenied => !has_opened,
                _ => false,
            },
            // Its machine may stand still and still take connections: whoever asks
            // it first waits for an answer that does not come.
            LinkEnd::Session(End::Silent) => true,
            LinkEnd::Status(_) | LinkEnd::Closed | LinkEnd::Broken(_) => !has_opened,
            _ => false,
        };
        if ended.is_home_again && has_failed {
            self.hubs.return_failed();
        }
        if has_opened || !ended.is_home_again {
            self.hubs.served(!has_failed);
        }
    }

    /// A new connection with new certificates, up to where the hub has let it
    /// in; the session that runs is not touched.
    fn renewal(&self, material: Arc<Material>, wait: Duration) -> Renewal {
        let beside = self.beside(Why::Certificates, self.hubs.clone(), material);
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            beside.await
        })
    }

    /// A connection to the link's own address, beside the session that runs
    /// elsewhere.
    fn going_home(&self, material: Arc<Material>) -> Renewal {
        self.beside(Why::Home, self.hubs.only_home(), material)
    }

    fn beside(&self, why: Why, mut hubs: Hubs, material: Arc<Material>) -> Renewal {
        let party = self.party.clone();
        let trust_domain = self.trust_domain.clone();
        Box::pin(async move {
            let dialed = hubs.dial(&material, &trust_domain).await;
            let dialed = dialed.map_err(|error| match why {
                Why::Certificates => (why, of_dial(&party, error)),
                Why::Home => (why, Next::lost(&error.why)),
            })?;
            let admitted = async {
                // What runs elsewhere is not given up for a hub that can't serve.
                if why == Why::Home {
                    serves(dialed.channel.clone()).await?;
                }
                admit(dialed.channel.clone()).await
            };
            match admitted.await {
                Ok(admitted) => Ok(Renewed {
                    why,
                    material,
                    hubs,
                    dialed,
                    admitted,
                }),
                Err(end) => {
                    let next = of_end(&party, end, &dialed.last_words);
                    Err((why, next.unwrap_or_else(|| Next::lost("it ended"))))
                }
            }
        })
    }

    /// The old session says its last words, then the new one opens: a round
    /// trip, and no door notices.
    async fn replace(&mut self, mut old: Running, renewed: Renewed) -> Running {
        let Renewed {
            why,
            material,
            hubs,
            dialed,
            admitted,
        } = renewed;
        old.tell(DrainReason::Reloaded);
        let _ = timeout(LAST_WORDS, &mut old.session).await;
        drop(old);
        if why == Why::Home {
            tracing::info!(event = "link_returned", party = %self.party, "the link is at its own hub again");
            // Until a session has run there, the next one is tried where this
            // one ran.
            return Running {
                returns_at: None,
                is_home_again: true,
                ..self.start(&material, dialed, Some(admitted))
            };
        }
        self.hubs.moved(&hubs);
        tracing::info!(
            event = "link_renewed",
            party = %self.party,
            serial = %material.identity().serial,
            "the link goes on with new certificates"
        );
        self.state.send_modify(|state| {
            let is_ours = |alarm: &LinkAlarm| alarm.reason == NOT_RENEWED;
            if state.alarm.as_ref().is_some_and(is_ours) {
                state.alarm = None;
            }
        });
        self.start(&material, dialed, Some(admitted))
    }

    fn not_renewed(&self, next: Next) {
        let why = format!(
            "new certificates are there, but the hub can't be reached with them; the session with the old ones goes on until those end. {}",
            next.why()
        );
        tracing::error!(event = "link_not_renewed", reason = NOT_RENEWED, party = %self.party, why);
        self.state.send_modify(|state| {
            state.alarm = Some(LinkAlarm {
                reason: NOT_RENEWED.to_owned(),
                why,
                until: None,
            });
        });
    }

    fn show(&self, next: Next) {
        let now = Micros(self.clock.now_micros());
        self.state.send_modify(|state| {
            // Of the session that is over; a new attempt says what is true now.
            state.alarm = state.alarm.take().filter(|alarm| alarm.until.is_some());
            if let (RetryCause::Fenced, Phase::Refused { reason, why }) = (next.cause, &next.phase)
            {
                state.alarm = Some(LinkAlarm {
                    reason: reason.clone(),
                    why: why.clone(),
                    until: Some(Micros(now.0 + ALARM_SHOWN_MICROS)),
                });
            }
            state.enter(next.phase, now);
        });
    }

    fn enter(&self, phase: Phase) {
        let now = Micros(self.clock.now_micros());
        self.state.send_modify(|state| state.enter(phase, now));
    }
}

/// New certificates that the link does not use yet.
const NOT_RENEWED: &str = "NOT_RENEWED";

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn wait_for(renewal: &mut Option<Renewal>) -> Result<Renewed, (Why, Next)> {
    match renewal {
        Some(renewal) => renewal.await,
        None => std::future::pending().await,
    }
}
