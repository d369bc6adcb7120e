//! Peers that begin and do not go on: in the middle of TLS at the hub's port,
//! in the head of a request at a door.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    doors::{curl, has},
    doors_health::as_party,
    support::{PATIENCE, World, eventually, missing},
};

const CITY: &str = "pemda-33.74";

/// The first message of a TLS client that is as good as any.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Scenario: two hundred peers of one address send a good first message of TLS,
/// are answered, and say nothing more; then an honest party comes, from the
/// same address.
/// Guarantee: it is in within two seconds, while they still hold their
/// connections; afterwards those are hung up on, and why is counted.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_handshakes_keep_nobody_waiting() {
    let world = World::new();
    world.issue_party(CITY);
    let hello = client_hello();
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(world.links()).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        stalled.push(stream);
    }
    // As many as there ever were places for have begun.
    for stream in &mut stalled[..64] {
        timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap();
    }
    let began = Instant::now();
    as_party(&world, CITY).await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    let first = &mut stalled[0];
    let mut rest = Vec::new();
    let hung_up = timeout(PATIENCE, first.read_to_end(&mut rest)).await;
    assert!(hung_up.is_ok(), "a stalled peer is hung up on");
    eventually("each is in the hub's log", async || {
        world.hub.log().matches("HANDSHAKE_TIMEOUT").count() >= 200
    })
    .await;
}

/// Scenario: more peers than a node's HTTP door has places begin a request,
/// send a header now and then and never come to its end (slowloris).
/// Guarantee: each is hung up on when its time for the head is over, and a
/// local system that came meanwhile is answered then.
#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_do_not_close_the_door() {
    if !has("curl") {
        return missing("curl");
    }
    let world = World::new();
    let city = world.adapter(CITY);
    let mut slow = Vec::new();
    for _ in 0..1_100 {
        let mut stream = TcpStream::connect(city.http).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n")
            .await
            .unwrap();
        slow.push(stream);
    }
    let trickling = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            for stream in &mut slow {
                let _ = stream.write_all(b"X-A: b\r\n").await;
            }
        }
    });
    let url = format!("http://{}/readyz", city.http);
    let asking = tokio::task::spawn_blocking(move || curl(&["--max-time", "50", &url]));
    let (code, _) = asking.await.unwrap();
    assert_eq!(code, 200);
    trickling.abort();
}
