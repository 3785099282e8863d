//! Makes a session's folder: its ports, its secrets, what its guest is told, its record.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use dozlab_boot::Kernel;
use dozlab_keys::{hex, token};
use dozlab_session::defaults;
use dozlab_session::guest_config::{GuestConfig, GuestNetwork};
use dozlab_session::id::SessionId;
use dozlab_session::image::ImageRef;
use dozlab_session::plan::Plan;

use super::{BUILT_IMAGE, LaunchError, Launched, Means, Network, Options, Prepared, now_ms};
use crate::editor::EditorFinding;
use crate::folders::Folders;
use crate::keys::write_private;
use crate::ports::{bindable, free_address};
use crate::record::{SessionRecord, SessionState};
use crate::session_folder::{SessionFolder, SessionFolderError};
use crate::sessions::{Sessions, is_taken_up};

/// Makes the session's folder, or takes up the one that a stopped session of this name left: its disk, its secrets and,
/// where they are free, its ports are kept.
///
/// # Errors
/// [`LaunchError`]; a folder that was made is removed again.
pub fn create(folders: &Folders, options: &Options, prepared: Prepared) -> Result<Launched, LaunchError> {
    let mut request = prepared.request.clone();
    let image = request.image.as_ref().map_or(BUILT_IMAGE, ImageRef::as_str).to_owned();
    let id = request.session_id.get_or_insert_with(|| new_id(&image)).clone();
    let plan = Plan::resolve(&request)?;
    let folder = SessionFolder::new(folders.sessions().join(id.as_str()));
    let sessions = Sessions::new(folders);
    // Two that are made at once would get one address.
    let _nobody_else_creates = sessions.lock_creation()?;
    let earlier = folder.record()?;
    if folder.is_supervised() || earlier.as_ref().is_some_and(is_taken_up) {
        return Err(SessionFolderError::Locked { name: folder.name() }.into());
    }
    let is_new = earlier.is_none();
    let address = match &earlier {
        Some(earlier) => *earlier.terminal.ip(),
        None => free_address(&sessions.addresses()?),
    };
    let made = fill(&folder, options, plan, prepared, earlier, address);
    if made.is_err() && is_new {
        folder.remove()?;
    }
    Ok(Launched { record: made?, folder })
}

fn fill(
    folder: &SessionFolder,
    options: &Options,
    plan: Plan,
    prepared: Prepared,
    earlier: Option<SessionRecord>,
    address: Ipv4Addr,
) -> Result<SessionRecord, LaunchError> {
    folder.create()?;
    let keep = |wanted: Option<u16>, known: Option<u16>, flag| {
        let kept =
            known.filter(|_| wanted.is_none()).and_then(|port| bindable(address, Some(port), flag).ok());
        kept.map_or_else(|| bindable(address, wanted, flag), Ok)
    };
    let known = earlier.as_ref();
    let terminal = keep(options.terminal_port, known.map(|known| known.terminal.port()), "--terminal-port")?;
    let editor = match &prepared.editor {
        None => None,
        Some(_) => {
            let port = known.and_then(|known| known.editor).map(|editor| editor.port());
            Some(keep(options.editor_port, port, "--editor-port")?)
        }
    };
    let ssh = match prepared.network {
        Network::User => keep(options.ssh_port, known.map(|known| known.ssh.port()), "--ssh-port")?,
        // Known once the namespace is there; the supervisor makes it.
        Network::Pod => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, defaults::SSH_PORT),
    };
    folder.make_secrets(ssh)?;
    let image_user = || prepared.image.user.clone();
    let user = plan.login_user.as_ref().map_or_else(image_user, ToString::to_string);
    write_guest_config(folder, &plan, &user, prepared.network, &prepared.kernel)?;
    let record = SessionRecord {
        user,
        image_digest: prepared.image.digest,
        disk: prepared.disk,
        network: prepared.network,
        state: SessionState::Starting,
        reason: None,
        had_prompt: known.is_some_and(|known| known.had_prompt),
        created_ms: known.map_or_else(now_ms, |known| known.created_ms),
        started_ms: now_ms(),
        stages: prepared.stages,
        asked: prepared.asked,
        terminal,
        editor,
        ssh,
        processes: BTreeMap::new(),
        hypervisor: prepared.hypervisor.to_string(),
        means: Means {
            kernel: prepared.kernel.folder.clone(),
            hypervisor: prepared.hypervisor,
            editor: match prepared.editor {
                Some(EditorFinding::Program(program)) => Some(program),
                Some(EditorFinding::ToInstall) | None => None,
            },
        },
        plan,
    };
    folder.write_record(&record)?;
    Ok(record)
}

/// What the guest is told. The host key and the machine's id are kept from an earlier start, the entropy is new.
fn write_guest_config(
    folder: &SessionFolder,
    plan: &Plan,
    user: &str,
    network: Network,
    kernel: &Kernel,
) -> Result<(), LaunchError> {
    let path = folder.guest_config();
    let earlier: Option<GuestConfig> =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let dns = match network {
        Network::User => vec![defaults::USER_NETWORK_RESOLVER],
        Network::Pod => plan.network.dns.clone(),
    };
    let public_key = folder.read(&folder.identity_file().with_extension("pub"))?;
    let config = GuestConfig {
        session_id: plan.session_id.to_string(),
        hostname: plan.hostname.to_string(),
        user: user.to_owned(),
        authorized_key: public_key.trim_end().to_owned(),
        host_key: folder.read(&folder.host_key_file())?,
        machine_id: earlier.map_or_else(|| hex(16), |earlier| earlier.machine_id),
        entropy: hex(64),
        network: GuestNetwork {
            address: plan.network.vm_address,
            prefix: plan.network.prefix,
            gateway: plan.network.gateway,
            dns,
        },
        root_device: "/dev/vda".into(),
        overlay_device: None,
        modules_device: kernel.modules_disk().map(|_| "/dev/vdb".into()),
    };
    let text = serde_json::to_string(&config).expect("a guest's configuration has only strings and numbers");
    Ok(write_private(&path, &text).map_err(SessionFolderError::from)?)
}

/// A name that is easy to type: the image's, and four characters.
fn new_id(image: &str) -> SessionId {
    let image: String = image
        .chars()
        .map(|character| character.to_ascii_lowercase())
        .filter(|character| character.is_ascii_alphanumeric() || *character == '-')
        .take(30)
        .collect();
    let suffix = token(4).to_ascii_lowercase();
    let id = format!("{}-{suffix}", image.trim_matches('-'));
    let id = id.trim_start_matches('-');
    id.parse().expect("letters, digits and inner hyphens, at most 35 of them, are a session's id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_comes_from_the_image_and_is_always_valid() {
        assert!(new_id("vm").as_str().starts_with("vm-"));
        for image in
            ["UPPER_case.ext4", "-", "", "a-very-long-name-of-an-image-that-nobody-should-have-to-type-twice"]
        {
            assert!(new_id(image).as_str().len() <= 40, "{image}");
        }
    }
}
