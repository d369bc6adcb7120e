//! Generated code, and the conversions between it and the plain values of the
//! other rooms. The only room that knows both; it does no I/O and decides
//! nothing.

/// Messages and services generated from `proto/jembatan/v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[allow(clippy::unwrap_used, clippy::todo)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/jembatan.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/jembatan.v1.serde.rs"));

    /// The descriptor set of the contract, with source comments.
    pub const DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/jembatan.v1.descriptor.bin"));
}
