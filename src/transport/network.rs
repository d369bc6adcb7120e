//! What carries bytes from machine to machine: TCP in a process that serves.
//! A network that is simulated takes its place where weeks of bad lines must
//! pass in a second.

use std::{fmt, io, net::SocketAddr, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rand::seq::SliceRandom as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, lookup_host},
    time::sleep,
};

/// A name may have several addresses, and one may be behind a line that says
/// nothing: so long after it the next one is asked as well.
const NEXT_AFTER: Duration = Duration::from_secs(1);

/// What TLS needs of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection below TLS.
pub type Stream = Box<dyn Io>;

/// Dials and listens.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Connects to `host:port`. A name is looked up each time: an answer that
    /// was kept would outlive the address. Of several addresses whichever takes the
    /// connection first; they are asked in an order that is drawn each time.
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
            let mut found: Vec<SocketAddr> = lookup_host(address).await?.collect();
            // Those who know one name are spread over all that stand behind it.
            found.shuffle(&mut rand::rng());
            let stream = first_of(found).await?;
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

/// The first that takes the connection. Each is asked a moment after the one before
/// it, at once if that one refused; whoever was asked may still answer.
///
/// # Errors
/// Each refused: what the last one said.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut left = addresses.into_iter();
    let mut asked = FuturesUnordered::new();
    let mut why = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match left.next() {
            Some(address) => asked.push(TcpStream::connect(address)),
            None if asked.is_empty() => return Err(why),
            None => {}
        }
        tokio::select! {
            Some(answer) = asked.next() => match answer {
                Ok(stream) => return Ok(stream),
                Err(error) => why = error,
            },
            () = sleep(NEXT_AFTER), if left.len() > 0 => {}
        }
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

#[cfg(test)]
mod tests {
    use tokio::{net::TcpSocket, time::timeout};

    use super::*;

    /// A port that takes no more connections and refuses none: what is sent there
    /// vanishes. It is so while what is given back is kept.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut kept = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            kept.push(stream.unwrap());
        }
        (address, listener, kept)
    }

    async fn listening() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    /// Scenario: of a name's addresses the first ones swallow what is sent to them,
    /// or refuse; the last one listens.
    /// Guarantee: it is reached within seconds, not when the others have been given
    /// up; refusals cost no time at all.
    #[tokio::test]
    async fn a_dead_address_of_a_name_is_passed_by() {
        let alive = listening().await;
        let alive = alive.local_addr().unwrap();
        let nobody = listening().await.local_addr().unwrap();
        let (silent, _listener, _kept) = silent().await;
        for (before, at_least, at_most) in [
            (vec![silent, silent], 2 * NEXT_AFTER, 6 * NEXT_AFTER),
            (vec![nobody; 20], Duration::ZERO, 5 * NEXT_AFTER),
        ] {
            let began = tokio::time::Instant::now();
            let mut all = before;
            all.push(alive);
            let stream = timeout(Duration::from_secs(60), first_of(all)).await;
            assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), alive);
            let took = began.elapsed();
            assert!(at_least <= took && took < at_most, "{took:?}");
        }
        let refused = first_of(vec![nobody, nobody]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let nothing = first_of(Vec::new()).await.unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::NotFound);
    }
}
