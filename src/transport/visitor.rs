//! Connections without client certificate, for whoever comes to join: few at
//! once, and short.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::identity::Refusal;

use super::{network::Stream, pending::prefix};

/// Visitors at once. They need a place among all connections too, so that they
/// can never take all of those.
const MAX_VISITORS: usize = 32;
/// Of one address, or of one IPv6 network, at once: strangers there do not keep
/// regions elsewhere from joining.
const MAX_OF_ONE: usize = 4;
/// Longest visit: one call, over a slow line.
const LONGEST_VISIT: Duration = Duration::from_secs(30);

/// Where visitors go.
#[derive(Debug, Clone)]
pub(super) struct Visitors {
    ready: mpsc::Sender<io::Result<Visitor>>,
    places: Arc<Semaphore>,
    by_address: ByAddress,
}

type ByAddress = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One of an address's few places.
#[derive(Debug)]
struct Place {
    by_address: ByAddress,
    address: IpAddr,
}

impl Place {
    fn take(by_address: &ByAddress, address: IpAddr) -> Option<Self> {
        let address = prefix(address);
        let mut taken = by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= MAX_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Self {
            by_address: by_address.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

impl Visitors {
    pub(super) fn new() -> (Self, ReceiverStream<io::Result<Visitor>>) {
        let (ready, connections) = mpsc::channel(MAX_VISITORS);
        let visitors = Self {
            ready,
            places: Arc::new(Semaphore::new(MAX_VISITORS)),
            by_address: ByAddress::default(),
        };
        (visitors, ReceiverStream::new(connections))
    }

    pub(super) fn admit(
        &self,
        stream: TlsStream<Stream>,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Refusal> {
        let full = || Refusal {
            reason: "TOO_MANY_VISITORS",
            why: format!("{MAX_VISITORS} callers without certificate are here already"),
        };
        let own = Place::take(&self.by_address, remote.ip()).ok_or_else(|| Refusal {
            reason: "TOO_MANY_VISITORS",
            why: format!("{MAX_OF_ONE} callers without certificate are here from this address"),
        })?;
        let place = self.places.clone().try_acquire_owned();
        let visitor = Visitor {
            stream,
            remote,
            ends: Box::pin(sleep(LONGEST_VISIT)),
            _place: place.map_err(|_| full())?,
            _own: own,
            _permit: permit,
        };
        self.ready.try_send(Ok(visitor)).map_err(|_| full())
    }
}

/// Who visits: all that is known.
#[derive(Debug, Clone, Copy)]
pub struct VisitorInfo {
    /// Where it comes from.
    pub remote: SocketAddr,
}

/// A connection of somebody who has shown no certificate.
pub struct Visitor {
    stream: TlsStream<Stream>,
    remote: SocketAddr,
    ends: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
    _own: Place,
    _permit: OwnedSemaphorePermit,
}

impl Visitor {
    /// Looked at wherever a server may wait, so that nobody stays by not
    /// taking what is sent.
    fn check_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ends.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "a visit is short")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Visitor {
    type ConnectInfo = VisitorInfo;

    fn connect_info(&self) -> VisitorInfo {
        VisitorInfo {
            remote: self.remote,
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_end(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: one address, and one network of IPv6, take every place that
    /// they get; others come; then one of the first goes.
    /// Guarantee: each address has its few places and no more, others have
    /// theirs; a place comes back when its visitor goes, and nothing is
    /// remembered of those who are gone.
    #[test]
    fn one_address_has_few_places() {
        let taken = ByAddress::default();
        let take = |address: &str| Place::take(&taken, address.parse().unwrap());
        for (first, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
        ] {
            let mut places: Vec<Place> = (0..MAX_OF_ONE)
                .map(|_| take(first).expect("within its places"))
                .collect();
            assert!(take(same).is_none());
            let others = take(other).expect("another address has its own");
            places.pop();
            places.push(take(same).expect("one came back"));
            assert!(take(first).is_none());
            drop((places, others));
        }
        assert!(taken.lock().unwrap().is_empty());
        const { assert!(MAX_OF_ONE < MAX_VISITORS) };
    }
}
