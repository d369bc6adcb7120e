//! Which language a caller of the HTTP door would rather read.

use axum::http::{HeaderMap, header};

/// The languages that errors are told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Where nothing else is asked for.
    English,
    /// Asked for with `Accept-Language: id`.
    Indonesian,
}

impl Language {
    /// The better of the two for this caller; RFC 9110, section 12.5.4.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::English);
        let ranges = headers
            .get_all(header::ACCEPT_LANGUAGE)
            .into_iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        for range in ranges {
            let mut fields = range.split(';').map(str::trim);
            let tag = fields.next().unwrap_or_default().to_ascii_lowercase();
            let quality = fields
                .find_map(|field| field.strip_prefix("q="))
                .map_or(1.0, |text| text.parse::<f32>().unwrap_or(0.0));
            let language = match tag.split('-').next() {
                // "in" is what old Java says for "id".
                Some("id" | "in") => Self::Indonesian,
                Some("en") => Self::English,
                _ => continue,
            };
            // The first of equals counts.
            if quality > best.0 {
                best = (quality, language);
            }
        }
        best.1
    }

    /// The tag for `Content-Language`.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Indonesian => "id",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: what browsers and programs send.
    /// Guarantee: Indonesian for those who prefer it, else English.
    #[test]
    fn reads_what_browsers_send() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, text.parse().unwrap());
            Language::of(&headers)
        };
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
        assert_eq!(of("id"), Language::Indonesian);
        assert_eq!(of("id-ID,id;q=0.9,en-US;q=0.8"), Language::Indonesian);
        assert_eq!(of("en-US,en;q=0.9,id;q=0.8"), Language::English);
        assert_eq!(of("jv, id;q=0.5, *;q=0.1"), Language::Indonesian);
        assert_eq!(of("id;q=0, en"), Language::English);
        assert_eq!(of("fr"), Language::English);
    }
}
