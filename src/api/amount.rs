//! A count or a percentage of the replicas, as in a Deployment's `maxSurge`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of pods, or a percentage of the wanted ones: `1`, `25%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Amount {
    /// So many pods.
    Count(u32),
    /// So many percent of the wanted pods, 0 to 100.
    Percent(u32),
}

impl Amount {
    /// Whether it is nothing, however many pods there are.
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::Count(0) | Self::Percent(0))
    }

    /// Pods out of `replicas`, a part of a pod counting as one. For `maxSurge`.
    pub fn rounded_up(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => capped((u64::from(replicas) * u64::from(percent)).div_ceil(100)),
        }
    }

    /// Pods out of `replicas`, a part of a pod counting as none. For `maxUnavailable`.
    pub fn rounded_down(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => capped(u64::from(replicas) * u64::from(percent) / 100),
        }
    }
}

fn capped(pods: u64) -> u32 {
    u32::try_from(pods).unwrap_or(u32::MAX)
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of pods such as 1, or a percentage such as \"25%\"")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Amount, E> {
                u32::try_from(count)
                    .map(Amount::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(count), &self))
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Amount, E> {
                u32::try_from(count)
                    .map(Amount::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(count), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                text.strip_suffix('%')
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .filter(|percent| *percent <= 100)
                    .map(Amount::Percent)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // minimum and maximum apply to numbers, pattern and maxLength to strings
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": 10000,
            "maxLength": 4,
            "pattern": "^([0-9]|[1-9][0-9]|100)%$",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Amount::{self, Count, Percent};

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        // amount, replicas, surge, unavailable
        for (amount, replicas, up, down) in [
            (Percent(25), 0, 0, 0),
            (Percent(25), 1, 1, 0),
            (Percent(25), 3, 1, 0),
            (Percent(25), 4, 1, 1),
            (Percent(25), 5, 2, 1),
            (Percent(100), 7, 7, 7),
            (Percent(0), 7, 0, 0),
            (Count(3), 1, 3, 3),
            (Percent(100), u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(amount.rounded_up(replicas), up, "{amount} of {replicas}");
            assert_eq!(amount.rounded_down(replicas), down, "{amount} of {replicas}");
        }
    }

    #[test]
    fn reads_and_writes_both_forms() {
        for (value, amount) in [(json!(0), Count(0)), (json!(3), Count(3)), (json!("25%"), Percent(25))] {
            assert_eq!(serde_json::from_value::<Amount>(value.clone()).unwrap(), amount);
            assert_eq!(serde_json::to_value(amount).unwrap(), value);
        }
        for value in [json!(-1), json!("3"), json!("101%"), json!("%"), json!("+5%"), json!(1.5), json!(null)]
        {
            assert!(serde_json::from_value::<Amount>(value.clone()).is_err(), "{value}");
        }
    }
}
