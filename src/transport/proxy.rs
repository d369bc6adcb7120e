//! Out through an HTTP proxy: CONNECT, and nothing else. The proxy sees a host
//! name and bytes that it can't read.

use std::{fmt, io};

use base64::Engine as _;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};

use super::{
    dialer::{DialError, reach},
    network::{Network, Stream},
};

/// Largest answer of a proxy that is read.
const ANSWER_BYTES: u64 = 16 * 1024;

/// An HTTP proxy on the way out.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `host:port`.
    pub address: String,
    /// User and password, where it wants them.
    pub credentials: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// A connection to `target` through it.
    pub(super) async fn connect(
        &self,
        network: &dyn Network,
        target: &str,
    ) -> Result<Stream, DialError> {
        let address = &self.address;
        let mut stream = reach(network, address, "proxy").await?;
        let failed = |error: io::Error| {
            DialError::unreachable(format!("the proxy {address} ended the connection: {error}"))
        };
        stream
            .write_all(self.request(target).as_bytes())
            .await
            .map_err(failed)?;
        self.hear(&mut stream, target).await?;
        Ok(stream)
    }

    /// Reads its answer to CONNECT, to the end of its head and not a byte further.
    ///
    /// # Errors
    /// The connection ended, or it does not connect to `target`: why, and what to do.
    pub async fn hear<S: AsyncRead + Unpin>(
        &self,
        stream: S,
        target: &str,
    ) -> Result<(), DialError> {
        let address = &self.address;
        let failed = |error: io::Error| {
            DialError::unreachable(format!("the proxy {address} ended the connection: {error}"))
        };
        // One byte at a time: what follows the answer belongs to TLS.
        let mut reader = BufReader::with_capacity(1, stream.take(ANSWER_BYTES));
        let mut status = String::new();
        reader.read_line(&mut status).await.map_err(failed)?;
        loop {
            let mut header = String::new();
            let read = reader.read_line(&mut header).await.map_err(failed)?;
            if read == 0 || header == "\r\n" || header == "\n" {
                break;
            }
        }
        self.judge(status.trim(), target)
    }

    fn request(&self, target: &str) -> String {
        let authorization = match &self.credentials {
            Some((user, password)) => {
                let basic =
                    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                format!("Proxy-Authorization: Basic {basic}\r\n")
            }
            None => String::new(),
        };
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")
    }

    fn judge(&self, status: &str, target: &str) -> Result<(), DialError> {
        let address = &self.address;
        let code = status
            .strip_prefix("HTTP/")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.parse::<u16>().ok());
        let error = match code {
            Some(200..=299) => return Ok(()),
            Some(407) if self.credentials.is_some() => DialError::refused(
                "PROXY_CREDENTIALS",
                format!(
                    "the proxy {address} does not take this user and password: correct hub.proxy"
                ),
            ),
            Some(407) => DialError::refused(
                "PROXY_CREDENTIALS",
                format!(
                    "the proxy {address} wants a user and a password: write them into hub.proxy, http://user:password@{address}"
                ),
            ),
            // It is the proxy that can't reach the hub, for now.
            Some(502..=504) => DialError::unreachable(format!(
                "the proxy {address} can't reach {target} ({status:?}): is the hub running, and is its address right as the proxy sees it?"
            )),
            Some(_) => DialError::refused(
                "PROXY_REFUSED",
                format!(
                    "the proxy {address} does not connect to {target} ({status:?}): its administrator has to allow CONNECT to this host and port"
                ),
            ),
            None => DialError::refused(
                "PROXY_REFUSED",
                format!(
                    "what answers at {address} is not an HTTP proxy ({:?}): check hub.proxy",
                    status.chars().take(80).collect::<String>()
                ),
            ),
        };
        Err(error)
    }
}
