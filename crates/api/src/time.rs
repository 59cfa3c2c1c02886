//! Points in time as the contract writes them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ids::ParseError, sigv4::AmzDate, text::serde_as_text};

/// Milliseconds since the Unix epoch; in JSON a number of seconds with a fraction (spec 2.5), such as `1790000000.123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Exact to the millisecond: 2^53 / 1000 seconds reach far beyond any year of use.
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(Timestamp((seconds * 1000.0).round() as i64))
    }
}

/// A point in time as `lambda-core` writes it: ISO 8601 in UTC with milliseconds, such as `2026-09-21T13:33:20.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IsoTimestamp(pub Timestamp);

impl fmt::Display for IsoTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.0.div_euclid(1000), self.0.0.rem_euclid(1000));
        let date = AmzDate::from_seconds(seconds);
        let (day, time) = (date.day(), &date.as_str()[9..15]);
        write!(f, "{}-{}-{}T", &day[..4], &day[4..6], &day[6..])?;
        write!(f, "{}:{}:{}.{millis:03}Z", &time[..2], &time[2..4], &time[4..])
    }
}

impl FromStr for IsoTimestamp {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let read = || {
            let (whole, millis) = text.strip_suffix('Z')?.split_once('.')?;
            let plain = whole.replace(['-', ':'], "");
            let seconds = AmzDate::parse(&format!("{plain}Z"))?.seconds();
            let millis = millis.parse::<i64>().ok().filter(|millis| (0..1000).contains(millis))?;
            let read = IsoTimestamp(Timestamp(seconds * 1000 + millis));
            (read.to_string() == text).then_some(read)
        };
        read().ok_or_else(|| ParseError::new(text, "a time has the form YYYY-MM-DDTHH:MM:SS.mmmZ"))
    }
}

serde_as_text!(IsoTimestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_spelling() {
        for (millis, text) in [
            (1_790_000_000_123, "2026-09-21T14:13:20.123Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
        ] {
            let time = IsoTimestamp(Timestamp::from_millis(millis));
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
        for wrong in
            ["", "2026-09-21T14:13:20Z", "2026-09-21T14:13:20.1Z", "20260921T141320.000Z", "2026-02-30T00:00:00.000Z"]
        {
            assert!(wrong.parse::<IsoTimestamp>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn seconds_with_milliseconds() {
        for (millis, text) in [(1_790_000_000_123, "1790000000.123"), (1_790_000_000_000, "1790000000.0"), (7, "0.007")]
        {
            let timestamp = Timestamp::from_millis(millis);
            assert_eq!(serde_json::to_string(&timestamp).unwrap(), text);
            assert_eq!(serde_json::from_str::<Timestamp>(text).unwrap(), timestamp);
        }
        assert_eq!(serde_json::from_str::<Timestamp>("1790000000").unwrap().as_millis(), 1_790_000_000_000);
    }
}
