//! Bringing the tree into the staging directory by renames: nothing is copied, and nobody else gets in again.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat, renameat2};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Target;
use super::settle::KEPT;
use super::source::Source;
use super::staging::{Staging, TREE};
use super::survey::unit_hash;
use crate::tree::{Directory, Kind, Opened, Seen, Visit, open_directory, time_spec, walk};

/// What came of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renamed {
    Done,
    /// It must be copied: another file system, another mount or subvolume of this one, or a mount point.
    Elsewhere,
}

/// Renames the whole tree.
pub(super) fn whole(source: &Source, staging: &Staging) -> anyhow::Result<Renamed> {
    let Some(found) = &source.there else { bail!("{} is gone", source.path) };
    // A subvolume of btrfs can be renamed, but no file from beside it into it.
    if found.seen.device != Seen::of(&staging.fd)?.device {
        return Ok(Renamed::Elsewhere);
    }
    match rename_to_new(&source.parent, &source.name, &staging.fd, TREE) {
        Ok(()) => {}
        Err(Errno::EXDEV | Errno::EBUSY) => return Ok(Renamed::Elsewhere),
        Err(errno) => bail!("cannot rename {} to {}/tree: {}", source.path, staging.path, errno.desc()),
    }
    // Up to now anybody with rights to its parent could have put another thing there.
    if Seen::at(&staging.fd, TREE)?.identity() != found.seen.identity() {
        put_back(source, staging)?;
        bail!(
            "{} was replaced a moment before it was moved, and is back as it was; see who does that",
            source.path
        );
    }
    Ok(Renamed::Done)
}

/// Renames what was not the tree back to where it was.
pub(super) fn put_back(source: &Source, staging: &Staging) -> anyhow::Result<()> {
    rename_to_new(&staging.fd, TREE, &source.parent, &source.name).map_err(|errno| {
        anyhow!("cannot move {}/tree back to {}: {}", staging.path, source.path, errno.desc())
    })
}

/// Renames what moves of the shared root, name by name. Answers with the names that other things have by now.
pub(super) fn each(
    target: &Target,
    staging: &Staging,
    names: &[(String, u64)],
) -> anyhow::Result<Vec<String>> {
    make_tree(staging)?;
    let tree = open_directory(&staging.fd, TREE)?;
    let mut replaced = Vec::new();
    for (text, inode) in names {
        let name = CString::new(text.as_str())?;
        let is_it = |seen: nix::Result<Seen>| seen.is_ok_and(|seen| seen.inode == *inode);
        if is_it(Seen::at(&tree, &name)) {
            continue;
        }
        if !is_it(Seen::at(&target.directory, &name)) {
            replaced.push(format!("{}/{text}", target.root));
            continue;
        }
        rename_to_new(&target.directory, &name, &tree, &name)
            .map_err(|errno| anyhow!("cannot move {}/{text}: {}", target.root, errno.desc()))?;
        if !is_it(Seen::at(&tree, &name)) {
            rename_to_new(&tree, &name, &target.directory, &name)
                .map_err(|errno| anyhow!("cannot move {}/{text} back: {}", target.root, errno.desc()))?;
            bail!("{}/{text} was replaced a moment before it was moved, and is back", target.root);
        }
    }
    Ok(replaced)
}

fn make_tree(staging: &Staging) -> anyhow::Result<()> {
    match mkdirat(&staging.fd, TREE, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(anyhow!("cannot make {}/tree: {}", staging.path, errno.desc())),
    }
}

/// Renames to a name that nothing has.
fn rename_to_new(from: impl AsFd, name: &CStr, to: impl AsFd, new_name: &CStr) -> nix::Result<()> {
    match renameat2(&from, name, &to, new_name, RenameFlags::RENAME_NOREPLACE) {
        // The file system has no exclusive rename. In a directory of root's alone looking first is as good.
        Err(Errno::EINVAL | Errno::ENOSYS) => match Seen::at(&to, new_name) {
            Err(Errno::ENOENT) => renameat(from, name, to, new_name),
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::EEXIST),
        },
        renamed => renamed,
    }
}

