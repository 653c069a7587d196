//! Amounts as a person writes them: each with its unit, each refusal with its remedy.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::Protocol;

/// A scalar of the file: how it reads as text and as a bare number.
trait Scalar: Sized {
    /// What belongs here, for serde's message where something else stands.
    const EXPECTS: &'static str;
    fn from_text(text: &str) -> Result<Self, String>;
    /// A number without quotes or unit, in decimal.
    fn from_number(number: &str) -> Result<Self, String> {
        Self::from_text(number)
    }
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTS)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text.trim()).map_err(E::custom)
    }
    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Err(E::custom(format!("nothing stands here: write {}", T::EXPECTS)))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_number(&number.to_string()).map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_number(&number.to_string()).map_err(E::custom)
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::from_number(&number.to_string()).map_err(E::custom)
    }
}

macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident($inner:ty), schema $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::from_text(text.trim())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(ScalarVisitor::<Self>(PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

scalar!(
    /// A length of time in milliseconds, more than 0. Written with units, ms, s, m, h and d or their
    /// names: `500ms`, `30s`, `1m30s`, `1.5h`, `10 sec`.
    Millis(u64),
    schema {
        "type": "string",
        "description": "a length of time with its unit, as 500ms, 30s, 1m30s or 2h; more than 0",
        "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)\s*)+$"
    }
);

scalar!(
    /// A number of bytes, more than 0. Written with a unit: B, KiB, MiB, GiB, or k, M, G for powers
    /// of 1000. `64MB` is `64M`, `64Mi` is `64MiB`, and `64mb` is both letters small; `64Mb` may be bits.
    Size(u64),
    schema {
        "type": "string",
        "description": "an amount with its unit, as 64MiB or 1G; more than 0",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kMGB]|[kKmMgG]([iI]B?|B)|[kmg]i?b)\s*$"
    }
);

scalar!(
    /// A number of bytes a second, more than 0. Written as a size over `s`: `100MiB/s`.
    Rate(u64),
    schema {
        "type": "string",
        "description": "an amount a second, as 100MiB/s; more than 0",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kMGB]|[kKmMgG]([iI]B?|B)|[kmg]i?b)\s*/\s*s\s*$"
    }
);

scalar!(
    /// A protocol with ports, `tcp` or `udp` in letters of any size.
    AnyProtocol(Protocol),
    schema {
        "type": "string",
        "description": "tcp or udp",
        "pattern": r"^\s*([tT][cC][pP]|[uU][dD][pP])\s*$"
    }
);

scalar!(
    /// A share in millionths, more than 0 and at most 1,000,000. Written in percent: `5`, `0.5`,
    /// `5%`.
    Percent(u32),
    schema {
        "description": "percent, more than 0 and at most 100, as 5, 0.5 or 5%",
        "anyOf": [
            { "type": "number", "exclusiveMinimum": 0, "maximum": 100 },
            { "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%?\s*$" }
        ]
    }
);

