//! What a run shall be: the target, the shape of the load, and a check that it makes sense, once, before a socket is opened.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// More clients than a process has descriptors for help nobody; the kernel's own limit speaks before this.
pub(super) const CONNECTIONS_COUNT_MAX: usize = 100_000;
/// Requests of one connection without an answer.
pub(super) const PIPELINE_COUNT_MAX: usize = 4_096;
/// memcached's own largest item (`-I 1g`).
const VALUE_BYTES_MAX: u64 = 1 << 30;
/// Longer than any measurement, short enough for 53 bits of nanoseconds.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest key is 250 bytes; the number after the prefix needs up to ten of them.
const PREFIX_BYTES_MAX: usize = 240;

/// What shall be done, to whom, for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub connections_count: usize,
    /// Requests that each connection keeps under way in the closed loop.
    pub pipeline_count: usize,
    /// Keys are `key_prefix` and a number below this.
    pub keys_count: u32,
    pub key_prefix: String,
    pub value_bytes: Sizes,
    pub sets: Share,
    /// More than one: classic multi-key gets.
    pub keys_per_get: u32,
    pub dialect: Dialect,
    /// Requests per second; `None` is the closed loop.
    pub rate: Option<f64>,
    /// At a fixed rate: requests that are due are sent at least this often. Shorter is truer to many clients
    /// that know nothing of each other, and dearer for the load.
    pub tick: Duration,
    /// How long is measured.
    pub duration: Duration,
    /// Load before the measurement begins.
    pub warm_up: Duration,
    /// Set every key first, so that no get misses.
    pub fill: bool,
    pub seed: u64,
    pub threads_count: usize,
    /// Processes whose CPU time and memory are reported.
    pub pids: Vec<u32>,
}

impl Plan {
    /// What is wrong with it, in a sentence that names the flag.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), String> {
        let fault = |bad: bool, text: String| if bad { Err(text) } else { Ok(()) };
        let Self { connections_count, pipeline_count, keys_count, keys_per_get, threads_count, .. } = *self;
        fault(
            !(1..=CONNECTIONS_COUNT_MAX).contains(&connections_count),
            format!("--connections {connections_count}: expected 1 to {CONNECTIONS_COUNT_MAX}"),
        )?;
        fault(
            !(1..=PIPELINE_COUNT_MAX).contains(&pipeline_count),
            format!("--pipeline {pipeline_count}: expected 1 to {PIPELINE_COUNT_MAX}"),
        )?;
        fault(keys_count == 0, "--keys 0: there must be a key to ask for".into())?;
        fault(
            !(1..=keys_count).contains(&keys_per_get),
            format!("--keys-per-get {keys_per_get}: expected 1 to the number of keys ({keys_count})"),
        )?;
        fault(
            keys_per_get > 1 && self.dialect == Dialect::Meta,
            "--keys-per-get: the meta protocol has no get of several keys; use --protocol classic".into(),
        )?;
        fault(
            !(1..=connections_count).contains(&threads_count),
            format!(
                "--threads {threads_count}: expected 1 to the number of connections ({connections_count})"
            ),
        )?;
        let prefix = self.key_prefix.as_bytes();
        fault(
            prefix.len() > PREFIX_BYTES_MAX || prefix.iter().any(|b| *b <= b' ' || *b == 0x7f),
            format!("--key-prefix: at most {PREFIX_BYTES_MAX} bytes without spaces and control characters"),
        )?;
        let too_long = |time: Duration| time > TIME_MAX;
        fault(
            too_long(self.duration) || too_long(self.warm_up),
            "--duration, --warm-up: at most a day".into(),
        )?;
        fault(
            self.tick.is_zero() || self.tick > Duration::from_secs(1),
            "--tick: expected 1us to 1s".into(),
        )?;
        fault(self.duration.is_zero(), "--duration: expected more than nothing".into())?;
        fault(
            self.rate.is_some_and(|r| !(0.001..=1e9).contains(&r)),
            "--rate: expected 0 to 1000000000".into(),
        )
    }
}

