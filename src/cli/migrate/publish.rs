//! Giving the finished tree its name, in one step.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat, renameat2};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::busy::{Locks, user_name};
use super::settle::remove_if_there;
use super::source::Source;
use super::staging::{Staging, TREE};
use super::{Stopped, Target, refused};
use crate::tree::{Kind, Seen, is_empty_but_for, open_directory};

/// What a login that was faster puts into a new directory.
const TAG: &CStr = c"CACHEDIR.TAG";

/// How often another is tried where a login keeps making what is removed.
const TRIES: u32 = 5;

/// What stands at the user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    Missing,
    /// A directory with nothing in it but a tag.
    Empty,
    InUse,
}

pub(super) fn look(target: &Target) -> anyhow::Result<Destination> {
    let name = CString::new(target.name.as_str())?;
    match Seen::at(&target.directory, &name) {
        Err(Errno::ENOENT) => Ok(Destination::Missing),
        Err(errno) => Err(anyhow!("cannot look at {}: {}", target.path, errno.desc())),
        Ok(seen) if seen.kind != Kind::Directory => {
            Err(refused(format!("{} is not a directory", target.path)))
        }
        // In a sticky root anybody can have put it there.
        Ok(seen) if seen.uid != target.owner.uid => Err(refused(format!(
            "{} belongs to {}, not to {}; look into it, then move it away",
            target.path,
            user_name(seen.uid),
            target.user
        ))),
        Ok(_) => match open_directory(&target.directory, &name) {
            Ok(directory) if is_unused(&directory)? => Ok(Destination::Empty),
            Ok(_) => Ok(Destination::InUse),
            Err(Errno::EXDEV) => Err(refused(format!(
                "{} is a mount point, so that no directory can take its place; unmount it, or copy into it by hand",
                target.path
            ))),
            Err(errno) => Err(anyhow!("cannot open {}: {}", target.path, errno.desc())),
        },
    }
}

/// Whether there is nothing in a directory but, perhaps, a tag.
fn is_unused(directory: impl AsFd) -> anyhow::Result<bool> {
    let is_tag = || !Seen::at(&directory, TAG).is_ok_and(|seen| seen.kind == Kind::Directory);
    Ok(is_empty_but_for(&directory, &[TAG])? && is_tag())
}

/// Takes cargo's locks in the user's directory, which is to be set aside.
pub(super) fn lock(target: &Target, locks: &Locks) -> anyhow::Result<()> {
    let name = CString::new(target.name.as_str())?;
    locks.take_all(open_directory(&target.directory, &name)?, &target.path)
}

/// Gives the tree of this inode its name. Answers with the path at which a directory that was in use was set
/// aside.
pub(super) fn run(
    target: &Target,
    staging: &Staging,
    inode: u64,
    set_aside: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let name = CString::new(target.name.as_str())?;
    // The tops of subvolumes, and of file systems, have the same number.
    let device = Seen::of(&staging.fd)?.device;
    let is_it = |seen: Seen| (seen.inode, seen.device) == (inode, device);
    for _ in 0..TRIES {
        let is_there = |seen: nix::Result<Seen>| seen.is_ok_and(is_it);
        if is_there(Seen::at(&target.directory, &name)) {
            // Published, now or before a crash; what it was exchanged with may be left.
            return clear_exchanged(target, staging, &name, set_aside);
        }
        if !is_there(Seen::at(&staging.fd, TREE)) {
            bail!("{}/tree is not the tree that was prepared; look into it", staging.path);
        }
        let renamed = match look(target)? {
            Destination::Missing => {
                exclusive(&staging.fd, TREE, &target.directory, &name, RenameFlags::RENAME_NOREPLACE)
            }
            Destination::InUse if set_aside.is_none() => return Err(in_use(target, staging)),
            Destination::Empty | Destination::InUse => {
                let flags = RenameFlags::RENAME_EXCHANGE;
                match renameat2(&staging.fd, TREE, &target.directory, name.as_c_str(), flags) {
                    // The file system cannot: what is there goes first, and the rename replaces nothing.
                    Err(Errno::EINVAL | Errno::ENOSYS) => make_room(target, &name, set_aside)
                        .and_then(|()| renameat(&staging.fd, TREE, &target.directory, name.as_c_str())),
                    renamed => renamed,
                }
            }
        };
        match renamed {
            // Look again: it is published, or a login was faster.
            Ok(()) | Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOENT) => {}
            Err(errno) => bail!("cannot rename {}/tree to {}: {}", staging.path, target.path, errno.desc()),
        }
    }
    bail!("{} is made again and again; see who logs in so often, then run this again", target.path)
}