scalar!(
    /// A share in millionths, more than 0 and at most 1,000,000. Written as a fraction: `0.34`.
    Share(u32),
    schema {
        "description": "a share, more than 0 and at most 1, as 0.34",
        "anyOf": [
            { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
            { "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%?\s*$" }
        ]
    }
);

scalar!(
    /// The most failed samples of a million that are steady. Written `< 1%`, `<= 1%` or `1%`; the
    /// first leaves out the limit itself.
    ErrorRate(u32),
    schema {
        "type": "string",
        "description": "the share of failed samples that is still steady, as `< 1%`",
        "pattern": r"^\s*(<|<=)?\s*[0-9]+(\.[0-9]+)?\s*%\s*$"
    }
);

scalar!(
    /// The longest latency in microseconds that is steady. Written `< 250ms`, `<= 250ms` or `250ms`;
    /// the first leaves out the limit itself.
    Latency(u64),
    schema {
        "type": "string",
        "description": "the latency that is still steady, as `< 250ms`",
        "pattern": r"^\s*(<|<=)?\s*([0-9]+(\.[0-9]+)?\s*(ms|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)\s*)+$"
    }
);

/// Reads a plain decimal as a whole number of units of 10^-`digits`.
fn decimal(text: &str, digits: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || fraction.len() > digits {
        return None;
    }
    format!("{whole}{fraction:0<digits$}").parse().ok()
}

/// Millionths in decimal, `scale` to the unit.
fn decimals(value: u64, scale: u64) -> String {
    let digits = scale.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / scale, value % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Scalar for Millis {
    const EXPECTS: &'static str = "a length of time with its unit, as 500ms, 30s, 5m or 1h";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("`{text}` is negative: a length of time is more than 0, as 30s"));
        }
        if decimal(text, 9) == Some(0) {
            return Err(format!("`{text}` is zero: write more, as 30s"));
        }
        if decimal(text, 9).is_some() {
            return Err(format!("`{text}` has no unit: write {text}s for seconds, or ms, m, h"));
        }
        let unreadable = || format!("`{text}` is not {}", Self::EXPECTS);
        let (mut rest, mut total_us) = (text, 0_u64);
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let (number, tail) = rest.split_at(number.ok_or_else(unreadable)?);
            let tail = tail.trim_start();
            let unit = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let unit_us: u64 = match unit {
                "ms" => 1_000,
                "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
                "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000,
                "h" | "hour" | "hours" => 3_600_000_000,
                "d" | "day" | "days" => 86_400_000_000,
                _ => return Err(format!("{}; units are ms, s, m, h and d", unreadable())),
            };
            let thousandths = decimal(number, 3).ok_or_else(unreadable)?;
            let part = thousandths.checked_mul(unit_us / 1_000);
            total_us = part
                .and_then(|part| total_us.checked_add(part))
                .ok_or_else(|| format!("`{text}` is too long"))?;
            rest = tail.trim_start();
        }
        if text.is_empty() {
            return Err(unreadable());
        }
        if total_us == 0 {
            return Err(format!("`{text}` is zero: a length of time is more than 0, as 30s"));
        }
        if total_us % 1_000 != 0 {
            return Err(format!("`{text}` is not a whole number of milliseconds"));
        }
        Ok(Millis(total_us / 1_000))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = match self.0 {
            ms if ms % 3_600_000 == 0 => (ms / 3_600_000, "h"),
            ms if ms % 60_000 == 0 => (ms / 60_000, "m"),
            ms if ms % 1_000 == 0 => (ms / 1_000, "s"),
            ms => (ms, "ms"),
        };
        f.pad(&format!("{n}{unit}"))
    }
}

/// Units of size, the largest first among those of one base.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
    ("B", 1),
];

impl Scalar for Size {
    const EXPECTS: &'static str = "an amount with its unit, as 64MiB or 1G";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("`{text}` is negative: an amount is more than 0, as 64MiB"));
        }
        if decimal(text, 9) == Some(0) {
            return Err(format!("`{text}` is zero: write more, as 64MiB"));
        }
        if decimal(text, 9).is_some() {
            return Err(format!("`{text}` has no unit: write {text}MiB, or B, KiB, GiB, k, M, G"));
        }
        let unreadable =
            || format!("`{text}` is not {}; units are B, KiB, MiB, GiB, k, M and G", Self::EXPECTS);
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(unreadable)?;
        let (number, unit) = text.split_at(at);
        let unit = unit.trim();
        if unit.ends_with('b') && unit.contains(char::is_uppercase) {
            let bytes = unit.replace('b', "B");
            return Err(format!("`{text}` may be bits: for bytes write {number}{bytes}"));
        }
        let bare = |unit: &str| {
            let small = unit.to_ascii_lowercase();
            small.strip_suffix('b').unwrap_or(&small).to_owned()
        };
        // `m` alone is a thousandth elsewhere: of one letter only those above are known.
        let same = |name: &str| name == unit || (unit.len() > 1 && bare(name) == bare(unit));
        let scale = SIZES.iter().find(|(name, _)| same(name));
        let (_, scale) = scale.ok_or_else(unreadable)?;
        let thousandths = decimal(number, 3).ok_or_else(unreadable)?;
        let bytes = u128::from(thousandths) * u128::from(*scale) / 1_000;
        match u64::try_from(bytes) {
            Ok(0) => Err(format!("`{text}` is nothing: an amount is more than 0, as 64MiB")),
            Ok(bytes) => Ok(Size(bytes)),
            Err(_) => Err(format!("`{text}` is too much")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZES.iter().find(|(_, scale)| self.0.is_multiple_of(*scale));
        let (unit, scale) = fits.unwrap_or(&("B", 1));
        f.pad(&format!("{}{unit}", self.0 / scale))
    }
}