/// Where the load goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// As it was written, and what it resolved to.
    Tcp(String, SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("a path follows `unix:`".into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        if text.starts_with('/') {
            return Err(format!("a unix socket is written unix:{text}"));
        }
        let mut addresses = text
            .to_socket_addrs()
            .map_err(|error| format!("expected host:port, [ip6]:port or unix:/path ({error})"))?;
        let address = addresses.next().ok_or("the name has no address")?;
        Ok(Self::Tcp(text.into(), address))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(text, _) => f.write_str(text),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How long values are. A key's size never changes: it is a function of the key, as its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub bytes_min: u32,
    pub bytes_max: u32,
    /// Small ones as often as large ones by order of magnitude, as in real caches; else evenly.
    pub logarithmic: bool,
}

impl Sizes {
    /// The size at `fraction` (0 to 1) of the range.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size between two u32")]
    pub fn at(&self, fraction: f64) -> u32 {
        let (low, high) = (f64::from(self.bytes_min), f64::from(self.bytes_max));
        let size = if self.logarithmic {
            // Shifted by one, so that a range may begin at nothing.
            ((low + 1.0) * ((high + 1.0) / (low + 1.0)).powf(fraction) - 1.0).round()
        } else {
            low + ((high - low + 1.0) * fraction).floor()
        };
        (size as u32).clamp(self.bytes_min, self.bytes_max)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (range, logarithmic) = match text.strip_suffix(":log") {
            Some(range) => (range, true),
            None => (text, false),
        };
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let number = |part: &str| match part.parse::<u64>() {
            Ok(n) if n <= VALUE_BYTES_MAX => u32::try_from(n).map_err(|e| e.to_string()),
            Ok(n) => Err(format!("{n} is more than a server can hold ({VALUE_BYTES_MAX})")),
            Err(_) => {
                Err("expected bytes as in 100, 10-100000 (evenly) or 10-100000:log (by magnitude)".into())
            }
        };
        let sizes = Self { bytes_min: number(low)?, bytes_max: number(high)?, logarithmic };
        if sizes.bytes_min > sizes.bytes_max {
            return Err("the smaller size comes first".into());
        }
        Ok(sizes)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes_min, bytes_max, logarithmic } = self;
        match (bytes_min == bytes_max, logarithmic) {
            (true, _) => write!(f, "{bytes_min}"),
            (false, false) => write!(f, "{bytes_min}-{bytes_max}"),
            (false, true) => write!(f, "{bytes_min}-{bytes_max}:log"),
        }
    }
}

/// A share of all requests, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        match number.parse::<f64>().map(|n| n / unit) {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err("expected a share as in 10% or 0.1".into()),
        }
    }
}

/// In which words the load asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Classic,
    Meta,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_stay_in_their_range() {
        for (text, low, high) in [("100", 100, 100), ("10-100000", 10, 100_000), ("0-9:log", 0, 9)] {
            let sizes: Sizes = text.parse().unwrap();
            assert_eq!(sizes.to_string(), text);
            assert_eq!((sizes.at(0.0), sizes.at(1.0)), (low, high), "{text}");
            assert!((low..=high).contains(&sizes.at(0.37)));
        }
        for text in ["", "a", "9-1", "-5", "1073741825", "1-2:linear"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_read() {
        assert_eq!("10%".parse(), Ok(Share(0.1)));
        assert_eq!("0.25".parse(), Ok(Share(0.25)));
        for text in ["10", "-1%", "101%", "x", "NaN"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn targets_are_read() {
        assert_eq!("unix:/run/x".parse(), Ok(Target::Unix("/run/x".into())));
        assert!(matches!("127.0.0.1:5000".parse(), Ok(Target::Tcp(_, a)) if a.port() == 5000));
        assert!(matches!("[::1]:5000".parse(), Ok(Target::Tcp(_, a)) if a.is_ipv6()));
        for text in ["127.0.0.1", "unix:", "/run/x", "127.0.0.1:port"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
