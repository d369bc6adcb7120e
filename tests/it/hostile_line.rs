//! Hostile peers at the hub's port, below the protocol: bytes that are no
//! frames, no TLS, connections that say nothing, far too many of them.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use jembatan::wire::v1;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    doors_health::as_party,
    support::{Node, PATIENCE, World, complaint, connected, eventually, submit},
};

const EVIL: &str = "pemda-33";
const GOOD: &str = "pemda-33.74";

async fn goes_on(good: &Node, reference: &str) {
    let mut door = good.gateway().await;
    let answer = door.submit(submit(complaint(reference), 20_000)).await;
    let receipt = answer.unwrap().into_inner().receipt.unwrap();
    assert_eq!(
        receipt.progress,
        v1::Progress::Accepted as i32,
        "{receipt:?}"
    );
}

/// Whatever bytes, in good gRPC messages.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let all = from.remaining();
        Ok(Some(from.copy_to_bytes(all)))
    }
}

/// Scenario: a party with a good certificate sends, instead of Open, messages
/// that are no protobuf, an empty one, half of a real one, a field that says it
/// is longer than the message, and one of 3 MB; and calls a method that is not
/// there.
/// Guarantee: each call ends with a clear error of its own; the connection and
/// the other party go on.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frames_end_their_own_call() {
    let world = World::new();
    let good = world.adapter(GOOD);
    let sessions = connected(&world, &good, GOOD).await;
    world.issue_party(EVIL);
    let channel = as_party(&world, EVIL).await;
    let call = async |path: &'static str, message: Vec<u8>| {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let messages = tokio_stream::iter([Bytes::from(message)]);
        let path = http::uri::PathAndQuery::from_static(path);
        let request = tonic::Request::new(messages);
        let answer = client.streaming(request, path, Raw).await;
        let mut answers = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return status,
        };
        let heard = timeout(PATIENCE, answers.message()).await.unwrap();
        heard.unwrap_err()
    };
    let exchange = "/jembatan.v1.ExchangeService/Exchange";
    let cases: [(Vec<u8>, &[Code]); 5] = [
        (vec![0xff; 400], &[Code::Internal]),
        (Vec::new(), &[Code::InvalidArgument]),
        (vec![0x0a, 0x80, 0x80], &[Code::Internal]),
        (
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, 1],
            &[Code::Internal],
        ),
        (vec![0; 3_000_000], &[Code::OutOfRange]),
    ];
    for (n, (message, codes)) in cases.into_iter().enumerate() {
        let status = call(exchange, message).await;
        assert!(codes.contains(&status.code()), "case {n}: {status:?}");
        assert!(!status.message().is_empty(), "case {n}: {status:?}");
        goes_on(&good, &format!("RAW-{n}")).await;
    }
    let status = call("/jembatan.v1.ExchangeService/Nothing", vec![1]).await;
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    assert_eq!(world.sessions(GOOD), sessions);
}

/// What the other end answers before it hangs up.
async fn answer_to(world: &World, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(world.links()).await.unwrap();
    stream.write_all(said).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the hub hangs up in time");
    answer
}

/// Scenario: plain HTTP, an SSH greeting, TLS records of garbage and a hello
/// that promises more than it brings reach the hub's TLS port.
/// Guarantee: the hub hangs up within the handshake's time, tells nothing but
/// a TLS alert, writes why into its own log, and serves the others.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_hung_up_on() {
    let world = World::new();
    let good = world.adapter(GOOD);
    connected(&world, &good, GOOD).await;
    let garbage = [[0x16, 3, 1, 0x02, 0x00].as_slice(), &[0x55; 512]].concat();
    let cases: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &garbage,
        &[0x16, 3, 1, 0x40, 0x00, 1],
    ];
    for (n, case) in cases.into_iter().enumerate() {
        let answer = answer_to(&world, case).await;
        // An alert record, or nothing.
        assert!(
            answer.is_empty() || answer[0] == 0x15,
            "case {n}: {answer:?}"
        );
        assert!(answer.len() < 16, "case {n}: {answer:?}");
        goes_on(&good, &format!("TLS-{n}")).await;
    }
    let refused = || world.hub.log().matches("\"tls_refused\"").count();
    eventually("each is in the hub's log", async || refused() >= 4).await;
}

/// Scenario: a thousand connections are opened and say nothing, while a healthy
/// party exchanges; then they are gone.
/// Guarantee: the healthy party's session goes on without a break, and a new
/// party gets in once they are gone or have had their time.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_do_not_stop_a_session() {
    let world = World::new();
    let good = world.adapter(GOOD);
    let sessions = connected(&world, &good, GOOD).await;
    let mut held = Vec::new();
    for _ in 0..1_000 {
        held.push(TcpStream::connect(world.links()).await.unwrap());
    }
    for n in 0..10 {
        goes_on(&good, &format!("CROWD-{n}")).await;
    }
    assert_eq!(world.sessions(GOOD), sessions);
    drop(held);
    let province = world.adapter(EVIL);
    connected(&world, &province, EVIL).await;
    goes_on(&province, "NEW").await;
}

/// Scenario: three times as many silent connections as handshakes may go on at
/// once; a party without a session comes.
/// Guarantee: it gets in long before their time is over.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_lock_out_a_party() {
    let world = World::new();
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(TcpStream::connect(world.links()).await.unwrap());
    }
    let province = world.adapter(EVIL);
    let inside = connected(&world, &province, EVIL);
    timeout(Duration::from_secs(8), inside).await.unwrap();
    drop(held);
}
