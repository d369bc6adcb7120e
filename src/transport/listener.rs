//! Accepts mutual TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::identity::{
    JOIN_PROTOCOL, Material, PeerIdentity, Presented, Refusal, TrustDomain, refused_caller,
};

use super::{
    live::{Entry, LiveConnections},
    network::{Network as _, Port, Stream, Tcp},
    pending::{Pending, Turn, answered, places},
    refusals::Refusals,
    visitor::{Visitor, Visitors},
};

/// How long a refused caller's bytes are taken and thrown away. To close a
/// socket with unread bytes in it resets the connection, and the alert that
/// tells the caller why would be lost on the way.
const LINGER: Duration = Duration::from_secs(1);
/// At most so many of them.
const LINGER_BYTES: u64 = 64 * 1024;

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenerOptions {
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Hellos that are answered at once: that is what costs CPU.
    pub max_handshakes: usize,
    /// Handshakes under way from one address; beyond it those that stall are
    /// cut, and beyond four times as many one of them, stalled or not. An IPv6
    /// network (/64) counts as an address, and its site (/48) has no more.
    pub max_pending_per_address: usize,
    /// Handshakes under way from all addresses together; beyond it one of them
    /// is cut. The other connections are for those who are inside.
    pub max_pending: usize,
    /// Longest handshake.
    pub handshake_timeout: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        let max_connections = connections_for(getrlimit(Resource::Nofile).current);
        Self {
            max_connections,
            max_handshakes: places(),
            max_pending_per_address: max_connections / 16,
            max_pending: max_connections / 2,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// So many connections at most.
const MOST_CONNECTIONS: u64 = 4_096;
/// Files that a node opens beside its links: its store, doors, logs, libraries.
const FILES_BESIDE: u64 = 200;

/// As many as this process may have open, without what it needs beside them: no
/// crowd of callers shall keep the store from opening a file.
fn connections_for(files: Option<u64>) -> usize {
    let files = files.unwrap_or(u64::MAX);
    let left = files.saturating_sub(FILES_BESIDE).max(files / 2);
    left.clamp(1, MOST_CONNECTIONS) as usize
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Where it comes from.
    pub remote: SocketAddr,
    /// What its certificate, which has been verified, says.
    pub identity: Arc<PeerIdentity>,
    /// That certificate.
    pub certificate: Arc<CertificateDer<'static>>,
}

/// A connection whose peer has been verified.
pub struct Connection {
    stream: TlsStream<Stream>,
    peer: PeerInfo,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _entry: Entry,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A server always waits for bytes, so a cut is seen here at once.
        if self.is_cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the certificate of this connection is not good any more",
            )));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A bound port.
pub struct Listener {
    port: Box<dyn Port>,
    material: watch::Receiver<Arc<Material>>,
    trust_domain: TrustDomain,
    options: ListenerOptions,
    connections: LiveConnections,
    refusals: Refusals,
    visitors: Option<Visitors>,
}

