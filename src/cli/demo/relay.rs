//! A line that can be cut: bytes go through to the hub until somebody says no.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A relay in front of the hub.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    is_open: Arc<watch::Sender<bool>>,
}

impl Relay {
    pub(super) async fn start(hub: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let is_open = Arc::new(watch::channel(true).0);
        let state = is_open.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut line = state.subscribe();
                if !*line.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut to) = TcpStream::connect(hub).await else {
                        return;
                    };
                    let _ = from.set_nodelay(true);
                    let _ = to.set_nodelay(true);
                    tokio::select! {
                        _ = copy_bidirectional(&mut from, &mut to) => {}
                        _ = line.wait_for(|is_open| !is_open) => {}
                    }
                });
            }
        });
        Ok(Self { address, is_open })
    }

    pub(super) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub(super) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}
