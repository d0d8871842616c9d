//! The tree that is to move: found without following what others may have put in the way, and judged.

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::unistd::User;

use super::{Target, refused};
use crate::cache_dir::{STAGING, TAG_NAME};
use crate::cli::accounts::Person;
use crate::cli::init;
use crate::config::RootPath;
use crate::mounts::Mounts;
use crate::shared_root::{Patience, SharedRoot};
use crate::tree::{self, Kind, Seen, each_name, open_directory, open_file};

/// What the first line of every valid tag says.
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Names at the top of a shared root that are nobody's build.
const NOT_BUILT: [&CStr; 2] = [c"CACHEDIR.TAG", c"lost+found"];

/// Where the tree is, or was.
pub(super) struct Source {
    /// As it was given, made absolute: builds may have known it by this path.
    pub(super) given: String,
    /// Its real path.
    pub(super) path: String,
    /// The directory that holds it.
    pub(super) parent: OwnedFd,
    pub(super) name: CString,
    /// The tree itself, if it is there.
    pub(super) there: Option<Found>,
    /// Whether its name is a link to the user's directory: it was moved before.
    pub(super) is_link_to_target: bool,
    /// Whether it is the shared root: then some of what is in it stays.
    pub(super) is_root: bool,
    /// Whether root alone can put names beside it, or on the way to it.
    pub(super) parent_is_roots: bool,
}

/// The tree, open.
pub(super) struct Found {
    pub(super) top: OwnedFd,
    pub(super) seen: Seen,
    pub(super) is_mount_point: bool,
}

impl Source {
    pub(super) fn find(from: &Path, target: &Target) -> anyhow::Result<Self> {
        let given = std::path::absolute(from).context("--from")?;
        let given: PathBuf = given.components().collect();
        let text = |path: &Path| -> anyhow::Result<String> {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                refused(format!("{} is not UTF-8, and cargo builds in no such path", path.display()))
            })
        };
        let (Some(parent), Some(Component::Normal(last))) = (given.parent(), given.components().next_back())
        else {
            return Err(refused(format!("{} is not a directory that could move", given.display())));
        };
        let parent = fs::canonicalize(parent).map_err(|error| no_source(&given, &error))?;
        let path = parent.join(last);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let fd = openat2(AT_FDCWD, &parent, how)
            .map_err(|errno| anyhow!("cannot open {}: {}", parent.display(), errno.desc()))?;
        let name = CString::new(last.as_bytes())?;
        let path_text = text(&path)?;

        let mut is_link_to_target = false;
        let there = match Seen::at(&fd, &name) {
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(no_source(&path, &errno.desc())),
            Ok(seen) => match seen.kind {
                Kind::Directory => Some(Self::open(&fd, &name, &seen, &path)?),
                Kind::Symlink => {
                    let leads_to = readlinkat(&fd, name.as_c_str())?;
                    is_link_to_target = Path::new(&leads_to) == Path::new(&target.path);
                    if !is_link_to_target {
                        return Err(refused(format!(
                            "{} is a symbolic link to {}; name the directory itself",
                            path.display(),
                            Path::new(&leads_to).display()
                        )));
                    }
                    None
                }
                Kind::File | Kind::Special => {
                    return Err(refused(format!("{} is not a directory", path.display())));
                }
            },
        };
        Ok(Self {
            given: text(&given)?,
            is_root: path == Path::new(target.root.as_str()),
            parent_is_roots: is_roots_alone(&parent),
            path: path_text,
            parent: fd,
            name,
            there,
            is_link_to_target,
        })
    }

    fn open(parent: &OwnedFd, name: &CStr, seen: &Seen, path: &Path) -> anyhow::Result<Found> {
        // It may be a mount point, so this once a mount may be crossed.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let top = openat2(parent, name, how).map_err(|errno| no_source(path, &errno.desc()))?;
        let opened = Seen::of(&top)?;
        if (opened.inode, opened.device) != (seen.inode, seen.device) {
            return Err(anyhow!("{} was replaced a moment ago; see who does that", path.display()));
        }
        let above = Seen::of(parent)?;
        let is_mount_point =
            if opened.mount == 0 { opened.device != above.device } else { opened.mount != above.mount };
        Ok(Found { top, seen: opened, is_mount_point })
    }

    /// Refuses what is no target directory, or somebody's else.
    pub(super) fn judge(&self, target: &Target, everybody: &[Person], force: bool) -> anyhow::Result<()> {
        let Some(found) = &self.there else {
            return Err(refused(format!("{} does not exist", self.path)));
        };
        let path = Path::new(&self.path);
        let root = Path::new(target.root.as_str());
        if init::is_the_systems(&self.path) && !path.starts_with("/root/") {
            return Err(refused(format!("{} is the system's", self.path)));
        }
        if let Some(person) = everybody.iter().find(|person| person.home.starts_with(path)) {
            let home = person.home.display();
            return Err(refused(format!(
                "{} is, or contains, the home directory of {}: {home}",
                self.path, person.name
            )));
        }
        if !self.is_root && root.starts_with(path) {
            return Err(refused(format!(
                "{} contains the shared root {root}",
                self.path,
                root = root.display()
            )));
        }
        if path.starts_with(&target.path) {
            return Err(refused(format!("{} is {}'s own already", self.path, target.user)));
        }
        if let Ok(below) = path.strip_prefix(root) {
            let mut names = below.components();
            if let Some(Component::Normal(first)) = names.next() {
                let is_it = names.next().is_none();
                let first_name = CString::new(first.as_bytes())?;
                if first_name.as_c_str() == STAGING_NAME || first.as_bytes().starts_with(b".migrate-") {
                    return Err(refused(format!("{} is where directories are made", self.path)));
                }
                let seen = if is_it { Ok(found.seen) } else { Seen::at(&target.directory, &first_name) };
                if let Some(owner) = seen.ok().and_then(|seen| target.provisioned_for(&first_name, &seen)) {
                    return Err(refused(format!("{} is {owner}'s own", self.path)));
                }
            }
        }
        if !force && !looks_like_a_target_directory(&found.top)? {
            return Err(refused(format!(
                "{} does not look like a target directory (no .rustc_info.json, no valid CACHEDIR.TAG, no \
                 profile); if it is one, add --force",
                self.path
            )));
        }
        Ok(())
    }

    /// Whether a name at the top belongs to the tree.
    pub(super) fn moves(&self, target: &Target, name: &CStr) -> bool {
        if !self.is_root {
            return true;
        }
        let bytes = name.to_bytes();
        if bytes.starts_with(b".migrate-") || bytes.starts_with(b".set-aside-") {
            return false;
        }
        if name == STAGING_NAME || NOT_BUILT.contains(&name) {
            return false;
        }
        match Seen::at(&target.directory, name) {
            Ok(seen) => target.provisioned_for(name, &seen).is_none(),
            Err(_) => false,
        }
    }

    /// The paths by which builds may have known the tree, the longest first.
    pub(super) fn old_paths(&self) -> Vec<String> {
        let mut paths = vec![self.given.clone(), self.path.clone()];
        paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        paths.dedup();
        paths
    }
}