/// Renames each file that is the user's. What is others' stays, with the directories that hold it; units of
/// which something stays are left their files, but not taken their fingerprints: cargo builds them again, and
/// does not trust half of them. Answers with how many files stay.
pub(super) fn own(
    source: &Source,
    target: &Target,
    staging: &Staging,
    others_units: &BTreeSet<Vec<u8>>,
) -> anyhow::Result<u64> {
    let Some(found) = &source.there else { bail!("{} is gone", source.path) };
    make_tree(staging)?;
    let tree = open_directory(&staging.fd, TREE)?;
    let own = Own { source, target, tree, others_units, left: AtomicU64::new(0) };
    walk(&found.top, &source.path, &own)?;
    Ok(own.left.into_inner())
}

struct Own<'a> {
    source: &'a Source,
    target: &'a Target,
    tree: OwnedFd,
    others_units: &'a BTreeSet<Vec<u8>>,
    left: AtomicU64,
}

/// Where the files of a directory go.
pub(super) struct Place {
    fd: OwnedFd,
    /// Whether these are the fingerprints of units of which others have a part.
    is_stale: bool,
}

impl Own<'_> {
    fn is_others_unit(&self, name: &CStr) -> bool {
        unit_hash(name.to_bytes()).is_some_and(|hash| self.others_units.contains(hash))
    }
}

impl Visit for Own<'_> {
    type State = Place;

    fn enter(&self, opened: Opened<'_, Place>) -> anyhow::Result<Place> {
        let Opened { name, parent, .. } = opened;
        let Some(parent) = parent else { return Ok(Place { fd: self.tree.try_clone()?, is_stale: false }) };
        let is_stale =
            parent.state.is_stale || (parent.name() == c".fingerprint" && self.is_others_unit(name));
        match mkdirat(&parent.state.fd, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => bail!("cannot make its like: {}", errno.desc()),
        }
        Ok(Place { fd: open_directory(&parent.state.fd, name)?, is_stale })
    }

    fn admits(&self, directory: &Directory<Place>, name: &CStr) -> bool {
        !directory.is_top() || self.source.admits(name)
    }

    fn entry(&self, directory: &Directory<Place>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        if seen.uid != self.target.owner.uid || seen.kind == Kind::Special || directory.state.is_stale {
            self.left.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let place = &directory.state.fd;
        match rename_to_new(directory, name, place, name) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno @ Errno::EXDEV) => return Err(errno.into()),
            Err(errno) => bail!("cannot move it: {}", errno.desc()),
        }
        // The directory is others' still, who may have put another thing there.
        let moved = Seen::at(place, name)?;
        if (moved.uid, moved.kind) != (seen.uid, seen.kind) {
            rename_to_new(place, name, directory, name)
                .map_err(|errno| anyhow!("it was replaced, and cannot be put back: {}", errno.desc()))?;
            self.left.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn leave(&self, directory: &Directory<Place>) -> anyhow::Result<()> {
        let Some(parent) = directory.parent() else { return Ok(()) };
        let place = &directory.state.fd;
        // A directory in which nothing of the user's was is not wanted, and goes again.
        if directory.seen.uid != self.target.owner.uid
            && unlinkat(&parent.state.fd, directory.name(), UnlinkatFlags::RemoveDir).is_ok()
        {
            return Ok(());
        }
        fchmod(place, Mode::from_bits_truncate(directory.seen.mode & KEPT | 0o700))?;
        futimens(place, &time_spec(directory.seen.accessed), &time_spec(directory.seen.modified))?;
        if directory.seen.uid == self.target.owner.uid {
            // What was emptied goes; what others have something in stays.
            let _ = unlinkat(parent, directory.name(), UnlinkatFlags::RemoveDir);
        }
        Ok(())
    }
}
