//! Accepts mutual TLS.

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
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::identity::{Material, PeerIdentity, TrustDomain, refusal};

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenerOptions {
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Handshakes at once: they cost CPU, and a peer may be slow on purpose.
    pub max_handshakes: usize,
    /// Longest handshake.
    pub handshake_timeout: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            max_handshakes: 64,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Where it comes from.
    pub remote: SocketAddr,
    /// What its certificate, which has been verified, says.
    pub identity: Arc<PeerIdentity>,
}

/// A connection whose peer has been verified.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
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
    socket: TcpListener,
    address: SocketAddr,
    material: watch::Receiver<Arc<Material>>,
    trust_domain: TrustDomain,
    options: ListenerOptions,
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
        let socket = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
        })?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            address,
            material,
            trust_domain,
            options,
        })
    }

    /// The address that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop`; every connection that comes out is verified.
    pub fn incoming(self, stop: CancellationToken) -> ReceiverStream<io::Result<Connection>> {
        let (ready, connections) = mpsc::channel(16);
        tokio::spawn(self.accept(ready, stop));
        ReceiverStream::new(connections)
    }

    async fn accept(self, ready: mpsc::Sender<io::Result<Connection>>, stop: CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.options.max_connections));
        let handshakes = Arc::new(Semaphore::new(self.options.max_handshakes));
        loop {
            let next = async {
                let permit = connections.clone().acquire_owned().await;
                (self.socket.accept().await, permit)
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
                slots: handshakes.clone(),
                longest: self.options.handshake_timeout,
            };
            let ready = ready.clone();
            tokio::spawn(async move {
                if let Some(connection) = handshake.run(stream, remote, permit).await {
                    let _ = ready.send(Ok(connection)).await;
                }
            });
        }
    }
}

struct Handshake {
    material: Arc<Material>,
    trust_domain: TrustDomain,
    slots: Arc<Semaphore>,
    longest: Duration,
}

impl Handshake {
    async fn run(
        self,
        stream: TcpStream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Option<Connection> {
        let refused = |reason: &str, why: &str| {
            tracing::warn!(event = "tls_refused", %remote, reason, why);
        };
        let work = async {
            let _slot = self.slots.acquire().await.ok()?;
            let config = match self.material.server_config() {
                Ok(config) => config,
                Err(error) => {
                    refused(error.reason, &error.why);
                    return None;
                }
            };
            stream.set_nodelay(true).ok()?;
            match TlsAcceptor::from(config).accept(stream).await {
                Ok(stream) => Some(stream),
                Err(error) => {
                    let inner = error
                        .get_ref()
                        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
                    match inner {
                        Some(error) => {
                            let found = refusal(error, "a caller");
                            refused(found.reason, &found.why);
                        }
                        None => refused("CONNECTION_LOST", &error.to_string()),
                    }
                    None
                }
            }
        };
        let stream = match timeout(self.longest, work).await {
            Ok(stream) => stream?,
            Err(_) => {
                refused("HANDSHAKE_TIMEOUT", "the caller did not finish TLS in time");
                return None;
            }
        };
        let identity = {
            let (_, session) = stream.get_ref();
            let leaf = session.peer_certificates()?.first()?;
            match PeerIdentity::of(leaf, &self.trust_domain) {
                Ok(identity) => Arc::new(identity),
                Err(error) => {
                    refused(error.reason, &error.why);
                    return None;
                }
            }
        };
        Some(Connection {
            stream,
            peer: PeerInfo { remote, identity },
            _permit: permit,
        })
    }
}
