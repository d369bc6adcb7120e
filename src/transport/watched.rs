//! A connection that remembers how it broke. With TLS 1.3 the hub's refusal of
//! our certificate arrives after the handshake, and then whoever reads next
//! learns it: often the HTTP/2 connection in its own task, where nobody asks.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::identity::refusal;

use super::{DialError, network::Stream};

/// What ended a connection, if TLS knows. (HTTP/2 keeps only the text of an
/// error of its connection, so the error itself is kept here.)
#[derive(Debug, Clone, Default)]
pub struct LastWords(Arc<Mutex<Option<rustls::Error>>>);

impl LastWords {
    /// Why TLS ended the connection, in words for this node's operator; `None`:
    /// it did not.
    pub fn explain(&self) -> Option<DialError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = refusal(known.as_ref()?, "the hub");
        Some(DialError::refused(found.reason, found.why))
    }

    fn note<T>(&self, outcome: &Poll<io::Result<T>>) {
        let Poll::Ready(Err(error)) = outcome else {
            return;
        };
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_or_insert_with(|| tls.clone());
        }
    }
}

/// The connection.
pub(super) struct Watched {
    stream: TlsStream<Stream>,
    last_words: LastWords,
}

impl Watched {
    pub(super) fn new(stream: TlsStream<Stream>) -> (Self, LastWords) {
        let last_words = LastWords::default();
        let watched = Self {
            stream,
            last_words: last_words.clone(),
        };
        (watched, last_words)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.last_words.note(&outcome);
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.last_words.note(&outcome);
        outcome
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
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.last_words.note(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
