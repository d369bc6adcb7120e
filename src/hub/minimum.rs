//! The earliest software that the hub still takes: announced in heartbeats,
//! and in force from its moment on.

use crate::domain::{Micros, MinimumVersion};

/// Whether a node's software is refused now. Software of another name is not
/// judged: another maker's numbers mean something else.
pub(super) fn is_too_old(minimum: &MinimumVersion, software: &str, now: Micros) -> bool {
    if now < minimum.from {
        return false;
    }
    let (Some((wanted, least)), Some((name, version))) =
        (minimum.version.split_once('/'), software.split_once('/'))
    else {
        return false;
    };
    wanted == name && numbers(version) < numbers(least)
}

/// `0.12.3-rc.1` as [0, 12, 3].
fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+', ' ']).next().unwrap_or_default();
    let numbers = release.split('.').map(str::parse);
    numbers.map_while(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: nodes of many versions, before and after the moment that was
    /// announced.
    /// Guarantee: before it nobody is refused; after it exactly who is older,
    /// by numbers and not by letters, and nobody of another maker.
    #[test]
    fn who_is_older_is_refused_from_the_moment_on() {
        let minimum = MinimumVersion {
            version: "jembatan/0.10.0".to_owned(),
            from: Micros(100),
        };
        let at = |software, now| is_too_old(&minimum, software, Micros(now));
        for old in ["jembatan/0.9.9", "jembatan/0.10", "jembatan/"] {
            assert!(!at(old, 99), "{old}");
            assert!(at(old, 100), "{old}");
        }
        for good in ["jembatan/0.10.0", "jembatan/1.0.0-rc.1", "lain/0.1.0", ""] {
            assert!(!at(good, 100), "{good}");
        }
    }
}
