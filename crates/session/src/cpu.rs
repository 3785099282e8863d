//! Processors: the share of the machine that a container may use, and the number of them that the guest sees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::text::serde_as_text;

/// An amount of CPU time in thousandths of one processor, as Kubernetes counts it; shown as `1500m` or `2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpus(u32);

/// Why a text is no [`MilliCpus`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MilliCpusError {
    /// The text is not in the notation.
    #[error("{0:?} is not an amount of CPU, like 2, 0.5 or 1500m (thousandths of a CPU)")]
    Malformed(String),
    /// The amount is finer than Kubernetes allows.
    #[error("{0:?} is finer than 1m, the smallest share of a CPU that Kubernetes counts")]
    TooFine(String),
    /// The amount does not fit 32 bits.
    #[error("{0:?} is too much: at most 4294967295m CPU can be counted")]
    TooLarge(String),
}

impl MilliCpus {
    /// So many thousandths of a CPU.
    #[must_use]
    pub const fn new(thousandths: u32) -> Self {
        Self(thousandths)
    }

    /// The amount in thousandths of a CPU.
    #[must_use]
    pub const fn as_millis(self) -> u32 {
        self.0
    }
}

/// `1500m`, `1`, `0.5`.
impl FromStr for MilliCpus {
    type Err = MilliCpusError;

    fn from_str(text: &str) -> Result<Self, MilliCpusError> {
        let (number, unit) = text.strip_suffix('m').map_or((text, 1000), |thousandths| (thousandths, 1));
        let number = Decimal::parse(number).map_err(|_| MilliCpusError::Malformed(text.to_owned()))?;
        let product = number.times(unit).ok_or_else(|| MilliCpusError::TooLarge(text.to_owned()))?;
        if !product.exact {
            return Err(MilliCpusError::TooFine(text.to_owned()));
        }
        u32::try_from(product.rounded_up).map(Self).map_err(|_| MilliCpusError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            return write!(formatter, "{}", self.0 / 1000);
        }
        write!(formatter, "{}m", self.0)
    }
}

serde_as_text!(MilliCpus);

/// How many processors the guest sees: 1 to [`Vcpus::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vcpus(u8);

/// Why a number or text is no [`Vcpus`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VcpusError {
    /// Not a whole number at all.
    #[error("{0:?} is not a number of virtual CPUs: write a whole number from 1 to 32")]
    Malformed(String),
    /// Not in the range.
    #[error("a VM cannot have {0} virtual CPUs: the hypervisor takes 1 to 32")]
    OutOfRange(u32),
}

impl Vcpus {
    /// The most that Firecracker gives a VM (`vcpu_count` in its API description).
    pub const MAX: u8 = 32;

    /// One processor.
    pub const ONE: Self = Self(1);

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The processors that an amount of CPU comes to, each begun one counted in full: `1500m` are 2. This is
    /// how a `LabSession`'s `resources.cpu` is read.
    ///
    /// # Errors
    ///
    /// The result is not 1 to 32.
    pub fn covering(cpus: MilliCpus) -> Result<Self, VcpusError> {
        Self::try_from(cpus.as_millis().div_ceil(1000))
    }

    /// The CPU time that this many processors use when they are all busy.
    #[must_use]
    pub const fn as_milli_cpus(self) -> MilliCpus {
        MilliCpus(self.0 as u32 * 1000)
    }
}

impl TryFrom<u32> for Vcpus {
    type Error = VcpusError;

    fn try_from(count: u32) -> Result<Self, VcpusError> {
        match u8::try_from(count) {
            Ok(vcpus @ 1..=Self::MAX) => Ok(Self(vcpus)),
            _ => Err(VcpusError::OutOfRange(count)),
        }
    }
}

impl From<Vcpus> for u32 {
    fn from(vcpus: Vcpus) -> Self {
        vcpus.0.into()
    }
}

impl FromStr for Vcpus {
    type Err = VcpusError;

    fn from_str(text: &str) -> Result<Self, VcpusError> {
        let count: u32 = text.parse().map_err(|_| VcpusError::Malformed(text.to_owned()))?;
        Self::try_from(count)
    }
}

impl fmt::Display for Vcpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_of_cpu_are_read_and_shown_as_kubernetes_does() {
        for (text, millis, shown) in [
            ("1500m", 1500, "1500m"),
            ("1", 1000, "1"),
            ("0.5", 500, "500m"),
            ("2", 2000, "2"),
            ("2000m", 2000, "2"),
        ] {
            let cpus: MilliCpus = text.parse().unwrap();
            assert_eq!((cpus.as_millis(), cpus.to_string()), (millis, shown.to_owned()));
        }
    }

    #[test]
    fn refused_amounts_of_cpu_say_why() {
        let refusal = |text: &str| text.parse::<MilliCpus>().unwrap_err();
        for text in ["", "m", "-1", "1 ", "1k", "1.5.5", "mm", "1mm", "one"] {
            assert_eq!(refusal(text), MilliCpusError::Malformed(text.to_owned()));
        }
        assert_eq!(refusal("0.0005"), MilliCpusError::TooFine("0.0005".into()));
        assert_eq!(refusal("0.5m"), MilliCpusError::TooFine("0.5m".into()));
        assert_eq!(refusal("4294968"), MilliCpusError::TooLarge("4294968".into()));
    }

    #[test]
    fn a_vm_has_1_to_32_processors() {
        assert_eq!("1".parse(), Ok(Vcpus::ONE));
        assert_eq!("32".parse::<Vcpus>().map(Vcpus::get), Ok(32));
        for count in [0, 33, 256, 257] {
            assert_eq!(count.to_string().parse::<Vcpus>(), Err(VcpusError::OutOfRange(count)));
            assert!(serde_json::from_str::<Vcpus>(&count.to_string()).is_err());
        }
        assert!(matches!("1.5".parse::<Vcpus>(), Err(VcpusError::Malformed(_))));
        assert_eq!(serde_json::to_string(&Vcpus::ONE).unwrap(), "1");
    }

    #[test]
    fn a_begun_processor_counts_in_full() {
        let covering = |millis| Vcpus::covering(MilliCpus::new(millis)).map(Vcpus::get);
        assert_eq!([covering(1), covering(1000), covering(1001)], [Ok(1), Ok(1), Ok(2)]);
        assert_eq!(covering(0), Err(VcpusError::OutOfRange(0)));
        assert_eq!(covering(u32::MAX), Err(VcpusError::OutOfRange(4_294_968)));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,24}|[0-9.]{0,50}m?") {
            let _ = (text.parse::<MilliCpus>(), text.parse::<Vcpus>());
        }

        #[test]
        fn what_is_shown_reads_back(millis in any::<u32>()) {
            let cpus = MilliCpus::new(millis);
            prop_assert_eq!(cpus.to_string().parse(), Ok(cpus));
            prop_assert_eq!(format!("{millis}m").parse(), Ok(cpus));
            let json = serde_json::to_string(&cpus).unwrap();
            prop_assert_eq!(serde_json::from_str::<MilliCpus>(&json).unwrap(), cpus);
        }

        #[test]
        fn a_whole_number_of_cpus_is_that_many_or_refused(cpus in any::<u64>()) {
            let expected = cpus.checked_mul(1000).and_then(|m| u32::try_from(m).ok()).map(MilliCpus::new);
            prop_assert_eq!(cpus.to_string().parse::<MilliCpus>().ok(), expected);
        }
    }
}