impl Scalar for Rate {
    const EXPECTS: &'static str = "an amount a second, as 100MiB/s";

    fn from_text(text: &str) -> Result<Self, String> {
        let over = text.strip_suffix('s').and_then(|t| t.trim_end().strip_suffix('/'));
        match over {
            Some(size) => Size::from_text(size.trim_end()).map(|size| Rate(size.0)),
            None => Err(format!("`{text}` is not {}", Self::EXPECTS)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", Size(self.0)))
    }
}

impl Scalar for AnyProtocol {
    const EXPECTS: &'static str = "a protocol: tcp or udp";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(AnyProtocol(Protocol::Tcp)),
            "udp" => Ok(AnyProtocol(Protocol::Udp)),
            _ => Err(format!("`{text}` is not {}", Self::EXPECTS)),
        }
    }
}

impl fmt::Display for AnyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A field of a form that may be left out.
pub(super) fn any_protocol<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Protocol>, D::Error> {
    Ok(Option::<AnyProtocol>::deserialize(from)?.map(|any| any.0))
}

impl Percent {
    /// The percent as a whole number from 1 to 100, where it is one.
    #[must_use]
    pub fn whole(self) -> Option<u8> {
        if self.0.is_multiple_of(10_000) { u8::try_from(self.0 / 10_000).ok() } else { None }
    }
}

impl Scalar for Percent {
    const EXPECTS: &'static str = "percent, more than 0 and at most 100, as 5 or 5%";

    fn from_text(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        match decimal(number.strip_prefix('-').unwrap_or(number), 4) {
            None => Err(format!("`{text}` is not {}, four decimals at most", Self::EXPECTS)),
            Some(0) => Err(format!("`{text}` is nothing: percent must be more than 0")),
            Some(_) if number.starts_with('-') => {
                Err(format!("`{text}` is negative: percent must be more than 0"))
            }
            Some(ppm) if ppm > 1_000_000 => {
                Err(format!("`{text}` is more than the whole: percent must be at most 100"))
            }
            Some(ppm) => Ok(Percent(u32::try_from(ppm).unwrap_or(1_000_000))),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", decimals(self.0.into(), 10_000)))
    }
}

impl Scalar for Share {
    const EXPECTS: &'static str = "a share, more than 0 and at most 1, as 0.34";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.ends_with('%') {
            return Percent::from_text(text).map(|p| Share(p.0));
        }
        match decimal(text, 6) {
            Some(ppm @ 1..=1_000_000) => Ok(Share(u32::try_from(ppm).unwrap_or(1_000_000))),
            Some(ppm) if ppm > 1_000_000 && ppm <= 100_000_000 => {
                let share = decimals(ppm, 100_000_000);
                Err(format!("`{text}` is not {}: for {text} % write {share}", Self::EXPECTS))
            }
            Some(_) | None => Err(format!("`{text}` is not {}", Self::EXPECTS)),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&decimals(self.0.into(), 1_000_000))
    }
}

/// Takes `<` or `<=` off; true where the limit itself is left out.
fn bound(text: &str) -> (bool, &str) {
    if let Some(rest) = text.strip_prefix("<=") {
        (false, rest.trim())
    } else if let Some(rest) = text.strip_prefix('<') {
        (true, rest.trim())
    } else {
        (false, text)
    }
}