impl Listener {
    /// Takes a port; port 0 takes a free one.
    ///
    /// # Errors
    /// The port is taken, or may not be used.
    pub async fn bind(
        address: SocketAddr,
        material: watch::Receiver<Arc<Material>>,
        trust_domain: TrustDomain,
        options: ListenerOptions,
    ) -> io::Result<Self> {
        let port = Tcp.bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
        })?;
        Ok(Self::on(port, material, trust_domain, options))
    }

    /// Listens on a port of any network.
    pub fn on(
        port: Box<dyn Port>,
        material: watch::Receiver<Arc<Material>>,
        trust_domain: TrustDomain,
        options: ListenerOptions,
    ) -> Self {
        Self {
            port,
            material,
            trust_domain,
            options,
            connections: LiveConnections::default(),
            refusals: Refusals::default(),
            visitors: None,
        }
    }

    /// From now on callers without certificate are let in as visitors, if they
    /// say first that they come to join. They come out here, as connections of
    /// another kind: nothing that is served to [`Listener::incoming`] can be
    /// reached by them.
    pub fn visitors(&mut self) -> ReceiverStream<io::Result<Visitor>> {
        let (visitors, connections) = Visitors::new();
        self.visitors = Some(visitors);
        connections
    }

    /// The address that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.port.local_addr()
    }

    /// The connections that are open.
    pub fn connections(&self) -> LiveConnections {
        self.connections.clone()
    }

    /// What was refused.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    /// Accepts until `stop`; every connection that comes out here is verified.
    pub fn incoming(self, stop: CancellationToken) -> ReceiverStream<io::Result<Connection>> {
        let (ready, connections) = mpsc::channel(16);
        tokio::spawn(self.accept(ready, stop));
        ReceiverStream::new(connections)
    }

    async fn accept(self, ready: mpsc::Sender<io::Result<Connection>>, stop: CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.options.max_connections));
        let places = Arc::new(Semaphore::new(self.options.max_handshakes));
        let pending = Pending::new(
            self.options.max_pending_per_address,
            self.options.max_pending,
        );
        loop {
            let next = async {
                let permit = connections.clone().acquire_owned().await;
                (self.port.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = stop.cancelled() => return,
                () = ready.closed() => return,
                next = next => next,
            };
            let Ok(permit) = permit else { return };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: let some close.
                    tracing::warn!(event = "accept_failed", %error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let handshake = Handshake {
                material: self.material.borrow().clone(),
                trust_domain: self.trust_domain.clone(),
                places: places.clone(),
                longest: self.options.handshake_timeout,
                connections: self.connections.clone(),
                refusals: self.refusals.clone(),
                visitors: self.visitors.clone(),
            };
            let ready = ready.clone();
            let turn = pending.begin(remote.ip());
            tokio::spawn(async move {
                if let Some(connection) = handshake.run(stream, remote, permit, turn).await {
                    let _ = ready.send(Ok(connection)).await;
                }
            });
        }
    }
}

/// Reads the caller's first words.
async fn hello(stream: Stream) -> Result<StartHandshake<Stream>, (Refusal, Option<Stream>)> {
    let mut acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let error = match (&mut acceptor).await {
        Ok(hello) => return Ok(hello),
        Err(error) => error,
    };
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let refusal = match tls {
        Some(tls) => refused_caller(tls, None),
        None => Refusal {
            reason: "CONNECTION_LOST",
            why: format!("the caller went away during TLS: {error}"),
        },
    };
    Err((refusal, acceptor.take_io()))
}

struct Handshake {
    material: Arc<Material>,
    trust_domain: TrustDomain,
    places: Arc<Semaphore>,
    longest: Duration,
    connections: LiveConnections,
    refusals: Refusals,
    visitors: Option<Visitors>,
}

/// Who is there, once TLS has been spoken.
enum Caller {
    Verified(
        TlsStream<Stream>,
        Arc<PeerIdentity>,
        Arc<CertificateDer<'static>>,
    ),
    Visitor(TlsStream<Stream>),
}

/// Whether a caller says that it comes to join, and for nothing else.
fn comes_to_join(hello: &StartHandshake<Stream>) -> bool {
    let hello = hello.client_hello();
    let only = hello.alpn().map(|protocols| {
        let protocols: Vec<&[u8]> = protocols.collect();
        protocols == [JOIN_PROTOCOL]
    });
    only.unwrap_or(false)
}

impl Handshake {
    async fn run(
        self,
        stream: Stream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
        turn: Turn,
    ) -> Option<Connection> {
        let shaken = tokio::select! {
            shaken = timeout(self.longest, self.shake_hands(stream, &turn)) => match shaken {
                Ok(shaken) => shaken,
                Err(_) => Err((self.too_slow(), None)),
            },
            () = turn.cut() => Err((crowded(), None)),
        };
        drop(turn);
        match shaken {
            Ok(Caller::Visitor(stream)) => {
                let visitors = self.visitors.as_ref()?;
                if let Err(refusal) = visitors.admit(stream, remote, permit) {
                    self.refusals.note(remote, &refusal);
                }
                None
            }
            Ok(Caller::Verified(stream, identity, certificate)) => {
                let (entry, is_cut) = self.connections.add(identity.clone());
                Some(Connection {
                    stream,
                    peer: PeerInfo {
                        remote,
                        identity,
                        certificate,
                    },
                    is_cut: Box::pin(is_cut),
                    _entry: entry,
                    _permit: permit,
                })
            }
            Err((refusal, stream)) => {
                self.refusals.note(remote, &refusal);
                linger(stream?).await;
                None
            }
        }
    }

