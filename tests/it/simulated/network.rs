//! A network in memory: each node has a line to the others that can be good,
//! slow, silent (nothing passes, and nobody is told), or refusing; and its
//! connections can be cut.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use jembatan::transport::{Network, Port, Stream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split},
    sync::{mpsc, watch},
};

/// Bytes on their way in one direction; then the sender waits.
const PIPE: usize = 64 * 1024;

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Everything.
    Good,
    /// Nothing, and nobody is told: packets are lost on the way.
    Silent,
    /// Nothing: connections end, and new ones are refused.
    Refusing,
}

/// How a line is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) weather: Weather,
    /// Longest delay of a piece, each way, and of a new connection: of two
    /// that begin together either may come first.
    pub(super) delay_ms: u64,
    /// Grows with each cut: what is older than it has ended.
    cuts: u64,
}

type Ports = Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<(Stream, SocketAddr)>>>>;

/// The network.
#[derive(Debug, Clone)]
pub(super) struct Net {
    ports: Ports,
    dice: Arc<Mutex<StdRng>>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            ports: Arc::default(),
            dice: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    /// A machine with a line of its own.
    pub(super) fn machine(&self, address: SocketAddr) -> Arc<Machine> {
        let line = Line {
            weather: Weather::Good,
            delay_ms: 20,
            cuts: 0,
        };
        Arc::new(Machine {
            net: self.clone(),
            address,
            line: watch::channel(line).0,
            attempts: AtomicU64::new(0),
        })
    }

    fn delay(&self, most_ms: u64) -> Duration {
        let drawn = self.dice.lock().unwrap().random_range(0..=most_ms * 1_000);
        Duration::from_micros(drawn)
    }
}

/// A machine and its line.
#[derive(Debug)]
pub(super) struct Machine {
    net: Net,
    address: SocketAddr,
    line: watch::Sender<Line>,
    attempts: AtomicU64,
}

impl Machine {
    pub(super) fn set(&self, weather: Weather, delay_ms: u64) {
        self.line.send_modify(|line| {
            line.weather = weather;
            line.delay_ms = delay_ms;
            if weather == Weather::Refusing {
                line.cuts += 1;
            }
        });
    }

    /// Ends every connection over this line.
    pub(super) fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    /// Connections that were tried over it.
    pub(super) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }
}

impl Network for Machine {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        async move {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let mut line = self.line.subscribe();
            let delay = self.net.delay(line.borrow().delay_ms);
            tokio::time::sleep(delay).await;
            let now = line.wait_for(|line| line.weather != Weather::Silent).await;
            let now = *now.map_err(|_| refused())?;
            if now.weather == Weather::Refusing {
                return Err(refused());
            }
            let to: SocketAddr = address.parse().map_err(io::Error::other)?;
            let port = self.net.ports.lock().unwrap().get(&to).cloned();
            let port = port.ok_or_else(refused)?;
            let (near, here) = duplex(PIPE);
            let (there, far) = duplex(PIPE);
            port.send((Box::new(far), self.address))
                .await
                .map_err(|_| refused())?;
            tokio::spawn(relay(self.net.clone(), line, now.cuts, here, there));
            Ok(Box::new(near) as Stream)
        }
        .boxed()
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Port>>> {
        async move {
            let (knock, knocking) = mpsc::channel(16);
            self.net.ports.lock().unwrap().insert(address, knock);
            let port = SimulatedPort {
                address,
                knocking: tokio::sync::Mutex::new(knocking),
            };
            Ok(Box::new(port) as Box<dyn Port>)
        }
        .boxed()
    }
}

struct SimulatedPort {
    address: SocketAddr,
    knocking: tokio::sync::Mutex<mpsc::Receiver<(Stream, SocketAddr)>>,
}

impl Port for SimulatedPort {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        async move {
            let next = self.knocking.lock().await.recv().await;
            next.ok_or_else(|| io::Error::other("the port is gone"))
        }
        .boxed()
    }
}

async fn relay(
    net: Net,
    line: watch::Receiver<Line>,
    cuts: u64,
    here: DuplexStream,
    there: DuplexStream,
) {
    let (from_here, to_here) = split(here);
    let (from_there, to_there) = split(there);
    let mut ends = line.clone();
    let both = async {
        tokio::join!(
            carry(&net, line.clone(), from_here, to_there),
            carry(&net, line.clone(), from_there, to_here),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = ends.wait_for(|line| line.cuts > cuts) => {}
    }
}

async fn carry(
    net: &Net,
    mut line: watch::Receiver<Line>,
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
) {
    let mut buffer = vec![0; PIPE];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let delay = net.delay(line.borrow().delay_ms);
        tokio::time::sleep(delay).await;
        let is_good = |line: &Line| line.weather == Weather::Good;
        if line.wait_for(is_good).await.is_err() {
            return;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}
