//! What users have written, in their homes and in their directories below the root, looked at as root without
//! being led anywhere.
//!
//! A user can put at a name whatever they like: a link to `/dev`, whose watchdog reboots the machine when it is
//! opened and closed, or to a dead file server; a FIFO; a FUSE mount that never answers; and can swap it for
//! another between a look and the next. So everything is opened by descriptor, from a directory down, one name
//! at a time: no link is followed, no mount is entered, nothing but a regular file is opened for reading, and
//! there is a bound on all of it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::Patient;
use crate::cache_dir::ACLS;
use crate::cli::places::{self, Real};
use crate::ffi;
use crate::shared_root::{kind, open_in_mount};

/// No file is read beyond this, in bytes.
pub(super) const MAX_FILE: u64 = 1024 * 1024;

const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const LIST: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A directory in which a user may have put anything.
pub(super) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens one by a path that leads through no directory of a user's.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let descriptor = openat(AT_FDCWD, path, flags, Mode::empty()).ok()?;
        Some(Self { descriptor, path: path.into() })
    }

    /// One that is open.
    pub(super) fn of(descriptor: OwnedFd, path: PathBuf) -> Self {
        Self { descriptor, path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, sorted; no more than so many, of a directory that can have any number.
    pub(super) fn names(&self, most: usize) -> Vec<OsString> {
        let Ok(mut opened) = Dir::openat(&self.descriptor, ".", LIST, Mode::empty()) else {
            return Vec::new();
        };
        let names = opened.iter().flatten().map(|entry| entry.file_name().to_bytes().to_vec());
        let names = names.filter(|name| !matches!(name.as_slice(), b"." | b".."));
        let mut names: Vec<OsString> = names.take(most).map(OsString::from_vec).collect();
        names.sort();
        names
    }

    /// What stands at a name in it; `EXDEV` where a mount does.
    pub(super) fn look(&self, name: &OsStr) -> nix::Result<(OwnedFd, FileStat)> {
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
        let opened = open_in_mount(&self.descriptor, name.as_c_str(), LOOK)?;
        let found = fstat(&opened)?;
        Ok((opened, found))
    }

    /// The directory at a name in it.
    pub(super) fn directory(&self, name: &OsStr) -> Option<Self> {
        let (descriptor, found) = self.look(name).ok()?;
        (kind(&found) == SFlag::S_IFDIR).then(|| Self::of(descriptor, self.path.join(name)))
    }

    /// The paths of the files at a path below it: of a directory, those in it.
    pub(super) fn files(&self, below: &str, most: usize) -> Vec<PathBuf> {
        let below = Path::new(below);
        match self.descend(below) {
            Some(directory) => directory.names(most).into_iter().map(|name| below.join(name)).collect(),
            None => vec![below.into()],
        }
    }

    /// The start of the regular file at a path below it.
    pub(super) fn read(&self, below: &Path) -> Option<String> {
        let name = below.file_name()?;
        let parent = below.parent().filter(|parent| !parent.as_os_str().is_empty());
        let (opened, _) = match parent {
            Some(parent) => self.descend(parent)?.look(name),
            None => self.look(name),
        }
        .ok()?;
        read_regular(&opened)
    }

    /// Whether it has an access ACL, or a default one.
    pub(super) fn has_acl(&self) -> bool {
        let opened = openat(&self.descriptor, ".", LIST, Mode::empty());
        opened.is_ok_and(|opened| ACLS.iter().any(|acl| ffi::has_attribute(&opened, acl).unwrap_or(false)))
    }

    fn descend(&self, below: &Path) -> Option<Self> {
        let mut names = below.components().map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let first = self.directory(names.next()??)?;
        names.try_fold(first, |directory, name| directory.directory(name?))
    }
}

/// The start of an open file (`O_PATH`), if that is a regular one: opening a device for reading can do things.
pub(super) fn read_regular(opened: &OwnedFd) -> Option<String> {
    if kind(&fstat(opened).ok()?) != SFlag::S_IFREG {
        return None;
    }
    // Its owner may hold a lease on it, for which an open would wait.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let by_descriptor = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let file = File::from(openat(AT_FDCWD, by_descriptor.as_str(), flags, Mode::empty()).ok()?);
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content).ok()?;
    Some(String::from_utf8_lossy(&content).into_owned())
}

/// The home of a member.
pub(super) struct Home {
    /// Whose it is.
    pub(super) user: String,
    pub(super) directory: Directory,
}

/// The members' homes.
#[derive(Default)]
pub(super) struct Homes {
    pub(super) open: Vec<Home>,
    /// Those on network, FUSE and autofs mounts, which are left alone: whoever touches one that is dead waits
    /// without end.
    pub(super) remote: Vec<PathBuf>,
}

impl Homes {
    pub(super) fn of(patient: &Patient) -> Self {
        let mut homes = Self::default();
        let members = patient.member_names();
        for person in &patient.everybody {
            if !members.contains(person.name.as_str()) || person.home == Path::new("/") {
                continue;
            }
            match places::real_path(&person.home) {
                Ok(Real::Local(real)) if homes.open.iter().all(|home| home.directory.path != real) => {
                    let home =
                        Directory::open(&real).map(|directory| Home { user: person.name.clone(), directory });
                    homes.open.extend(home);
                }
                Ok(Real::Remote(_)) if !homes.remote.contains(&person.home) => {
                    homes.remote.push(person.home.clone());
                }
                _ => {}
            }
        }
        homes.open.sort_by(|one, other| one.directory.path.cmp(&other.directory.path));
        homes.remote.sort();
        homes
    }
}