    fn too_slow(&self) -> Refusal {
        Refusal {
            reason: "HANDSHAKE_TIMEOUT",
            why: format!(
                "the caller did not finish TLS within {} ms: a very slow line, or somebody who holds connections open on purpose",
                self.longest.as_millis()
            ),
        }
    }

    /// The verified connection and who it is; else why not, and the socket, so
    /// that the alert reaches the caller.
    async fn shake_hands(
        &self,
        stream: Stream,
        turn: &Turn,
    ) -> Result<Caller, (Refusal, Option<Stream>)> {
        let refused = |reason, why: String| Err((Refusal { reason, why }, None));
        let hello = hello(stream).await?;
        turn.moved();
        let comes_to_join = comes_to_join(&hello);
        let is_visitor = comes_to_join && self.visitors.is_some();
        let found = match is_visitor {
            true => self
                .material
                .visitor_config()
                .map(|config| (config, Presented::default())),
            false => self.material.server_config(),
        };
        let (config, presented) = match found {
            Ok(config) => config,
            Err(error) => return refused(error.reason, error.why),
        };
        let accept = hello.into_stream(config).into_fallible();
        let stream = match answered(&self.places, || turn.moved(), accept).await {
            None => return refused("HUB_STOPS", "this hub is stopping".to_owned()),
            Some(Ok(stream)) => stream,
            Some(Err((error, stream))) => {
                let tls = error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>());
                let refusal = match tls {
                    Some(_) if comes_to_join && !is_visitor => Refusal {
                        reason: "ENROLMENT_OFF",
                        why: "a caller comes to join, and this hub has no [enrolment]".to_owned(),
                    },
                    Some(tls) => {
                        refused_caller(tls, presented.claimed(&self.trust_domain).as_ref())
                    }
                    None => Refusal {
                        reason: "CONNECTION_LOST",
                        why: format!("the caller went away during TLS: {error}"),
                    },
                };
                return Err((refusal, Some(stream)));
            }
        };
        if is_visitor {
            return Ok(Caller::Visitor(stream));
        }
        let (_, session) = stream.get_ref();
        let Some(leaf) = session.peer_certificates().and_then(|chain| chain.first()) else {
            return refused("NO_CERTIFICATE", "the caller has no certificate".to_owned());
        };
        let certificate = Arc::new(leaf.clone().into_owned());
        match PeerIdentity::of(leaf, &self.trust_domain) {
            Ok(identity) => Ok(Caller::Verified(stream, Arc::new(identity), certificate)),
            Err(error) => refused(error.reason, error.why),
        }
    }
}

fn crowded() -> Refusal {
    Refusal {
        reason: "TOO_MANY_HANDSHAKES",
        why: "its address, or all of them together, have more unfinished handshakes than they may, and in this one nothing has moved for longest: somebody opens connections or holds them open, or the line is very slow".to_owned(),
    }
}

async fn linger(mut stream: Stream) {
    let _ = stream.shutdown().await;
    let mut rest = stream.take(LINGER_BYTES);
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a process that may open many files, as many as a shell gives, or
    /// next to none.
    /// Guarantee: connections leave files over for whatever else a node opens.
    #[test]
    fn connections_leave_files_for_the_store() {
        assert_eq!(connections_for(None), 4_096);
        assert_eq!(connections_for(Some(65_536)), 4_096);
        assert_eq!(connections_for(Some(1_024)), 824);
        assert_eq!(connections_for(Some(256)), 128);
    }
}
