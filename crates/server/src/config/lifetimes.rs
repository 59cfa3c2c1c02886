//! `[limits]`: how long microVMs may live here, where AWS allows 8 hours (spec 5.3, 5.4).

use std::fmt;

use api::schema::bounds::{Longest, MAXIMUM_DURATION_SECONDS};
use serde::{Deserialize, Deserializer, de};

use super::{ConfigError, within};

/// The most that can be set, seconds: ten years.
const MOST: u64 = 10 * 365 * 24 * 3600;
const BOUND: &str = "28800..=315360000, or \"none\"";

/// `[limits]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifetimes {
    /// Largest `maximumDurationInSeconds` and `maxIdleDurationSeconds`, and what a launch gets that does not say: seconds,
    /// 28800..=315360000, or `none`.
    pub microvm_seconds: Lifetime,
}

/// How long a microVM may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// So many seconds.
    Seconds(u32),
    /// As long as it is asked for; for ever, if nothing is asked for.
    Endless,
}

impl Default for Lifetime {
    fn default() -> Self {
        Lifetime::Seconds(MAXIMUM_DURATION_SECONDS)
    }
}

impl Lifetime {
    /// What requests are held to.
    pub fn longest(self) -> Longest {
        match self {
            Lifetime::Seconds(seconds) => Longest::seconds(seconds),
            Lifetime::Endless => Longest::ANY,
        }
    }

    /// The life in seconds of a microVM that was launched with `asked`; `None`: it has no end of its own.
    pub fn of(self, asked: Option<u32>) -> Option<u32> {
        match self {
            Lifetime::Seconds(seconds) => Some(asked.unwrap_or(seconds)),
            Lifetime::Endless => asked,
        }
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Lifetime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of seconds or \"none\"")
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Lifetime, E> {
                let wrong = || E::invalid_value(de::Unexpected::Signed(seconds), &self);
                u32::try_from(seconds).map(Lifetime::Seconds).map_err(|_| wrong())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Lifetime, E> {
                match text {
                    "none" => Ok(Lifetime::Endless),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Lifetimes {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.microvm_seconds {
            Lifetime::Seconds(seconds) => {
                within("limits.microvm_seconds", seconds.into(), MAXIMUM_DURATION_SECONDS.into(), MOST, BOUND)
            }
            Lifetime::Endless => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    #[test]
    fn eight_hours_more_or_none() {
        let set = |text: &str| load(&format!("[limits]\n{text}")).expect("loads").file.limits.microvm_seconds;
        for (text, longest, by_default) in [
            ("", 28_800, Some(28_800)),
            ("microvm_seconds = 28800", 28_800, Some(28_800)),
            ("microvm_seconds = 315360000", 315_360_000, Some(315_360_000)),
            ("microvm_seconds = \"none\"", i32::MAX as u32, None),
        ] {
            let lifetime = set(text);
            assert_eq!((lifetime.longest().get(), lifetime.of(None)), (longest, by_default), "{text}");
            assert_eq!(lifetime.of(Some(60)), Some(60));
        }
    }

    #[test]
    fn mistakes_name_the_setting_and_its_bound() {
        let error =
            |value: &str| load(&format!("[limits]\nmicrovm_seconds = {value}")).expect_err("refused").to_string();
        for value in ["28799", "315360001", "0"] {
            let words = format!("limits.microvm_seconds is {value}, must be 28800..=315360000, or \"none\"");
            assert!(error(value).contains(&words), "{}", error(value));
        }
        for value in ["-1", "\"ever\"", "1.5", "99999999999", "[]"] {
            let said = error(value);
            assert!(said.contains("microvm_seconds") && said.contains("seconds or \"none\""), "{said}");
        }
    }
}
