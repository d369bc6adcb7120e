//! Certificates: loading, reloading, revocation, the party that a certificate names, and the small CA for labs and pilots.
