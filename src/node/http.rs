//! Serves HTTP on a door's socket. Whoever opens a connection and does not
//! finish the head of a request in time is hung up on: a place at the door is
//! for those who speak.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::transport::{DoorListener, Io};

/// Longest wait for the head of a request, and for the next request on a
/// connection that is kept: a line of 2 kbit/s brings a head in less.
const HEAD: Duration = Duration::from_secs(15);
/// HTTP/2 has no heads to wait for on a connection that is kept: pings find
/// out whether its other end is still there.
const PING: Duration = Duration::from_secs(20);

/// Serves until `stop`, then until the calls that have begun are answered.
pub(super) async fn serve_http(
    listener: DoorListener,
    routes: axum::Router,
    stop: CancellationToken,
) {
    let mut incoming = listener.incoming(stop.clone());
    let open = TaskTracker::new();
    while let Some(next) = incoming.next().await {
        if let Ok(stream) = next {
            open.spawn(serve_one(stream, routes.clone(), stop.clone()));
        }
    }
    open.close();
    open.wait().await;
}

async fn serve_one(stream: impl Io + 'static, routes: axum::Router, stop: CancellationToken) {
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = has_asked.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        routes.clone().oneshot(request)
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    // Until the version is known hyper counts no time.
    let silence = async {
        tokio::time::sleep(HEAD).await;
        if has_asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = silence => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A caller that goes away, or is slow: nothing that an operator could act on.
    if let Err(error) = outcome {
        tracing::debug!(event = "door_connection_ended", %error);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        time::Instant,
    };

    use super::*;

    fn door() -> (DuplexStream, CancellationToken) {
        let (caller, stream) = tokio::io::duplex(1_024);
        let stop = CancellationToken::new();
        let routes = axum::Router::new().route("/", axum::routing::get(async || "ya"));
        tokio::spawn(serve_one(stream, routes, stop.clone()));
        (caller, stop)
    }

    /// Scenario: a caller sends the head of a request one byte a second and
    /// never ends it; another one says nothing at all; a third says nothing
    /// after a call that was answered.
    /// Guarantee: each is hung up on when its time is over, and the call was
    /// answered.
    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_finish_a_request_is_hung_up_on() {
        let (mut slow, _stop) = door();
        let began = Instant::now();
        let trickle = async {
            while slow.write_all(b"A").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        trickle.await;
        assert!(began.elapsed() >= HEAD, "{:?}", began.elapsed());
        assert!(began.elapsed() <= HEAD + Duration::from_secs(2));

        let (mut silent, _stop) = door();
        let began = Instant::now();
        let mut heard = String::new();
        silent.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "");
        assert!(began.elapsed() <= HEAD + Duration::from_secs(1));

        let (mut idle, _stop) = door();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let began = Instant::now();
        let mut heard = String::new();
        idle.read_to_string(&mut heard).await.unwrap();
        assert!(heard.starts_with("HTTP/1.1 200 OK") && heard.ends_with("ya"));
        assert!(began.elapsed() <= HEAD + Duration::from_secs(1));
    }

    /// Scenario: the node stops while a connection is kept for the next call.
    /// Guarantee: it is closed at once.
    #[tokio::test(start_paused = true)]
    async fn a_stop_closes_what_is_only_kept() {
        let (mut idle, stop) = door();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 16];
        idle.read_exact(&mut first).await.unwrap();
        let began = Instant::now();
        stop.cancel();
        let mut rest = String::new();
        idle.read_to_string(&mut rest).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