fn exclusive(
    from: impl AsFd,
    name: &CStr,
    to: impl AsFd,
    new_name: &CStr,
    flags: RenameFlags,
) -> nix::Result<()> {
    match renameat2(&from, name, &to, new_name, flags) {
        // Root alone can write there, and a directory is only ever renamed over an empty one.
        Err(Errno::EINVAL | Errno::ENOSYS) => renameat(from, name, to, new_name),
        renamed => renamed,
    }
}

/// Where there is no exchange: removes what a login made, or sets aside what is used.
fn make_room(target: &Target, name: &CStr, set_aside: Option<&str>) -> nix::Result<()> {
    if let Some(aside) = set_aside {
        return renameat(&target.directory, name, &target.directory, aside);
    }
    let directory = open_directory(&target.directory, name)?;
    let _ = unlinkat(&directory, TAG, UnlinkatFlags::NoRemoveDir);
    unlinkat(&target.directory, name, UnlinkatFlags::RemoveDir)
}

/// Removes the directory that was exchanged for the tree, or exchanges it back if it was put to use.
fn clear_exchanged(
    target: &Target,
    staging: &Staging,
    name: &CStr,
    set_aside: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let old = match open_directory(&staging.fd, TREE) {
        Ok(old) => old,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => bail!("cannot open {}/tree: {}", staging.path, errno.desc()),
    };
    let seen = Seen::of(&old)?;
    let owner = target.owner;
    // Put there since it was looked at. It is not made the user's, to whom a login would then give it; root's it
    // is after a crash right here.
    if ![owner.uid, 0].contains(&seen.uid) {
        exchange_back(target, staging, name)?;
        look(target)?;
        bail!("{} was replaced again and again; see who does that, then run this again", target.path);
    }
    // From here on nobody puts anything into it, wherever their current directory is.
    fchown(&old, Some(Uid::from_raw(0)), None)?;
    if is_unused(&old)? {
        remove_if_there(&old, TAG)?;
        unlinkat(&staging.fd, TREE, UnlinkatFlags::RemoveDir)?;
        return Ok(None);
    }
    fchown(&old, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    fchmod(&old, Mode::from_bits_truncate(seen.mode))?;
    if let Some(aside) = set_aside {
        renameat2(&staging.fd, TREE, &target.directory, aside, RenameFlags::RENAME_NOREPLACE)
            .map_err(|errno| anyhow!("cannot set it aside as {}/{aside}: {}", target.root, errno.desc()))?;
        return Ok(Some(format!("{}/{aside}", target.root)));
    }
    exchange_back(target, staging, name)?;
    Err(in_use(target, staging))
}

fn exchange_back(target: &Target, staging: &Staging, name: &CStr) -> anyhow::Result<()> {
    renameat2(&staging.fd, TREE, &target.directory, name, RenameFlags::RENAME_EXCHANGE)
        .map_err(|errno| anyhow!("cannot exchange {} back: {}", target.path, errno.desc()))
}

fn in_use(target: &Target, staging: &Staging) -> anyhow::Error {
    Stopped::Busy(vec![
        format!("{} was put to use meanwhile; the migrated tree waits in {}/tree", target.path, staging.path),
        "run this again with --set-aside to keep the newer one beside it, or empty it and run this again"
            .into(),
    ])
    .into()
}

/// Leaves a link at the old path, so that old settings still lead to the tree.
pub(super) fn leave_link(source: &Source, target: &Target) -> anyhow::Result<()> {
    match symlinkat(target.path.as_str(), &source.parent, source.name.as_c_str()) {
        Ok(()) => Ok(()),
        Err(errno) => Err(anyhow!("cannot make {} a link to {}: {}", source.path, target.path, errno.desc())),
    }
}
