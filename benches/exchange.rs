//! Benchmarks of the exchange.

fn main() {}
