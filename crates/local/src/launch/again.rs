//! Starting a stopped session again: as it was, but for what is asked for now.

use std::fmt::Display;

use dozlab_rootfs::disk::Strategy;
use dozlab_session::duration::TimeLimit;
use dozlab_session::plan::PlanRequest;
use dozlab_vm::probe::Choice;
use serde::{Deserialize, Serialize};

use super::LaunchError;
use crate::editor::EditorChoice;
use crate::folders::Folders;
use crate::record::SessionRecord;
use crate::session_folder::SessionFolder;

/// What a session runs with, as far as somebody said. It is in the session's record: a stopped session that is started
/// again is what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Which kernel it boots: a release, or the newest of a kind; the store's own choice where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Which hypervisor runs the machine; [`Choice::Auto`] where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<Choice>,
    /// The editor; [`EditorChoice::Found`] where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub editor: Option<EditorChoice>,
}

impl Asked {
    /// What is asked for now, and where nothing is, what was asked for earlier.
    pub(super) fn or(self, earlier: &Self) -> Self {
        Self {
            kernel: self.kernel.or_else(|| earlier.kernel.clone()),
            hypervisor: self.hypervisor.or(earlier.hypervisor),
            editor: self.editor.or_else(|| earlier.editor.clone()),
        }
    }
}

/// The record of a session of the wanted name, where there was one.
pub(super) fn earlier(
    folders: &Folders,
    request: &PlanRequest,
) -> Result<Option<SessionRecord>, LaunchError> {
    let Some(id) = &request.session_id else { return Ok(None) };
    Ok(SessionFolder::new(folders.sessions().join(id.as_str())).record()?)
}

pub(super) fn has_disk(folders: &Folders) -> impl Fn(&SessionRecord) -> bool + '_ {
    |record| SessionFolder::new(folders.sessions().join(record.name())).has_disk()
}

/// Starts a stopped session as it was: what is not asked for now is as it was then, and what its disk decides cannot be
/// asked for anew.
pub(super) fn take_up(earlier: &SessionRecord, request: &mut PlanRequest) -> Result<(), LaunchError> {
    let plan = &earlier.plan;
    let different = |what, has: &dyn Display, asked: &dyn Display| LaunchError::Different {
        name: earlier.name().to_owned(),
        what,
        has: has.to_string(),
        asked: asked.to_string(),
    };
    if let Some(asked) = request.image.as_ref().filter(|asked| **asked != plan.image) {
        return Err(different("the image", &plan.image, asked));
    }
    if let Some(asked) = request.disk.filter(|asked| *asked != plan.disk) {
        return Err(different("a disk of", &plan.disk, &asked));
    }
    request.image = Some(plan.image.clone());
    request.disk = Some(plan.disk);
    request.vcpus.get_or_insert(plan.vcpus);
    request.memory.get_or_insert(plan.memory);
    request.hostname.get_or_insert_with(|| plan.hostname.clone());
    request.egress.get_or_insert(plan.network.egress);
    request.timeout.get_or_insert(plan.deadlines.timeout.map_or(TimeLimit::None, TimeLimit::After));
    if request.idle_stop.is_none() {
        request.idle_stop = plan.deadlines.idle_stop;
    }
    if request.login_user.is_none() {
        request.login_user.clone_from(&plan.login_user);
    }
    Ok(())
}

/// A disk that is there is what it is.
pub(super) fn keep_disk(
    folders: &Folders,
    earlier: &SessionRecord,
    asked: Option<Strategy>,
) -> Result<(), LaunchError> {
    let is_overlay = |strategy| strategy == Strategy::Overlay;
    match asked {
        Some(asked) if is_overlay(asked) != is_overlay(earlier.disk) && has_disk(folders)(earlier) => {
            Err(LaunchError::Different {
                name: earlier.name().to_owned(),
                what: "a disk made by",
                has: earlier.disk.to_string(),
                asked: asked.to_string(),
            })
        }
        _ => Ok(()),
    }
}
