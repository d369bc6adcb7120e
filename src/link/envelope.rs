//! The same frames in both directions, each direction in its own envelope.

use crate::wire::v1;

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
