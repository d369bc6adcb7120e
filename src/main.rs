//! The `jembatan` program. See `jembatan --help`.

fn main() {}
