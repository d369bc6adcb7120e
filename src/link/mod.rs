//! Drives an exchange session over a transport and a store; the same code at both ends.
