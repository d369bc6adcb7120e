//! The hub's addresses. Each link has one of its own, drawn at the start, so
//! that a thousand nodes are spread over all of them. When that one does not
//! answer any other is taken, drawn anew each time: those who lose one hub must
//! not all move to the same one. A link that had to move goes home later.

use std::{sync::Arc, time::Duration};

use crate::{
    identity::{Material, TrustDomain},
    runtime::random_unit,
    transport::{DialError, DialOptions, Dialed, Network, dial_over},
};

/// After so long, and up to twice as long, a link that had to move tries its own
/// address again.
pub(super) const RETURN_AFTER: Duration = Duration::from_secs(120);
/// Each return that failed in a row doubles the stay before the next one, so
/// often at most: a session was given up for it.
const MOST_DOUBLINGS: u32 = 5;

/// Where the hub can be reached.
#[derive(Debug, Clone)]
pub struct Hubs {
    network: Arc<dyn Network>,
    addresses: Vec<DialOptions>,
    /// This link's own.
    home: usize,
    /// Which one answered last.
    turn: usize,
    /// It answers, but does not serve: the others go first.
    is_last: bool,
    return_after: Duration,
    /// Returns in a row that did not do.
    failed_returns: u32,
}

impl Hubs {
    /// These, over this network.
    pub fn new(network: Arc<dyn Network>, addresses: Vec<DialOptions>) -> Self {
        let home = draw(addresses.len());
        Self {
            network,
            addresses,
            home,
            turn: home,
            is_last: false,
            return_after: RETURN_AFTER,
            failed_returns: 0,
        }
    }

    /// Goes home after so long, and up to twice as long.
    pub fn returning_after(self, return_after: Duration) -> Self {
        Self {
            return_after,
            ..self
        }
    }

    /// How long a link that was just begun stays where it is; `None`: it is at
    /// home, or never goes back.
    pub(super) fn stays(&self) -> Option<Duration> {
        let stay = self.return_after * (1 << self.failed_returns.min(MOST_DOUBLINGS));
        (self.turn != self.home && !stay.is_zero()).then(|| stay.mul_f64(1.0 + random_unit()))
    }

    /// The same, but only its own address is known.
    pub(super) fn only_home(&self) -> Self {
        Self {
            addresses: self.addresses.get(self.home).cloned().into_iter().collect(),
            home: 0,
            turn: 0,
            is_last: false,
            ..self.clone()
        }
    }

    /// A session runs at the link's own address again.
    pub(super) fn is_home(&mut self) {
        self.turn = self.home;
        self.is_last = false;
    }

    /// A session at the link's own address did not do, and one elsewhere had been
    /// given up for it.
    pub(super) fn return_failed(&mut self) {
        self.failed_returns = self.failed_returns.saturating_add(1);
    }

    /// A session was taken over by one at the address at which this clone dialled
    /// last.
    pub(super) fn moved(&mut self, to: &Self) {
        self.turn = to.turn;
        self.is_last = false;
    }

    /// How the session at the address that answered last went: one that never
    /// opened, or whose hub said that it can't serve, may do at another one.
    pub(super) fn served(&mut self, has_served: bool) {
        self.is_last = !has_served;
        if has_served && self.turn == self.home {
            self.failed_returns = 0;
        }
    }

