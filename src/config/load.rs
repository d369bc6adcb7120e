//! Reading a settings file, and saying exactly where it is wrong.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

use super::{ConfigError, suggest};

/// What a settings file can hold.
pub trait Settings: DeserializeOwned {
    /// Makes relative paths absolute: they are meant from this directory.
    fn resolve(&mut self, directory: &Path);

    /// Looks at what single values can't show.
    ///
    /// # Errors
    /// The key concerned and what is wrong with it.
    fn check(&self) -> Result<(), (String, String)>;
}

/// Reads and checks a settings file.
///
/// # Errors
/// It can't be read, a key or value is wrong, or values do not fit together.
pub fn load<T: Settings>(path: &Path) -> Result<T, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        file: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// [`load`], for a text that came from `path`.
///
/// # Errors
/// As [`load`], but for reading.
pub fn parse<T: Settings>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let mut settings: T = toml::from_str(text).map_err(|error| locate(path, text, &error))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Absolute, so that a later change of the working directory changes nothing.
    let directory = std::path::absolute(directory).map_err(|source| ConfigError::Read {
        file: path.to_owned(),
        source,
    })?;
    settings.resolve(&directory);
    settings
        .check()
        .map_err(|(key, problem)| ConfigError::Invalid {
            file: path.to_owned(),
            key,
            problem,
        })?;
    Ok(settings)
}

fn locate(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[line_start..].chars().count() + 1;
    let message = error.message();
    ConfigError::Parse {
        file: path.to_owned(),
        line,
        column,
        key: key_at(text, line),
        problem: message.to_owned(),
        suggestion: suggestion(message),
    }
}

/// The key that a line belongs to, with its table: `tls.certificate`.
fn key_at(text: &str, line: usize) -> String {
    let mut key = None;
    for text in text
        .lines()
        .take(line)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let text = text.trim();
        if text.starts_with('[') && text.ends_with(']') && !text.contains('=') {
            let table = text.trim_matches(['[', ']', ' ']);
            return match key {
                Some(key) => format!("{table}.{key}"),
                None => table.to_owned(),
            };
        }
        let name = text.split_once('=').map(|(name, _)| name.trim());
        let is_key = |name: &&str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"'))
        };
        // The nearest key above counts: a list may stand on lines of its own.
        if key.is_none() {
            key = name.filter(is_key).map(str::to_owned);
        }
    }
    key.unwrap_or_else(|| "file".to_owned())
}

/// Serde names what it found and what it knows between backticks.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.next()?;
    suggest::nearest(found, quoted).map(str::to_owned)
}
