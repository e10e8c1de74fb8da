//! Numbers of the command line with what stands behind them: `100k`, `2.5`.

use std::str::FromStr;
use std::time::Duration;

/// A number of things: `5000`, `5k` or `1m`, in powers of 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

/// A number a second: as [`Count`], or a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

/// Seconds, also parts of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "write a number such as 5000, 5k or 1m";

        let (digits, factor) = split(text);
        // u64's own parser would take a sign.
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(EXPECTED);
        }
        let number: u64 = digits.parse().map_err(|_| EXPECTED)?;
        number.checked_mul(factor).map(Self).ok_or(EXPECTED)
    }
}

impl Count {
    /// As a number of clients or topics, of which there is a smaller limit anyway.
    pub(crate) fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, factor) = split(text);
        let number = decimal(digits).filter(|&rate| rate > 0.0);
        number
            .map(|rate| Self(rate * factor as f64))
            .ok_or("write a number a second such as 5000, 5k or 0.5")
    }
}

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = decimal(text.strip_suffix('s').unwrap_or(text));
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        duration
            .map(Self)
            .ok_or("write a number of seconds such as 30 or 0.5")
    }
}

/// The number, and what its unit multiplies it by.
fn split(text: &str) -> (&str, u64) {
    let units = [
        ('k', 1_000),
        ('K', 1_000),
        ('m', 1_000_000),
        ('M', 1_000_000),
    ];
    let found = units
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    found.unwrap_or((text, 1))
}

/// Digits, with a point among them at most: f64's own parser would take signs, exponents and words.
fn decimal(text: &str) -> Option<f64> {
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let number = text.bytes().all(is_plain).then_some(text)?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_in_powers_of_1000() {
        for (text, count) in [("0", 0), ("12", 12), ("5k", 5_000), ("3M", 3_000_000)] {
            assert_eq!(text.parse(), Ok(Count(count)), "{text}");
        }
        for text in ["", "k", "-1", "+1", "1.5k", "1g", "99999999999999999m"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
        assert_eq!(Count(u64::MAX).as_u32(), u32::MAX);
    }

    #[test]
    fn rates_may_be_below_one() {
        for (text, rate) in [("0.5", 0.5), ("5000", 5e3), ("2.5k", 2.5e3), ("1m", 1e6)] {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
        for text in ["", "0", "-1", "1e3", "inf", "NaN", ".", "1.2.3"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_have_parts() {
        for (text, milliseconds) in [("0", 0), ("30", 30_000), ("0.5", 500), ("2s", 2_000)] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(text.parse(), Ok(Seconds(duration)), "{text}");
        }
        for text in ["", "s", "-1", "1m", "inf", "99999999999999999999999"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }
}
