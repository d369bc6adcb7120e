//! What carries bytes from machine to machine: TCP in a process that serves.
//! A network that is simulated takes its place where weeks of bad lines must
//! pass in a second.

use std::{fmt, io, net::SocketAddr};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// What TLS needs of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection below TLS.
pub type Stream = Box<dyn Io>;

/// Dials and listens.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Connects to `host:port`. A name is looked up each time: an answer that
    /// was kept would outlive the address.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;

    /// Takes a port; port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>>;
}

/// A port that was taken.
pub trait Port: Send + Sync + 'static {
    /// Its address.
    fn local_addr(&self) -> SocketAddr;

    /// The next connection, and where it comes from.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;
}

/// The machine's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        async move {
            let stream = TcpStream::connect(address).await?;
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Stream)
        }
        .boxed()
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        async move {
            let socket = TcpListener::bind(address).await?;
            let address = socket.local_addr()?;
            Ok(Box::new(TcpPort { socket, address }) as Box<dyn Port>)
        }
        .boxed()
    }
}

struct TcpPort {
    socket: TcpListener,
    address: SocketAddr,
}

impl Port for TcpPort {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        async move {
            let (stream, remote) = self.socket.accept().await?;
            let _ = stream.set_nodelay(true);
            Ok((Box::new(stream) as Stream, remote))
        }
        .boxed()
    }
}
