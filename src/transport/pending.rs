//! Handshakes that are not done yet, by where they come from, and who may
//! compute. A peer that stalls in the middle of one costs a socket and some
//! memory until its time is over, and keeps nobody waiting: a place to compute
//! is held only while something is computed.
//!
//! Three counts bound them: of one address, of one IPv6 site, and of all
//! together. Beyond a count one of those makes room, never somebody elsewhere.

use std::{
    collections::{BTreeMap, HashMap},
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

/// A handshake in which nothing has moved for longer than this may have to make
/// room: two round trips of a very slow line, and a queue of many that came at
/// once.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// Of so many times what one address may have, one makes room in any case:
/// whoever opens connections faster than they can stall leaves places to others.
const CROWD: usize = 4;
/// An IPv6 site has 65,536 networks, each of which counts as an address: so many
/// times what one of those may have is as much as the site may.
const SITE: usize = 2;

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    /// One address, or one IPv6 network (/64).
    Address(IpAddr),
    /// One IPv6 site (/48).
    Site(IpAddr),
    /// All.
    Everybody,
}

/// Handshakes under way, and how many may be before one of them makes room.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    most: usize,
    most_together: usize,
    list: Arc<Mutex<List>>,
}

#[derive(Debug, Default)]
struct List {
    /// The number of the next step of any handshake: what moved last has the
    /// highest.
    next: u64,
    groups: HashMap<Group, Steps>,
    waiting: HashMap<u64, Waiting>,
}

/// The handshakes of a group by their last step, the oldest first.
#[derive(Debug, Default)]
struct Steps {
    /// Nothing was heard of them but that they connected.
    silent: BTreeMap<u64, Instant>,
    /// They have said hello.
    greeted: BTreeMap<u64, Instant>,
}

#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    has_greeted: bool,
    cut: CancellationToken,
}

/// Takes its handshake out of the list when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    pending: Pending,
    /// The number of its last step.
    step: AtomicU64,
    cut: CancellationToken,
}

impl Pending {
    /// Beyond `most` from one address, or `most_together` from all of them, room
    /// is made.
    pub(super) fn new(most: usize, most_together: usize) -> Self {
        Self {
            most: most.max(1),
            most_together: most_together.max(1),
            list: Arc::default(),
        }
    }

    /// Begins one. If its address has too many, one of them makes room if it has
    /// stalled: whoever is honest is done within a round trip or two, so a whole
    /// deployment behind one address comes in undisturbed, and does not wait for
    /// those who hold connections open. Beyond [`CROWD`] times as many, or the
    /// bound of all together, one makes room at once.
    pub(super) fn begin(&self, address: IpAddr) -> Turn {
        let cut = CancellationToken::new();
        let mut list = self.lock();
        for group in groups(address) {
            let (gently, at_once) = match group {
                Group::Address(_) => (self.most, self.most.saturating_mul(CROWD)),
                Group::Site(_) => (
                    self.most.saturating_mul(SITE),
                    self.most.saturating_mul(CROWD),
                ),
                Group::Everybody => (self.most_together, self.most_together),
            };
            list.make_room(group, gently, at_once);
        }
        let step = list.add(Waiting {
            address,
            has_greeted: false,
            cut: cut.clone(),
        });
        Turn {
            pending: self.clone(),
            step: step.into(),
            cut,
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn add(&mut self, waiting: Waiting) -> u64 {
        let step = self.next;
        self.next += 1;
        for group in groups(waiting.address) {
            let steps = self.groups.entry(group).or_default();
            let kind = match waiting.has_greeted {
                true => &mut steps.greeted,
                false => &mut steps.silent,
            };
            kind.insert(step, Instant::now());
        }
        self.waiting.insert(step, waiting);
        step
    }

    fn remove(&mut self, step: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&step)?;
        for group in groups(waiting.address) {
            let Some(steps) = self.groups.get_mut(&group) else {
                continue;
            };
            steps.silent.remove(&step);
            steps.greeted.remove(&step);
            if steps.count() == 0 {
                self.groups.remove(&group);
            }
        }
        Some(waiting)
    }

    fn make_room(&mut self, group: Group, gently: usize, at_once: usize) {
        let Some(steps) = self.groups.get(&group) else {
            return;
        };
        let found = match steps.count() {
            count if count >= at_once => steps.first_to_go(Duration::ZERO),
            count if count >= gently => steps.first_to_go(STALLED_AFTER),
            _ => None,
        };
        if let Some(waiting) = found.and_then(|step| self.remove(step)) {
            waiting.cut.cancel();
        }
    }
}

impl Steps {
    fn count(&self) -> usize {
        self.silent.len() + self.greeted.len()
    }

