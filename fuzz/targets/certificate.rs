//! Peers' certificates: whatever bytes come, no panic.
#![no_main]

#[allow(dead_code, reason = "each target uses one decoder of the shared list")]
#[path = "../../tests/it/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::certificate(bytes));
