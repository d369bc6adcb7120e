//! The hub's addresses: tried in turn, beginning anywhere, so that a thousand
//! nodes do not all begin with the first.

use std::sync::Arc;

use crate::{
    identity::{Material, TrustDomain},
    runtime::random_unit,
    transport::{DialError, DialOptions, Dialed, Network, dial_over},
};

/// Where the hub can be reached.
#[derive(Debug, Clone)]
pub struct Hubs {
    network: Arc<dyn Network>,
    addresses: Vec<DialOptions>,
    /// Which one answered last.
    turn: usize,
}

impl Hubs {
    /// These, over this network.
    pub fn new(network: Arc<dyn Network>, addresses: Vec<DialOptions>) -> Self {
        let turn = (random_unit() * addresses.len() as f64) as usize;
        Self {
            network,
            addresses,
            turn,
        }
    }

    /// Dials until one answers. Each is tried once; the caller waits between
    /// rounds.
    ///
    /// # Errors
    /// None does: what needs a person goes first, then the last reason.
    pub(super) async fn dial(
        &mut self,
        material: &Material,
        trust_domain: &TrustDomain,
    ) -> Result<Dialed, DialError> {
        let mut worst: Option<DialError> = None;
        for _ in 0..self.addresses.len() {
            let Some(options) = self.addresses.get(self.turn % self.addresses.len()) else {
                break;
            };
            match dial_over(&*self.network, options, material, trust_domain).await {
                Ok(dialed) => return Ok(dialed),
                Err(error) => {
                    self.turn = (self.turn + 1) % self.addresses.len();
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
