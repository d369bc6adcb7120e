//! The sockets of a node's own doors: TCP (with the door's certificate, if it
//! has one) and Unix sockets; and dialling them.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri, server::Connected};

use crate::identity::{DoorMaterial, door_client_config};

use super::{
    network::Stream,
    pending::{answered, places},
};

/// Connections of one door at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1_024;
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Who owns the socket, and its group.
const SOCKET_MODE: u32 = 0o660;

/// A connection to a door.
pub struct DoorStream {
    io: Stream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for DoorStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for DoorStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

enum Socket {
    Tcp(
        TcpListener,
        Option<(watch::Receiver<Arc<DoorMaterial>>, &'static [u8])>,
    ),
    Unix {
        socket: UnixListener,
        // Removes the file when it is dropped.
        _file: SocketFile,
    },
}

/// The socket's file, taken away with the door; but not if another one stands
/// in its place by then.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|found| found == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// A door's socket, bound.
pub struct DoorListener(Socket);

impl DoorListener {
    /// Takes a port; with a certificate it speaks TLS, and `protocol` in it.
    ///
    /// # Errors
    /// The port is taken, or may not be used.
    pub async fn tcp(
        address: SocketAddr,
        material: Option<watch::Receiver<Arc<DoorMaterial>>>,
        protocol: &'static [u8],
    ) -> io::Result<(Self, SocketAddr)> {
        let socket = TcpListener::bind(address).await.map_err(|error| {
            say(
                &error,
                format!(
                    "can't listen on {address}: {error}; choose another port, or 0 for a free one"
                ),
            )
        })?;
        let address = socket.local_addr()?;
        let material = material.map(|material| (material, protocol));
        Ok((Self(Socket::Tcp(socket, material)), address))
    }

    /// Takes the place of a Unix socket, mode 0660. One that a dead process
    /// left behind is replaced; one that answers, or another file, is not.
    ///
    /// # Errors
    /// Something else is there, or the place can't be used.
    pub async fn unix(path: &Path) -> io::Result<Self> {
        let failed = |error: &io::Error| {
            say(
                error,
                format!(
                    "can't make the socket {}: {error}; its directory must be there and belong to this user",
                    path.display()
                ),
            )
        };
        if let Ok(found) = std::fs::symlink_metadata(path) {
            let taken = |why: &str| {
                let why = format!("{} {why}: choose another path", path.display());
                Err(io::Error::new(io::ErrorKind::AddrInUse, why))
            };
            if !found.file_type().is_socket() {
                return taken("is there and is no socket");
            }
            if UnixStream::connect(path).await.is_ok() {
                return taken("is the socket of a process that runs");
            }
        }
        // Under another name first: it never stands there with other rights.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let _ = std::fs::remove_file(&temporary);
        let socket = UnixListener::bind(&temporary).map_err(|error| failed(&error))?;
        let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
        std::fs::set_permissions(&temporary, mode).map_err(|error| failed(&error))?;
        let inode = inode(&temporary).map_err(|error| failed(&error))?;
        std::fs::rename(&temporary, path).map_err(|error| failed(&error))?;
        let file = SocketFile {
            path: path.to_owned(),
            inode,
        };
        Ok(Self(Socket::Unix {
            socket,
            _file: file,
        }))
    }

