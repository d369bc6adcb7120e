//! The same frames in both directions, each direction in its own envelope.

use tonic::Status;

use crate::wire::v1;

/// What the hub's end sends: frames, and in the end perhaps why it ends. Boxed,
/// since tokio's channels keep room for 32 at once: of the messages themselves
/// that is 15 KiB for every party that is idle.
pub type Answer = Box<Result<v1::ExchangeResponse, Status>>;

/// A message that carries one frame.
pub(crate) trait Envelope: Send + 'static {
    /// Puts a frame in.
    fn seal(frame: v1::Frame) -> Self;
    /// Takes it out; an empty envelope carries nothing.
    fn open(self) -> Option<v1::Frame>;
}

impl Envelope for v1::ExchangeRequest {
    fn seal(frame: v1::Frame) -> Self {
        Self { frame: Some(frame) }
    }

    fn open(self) -> Option<v1::Frame> {
        self.frame
    }
}

impl Envelope for v1::ExchangeResponse {
    fn seal(frame: v1::Frame) -> Self {
        Self { frame: Some(frame) }
    }

    fn open(self) -> Option<v1::Frame> {
        self.frame
    }
}

impl Envelope for Answer {
    fn seal(frame: v1::Frame) -> Self {
        Box::new(Ok(v1::ExchangeResponse::seal(frame)))
    }

    fn open(self) -> Option<v1::Frame> {
        (*self).ok()?.open()
    }
}