/// [`STAGING`], as system calls want it.
const STAGING_NAME: &CStr = c".staging";
const _: () = assert!(STAGING.len() == STAGING_NAME.count_bytes() && TAG_NAME.len() == 12);

impl Target {
    /// Whose directory this is, if a login provisioned it: it is a user's, and named as that user's is.
    pub(super) fn provisioned_for(&self, name: &CStr, seen: &Seen) -> Option<String> {
        if seen.kind != Kind::Directory || seen.uid == 0 {
            return None;
        }
        let owner = User::from_uid(seen.uid.into()).ok()??;
        (self.template.expand(&owner.name, seen.uid, &self.host).as_bytes() == name.to_bytes())
            .then_some(owner.name)
    }
}

fn no_source(path: &Path, error: &dyn Display) -> anyhow::Error {
    refused(format!("cannot look at {}: {error}", path.display()))
}

/// Whether a directory, and every one on the way to it, is root's and closed to the writing of others.
fn is_roots_alone(path: &Path) -> bool {
    if path == Path::new("/") {
        return true;
    }
    let path = path.to_str().and_then(|path| RootPath::parse(path).ok());
    path.and_then(|path| SharedRoot::open(&path, Patience::Wait(&Mounts::read())).ok())
        .is_some_and(|root| root.only_root_writes())
}

fn looks_like_a_target_directory(top: &OwnedFd) -> anyhow::Result<bool> {
    if Seen::at(top, c".rustc_info.json").is_ok_and(|seen| seen.kind == Kind::File) || has_valid_tag(top)? {
        return Ok(true);
    }
    let top = open_directory(top, c".")?;
    let mut found = false;
    each_name(&top, |name, _| {
        if let Ok(profile) = open_directory(&top, name) {
            found = [c".cargo-lock", c".fingerprint"].iter().any(|mark| Seen::at(&profile, mark).is_ok());
        }
        Ok(!found)
    })?;
    Ok(found)
}

fn has_valid_tag(top: impl AsFd) -> anyhow::Result<bool> {
    if !Seen::at(&top, c"CACHEDIR.TAG").is_ok_and(|seen| seen.kind == Kind::File) {
        return Ok(false);
    }
    let Ok(tag) = open_file(&top, c"CACHEDIR.TAG") else { return Ok(false) };
    let mut start = [0; SIGNATURE.len()];
    Ok(nix::unistd::read(&tag, &mut start)? == start.len() && start == SIGNATURE)
}

/// A name as people see it.
pub(super) fn shown(name: &CStr) -> String {
    tree::os(name).to_string_lossy().into_owned()
}
