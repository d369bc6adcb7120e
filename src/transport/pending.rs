//! Handshakes that are not done yet, by where they come from, and who may
//! compute. A peer that stalls in the middle of one costs a socket and some
//! memory until its time is over, and keeps nobody waiting: a place to compute
//! is held only while something is computed.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

/// A handshake that has gone on for longer than this may have to make room: two
/// round trips of a very slow line, and a queue of many that came at once.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// Of so many times what one address may have the oldest makes room in any case:
/// whoever opens connections faster than they can stall leaves places to others.
const CROWD: usize = 4;

/// Handshakes under way, and how many one address may have before those that
/// stall make room.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    most: usize,
    by_address: Arc<Mutex<HashMap<IpAddr, VecDeque<Waiting>>>>,
    next: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    began: Instant,
    cut: CancellationToken,
}

/// Takes its handshake out of the list when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    pending: Pending,
    address: IpAddr,
    number: u64,
    cut: CancellationToken,
}

impl Pending {
    /// Beyond `most` from one address, room is made.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            by_address: Arc::default(),
            next: Arc::default(),
        }
    }

    /// Begins one. If its address has too many, the oldest of them makes room
    /// if it has stalled: whoever is honest is done within a round trip or two,
    /// so a whole deployment behind one address comes in undisturbed, and does
    /// not wait for those who hold connections open. Beyond [`CROWD`] times as
    /// many it makes room at once.
    pub(super) fn begin(&self, address: IpAddr) -> Turn {
        let address = prefix(address);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cut = CancellationToken::new();
        let mut by_address = self.lock();
        let waiting = by_address.entry(address).or_default();
        let now = Instant::now();
        let has_stalled = |oldest: &Waiting| now - oldest.began >= STALLED_AFTER;
        let is_crowd = waiting.len() >= self.most.saturating_mul(CROWD);
        let may_stay = |oldest: &Waiting| !is_crowd && !has_stalled(oldest);
        if waiting.len() >= self.most
            && !waiting.front().is_some_and(may_stay)
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.cut.cancel();
        }
        waiting.push_back(Waiting {
            number,
            began: now,
            cut: cut.clone(),
        });
        Turn {
            pending: self.clone(),
            address,
            number,
            cut,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, VecDeque<Waiting>>> {
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Ends when a later handshake took this one's room.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut by_address = self.pending.lock();
        if let Some(waiting) = by_address.get_mut(&self.address) {
            waiting.retain(|other| other.number != self.number);
            if waiting.is_empty() {
                by_address.remove(&self.address);
            }
        }
    }
}

/// One subscriber of IPv6 has a /64 of addresses: they count as one.
pub(super) fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

/// Places for handshakes that compute: as many as leave half of the machine
/// to those who are inside.
pub(super) fn places() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Answers a hello whose bytes are all there, which is the costly step, in one
/// of the places; waits for the caller's next bytes in none. `None`: the
/// places are gone.
pub(super) async fn answered<F: Future>(places: &Semaphore, handshake: F) -> Option<F::Output> {
    let mut handshake = pin!(handshake);
    let place = places.acquire().await.ok()?;
    let first = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
    drop(place);
    match first {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => Some(handshake.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: an address begins one handshake more than it may have under
    /// way, and another one when the first has stalled; another address begins
    /// one as well; then all are over.
    /// Guarantee: a crowd that comes at once stays whole; of those that stalled
    /// the oldest of this address is cut, nobody else is, and nothing is
    /// remembered of those who are gone.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_stalls_makes_room() {
        let pending = Pending::new(2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = pending.begin(address("2001:db8::1"));
        let second = pending.begin(address("2001:db8::2"));
        let third = pending.begin(address("2001:db8::3"));
        assert!(!first.cut.is_cancelled());
        tokio::time::advance(STALLED_AFTER).await;
        let other = pending.begin(address("2001:db8:0:1::1"));
        assert!(!first.cut.is_cancelled());
        let fourth = pending.begin(address("2001:db8::4"));
        assert!(first.cut.is_cancelled());
        for turn in [&second, &third, &other, &fourth] {
            assert!(!turn.cut.is_cancelled());
        }
        drop((first, second, third, other, fourth));
        assert!(pending.lock().is_empty());
    }

    /// Scenario: an address begins handshakes faster than they can stall; then
    /// another address begins one.
    /// Guarantee: it never has more than four times its due under way, the
    /// newest; the other one is not touched.
    #[tokio::test(start_paused = true)]
    async fn a_flood_stays_within_its_own_places() {
        let pending = Pending::new(2);
        let flood: Vec<Turn> = (0..100)
            .map(|_| pending.begin("192.0.2.1".parse().unwrap()))
            .collect();
        let other = pending.begin("192.0.2.2".parse().unwrap());
        let cut = flood.iter().filter(|turn| turn.cut.is_cancelled()).count();
        assert_eq!(cut, flood.len() - 2 * CROWD);
        assert!(flood[..cut].iter().all(|turn| turn.cut.is_cancelled()));
        assert!(!other.cut.is_cancelled());
    }

    /// Scenario: a handshake is answered in the only place and its caller
    /// stalls; another one comes.
    /// Guarantee: it is answered meanwhile.
    #[tokio::test]
    async fn whoever_stalls_holds_no_place() {
        let places = Semaphore::new(1);
        let stalled = answered(&places, std::future::pending::<()>());
        let honest = answered(&places, async { 7 });
        tokio::select! {
            biased;
            _ = stalled => unreachable!("it never ends"),
            found = honest => assert_eq!(found, Some(7)),
        }
    }
}
