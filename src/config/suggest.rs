//! "Did you mean ...?"

/// The candidate that was probably meant, if one is near enough.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A third of the word may be wrong; of two letters, one.
    let most = (word.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let is_abbreviation = word.len() >= 3 && candidate.starts_with(word);
        let found = match is_abbreviation {
            true => 0,
            false => distance(word, candidate),
        };
        if found <= most && best.is_none_or(|(least, _)| found < least) {
            best = Some((found, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Letters to insert, drop, replace or swap with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().collect();
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            let is_swap = i > 0 && j > 0 && from[i - 1] == *b && to[j - 1] == *a;
            if is_swap {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: usual slips of the hand.
    /// Guarantee: the key that was meant is found, and a stranger gets no hint.
    #[test]
    fn finds_what_was_meant() {
        let keys = ["certificate", "key", "roots", "crls"];
        assert_eq!(nearest("certifcate", keys), Some("certificate"));
        assert_eq!(nearest("cert", keys), Some("certificate"));
        assert_eq!(nearest("root", keys), Some("roots"));
        assert_eq!(nearest("kye", keys), Some("key"));
        assert_eq!(nearest("password", keys), None);
    }
}
