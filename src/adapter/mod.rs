//! The node of a region: its links up to the hub and their supervision. Must not know the hub.
