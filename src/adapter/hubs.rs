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

/// Where the hub can be reached.
#[derive(Debug, Clone)]
pub struct Hubs {
    network: Arc<dyn Network>,
    addresses: Vec<DialOptions>,
    /// This link's own.
    home: usize,
    /// Which one answered last.
    turn: usize,
    return_after: Duration,
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
            return_after: RETURN_AFTER,
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
    /// home.
    pub(super) fn stays(&self) -> Option<Duration> {
        (self.turn != self.home).then(|| self.return_after.mul_f64(1.0 + random_unit()))
    }

    /// The same, but only its own address is known.
    pub(super) fn only_home(&self) -> Self {
        Self {
            addresses: self.addresses.get(self.home).cloned().into_iter().collect(),
            home: 0,
            turn: 0,
            ..self.clone()
        }
    }

    /// The link is at its own address again.
    pub(super) fn is_home(&mut self) {
        self.turn = self.home;
    }

    /// Dials until one answers: the one that answered last, then the others.
    /// Each is tried once; the caller waits between rounds.
    ///
    /// # Errors
    /// None does: what needs a person goes first, then the last reason.
    pub(super) async fn dial(
        &mut self,
        material: &Material,
        trust_domain: &TrustDomain,
    ) -> Result<Dialed, DialError> {
        let mut worst: Option<DialError> = None;
        let mut left: Vec<usize> = (0..self.addresses.len()).collect();
        let mut next = Some(self.turn);
        while !left.is_empty() {
            let place = match next.take() {
                Some(turn) => turn.min(left.len() - 1),
                None => draw(left.len()),
            };
            let turn = left.swap_remove(place);
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

fn draw(count: usize) -> usize {
    (random_unit() * count as f64) as usize
}
