//! The network between the VM and its pod, and what the VM may reach beyond it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::request::PlanRequest;
use crate::defaults;
use crate::name::TapName;

/// The point-to-point network of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The pod's end, and the VM's gateway.
    pub gateway: Ipv4Addr,
    /// The VM's end.
    pub vm_address: Ipv4Addr,
    /// Length of the prefix they share.
    pub prefix: u8,
    /// The tap device in the pod.
    pub tap: TapName,
    /// Resolvers of the VM, in order of preference.
    pub dns: Vec<Ipv4Addr>,
    /// What the VM may reach.
    pub egress: Egress,
}

/// What a VM may reach. The terminal's and the editor's ports and the node's metadata address are never among
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Egress {
    /// The public internet only: no private, link-local or host address.
    #[default]
    Internet,
    /// The public internet and private networks.
    Open,
    /// Nothing.
    None,
}

impl Egress {
    /// All policies.
    pub const ALL: [Self; 3] = [Self::Internet, Self::Open, Self::None];

    /// The word for it in flags and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internet => "internet",
            Self::Open => "open",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The word was none of the policies'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an egress policy: it must be internet, open or none")]
pub struct UnknownEgress(String);

impl FromStr for Egress {
    type Err = UnknownEgress;

    fn from_str(word: &str) -> Result<Self, UnknownEgress> {
        Self::ALL
            .into_iter()
            .find(|egress| egress.as_str() == word)
            .ok_or_else(|| UnknownEgress(word.to_owned()))
    }
}

impl Network {
    pub(super) fn resolve(request: &PlanRequest, problems: &mut Vec<Problem>) -> Self {
        let network = Self {
            gateway: request.gateway.unwrap_or(defaults::GATEWAY),
            vm_address: request.vm_address.unwrap_or(defaults::VM_ADDRESS),
            prefix: request.prefix.unwrap_or(defaults::NETWORK_PREFIX),
            tap: request.tap.clone().unwrap_or_default(),
            dns: request.dns.clone().unwrap_or_else(|| defaults::DNS.to_vec()),
            egress: request.egress.unwrap_or_default(),
        };
        network.check(problems);
        network
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        let Self { gateway, vm_address, prefix, .. } = *self;
        // A prefix of 31 or 32 has no room for a network, a broadcast and two host addresses.
        if !(1..=30).contains(&prefix) {
            problems.push(Problem::PrefixOutOfRange { prefix });
            return;
        }
        if gateway == vm_address {
            problems.push(Problem::AddressesEqual { address: gateway });
        }
        let host_bits = u32::MAX >> prefix;
        if u32::from(gateway) | host_bits != u32::from(vm_address) | host_bits {
            problems.push(Problem::AddressesInDifferentNetworks { gateway, vm_address, prefix });
        }
        for (variable, address) in [("GATEWAY_IP", gateway), ("VM_IP", vm_address)] {
            let host_part = u32::from(address) & host_bits;
            if host_part == 0 || host_part == host_bits {
                problems.push(Problem::NotAHostAddress { variable, address, prefix });
            }
        }
    }
}
