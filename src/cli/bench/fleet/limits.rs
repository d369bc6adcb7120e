//! Whether this process may open as many files as the fleet has connections.

use anyhow::Context as _;

/// Files beside the connections: stores, logs, pipes, libraries.
const BESIDE: u64 = 200;

/// The hub inherits the limit, and has a connection to each party as well.
///
/// # Errors
/// Too few may be open: what to do.
pub(super) fn check(parties: u32) -> anyhow::Result<()> {
    let said = std::fs::read_to_string("/proc/self/limits")
        .context("/proc/self/limits: this benchmark needs Linux")?;
    judge(parties, &said)
}

fn judge(parties: u32, limits: &str) -> anyhow::Result<()> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .context("/proc/self/limits does not say how many files may be open")?;
    let mut words = line.split_whitespace();
    let mut limit = || match words.next() {
        Some("unlimited") => Some(u64::MAX),
        word => word?.parse().ok(),
    };
    let (soft, hard) = limit()
        .zip(limit())
        .context("/proc/self/limits can't be read")?;
    let needed = u64::from(parties) + BESIDE;
    if soft >= needed {
        return Ok(());
    }
    let what_to_do = if hard >= needed {
        format!("say `ulimit -n {needed}` in this shell first, or take fewer --parties")
    } else {
        format!(
            "and may not be raised beyond {hard} here: have it raised (root: `ulimit -Hn {needed}`, \
             or LimitNOFILE of a systemd unit, or /etc/security/limits.conf), or take fewer --parties"
        )
    };
    anyhow::bail!(
        "{parties} parties need {needed} open files in this process and as many in the hub, but \
         the limit is {soft}: {what_to_do}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(soft: &str, hard: &str) -> Option<String> {
        let limits = format!(
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max processes             10                   10                   processes\n\
             Max open files            {soft}                 {hard}               files\n"
        );
        let judged = judge(1_000, &limits);
        judged.err().map(|error| error.to_string())
    }

    /// Scenario: limits that suffice, that can be raised, and that can't.
    /// Guarantee: nothing is said of the first; the others say what to do.
    #[test]
    fn too_few_files_are_named_first() {
        assert_eq!(found("1200", "1200"), None);
        assert_eq!(found("unlimited", "unlimited"), None);
        let soft = found("1024", "524288").unwrap();
        assert!(soft.contains("ulimit -n 1200"), "{soft}");
        let hard = found("1024", "1024").unwrap();
        assert!(hard.contains("ulimit -Hn 1200"), "{hard}");
    }
}
