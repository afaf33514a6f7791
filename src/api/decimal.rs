//! Decimal numbers as text. A CRD should hold no floats: they do not survive a round trip through every client.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What the API server accepts. CEL's `double()` reads every such string.
const PATTERN: &str = r"^-?[0-9]{1,12}(\.[0-9]{1,9})?$";
/// Parts of one.
const SCALE: i128 = 1_000_000_000;
/// Digits after the point.
const PLACES: usize = 9;
/// Beyond 10 to this power a value is as good as endless: no limit reaches it.
const HUGE: i64 = 20;

/// A limit, in text: `"0.05"`, `"2"`, `"-1.5"`. At most 12 digits before the point and 9 after it, held exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

/// A measured number: every decimal number of whatever size, as far as comparing it with a [`Decimal`] asks for.
///
/// It is the billionths below it, and whether there is more: so it compares exactly with every limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    billionths: i128,
    more: bool,
}

/// The text is no decimal number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a decimal number: write at most 12 digits, and after a point at most 9, such as \"0.05\""
)]
pub struct ParseDecimalError(String);

impl Decimal {
    /// From billionths.
    pub const fn from_billionths(billionths: i128) -> Self {
        Self(billionths)
    }
}

impl From<Decimal> for Number {
    fn from(decimal: Decimal) -> Self {
        Self { billionths: decimal.0, more: false }
    }
}

impl FromStr for Decimal {
    type Err = ParseDecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDecimalError(text.to_owned());
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, part) =
            digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
        let fine = |digits: &str, most| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        };
        if !fine(whole, 12) || part.is_some_and(|part| !fine(part, PLACES)) {
            return Err(wrong());
        }
        Number::measured(text).map(|number| Self(number.billionths)).ok_or_else(wrong)
    }
}

impl Number {
    /// Reads what a metrics store answers: digits with or without a point, an exponent, or a sign. None for `NaN`,
    /// infinities and everything else that is no number.
    pub fn measured(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        if !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // the number is 0.<digits> times ten to the power of `point`
        let digits: Vec<u8> = whole.bytes().chain(part.bytes()).skip_while(|digit| *digit == b'0').collect();
        let leading = i64::try_from(whole.len() + part.len() - digits.len()).ok()?;
        let point = i64::try_from(whole.len()).ok()? - leading + i64::from(exponent);
        if digits.is_empty() {
            return Some(Self { billionths: 0, more: false });
        }
        let below = |negative: bool, size: i128, rest: bool| match (negative, rest) {
            (false, _) => Self { billionths: size, more: rest },
            (true, false) => Self { billionths: -size, more: false },
            (true, true) => Self { billionths: -size - 1, more: true },
        };
        if point > HUGE {
            return Some(below(negative, i128::MAX / 2, false));
        }
        let wanted = point + i64::try_from(PLACES).ok()?;
        let Ok(wanted) = usize::try_from(wanted) else { return Some(below(negative, 0, true)) };
        let mut size = 0_i128;
        for place in 0..wanted {
            let digit = digits.get(place).map_or(0, |digit| i128::from(digit - b'0'));
            size = size * 10 + digit; // at most 29 digits
        }
        let rest = digits.iter().skip(wanted).any(|digit| *digit != b'0');
        Some(below(negative, size, rest))
    }
}

impl fmt::Display for Decimal {
    /// Without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = self.0.unsigned_abs();
        let scale = SCALE.unsigned_abs();
        let part = format!("{:09}", size % scale);
        match part.trim_end_matches('0') {
            "" => write!(f, "{sign}{}", size / scale),
            part => write!(f, "{sign}{}.{part}", size / scale),
        }
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 23 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn number(text: &str) -> Number {
        Number::measured(text).unwrap()
    }

    #[test]
    fn reads_what_people_write() {
        for (text, shown) in [
            ("0.05", "0.05"),
            ("2", "2"),
            ("-1.50", "-1.5"),
            ("0", "0"),
            ("-0", "0"),
            ("007", "7"),
            ("999999999999.999999999", "999999999999.999999999"),
            ("-0.000000001", "-0.000000001"),
        ] {
            assert_eq!(decimal(text).to_string(), shown);
        }
    }

    #[test]
    fn refuses_the_rest_and_says_how_to_write_it() {
        for text in
            ["", "-", ".5", "5.", "1e3", "+1", "1,5", "NaN", "1234567890123", "0.1234567890", " 1", "٣"]
        {
            let error = text.parse::<Decimal>().unwrap_err().to_string();
            assert!(error.contains("is not a decimal number"), "{text}: {error}");
        }
    }

    #[test]
    fn reads_what_metrics_stores_answer() {
        let cases: [(&str, &str); 9] = [
            ("0.05", "0.05"),
            ("5e-2", "0.05"),
            ("50E-3", "0.05"),
            ("+0.05", "0.05"),
            ("1.5e+03", "1500"),
            (".5", "0.5"),
            ("5.", "5"),
            ("0e99", "0"),
            ("-0.0", "0"),
        ];
        for (text, same) in cases {
            assert_eq!(number(text), decimal(same).into(), "{text}");
        }
    }

    #[test]
    fn no_number_is_none() {
        for text in [
            "", "NaN", "+Inf", "-Inf", "Inf", "inf", "nan", "-", ".", "e5", "1e", "1e5.5", "0x10", "1 ",
            "1_0",
        ] {
            assert_eq!(Number::measured(text), None, "{text}");
        }
    }

    #[test]
    fn a_hair_beyond_a_limit_is_beyond_it() {
        let limit = Number::from(decimal("0.05"));
        assert!(number("0.0500000000000001") > limit);
        assert!(number("0.0499999999999999") < limit);
        assert!(number("-0.0500000000000001") < decimal("-0.05").into());
        assert!(number("-0.0499999999999999") > decimal("-0.05").into());
        assert!(number("1e-300") > decimal("0").into());
        assert!(number("-1e-300") < decimal("0").into());
    }

    #[test]
    fn the_largest_numbers_are_beyond_every_limit() {
        let (low, high) = (decimal("-999999999999.999999999"), decimal("999999999999.999999999"));
        for text in ["1e12", "1e20", "1e21", "1e308", &"9".repeat(400), "1e2000000000"] {
            assert!(number(text) > high.into(), "{text}");
            assert!(number(&format!("-{text}")) < low.into(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn survives_a_round_trip(billionths in -999_999_999_999_999_999_999_i128..=999_999_999_999_999_999_999) {
            let decimal = Decimal::from_billionths(billionths);
            prop_assert_eq!(decimal.to_string().parse(), Ok(decimal));
            prop_assert_eq!(Number::measured(&decimal.to_string()), Some(decimal.into()));
        }

        #[test]
        fn agrees_with_floats_where_they_are_exact(value in -1_000_000_i32..1_000_000, limit in -1_000_000_i32..1_000_000) {
            // sixty-fourths are exact in both
            let (value, limit) = (f64::from(value) / 64.0, f64::from(limit) / 64.0);
            let decimal: Decimal = format!("{limit}").parse().unwrap();
            let expected = value.partial_cmp(&limit).unwrap();
            prop_assert_eq!(number(&format!("{value}")).cmp(&decimal.into()), expected);
            prop_assert_eq!(number(&format!("{value:e}")).cmp(&decimal.into()), expected);
        }

        #[test]
        fn never_panics(text in "[-+0-9.eE]{0,40}", odd in "\\PC{0,24}") {
            let _ = (Number::measured(&text), Number::measured(&odd), odd.parse::<Decimal>());
        }
    }
}
