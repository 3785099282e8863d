//! The controller's flags and environment variables: those of the existing controller, with their defaults.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args};
use dozlab_pod::{Entrance, Gateway, ImageCache, Images, PodOptions, PublicRoute, PublicUrl};
use dozlab_session::duration::SessionDuration;
use dozlab_session::image::ContainerImage;
use dozlab_session::name::LoginUser;
use dozlab_session::size::{ByteSize, SizeError};

use crate::decide::Rules;
use crate::parts::Installation;
use crate::traces::Collector;

/// What the controller is told.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Image of the VM's container
    #[arg(long, env = "DOZLAB_VM_IMAGE", value_name = "IMAGE")]
    pub vm_image: ContainerImage,
    /// Image of the container that prepares the disk
    #[arg(long, env = "DOZLAB_INIT_IMAGE", value_name = "IMAGE")]
    pub init_image: ContainerImage,
    /// Image of the web terminal's container
    #[arg(long, env = "DOZLAB_TERMINAL_IMAGE", value_name = "IMAGE")]
    pub terminal_image: ContainerImage,
    /// Image of the container that prepares the network [default: Dozlab's]
    #[arg(long, env = "DOZLAB_NETWORK_IMAGE", value_name = "IMAGE")]
    pub network_image: Option<ContainerImage>,
    /// Image of the editor's container [default: code-server's]
    #[arg(long, env = "DOZLAB_EDITOR_IMAGE", value_name = "IMAGE")]
    pub editor_image: Option<ContainerImage>,
    /// The user to be in the machine, of sessions that do not say
    #[arg(long, env = "DOZLAB_SSH_USER", default_value = "root", value_name = "USER")]
    pub ssh_user: LoginUser,
    /// The disk's size, of sessions that do not say
    #[arg(long, env = "DOZLAB_VM_DISK_SIZE", default_value = "4Gi", value_name = "SIZE", value_parser = quantity)]
    pub vm_disk_size: ByteSize,
    /// Folder of each node where images are kept for all its sessions: the first fetches, the others lay their disk over
    /// what is there. It must be there, and uid 1100 able to write to it [default: each session fetches]
    #[arg(long, value_name = "DIR")]
    pub image_cache_path: Option<ImageCache>,
    /// Class of volumes that are kept [default: the cluster's]
    #[arg(
        long,
        env = "DOZLAB_STORAGE_CLASS",
        default_value = "",
        value_name = "CLASS",
        hide_default_value = true
    )]
    pub storage_class: String,
    /// Address at which browsers reach sessions, such as `https://labs.example.org`: each session gets an Ingress below
    /// it, or a route of `--gateway`, one more write a session [default: none]
    #[arg(long, env = "DOZLAB_PUBLIC_BASE_URL", value_name = "URL")]
    pub public_base_url: Option<PublicUrl>,
    /// Class of those Ingresses [default: the cluster's]
    #[arg(long, env = "DOZLAB_INGRESS_CLASS", value_name = "CLASS", requires = "public_base_url")]
    pub ingress_class: Option<String>,
    /// Traefik's middleware that takes /sessions/ID/terminal and the like off, NAMESPACE-NAME@kubernetescrd
    #[arg(long, env = "DOZLAB_INGRESS_MIDDLEWARE", value_name = "NAME", requires = "public_base_url")]
    pub ingress_middleware: Option<String>,
    /// Gateway of that address, NAMESPACE/NAME or NAMESPACE/NAME/LISTENER: each session gets an `HTTPRoute` of it instead of an
    /// Ingress [default: none]
    #[arg(
        long,
        env = "DOZLAB_GATEWAY",
        value_name = "GATEWAY",
        requires = "public_base_url",
        conflicts_with_all = ["ingress_class", "ingress_middleware"]
    )]
    pub gateway: Option<Gateway>,
    /// Where /metrics is served
    #[arg(long, default_value = ":8080", value_name = "ADDRESS", value_parser = address)]
    pub metrics_bind_address: SocketAddr,
    /// Where /healthz and /readyz are served
    #[arg(long, default_value = ":8081", value_name = "ADDRESS", value_parser = address)]
    pub health_probe_bind_address: SocketAddr,
    /// Send traces by OTLP (http/protobuf) to the collector at this address, such as `http://collector.monitoring:4318`:
    /// spans are posted to /v1/traces below it. Of OpenTelemetry's other variables OTEL_SERVICE_NAME,
    /// OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER and OTEL_BSP_* are read [default: none]
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "",
        value_name = "URL",
        hide_default_value = true
    )]
    pub otlp_endpoint: Collector,
    /// Work only while holding the Lease dozlab-controller-leader-election: for more than one replica
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          action = ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of that Lease [default: the controller's own]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_election_namespace: Option<String>,
    /// Look after the sessions of this namespace only [default: all]
    #[arg(long, default_value = "", value_name = "NAMESPACE", hide_default_value = true)]
    pub namespace: String,
    /// How often each session is looked at even if nothing happened
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub sync_period: SessionDuration,
    /// How long the first lists of all objects may take
    #[arg(long, default_value = "2m", value_name = "TIME")]
    pub cache_sync_timeout: SessionDuration,
    /// How many sessions are looked at at once
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub max_concurrent_reconciles: u16,
    /// How long begun work may go on after SIGTERM
    #[arg(long, default_value = "30s", value_name = "TIME")]
    pub graceful_shutdown_timeout: SessionDuration,
    /// How long a session's start may stay in one stage
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub stage_deadline: SessionDuration,
    /// How long a session's machine may take to boot
    #[arg(long, default_value = "5m", value_name = "TIME")]
    pub boot_deadline: SessionDuration,
    /// How long after a pod failed the next is made; it doubles up to 5m
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub retry_delay: SessionDuration,
    /// How many pods in a row are made again before a session counts as failed
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub retries: u32,
    /// Record an event for each phase too, not only for what went wrong and for the end: two more writes a
    /// session
    #[arg(long)]
    pub all_events: bool,
    /// Of the controller before this one: there is a key pair for each session now
    #[arg(long, hide = true)]
    pub ssh_key_secret: Option<Ignored>,
    /// The same
    #[arg(long, hide = true)]
    pub ssh_key_secret_key: Option<Ignored>,
    /// Of the controller before this one: phases are read off the objects, and no message is sent
    #[arg(long, hide = true)]
    pub rabbitmq_url: Option<Ignored>,
}