    /// Of the kind of which there are more the one that has not moved for
    /// longest; if it has moved within this time, of the other kind. So those who
    /// only connect push out nobody who has got further, and those who say hello
    /// and stall push out nobody who has just connected.
    fn first_to_go(&self, unmoved_for: Duration) -> Option<u64> {
        let now = Instant::now();
        let kinds = match self.silent.len() >= self.greeted.len() {
            true => [&self.silent, &self.greeted],
            false => [&self.greeted, &self.silent],
        };
        kinds.into_iter().find_map(|kind| {
            let (step, moved) = kind.first_key_value()?;
            (now - *moved >= unmoved_for).then_some(*step)
        })
    }
}

impl Turn {
    /// Ends when a later handshake took this one's room.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// It has said hello, or was answered: it has not stalled.
    pub(super) fn moved(&self) {
        let mut list = self.pending.lock();
        if let Some(waiting) = list.remove(self.step.load(Ordering::Relaxed)) {
            let step = list.add(Waiting {
                has_greeted: true,
                ..waiting
            });
            self.step.store(step, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pending.lock().remove(*self.step.get_mut());
    }
}

fn groups(address: IpAddr) -> impl Iterator<Item = Group> {
    let site = match address.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let site = u128::from(address) >> 80 << 80;
            Some(Group::Site(IpAddr::V6(site.into())))
        }
    };
    let own = Group::Address(prefix(address));
    [Some(own), site, Some(Group::Everybody)]
        .into_iter()
        .flatten()
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
/// of the places, and says so; waits for the caller's next bytes in none.
/// `None`: the places are gone.
pub(super) async fn answered<F: Future>(
    places: &Semaphore,
    is_answered: impl FnOnce(),
    handshake: F,
) -> Option<F::Output> {
    let mut handshake = pin!(handshake);
    let place = places.acquire().await.ok()?;
    let first = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
    drop(place);
    is_answered();
    match first {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => Some(handshake.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_cut(turn: &Turn) -> bool {
        turn.cut.is_cancelled()
    }

    /// Scenario: an address begins one handshake more than it may have under
    /// way, and another one when the first has stalled; another address begins
    /// one as well; then all are over.
    /// Guarantee: a crowd that comes at once stays whole; of those that stalled
    /// the oldest of this address is cut, nobody else is, and nothing is
    /// remembered of those who are gone.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_stalls_makes_room() {
        let pending = Pending::new(2, 100);
        let first = pending.begin(of("2001:db8::1"));
        let second = pending.begin(of("2001:db8::2"));
        let third = pending.begin(of("2001:db8::3"));
        assert!(!is_cut(&first));
        tokio::time::advance(STALLED_AFTER).await;
        let other = pending.begin(of("2001:db8:0:1::1"));
        assert!(!is_cut(&first));
        let fourth = pending.begin(of("2001:db8::4"));
        assert!(is_cut(&first));
        for turn in [&second, &third, &other, &fourth] {
            assert!(!is_cut(turn));
        }
        drop((first, second, third, other, fourth));
        let list = pending.lock();
        assert!(list.groups.is_empty() && list.waiting.is_empty());
    }

    /// Scenario: an address begins handshakes faster than they can stall; then
    /// another address begins one.
    /// Guarantee: it never has more than four times its due under way, the
    /// newest; the other one is not touched.
    #[tokio::test(start_paused = true)]
    async fn a_flood_stays_within_its_own_places() {
        let pending = Pending::new(2, 1_000);
        let flood: Vec<Turn> = (0..100).map(|_| pending.begin(of("192.0.2.1"))).collect();
        let other = pending.begin(of("192.0.2.2"));
        let cut = flood.iter().filter(|turn| is_cut(turn)).count();
        assert_eq!(cut, flood.len() - 2 * CROWD);
        assert!(flood[..cut].iter().all(is_cut));
        assert!(!is_cut(&other));
    }

    /// Scenario: each network of one IPv6 site begins one handshake; then an
    /// IPv4 address does.
    /// Guarantee: the site never has more under way than one address may.
    #[tokio::test(start_paused = true)]
    async fn a_site_is_no_more_than_an_address() {
        let pending = Pending::new(2, 1_000);
        let other = pending.begin(of("192.0.2.2"));
        let flood: Vec<Turn> = (0..100)
            .map(|n| pending.begin(of(&format!("2001:db8:7:{n:x}::1"))))
            .collect();
        let left = flood.iter().filter(|turn| !is_cut(turn)).count();
        assert_eq!(left, 2 * CROWD);
        assert!(!is_cut(&other));
    }

    /// Scenario: a handshake over a slow line has said hello; then more addresses
    /// than there are places for connect and say nothing, one each.
    /// Guarantee: all together have no more under way than they may; those who
    /// say nothing make room, and the slow one does not.
    #[tokio::test(start_paused = true)]
    async fn a_flood_from_everywhere_leaves_the_slow_alone() {
        const TOGETHER: usize = 50;
        let pending = Pending::new(10, TOGETHER);
        let slow = pending.begin(of("198.51.100.1"));
        slow.moved();
        tokio::time::advance(STALLED_AFTER * 2).await;
        let flood: Vec<Turn> = (0..500_u32)
            .map(|n| pending.begin(IpAddr::V4((0x0a00_0000 + n).into())))
            .collect();
        assert!(!is_cut(&slow));
        let left = flood.iter().filter(|turn| !is_cut(turn)).count();
        assert_eq!(left, TOGETHER - 1);
        assert_eq!(pending.lock().waiting.len(), TOGETHER);
        assert!(flood[500 - left..].iter().all(|turn| !is_cut(turn)));
    }

    /// Scenario: strangers say hello from everywhere and then stall, so that all
    /// places are theirs; then somebody connects, and more of them come.
    /// Guarantee: the strangers make room for each other; who has just connected
    /// is not cut for having said nothing yet.
    #[tokio::test(start_paused = true)]
    async fn those_who_greet_and_stall_cut_nobody_who_comes() {
        const TOGETHER: usize = 50;
        let pending = Pending::new(10, TOGETHER);
        let stranger = |n: u32| {
            let turn = pending.begin(IpAddr::V4((0x0a00_0000 + n).into()));
            turn.moved();
            turn
        };
        let _before: Vec<Turn> = (0..100).map(stranger).collect();
        let honest = pending.begin(of("198.51.100.1"));
        let _after: Vec<Turn> = (100..200).map(stranger).collect();
        assert!(!is_cut(&honest));
        assert_eq!(pending.lock().waiting.len(), TOGETHER);
    }

    /// Scenario: an address has as many handshakes as it may; the oldest of them
    /// was answered a moment ago, and another one has been silent for long. One
    /// more comes, and again.
    /// Guarantee: the silent one makes room, and then nobody: who moves has not
    /// stalled, however long ago it began.
    #[tokio::test(start_paused = true)]
    async fn who_moves_has_not_stalled() {
        let pending = Pending::new(2, 100);
        let slow = pending.begin(of("192.0.2.1"));
        let silent = pending.begin(of("192.0.2.1"));
        tokio::time::advance(STALLED_AFTER).await;
        slow.moved();
        let third = pending.begin(of("192.0.2.1"));
        assert!(is_cut(&silent) && !is_cut(&slow));
        let _fourth = pending.begin(of("192.0.2.1"));
        assert!(!is_cut(&slow) && !is_cut(&third));
    }

    /// Scenario: a handshake is answered in the only place and its caller
    /// stalls; another one comes.
    /// Guarantee: it is answered meanwhile.
    #[tokio::test]
    async fn whoever_stalls_holds_no_place() {
        let places = Semaphore::new(1);
        let stalled = answered(&places, || (), std::future::pending::<()>());
        let honest = answered(&places, || (), async { 7 });
        tokio::select! {
            biased;
            _ = stalled => unreachable!("it never ends"),
            found = honest => assert_eq!(found, Some(7)),
        }
    }
}
