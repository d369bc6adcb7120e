//! Connections without client certificate, for whoever comes to join: few at
//! once, and short.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
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

use super::network::Stream;

/// Visitors at once. They need a place among all connections too, so that they
/// can never take all of those.
const MAX_VISITORS: usize = 32;
/// Longest visit: one call, over a slow line.
const LONGEST_VISIT: Duration = Duration::from_secs(30);

/// Where visitors go.
#[derive(Debug, Clone)]
pub(super) struct Visitors {
    ready: mpsc::Sender<io::Result<Visitor>>,
    places: Arc<Semaphore>,
}

impl Visitors {
    pub(super) fn new() -> (Self, ReceiverStream<io::Result<Visitor>>) {
        let (ready, connections) = mpsc::channel(MAX_VISITORS);
        let visitors = Self {
            ready,
            places: Arc::new(Semaphore::new(MAX_VISITORS)),
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
        let place = self.places.clone().try_acquire_owned();
        let visitor = Visitor {
            stream,
            remote,
            ends: Box::pin(sleep(LONGEST_VISIT)),
            _place: place.map_err(|_| full())?,
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
    _permit: OwnedSemaphorePermit,
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
        // A server always waits for bytes, so the end is seen here at once.
        if self.ends.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a visit is short",
            )));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
