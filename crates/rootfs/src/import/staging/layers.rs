//! What layers of an image need of a staged tree beside adding to it: removing, and going through symbolic links.
//!
//! Links are followed in the tree in memory, as if its root were the root of the system: `..` stops there, and an
//! absolute target begins there. Nothing on this machine is asked.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::ops::Bound;

use super::{Kind, Staging, is_device, refuse};
use crate::import::ImportError;
use crate::import::entry_path::EntryPath;

/// The kernel's own limit on symbolic links in one path.
const MOST_LINKS: usize = 40;

impl Staging {
    /// Where `folder` is when its symbolic links are followed. Parts of it need not exist.
    pub(in crate::import) fn follow(&self, folder: &EntryPath) -> Result<EntryPath, ImportError> {
        let parts =
            |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<VecDeque<_>>();
        let mut rest = parts(folder.as_bytes());
        let mut here = EntryPath::root();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here = here.parent().unwrap_or(EntryPath::root());
                    continue;
                }
                _ => {}
            }
            let next = here.join(&part).map_err(|reason| refuse(folder, reason))?;
            match self.kind(&next) {
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(refuse(folder, "its path goes through more than 40 symbolic links"));
                    }
                    if target.starts_with(b"/") {
                        here = EntryPath::root();
                    }
                    let mut through = parts(target);
                    through.append(&mut rest);
                    rest = through;
                }
                Some(Kind::Folder) | None => here = next,
                Some(_) => return Err(refuse(folder, &format!("`{next}` is no folder"))),
            }
        }
        Ok(here)
    }

    /// Removes what is at `path`, a folder with all it holds, save for the paths in `kept` and their parents.
    /// Nothing there is fine.
    pub(in crate::import) fn remove(
        &mut self,
        path: &EntryPath,
        kept: &HashSet<EntryPath>,
    ) -> Result<(), ImportError> {
        self.remove_below(path, kept)?;
        if !path.as_bytes().is_empty() && !kept.contains(path) && self.kind(path).is_some() {
            self.remove_one(path)?;
        }
        Ok(())
    }

    /// Removes what the folder at `path` holds, but not the folder.
    pub(in crate::import) fn remove_below(
        &mut self,
        path: &EntryPath,
        kept: &HashSet<EntryPath>,
    ) -> Result<(), ImportError> {
        let prefix = match path.as_bytes() {
            b"" => Vec::new(),
            path => [path, b"/"].concat(),
        };
        let below: Vec<EntryPath> = self
            .tree
            .paths
            .range::<[u8], _>((Bound::Included(prefix.as_slice()), Bound::Unbounded))
            .map(|(each, _)| each)
            .take_while(|each| each.as_bytes().starts_with(&prefix))
            .filter(|each| !each.as_bytes().is_empty() && !kept.contains(*each))
            .cloned()
            .collect();
        // What a folder holds goes before the folder.
        below.iter().rev().try_for_each(|each| self.remove_one(each))
    }

    fn remove_one(&mut self, path: &EntryPath) -> Result<(), ImportError> {
        let Some(index) = self.tree.paths.remove(path) else { return Ok(()) };
        let real = path.under(&self.tree.folder);
        let kind = &self.tree.inodes[index].kind;
        let removed = match kind {
            Kind::Folder => fs::remove_dir(&real),
            kind if is_device(kind) => Ok(()),
            _ => fs::remove_file(&real),
        };
        removed.map_err(|error| self.write_error(&real, error))
    }
}
