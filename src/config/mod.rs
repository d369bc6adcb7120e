//! The settings of a node, read from TOML.
//!
//! The documented default file *is* the default: `deploy/*.toml` is compiled
//! in ([`HUB_FILE`], [`ADAPTER_FILE`], [`DIRECTORY_FILE`]), and tests compare
//! it with the defaults in this room. Unknown keys are errors that name file,
//! line, column and key, and say which key was probably meant. Relative paths
//! are meant from the file's own directory, so that a configuration can be
//! moved as a whole. This room reads files; it opens no socket and no store,
//! and knows nothing of ours but the domain.

mod adapter;
mod directory;
mod door;
mod enrolment;
mod error;
mod hub;
mod load;
mod proxy;
mod shared;
mod status_map;
mod store;
mod suggest;
#[cfg(test)]
mod tests;

pub use adapter::{
    ADAPTER_FILE, AdapterConfig, HubAddress, LinkParty, LocalSystem, RetentionConfig, TrustConfig,
};
pub use directory::{DIRECTORY_FILE, DirectoryFile};
pub use door::{DoorAddress, DoorConfig, DoorTls, DoorToken, Scope, TokenDigest};
pub use enrolment::EnrolmentConfig;
pub use error::ConfigError;
pub use hub::{
    AnnounceConfig, DirectorySource, HUB_FILE, HubConfig, ListenConfig, LocalParty, NationalConfig,
    SessionConfig, TlsConfig,
};
pub use load::{Settings, load, parse};
pub use proxy::ProxyAddress;
pub use shared::{HealthConfig, LogConfig, LogFormat, LogLevel, ShutdownConfig};
pub use status_map::{load_status_maps, parse as parse_status_maps};
pub use store::{CommitLevel, StoreConfig};
