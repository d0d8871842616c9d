//! Opening the shared root, and judging it.
//!
//! One walk from `/` by held descriptors, so that what was judged is what is used. Every directory on the
//! way must be root's and closed to the writing of others: whoever can write one of them can put a
//! directory of their own where a user's cache is looked for.

use std::fmt::{self, Display, Formatter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::config::RootPath;

/// Write permission for the group or for others. An access ACL shows in the group bits, as its mask.
pub(crate) const OTHERS_MAY_WRITE: u32 = 0o022;

const STICKY: u32 = 0o1000;

/// The shared root, open and found in order.
#[derive(Debug)]
pub struct SharedRoot {
    directory: OwnedFd,
    path: RootPath,
    only_root_writes: bool,
}

/// Why there is no shared root to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootError {
    /// It, or a directory on the way to it, does not exist: this host is no workspace.
    Absent,
    /// A component is a symbolic link.
    Symlink {
        /// The link.
        path: String,
    },
    /// A component is something else than a directory.
    NotADirectory {
        /// What is in the way.
        path: String,
    },
    /// A directory belongs to somebody else than root.
    NotRootOwned {
        /// The directory.
        path: String,
        /// Its owner.
        uid: u32,
    },
    /// A directory can be written by others and is not sticky.
    Writable {
        /// The directory.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The root is the user's home directory, or one above it.
    AboveHome {
        /// The root.
        path: String,
    },
    /// A system call failed.
    Failed {
        /// The directory.
        path: String,
        /// The cause.
        errno: Errno,
    },
}

impl RootError {
    /// Whether the system failed, rather than the administrator having set it up so.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

impl Display for RootError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the shared root does not exist"),
            Self::Symlink { path } => write!(
                f,
                "{path} is a symbolic link, which could be pointed elsewhere; set root to the real path: realpath {path}"
            ),
            Self::NotADirectory { path } => {
                write!(f, "{path} is not a directory; remove it, or set root to another path")
            }
            Self::NotRootOwned { path, uid } => write!(
                f,
                "{path} belongs to uid {uid}, who could replace what is in it; run: chown root {path}"
            ),
            Self::Writable { path, mode } => write!(
                f,
                "{path} (mode {mode:04o}) is writable by group or others without the sticky bit: they could replace \
                 another user's directory in it; run: chmod go-w {path}"
            ),
            Self::AboveHome { path } => write!(
                f,
                "{path} is, or contains, the user's home directory; set root to a directory that holds nothing else"
            ),
            Self::Failed { path, errno } => {
                write!(f, "cannot open {path}: {}; see that its file system is in order", errno.desc())
            }
        }
    }
}

impl SharedRoot {
    /// Walks to the root and judges every directory on the way.
    pub fn open(path: &RootPath) -> Result<Self, RootError> {
        let mut directory = step(AT_FDCWD, "/", "/")?;
        let mut only_root_writes = judge(&directory, "/")?;
        let mut reached = String::with_capacity(path.as_str().len());
        for name in path.components() {
            reached.push('/');
            reached.push_str(name);
            directory = step(directory.as_fd(), name, &reached)?;
            only_root_writes = judge(&directory, &reached)?;
        }
        Ok(Self { directory, path: path.clone(), only_root_writes })
    }

    /// Refuses a root that is, or lies above, this home directory: `/home` would find `/home/alice` in
    /// order and take it for a cache.
    ///
    /// Compared as text: to resolve a home directory could mount it, or wait for its server.
    pub fn keep_clear_of(&self, home: &Path) -> Result<(), RootError> {
        if home.starts_with(self.path.as_str()) {
            return Err(RootError::AboveHome { path: self.path.to_string() });
        }
        Ok(())
    }

    /// The root's path, as configured.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Whether root alone can add a name to it; otherwise it is sticky.
    #[must_use]
    pub fn only_root_writes(&self) -> bool {
        self.only_root_writes
    }
}

impl AsFd for SharedRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Opens one component, never through a symbolic link.
fn step(parent: BorrowedFd<'_>, name: &str, path: &str) -> Result<OwnedFd, RootError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOENT => RootError::Absent,
        Errno::ENOTDIR | Errno::ELOOP if is_symlink(parent, name) => RootError::Symlink { path: path.into() },
        Errno::ENOTDIR => RootError::NotADirectory { path: path.into() },
        errno => RootError::Failed { path: path.into(), errno },
    })
}

/// For the message alone: the component was refused already.
fn is_symlink(parent: BorrowedFd<'_>, name: &str) -> bool {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|found| kind(&found) == SFlag::S_IFLNK)
}

/// The type bits of a mode.
pub(crate) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
}

/// Whether root alone writes this directory; an error if it belongs, or is open, to others.
fn judge(directory: &OwnedFd, path: &str) -> Result<bool, RootError> {
    let found = fstat(directory).map_err(|errno| RootError::Failed { path: path.into(), errno })?;
    if found.st_uid != 0 {
        return Err(RootError::NotRootOwned { path: path.into(), uid: found.st_uid });
    }
    let only_root_writes = found.st_mode & OTHERS_MAY_WRITE == 0;
    if !only_root_writes && found.st_mode & STICKY == 0 {
        return Err(RootError::Writable { path: path.into(), mode: found.st_mode & 0o7777 });
    }
    Ok(only_root_writes)
}
