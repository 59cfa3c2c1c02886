//! Points in time as the contract writes them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

#[cfg(test)]
mod tests {
    use super::*;

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
