//! Values of the command line that are more than a number.

use std::str::FromStr;
use std::time::Duration;

use whimbrel_broker::net::Keepalive;
use whimbrel_broker::topic::{TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

/// A number of bytes: `65536`, `64k`, `2M` or `1G`, in powers of 1,024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "write a number of bytes such as 65536, 64k, 2M or 1G";

        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let shift = match &*text[digits.len()..].to_ascii_lowercase() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return Err(EXPECTED),
        };
        // u64's own parser would take a sign.
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(EXPECTED);
        }
        let number: u64 = digits.parse().map_err(|_| EXPECTED)?;
        number.checked_mul(1 << shift).map(Self).ok_or(EXPECTED)
    }
}

impl Bytes {
    /// As a limit in memory: what does not fit is no limit.
    pub(crate) fn as_limit(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The size of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketSize(pub(crate) u32);

impl FromStr for PacketSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Bytes(bytes) = text.parse()?;
        u32::try_from(bytes)
            .ok()
            .filter(|size| (PACKET_SIZE_MIN..=PACKET_SIZE_MAX).contains(size))
            .map(Self)
            .ok_or("a packet may have 1024 to 268435460 bytes")
    }
}

/// Seconds, or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry(pub(crate) u32);

impl FromStr for Expiry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self(u32::MAX));
        }
        let seconds = text.parse();
        seconds
            .map(Self)
            .map_err(|_| "write a number of seconds, or never")
    }
}

/// A topic filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(pub(crate) TopicFilterBuf);

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let filter = TopicFilter::new(text).map_err(|error| error.to_string())?;
        Ok(Self(filter.to_owned()))
    }
}

/// A topic name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic(pub(crate) TopicNameBuf);

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = TopicName::new(text).map_err(|error| error.to_string())?;
        Ok(Self(name.to_owned()))
    }
}

/// TCP keepalive probes, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probes(pub(crate) Option<Keepalive>);

impl FromStr for Probes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "write IDLE,INTERVAL,COUNT in seconds, such as 60,15,4, or off";

        if text == "off" {
            return Ok(Self(None));
        }
        let mut numbers = text.split(',').map(|number| number.trim().parse::<u32>());
        let (Some(Ok(idle)), Some(Ok(interval)), Some(Ok(count)), None) = (
            numbers.next(),
            numbers.next(),
            numbers.next(),
            numbers.next(),
        ) else {
            return Err(EXPECTED);
        };
        Ok(Self(Some(Keepalive {
            idle: Duration::from_secs(u64::from(idle)),
            interval: Duration::from_secs(u64::from(interval)),
            count,
        })))
    }
}

/// Below it not even a CONNECT with an ordinary client id fits.
const PACKET_SIZE_MIN: u32 = 1_024;
/// The largest remaining length and the largest fixed header [MQTT-2.1.4].
const PACKET_SIZE_MAX: u32 = 268_435_455 + 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("64k", 65_536),
            ("2M", 2 << 20),
            ("2MiB", 2 << 20),
            ("1g", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "+1",
            "1.5M",
            "2T",
            "1 k",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn packets_have_the_protocols_largest_size_at_most() {
        assert_eq!("268435460".parse(), Ok(PacketSize(268_435_460)));
        assert!("268435461".parse::<PacketSize>().is_err());
        assert!("1023".parse::<PacketSize>().is_err());
    }

    #[test]
    fn probes_are_three_numbers_or_off() {
        assert_eq!("off".parse(), Ok(Probes(None)));
        assert_eq!("60,15,4".parse(), Ok(Probes(Some(Keepalive::default()))));
        for text in ["", "60", "60,15", "60,15,4,1", "60,15,x"] {
            assert!(text.parse::<Probes>().is_err(), "{text}");
        }
    }
}
