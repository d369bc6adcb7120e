//! The codec of the generated services: prost's, with small buffers. Of every
//! stream two of them live as long as it does, and most streams carry a
//! heartbeat now and then; what is larger makes its buffer grow by itself.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// With what a buffer begins. tonic's own 8 KiB would be a fourth of all the
/// memory that an idle party costs the hub.
const BUFFER_BYTES: usize = 1_024;
/// A batch of messages of so many bytes goes to the line; as tonic has it.
const YIELD_BYTES: usize = 32 * 1_024;

/// Encodes `T` and decodes `U`.
#[derive(Debug, Clone)]
pub struct LeanCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LeanCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LeanCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