/// A value that is accepted for the sake of existing installations, and not kept: it may hold a password.
#[derive(Clone, Copy, Debug)]
pub struct Ignored;

impl FromStr for Ignored {
    type Err = Infallible;

    fn from_str(_: &str) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl Settings {
    pub(crate) fn installation(&self) -> Installation {
        let images = Images {
            init: Some(self.init_image.clone()),
            network: self.network_image.clone(),
            vm: Some(self.vm_image.clone()),
            editor: self.editor_image.clone(),
        };
        let storage_class = Some(self.storage_class.clone()).filter(|class| !class.is_empty());
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let entrance = match &self.gateway {
            Some(gateway) => Entrance::Gateway(gateway.clone()),
            None => Entrance::Ingress {
                class: given(&self.ingress_class),
                middleware: given(&self.ingress_middleware),
            },
        };
        let route = self.public_base_url.clone().map(|base| PublicRoute { base, entrance });
        let image_cache = self.image_cache_path.clone();
        Installation {
            options: PodOptions { images, storage_class, route, image_cache, ..PodOptions::default() },
            disk: Some(self.vm_disk_size),
            login_user: Some(self.ssh_user.clone()),
            terminal_image: Some(self.terminal_image.clone()),
        }
    }

    /// Flags that were given and have no effect.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        let flags = [
            ("--ssh-key-secret", self.ssh_key_secret),
            ("--ssh-key-secret-key", self.ssh_key_secret_key),
            ("--rabbitmq-url", self.rabbitmq_url),
        ];
        flags.into_iter().filter_map(|(flag, given)| given.map(|_| flag)).collect()
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            stage_deadline_ms: self.stage_deadline.as_millis(),
            boot_deadline_ms: self.boot_deadline.as_millis(),
            retry_ms: self.retry_delay.as_millis(),
            retries: self.retries,
            all_events: self.all_events,
            ..Rules::default()
        }
    }

    pub(crate) fn sync_period(&self) -> Duration {
        Duration::from(self.sync_period).clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600))
    }
}

fn quantity(text: &str) -> Result<ByteSize, SizeError> {
    ByteSize::from_quantity(text)
}

/// `:8080` is every address of this machine, as in Go; IPv4's, because not every node has the other.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = match text.strip_prefix(':') {
        Some(port) => format!("{}:{port}", Ipv4Addr::UNSPECIFIED),
        None => text.to_owned(),
    };
    whole.parse().map_err(|_| format!("{text:?} is not an address like :8080 or 127.0.0.1:8080"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn a_command_line_of_the_existing_controller_is_taken() {
        let line = "controller --vm-image=vm:1 --init-image=init:1 --terminal-image=term:1 --leader-elect \
                    --metrics-bind-address=:9090 --sync-period=5m --ssh-key-secret=lab-ssh-key \
                    --rabbitmq-url=amqp://user:hush@mq/";
        let settings = Cli::try_parse_from(line.split_whitespace()).unwrap().settings;
        assert!(settings.leader_elect);
        assert_eq!(settings.metrics_bind_address, "0.0.0.0:9090".parse().unwrap());
        assert_eq!(settings.without_effect(), ["--ssh-key-secret", "--rabbitmq-url"]);
        assert_eq!(settings.installation().disk, Some(ByteSize::from_gib(4)));
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn a_gateway_needs_an_address_and_goes_with_nothing_of_an_ingress() {
        let refusal = |more: &str| {
            let line =
                format!("controller --vm-image=vm:1 --init-image=init:1 --terminal-image=term:1 {more}");
            Cli::try_parse_from(line.split_whitespace()).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(refusal("--gateway=infra/public --public-base-url=https://labs.example"), Ok(()));
        assert!(refusal("--gateway=infra/public").unwrap_err().contains("--public-base-url"));
        let base = "--gateway=infra/public --public-base-url=https://labs.example";
        for flag in ["--ingress-class=traefik", "--ingress-middleware=labs-strip@kubernetescrd"] {
            let refusal = refusal(&format!("{base} {flag}")).unwrap_err();
            let name = flag.split('=').next().unwrap();
            assert!(refusal.contains("cannot be used with") && refusal.contains(name), "{refusal}");
        }
        assert!(
            refusal("--gateway=public --public-base-url=https://l.example")
                .unwrap_err()
                .contains("NAMESPACE")
        );
    }
}
