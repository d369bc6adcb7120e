//! `google.protobuf.Timestamp`, with the canonical JSON of protobuf: UTC, ends
//! in `Z`, and 0, 3, 6 or 9 digits after the second. (That of `pbjson-types`
//! ends in `+00:00`, which no other implementation writes.)

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment on the wire. Fields may be out of range until
/// [`super::micros`] has looked at them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970 UTC.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds after that second, 0 to 999 999 999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = jiff::Timestamp::from_second(self.seconds).map_err(|_| fmt::Error)?;
        write!(f, "{}", second.strftime("%Y-%m-%dT%H:%M:%S"))?;
        match self.nanos {
            0 => {}
            n if n % 1_000_000 == 0 => write!(f, ".{:03}", n / 1_000_000)?,
            n if n % 1_000 == 0 => write!(f, ".{:06}", n / 1_000)?,
            n => write!(f, ".{n:09}")?,
        }
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(|_| {
            de::Error::custom(
                "not a time such as 2026-11-24T08:00:00Z or 2026-11-24T08:00:00+07:00",
            )
        })?;
        // A moment before 1970 counts its nanoseconds from the second below.
        let nanos = moment.as_nanosecond();
        let second = nanos.div_euclid(1_000_000_000);
        Ok(Self {
            seconds: i64::try_from(second).map_err(de::Error::custom)?,
            nanos: nanos.rem_euclid(1_000_000_000) as i32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    /// Scenario: moments with 0, 3, 6 and 9 digits, one before 1970, one with
    /// an offset.
    /// Guarantee: written as protobuf's canonical JSON and read back as what
    /// they were; what is no time is refused with an example.
    #[test]
    fn json_is_canonical() {
        let cases = [
            (1_790_000_000, 0, "2026-09-21T14:13:20Z"),
            (1_790_000_000, 120_000_000, "2026-09-21T14:13:20.120Z"),
            (1_790_000_000, 123_400_000, "2026-09-21T14:13:20.123400Z"),
            (1_790_000_000, 5, "2026-09-21T14:13:20.000000005Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.500Z"),
        ];
        for (seconds, nanos, text) in cases {
            let time = Timestamp { seconds, nanos };
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::to_string(&time).unwrap(), json);
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        }
        let offset: Timestamp = serde_json::from_str("\"2026-09-21T21:13:20+07:00\"").unwrap();
        assert_eq!(offset.seconds, 1_790_000_000);
        let wrong = serde_json::from_str::<Timestamp>("\"kemarin\"").unwrap_err();
        assert!(wrong.to_string().contains("08:00:00Z"), "{wrong}");
    }
}