impl Scalar for ErrorRate {
    const EXPECTS: &'static str = "an upper bound in percent, as `< 1%` or `<= 0.5%`";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not {}", Self::EXPECTS);
        let (below, limit) = bound(text);
        let number = limit.strip_suffix('%').ok_or_else(wrong)?.trim();
        let ppm = decimal(number, 4).filter(|ppm| *ppm <= 1_000_000).ok_or_else(wrong)?;
        let ppm = u32::try_from(ppm).unwrap_or(1_000_000);
        if below && ppm == 0 {
            return Err(format!("`{text}` can never hold: for no error at all write `<= 0%`"));
        }
        Ok(ErrorRate(ppm - u32::from(below)))
    }
}

impl fmt::Display for ErrorRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `< 1%` is read as the largest count of a million below it.
        let below = u64::from(self.0) + 1;
        let (sign, ppm) =
            if below.is_multiple_of(100) { ("<", below) } else { ("<=", self.0.into()) };
        f.pad(&format!("{sign} {}%", decimals(ppm, 10_000)))
    }
}

impl Scalar for Latency {
    const EXPECTS: &'static str = "an upper bound with its unit, as `< 250ms`";

    fn from_text(text: &str) -> Result<Self, String> {
        let (below, limit) = bound(text);
        let refused = |why| format!("`{text}` is not {}: {why}", Self::EXPECTS);
        let Millis(ms) = Millis::from_text(limit).map_err(refused)?;
        Ok(Latency(ms.saturating_mul(1_000) - u64::from(below)))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0.is_multiple_of(1_000) { "<=" } else { "<" };
        f.pad(&format!("{sign} {}", Millis(self.0.div_ceil(1_000))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Scalar>(text: &str) -> Result<T, String> {
        T::from_text(text)
    }

    #[test]
    fn lengths_of_time_carry_a_unit_and_are_more_than_zero() {
        for (text, ms) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("0.25s", 250),
            ("10sec", 10_000),
            ("10 s", 10_000),
            ("2 minutes 1 second", 121_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(read::<Millis>(text), Ok(Millis(ms)), "{text}");
        }
        for (text, says) in [
            ("30", "has no unit: write 30s"),
            ("-5s", "is negative"),
            ("-5", "is negative"),
            ("0s", "is zero"),
            ("0", "is zero"),
            ("0h0m", "is zero"),
            ("", "is not a length of time"),
            ("5w", "units are ms, s, m, h and d"),
            ("s", "is not a length of time"),
            ("1s5", "is not a length of time"),
            ("1..5s", "is not a length of time"),
            ("1.5ms", "whole number of milliseconds"),
            ("9999999999999h", "is too long"),
            ("NaN", "is not a length of time"),
        ] {
            let error = read::<Millis>(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        for ms in [1, 999, 1_000, 61_000, 120_000, 7_200_000] {
            assert_eq!(read::<Millis>(&Millis(ms).to_string()), Ok(Millis(ms)));
        }
    }

    #[test]
    fn sizes_carry_a_unit_of_either_base() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("1k", 1_000),
            ("2 M", 2_000_000),
            ("3G", 3_000_000_000),
            ("512B", 512),
            ("1KiB", 1024),
        ] {
            assert_eq!(read::<Size>(text), Ok(Size(bytes)), "{text}");
            assert_eq!(read::<Size>(&Size(bytes).to_string()), Ok(Size(bytes)));
        }
        for (text, says) in [
            ("64", "has no unit: write 64MiB"),
            ("0B", "is nothing"),
            ("-1G", "is negative"),
            ("64Mb", "`64Mb` may be bits: for bytes write 64MB"),
            ("64mbb", "units are B, KiB"),
            ("64iB", "units are B, KiB"),
            ("64m", "units are B, KiB"),
            ("64b", "units are B, KiB"),
            ("MiB", "is not an amount"),
            ("99999999999999GiB", "too much"),
        ] {
            let error = read::<Size>(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_b_of_a_size_and_the_size_of_its_letters_are_free() {
        for (bytes, texts) in [
            (64_000_000, &["64M", "64MB", "64mB", "64mb"][..]),
            (64 << 20, &["64Mi", "64MiB", "64mi", "64mib", "64 MIB"]),
            (1_000, &["1KB", "1kB", "1kb"]),
            (1_000_000_000, &["1GB", "1gb"]),
        ] {
            for text in texts {
                assert_eq!(read::<Size>(text), Ok(Size(bytes)), "{text}");
                assert_eq!(read::<Rate>(&format!("{text}/s")), Ok(Rate(bytes)), "{text}/s");
            }
        }
    }

    #[test]
    fn percent_is_over_0_and_at_most_100() {
        for (text, ppm) in
            [("5", 50_000), ("5%", 50_000), ("0.5 %", 5_000), ("100", 1_000_000), ("0.0001", 1)]
        {
            assert_eq!(read::<Percent>(text), Ok(Percent(ppm)), "{text}");
            assert_eq!(read::<Percent>(&Percent(ppm).to_string()), Ok(Percent(ppm)));
        }
        for (text, says) in [
            ("150%", "at most 100"),
            ("100.0001", "at most 100"),
            ("0", "more than 0"),
            ("-5", "is negative"),
            ("many", "is not percent"),
            ("0.00001", "four decimals at most"),
            ("NaN", "is not percent"),
            ("", "is not percent"),
        ] {
            let error = read::<Percent>(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!((Percent(340_000).whole(), Percent(345_000).whole()), (Some(34), None));
    }

    #[test]
    fn a_share_is_over_0_and_at_most_1() {
        assert_eq!(read::<Share>("0.34"), Ok(Share(340_000)));
        assert_eq!(read::<Share>("34%"), Ok(Share(340_000)));
        assert_eq!(read::<Share>("1"), Ok(Share(1_000_000)));
        assert_eq!(Share(340_000).to_string(), "0.34");
        assert!(read::<Share>("34").unwrap_err().contains("for 34 % write 0.34"));
        for text in ["0", "-0.5", "1000", "half", "0.0000001"] {
            assert!(
                read::<Share>(text).unwrap_err().contains("more than 0 and at most 1"),
                "{text}"
            );
        }
    }

    #[test]
    fn bounds_say_whether_the_limit_itself_is_steady() {
        assert_eq!(read::<ErrorRate>("< 1%"), Ok(ErrorRate(9_999)));
        assert_eq!(read::<ErrorRate>("<= 1%"), Ok(ErrorRate(10_000)));
        assert_eq!(read::<ErrorRate>("0%"), Ok(ErrorRate(0)));
        assert!(read::<ErrorRate>("< 0%").unwrap_err().contains("<= 0%"));
        for text in ["1", "> 1%", "101%", "< x%"] {
            assert!(read::<ErrorRate>(text).unwrap_err().contains("as `< 1%`"), "{text}");
        }
        for rate in [0, 9_999, 10_000, 1_000_000] {
            assert_eq!(read::<ErrorRate>(&ErrorRate(rate).to_string()), Ok(ErrorRate(rate)));
        }
        assert_eq!(ErrorRate(9_999).to_string(), "< 1%");
        assert_eq!(ErrorRate(5_000).to_string(), "<= 0.5%");
        assert_eq!(read::<Latency>("< 250ms"), Ok(Latency(249_999)));
        assert_eq!(read::<Latency>("<=1s"), Ok(Latency(1_000_000)));
        assert_eq!(Latency(249_999).to_string(), "< 250ms");
        assert_eq!(Latency(250_000).to_string(), "<= 250ms");
        assert!(read::<Latency>("< 250").unwrap_err().contains("has no unit"));
        for limit in [249_999, 1_500_000] {
            assert_eq!(read::<Latency>(&Latency(limit).to_string()), Ok(Latency(limit)));
        }
    }
}
