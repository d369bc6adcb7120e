//! One file per subcommand: parses, wires, reports. Data goes to standard output, the rest to standard error; the only room with printing and with anyhow.