    /// In which order the addresses are tried in a round.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left: Vec<usize> = (0..self.addresses.len()).collect();
        let turn = (self.turn < left.len()).then(|| left.swap_remove(self.turn));
        let (first, last) = match self.is_last {
            true => (None, turn),
            false => (turn, None),
        };
        let drawn = std::iter::from_fn(move || {
            (!left.is_empty()).then(|| left.swap_remove(draw(left.len())))
        });
        first.into_iter().chain(drawn).chain(last)
    }

    /// Dials until one answers: the one that answered last, then the others; one
    /// that did not serve comes behind them. Each is tried once; the caller waits
    /// between rounds.
    ///
    /// # Errors
    /// None does: what needs a person goes first, then the last reason.
    pub(super) async fn dial(
        &mut self,
        material: &Material,
        trust_domain: &TrustDomain,
    ) -> Result<Dialed, DialError> {
        let mut worst: Option<DialError> = None;
        for turn in self.order() {
            match dial_over(
                &*self.network,
                &self.addresses[turn],
                material,
                trust_domain,
            )
            .await
            {
                Ok(dialed) => {
                    self.turn = turn;
                    self.is_last = false;
                    return Ok(dialed);
                }
                Err(error) => {
                    let is_worse = error.needs_a_person
                        || worst.as_ref().is_none_or(|worst| !worst.needs_a_person);
                    if is_worse {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.unwrap_or_else(|| DialError {
            reason: "HUB_UNREACHABLE",
            why: "no address of the hub is configured".to_owned(),
            needs_a_person: true,
        }))
    }
}

/// A number below this one.
fn draw(count: usize) -> usize {
    (random_unit() * count as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Tcp;

    fn hubs(count: usize) -> Hubs {
        let addresses = (0..count).map(|port| DialOptions {
            address: format!("127.0.0.1:{port}"),
            name: "127.0.0.1".to_owned(),
            proxy: None,
            connect_timeout: Duration::from_secs(1),
        });
        Hubs::new(Arc::new(Tcp), addresses.collect())
    }

    /// Scenario: rounds of dialling with one address and with three, after a
    /// session that ran and after one that the hub could not serve.
    /// Guarantee: each address is tried once; the one that answered last goes
    /// first if it served, and last if it did not.
    #[test]
    fn one_that_did_not_serve_comes_last() {
        for count in [1, 3] {
            let mut hubs = hubs(count);
            for has_served in [true, false] {
                for _ in 0..20 {
                    hubs.served(has_served);
                    let order: Vec<usize> = hubs.order().collect();
                    let mut sorted = order.clone();
                    sorted.sort_unstable();
                    assert_eq!(sorted, (0..count).collect::<Vec<_>>());
                    let turn = match has_served {
                        true => order.first(),
                        false => order.last(),
                    };
                    assert_eq!(turn, Some(&hubs.turn), "{order:?}");
                }
            }
        }
    }

    /// Scenario: a link had to move, and its returns fail one after the other,
    /// very often; then a session at home serves, and it has to move again.
    /// Guarantee: each failure doubles the stay, up to 32 times as long, and
    /// one that served begins anew.
    #[test]
    fn each_failed_return_doubles_the_stay() {
        let mut hubs = hubs(2);
        let elsewhere = 1 - hubs.home;
        hubs.turn = elsewhere;
        let is_about = |hubs: &Hubs, times: u32| {
            let stay = hubs.stays().unwrap();
            stay >= RETURN_AFTER * times && stay <= RETURN_AFTER * times * 2
        };
        for failures in 0..40 {
            assert!(is_about(&hubs, 1 << failures.min(5)), "{failures}");
            hubs.return_failed();
            hubs.served(true);
        }
        hubs.is_home();
        assert_eq!(hubs.stays(), None);
        hubs.served(true);
        hubs.turn = elsewhere;
        assert!(is_about(&hubs, 1));
    }

    /// Scenario: three thousand links of a nation begin, each with three hubs; then
    /// one hub is lost.
    /// Guarantee: each hub is the own one of a third of them, and those who lose
    /// theirs are spread over the two that are left.
    #[test]
    fn a_nation_is_spread_evenly() {
        const LINKS: usize = 3_000;
        let all: Vec<Hubs> = (0..LINKS).map(|_| hubs(3)).collect();
        for lost in 0..3 {
            let own = all.iter().filter(|hubs| hubs.home == lost);
            let count = own.clone().count();
            // Six standard deviations are 5 % of 3 000, and 10 % of 1 000.
            assert!((840..=1_140).contains(&count), "{lost}: {count}");
            let next = own.map(|hubs| {
                let order: Vec<usize> = hubs.order().collect();
                assert_eq!(order[0], lost, "its own comes first");
                order[1]
            });
            let to_one = next.filter(|next| *next == (lost + 1) % 3).count();
            let share = to_one * 100 / count;
            assert!((40..=60).contains(&share), "{lost}: {share} %");
        }
    }
}
