//! Tests with real parts: processes, TLS, foreign clients.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod announced;
mod architecture;
mod cli;
mod cli_complaint;
mod cli_demo;
mod cli_pki;
mod cli_submit;
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
