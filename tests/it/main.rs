//! Tests with real parts: processes, TLS, foreign clients.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod announced;
mod architecture;
mod bench;
mod cli;
mod cli_complaint;
mod cli_demo;
mod cli_pki;
mod cli_submit;
mod contract;
mod doors;
mod doors_beyond;
mod doors_health;
mod doors_inbox;
mod doors_judged;
mod doors_statuses;
mod faults_disk;
mod faults_line;
mod faults_time;
mod golden;
mod golden_fill;
mod hostile_door;
mod hostile_line;
mod hostile_link;
mod kill;
mod recovery;
mod rights;
mod sessions;
mod support;
mod tls;
mod tls_ways;
mod transcripts;
mod vectors;
mod worked;
