//! What can be wrong with a settings file.

use std::path::PathBuf;

/// A settings file that can't be used; the message says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A place in the file is wrong.
    #[error("{}:{line}:{column}: {key}: {problem}{}", file.display(), hint(suggestion))]
    Parse {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The key or table concerned, for example `door.grpc`.
        key: String,
        /// What is wrong.
        problem: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// Each value is fine by itself, but they do not fit together.
    #[error("{}: {key}: {problem}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The key or table concerned.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

fn hint(suggestion: &Option<String>) -> String {
    match suggestion {
        Some(meant) => format!("; did you mean \"{meant}\"?"),
        None => String::new(),
    }
}