    /// Accepts until `stop`; then the socket is closed, and its file removed.
    pub fn incoming(self, stop: CancellationToken) -> ReceiverStream<io::Result<DoorStream>> {
        let (ready, connections) = mpsc::channel(16);
        tokio::spawn(accept(self.0, ready, stop));
        ReceiverStream::new(connections)
    }
}

fn say(error: &io::Error, why: String) -> io::Error {
    io::Error::new(error.kind(), why)
}

async fn accept(
    socket: Socket,
    ready: mpsc::Sender<io::Result<DoorStream>>,
    stop: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(places()));
    loop {
        let next = async {
            let permit = connections.clone().acquire_owned().await;
            let accepted = match &socket {
                Socket::Tcp(socket, _) => socket.accept().await.map(|(stream, _)| Raw::Tcp(stream)),
                Socket::Unix { socket, .. } => {
                    socket.accept().await.map(|(stream, _)| Raw::Unix(stream))
                }
            };
            (accepted, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = stop.cancelled() => return,
            () = ready.closed() => return,
            next = next => next,
        };
        let Ok(permit) = permit else { return };
        let raw = match accepted {
            Ok(raw) => raw,
            Err(error) => {
                // Out of file descriptors, most likely: let some close.
                tracing::warn!(event = "door_accept_failed", %error);
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let tls = match &socket {
            Socket::Tcp(_, Some((material, protocol))) => {
                Some((material.borrow().clone(), *protocol))
            }
            _ => None,
        };
        let ready = ready.clone();
        let slots = handshakes.clone();
        tokio::spawn(async move {
            if let Some(io) = finish(raw, tls, &slots).await {
                let stream = DoorStream {
                    io,
                    _permit: permit,
                };
                let _ = ready.send(Ok(stream)).await;
            }
        });
    }
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn finish(
    raw: Raw,
    tls: Option<(Arc<DoorMaterial>, &'static [u8])>,
    slots: &Semaphore,
) -> Option<Stream> {
    let stream = match raw {
        Raw::Unix(stream) => return Some(Box::new(stream)),
        Raw::Tcp(stream) => stream,
    };
    stream.set_nodelay(true).ok()?;
    let Some((material, protocol)) = tls else {
        return Some(Box::new(stream));
    };
    let work = async {
        let config = material.server_config(protocol).ok()?;
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let accept = hello.await.ok()?.into_stream(config);
        answered(slots, || (), accept).await?.ok()
    };
    match timeout(HANDSHAKE, work).await {
        Ok(Some(stream)) => Some(Box::new(stream)),
        // Scanners and half-open lines: nothing that an operator could act on.
        Ok(None) | Err(_) => {
            tracing::debug!(event = "door_tls_refused");
            None
        }
    }
}

/// Dials a gRPC door: `unix:/path`, `https://host:port` (trusting the CA in
/// `ca`), `http://host:port` or `host:port`.
///
/// # Errors
/// Why not, and what to do.
pub async fn dial_door(door: &str, ca: Option<&Path>) -> Result<Channel, String> {
    let nobody = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}"));
        format!(
            "no node answers at {door}: is it running, and is this its [door] grpc address? ({error}{})",
            cause.unwrap_or_default()
        )
    };
    if let Some(path) = door.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        return Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .map_err(|error| nobody(&error));
    }
    let Some(authority) = door.strip_prefix("https://") else {
        let authority = door.strip_prefix("http://").unwrap_or(door);
        return Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| format!("{door:?} is no address: {error}"))?
            .connect()
            .await
            .map_err(|error| nobody(&error));
    };
    let authority = authority.trim_end_matches('/').to_owned();
    let ca = ca.ok_or("https needs the CA certificate that the door's certificate comes from")?;
    let config = door_client_config(ca).map_err(|error| error.why)?;
    let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| format!("{door:?} is not https://host:port"))?;
    let parse = |scheme: &str| {
        format!("{scheme}://{authority}")
            .parse::<Uri>()
            .map_err(|error| format!("{door:?} is no address: {error}"))
    };
    let connector = {
        let authority = authority.clone();
        tower::service_fn(move |_: Uri| {
            let (authority, config, name) = (authority.clone(), config.clone(), name.clone());
            async move {
                let stream = TcpStream::connect(authority).await?;
                let stream = TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        })
    };
    // The connector speaks TLS, so tonic must not want to.
    Endpoint::from(parse("http")?)
        .origin(parse("https")?)
        .connect_with_connector(connector)
        .await
        .map_err(|error| nobody(&error))
}
