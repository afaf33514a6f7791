//! Durations as people write them: `90s`, `10m`, `1h30m`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What the API server accepts. CEL's `duration()` reads every such string as we do.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s)){1,3}$";

/// A span of whole seconds, written as `90s`, `10m` or `1h30m`.
///
/// `60s` and `1m` are the same value, so exchanging one for the other changes nothing that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u32);

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write whole hours, minutes and seconds, such as 90s, 10m or 1h30m")]
pub struct ParseDurationError(String);

impl Duration {
    /// From whole seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Whole seconds.
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// Whole seconds as Kubernetes' probe and grace fields want them; capped at `i32::MAX` (68 years).
    pub fn as_i32_secs(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_secs(u64::from(duration.0))
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDurationError(text.to_owned());
        let (mut total, mut number, mut digits, mut units) = (0_u32, 0_u32, 0, 0);
        for character in text.chars() {
            let seconds = match character {
                '0'..='9' if digits < 5 => {
                    number = number * 10 + character.to_digit(10).unwrap_or_default();
                    digits += 1;
                    continue;
                }
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return Err(wrong()),
            };
            units += 1;
            if digits == 0 || units > 3 {
                return Err(wrong());
            }
            total += number * seconds; // at most 3 * 99999 * 3600, below u32::MAX
            (number, digits) = (0, 0);
        }
        if digits > 0 || units == 0 { Err(wrong()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Duration {
    /// The shortest way to write it; below two minutes always in seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 120 {
            return write!(f, "{}s", self.0);
        }
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        for (amount, unit) in [(hours, 'h'), (minutes, 'm'), (seconds, 's')] {
            if amount > 0 {
                write!(f, "{amount}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // maxLength bounds the estimated cost of the CEL rules that parse it
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 18 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Duration;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [
            ("90s", 90),
            ("10m", 600),
            ("1h30m", 5400),
            ("24h", 86_400),
            ("0s", 0),
            ("1h2m3s", 3723),
            ("00001s", 1),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_how_to_write_it() {
        for text in ["", "s", "90", "1d", "-5s", "1.5h", "5 m", "5S", "123456s", "1s1s1s1s", "5m3", "٣s"] {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert!(error.contains("such as 90s, 10m or 1h30m"), "{text}: {error}");
        }
    }

    #[test]
    fn defaults_read_as_documented() {
        for text in ["0s", "10s", "90s", "5m", "10m", "1h", "1h30m", "24h"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn survives_a_round_trip(seconds in 0_u32..300_000_000) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn never_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<Duration>();
        }
    }
}
