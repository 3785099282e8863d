//! The nftables ruleset of a lab's network namespace, generated from the egress policy.
//!
//! What existing lab pods do with iptables is kept: masquerading behind the pod's address, the clamp of TCP's segment
//! size to the path, and whatever arrives at the pod for a port that is not the lab's own goes to the VM. New is that
//! the guest cannot come back in: from the tap device nothing but answers and ping enters the namespace itself, and
//! nothing is forwarded that the policy does not allow.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use dozlab_session::plan::Egress;

use crate::egress::{NEVER, Network, PRIVATE};

/// What the ruleset is about.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset<'a> {
    /// The interface towards the world, `eth0` in a pod.
    pub(crate) uplink: &'a str,
    /// The tap device.
    pub(crate) tap: &'a str,
    /// The pod's own address on the uplink.
    pub(crate) pod: Ipv4Addr,
    /// The VM's address.
    pub(crate) vm: Ipv4Addr,
    /// Ports at the pod's address that belong to the lab's own containers and are not passed to the VM.
    pub(crate) pod_ports: &'a [u16],
    /// How far the guest may reach.
    pub(crate) policy: Egress,
    /// Networks that the node is on: reachable with [`Egress::Open`] only.
    pub(crate) attached: &'a [Network],
}

impl Ruleset<'_> {
    /// The ruleset as a script for `nft -f`, which applies it whole or not at all. It replaces an earlier one.
    pub(crate) fn script(&self) -> String {
        let Self { uplink, tap, pod, vm, policy, .. } = self;
        let never = elements(&NEVER);
        let mut private = PRIVATE.to_vec();
        private.extend(self.attached.iter().filter(|network| !is_within(**network, &PRIVATE)));
        let private = elements(&private);
        let egress = match policy {
            Egress::None => "drop".to_owned(),
            Egress::Internet => {
                format!("ip daddr {{ {private} }} drop\n    iifname \"{tap}\" oifname \"{uplink}\" accept")
            }
            Egress::Open => format!("oifname \"{uplink}\" accept"),
        };
        let mut keep = String::new();
        if !self.pod_ports.is_empty() {
            let ports: Vec<String> = self.pod_ports.iter().map(u16::to_string).collect();
            let _ = writeln!(keep, "    ip daddr {pod} tcp dport {{ {} }} return", ports.join(", "));
        }
        format!(
            "table ip dozlab {{}}
delete table ip dozlab
table ip dozlab {{
  chain from_world {{
    type nat hook prerouting priority dstnat; policy accept;
{keep}    iifname \"{uplink}\" ip daddr {pod} meta l4proto {{ tcp, udp }} dnat to {vm}
  }}
  chain to_world {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"{uplink}\" ip saddr {vm} masquerade
  }}
  chain clamp {{
    type filter hook forward priority mangle; policy accept;
    tcp flags syn tcp option maxseg size set rt mtu
  }}
  chain guest_to_lab {{
    type filter hook input priority filter; policy accept;
    iifname != \"{tap}\" accept
    ct state established,related accept
    icmp type echo-request accept
    drop
  }}
  chain guest_to_world {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname \"{uplink}\" oifname \"{tap}\" ip daddr {vm} accept
    iifname \"{tap}\" ip saddr != {vm} drop
    iifname \"{tap}\" ip daddr {{ {never} }} drop
    iifname \"{tap}\" {egress}
  }}
}}
table ip6 dozlab {{}}
delete table ip6 dozlab
table ip6 dozlab {{
  chain guest_to_lab {{
    type filter hook input priority filter; policy accept;
    iifname \"{tap}\" drop
  }}
  chain guest_to_world {{
    type filter hook forward priority filter; policy drop;
  }}
}}
"
        )
    }
}

fn is_within(network: Network, networks: &[Network]) -> bool {
    networks.iter().any(|outer| outer.prefix <= network.prefix && outer.contains(network.address))
}

fn elements(networks: &[Network]) -> String {
    networks.iter().map(Network::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(policy: Egress, pod_ports: &[u16]) -> String {
        let attached = [Network { address: Ipv4Addr::new(203, 0, 113, 7), prefix: 24 }];
        Ruleset {
            uplink: "eth0",
            tap: "tap0",
            pod: Ipv4Addr::new(10, 244, 1, 5),
            vm: Ipv4Addr::new(172, 16, 0, 2),
            pod_ports,
            policy,
            attached: &attached,
        }
        .script()
    }

    #[test]
    fn the_policy_decides_what_is_forwarded() {
        let internet = script(Egress::Internet, &[]);
        assert!(internet.contains("198.18.0.0/15, 203.0.113.0/24 } drop"), "{internet}");
        assert!(internet.contains("iifname \"tap0\" oifname \"eth0\" accept"));
        assert!(script(Egress::None, &[]).contains("    iifname \"tap0\" drop\n  }"));
        let open = script(Egress::Open, &[]);
        assert!(open.contains("127.0.0.0/8") && !open.contains("192.168.0.0/16"));
    }

    #[test]
    fn the_labs_own_ports_stay_with_the_lab() {
        let with_ports = script(Egress::Internet, &[8080, 8081]);
        assert!(with_ports.contains("ip daddr 10.244.1.5 tcp dport { 8080, 8081 } return"));
        assert!(!script(Egress::Internet, &[]).contains("return"));
    }
}
