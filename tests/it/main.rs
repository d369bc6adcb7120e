//! Tests with real parts: processes, TLS, foreign clients.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod announced;
mod architecture;
mod contract;
mod doors;
mod golden;
mod golden_fill;
mod kill;
mod rights;
mod support;
mod transcripts;
mod vectors;
mod worked;
