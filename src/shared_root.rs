//! Opening the shared root, and judging it.
//!
//! One walk from `/` by held descriptors, so that what was judged is what is used. Every directory on the
//! way must be root's and closed to the writing of others: whoever can write one of them can put a
//! directory of their own where a user's cache is looked for.
//!
//! Nothing here allocates memory: the walk may run in a child of a threaded process.

use std::fmt::{self, Formatter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::config::RootPath;
use crate::ffi;
use crate::shell_word::ShellWord;

/// Write permission for the group or for others. An access ACL shows in the group bits, as its mask.
pub(crate) const OTHERS_MAY_WRITE: u32 = 0o022;

const STICKY: u32 = 0o1000;

/// Whether a file system may be asked, or only the kernel's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Wait for whoever has the answer.
    Wait,
    /// Wait for nobody: what the caches do not have, or have from a file system that is not on a block
    /// device, is `WouldWait`.
    Cached,
}

/// The shared root, open and found in order.
#[derive(Debug)]
pub struct SharedRoot {
    directory: OwnedFd,
    only_root_writes: bool,
}

/// Why there is no shared root to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootError {
    /// What is wrong.
    pub cause: RootCause,
    /// With which directory: that many components of the path lead to it.
    pub(crate) depth: usize,
}

/// What is wrong with the root, or with a directory on the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootCause {
    /// It does not exist: this host is no workspace.
    Absent,
    /// It cannot be judged without waiting.
    WouldWait,
    /// It is a symbolic link.
    Symlink,
    /// It is something else than a directory.
    NotADirectory,
    /// It belongs to this uid.
    NotRootOwned(u32),
    /// It has this mode, can be written by others, and is not sticky.
    Writable(u32),
    /// It is a mount point in a sticky directory, where anybody may have mounted it.
    MountPoint,
    /// It lies on a FUSE file system that this uid has mounted.
    MountedBy(u32),
    /// A system call failed.
    Failed(Errno),
}

impl RootError {
    /// The sentence for the log: path, cause and remedy.
    pub(crate) fn describe(&self, root: &RootPath, f: &mut Formatter<'_>) -> fmt::Result {
        let path = root.first_components(self.depth);
        let in_shell = ShellWord(path);
        match self.cause {
            RootCause::Absent => write!(f, "{path} does not exist"),
            RootCause::WouldWait => write!(f, "{path} cannot be judged without waiting for its file system"),
            RootCause::Symlink => write!(
                f,
                "{path} is a symbolic link, which could be pointed elsewhere; set root to what this prints: \
                 realpath {}",
                ShellWord(root.as_str())
            ),
            RootCause::NotADirectory => {
                write!(f, "{path} is not a directory; remove it, or set root to another path")
            }
            RootCause::NotRootOwned(uid) => write!(
                f,
                "{path} belongs to uid {uid}, who could replace what is in it; run: chown root {in_shell}"
            ),
            RootCause::Writable(mode) => write!(
                f,
                "{path} (mode {mode:04o}) is writable by group or others without the sticky bit: they could replace \
                 another user's directory in it; run: chmod go-w {in_shell}"
            ),
            RootCause::MountPoint => write!(
                f,
                "{path} is a mount point in a sticky directory, where anybody may have mounted it; see who did, or \
                 run: chmod go-w {}",
                ShellWord(root.first_components(self.depth.saturating_sub(1)))
            ),
            RootCause::MountedBy(uid) => write!(
                f,
                "{path} lies on a file system that uid {uid} has mounted, whose owners and modes are what that user \
                 says; unmount it: see findmnt --target {in_shell}"
            ),
            RootCause::Failed(errno) => {
                write!(f, "cannot open {path}: {}; see that its file system is in order", errno.desc())
            }
        }
    }
}

impl SharedRoot {
    /// Walks to the root and judges every directory on the way.
    pub fn open(path: &RootPath, patience: Patience) -> Result<Self, RootError> {
        let at = |depth| move |cause| RootError { cause, depth };
        let mut root = Self::step(AT_FDCWD, "/", MountPoints::Enter, patience).map_err(at(0))?;
        for (index, name) in path.components().enumerate() {
            root = Self::step(root.as_fd(), name, root.mount_points(), patience).map_err(at(index + 1))?;
        }
        Ok(root)
    }

    /// The error for a root on a FUSE file system that an ordinary user has mounted.
    pub(crate) fn mounted_by(uid: u32, path: &RootPath) -> RootError {
        RootError { cause: RootCause::MountedBy(uid), depth: path.components().count() }
    }

    /// Opens and judges one component, never through a symbolic link.
    fn step(
        parent: BorrowedFd<'_>,
        name: &str,
        mounts: MountPoints,
        patience: Patience,
    ) -> Result<Self, RootCause> {
        let (directory, seen) =
            open_and_look(parent, name, mounts, patience).map_err(|error| match error {
                LookError::WouldWait => RootCause::WouldWait,
                LookError::Failed(Errno::ENOENT) => RootCause::Absent,
                LookError::Failed(Errno::ENOTDIR | Errno::ELOOP) if is_symlink(parent, name) => {
                    RootCause::Symlink
                }
                LookError::Failed(Errno::ENOTDIR) => RootCause::NotADirectory,
                LookError::Failed(Errno::EXDEV) => RootCause::MountPoint,
                LookError::Failed(errno) => RootCause::Failed(errno),
            })?;
        let only_root_writes = seen.mode & OTHERS_MAY_WRITE == 0;
        if seen.uid != 0 {
            return Err(RootCause::NotRootOwned(seen.uid));
        }
        if !only_root_writes && seen.mode & STICKY == 0 {
            return Err(RootCause::Writable(seen.mode));
        }
        Ok(Self { directory, only_root_writes })
    }

    /// Whether root alone can add a name to it; otherwise it is sticky.
    #[must_use]
    pub fn only_root_writes(&self) -> bool {
        self.only_root_writes
    }

    /// What to do about mount points in it. On a directory of their own anybody can mount, with fusermount's
    /// help, a file system that says of what is in it that it is root's, or the victim's.
    pub(crate) fn mount_points(&self) -> MountPoints {
        if self.only_root_writes { MountPoints::Enter } else { MountPoints::Refuse }
    }
}

impl AsFd for SharedRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Whether a directory may be the top of another file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountPoints {
    /// It may: only root can have mounted it.
    Enter,
    /// It may not.
    Refuse,
}

/// What a directory is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Its owner.
    pub(crate) uid: u32,
    /// Its permissions, setuid, setgid and sticky bits.
    pub(crate) mode: u32,
}

/// Why a directory was not opened and looked at.
pub(crate) enum LookError {
    /// Only its file system could tell.
    WouldWait,
    /// A system call failed.
    Failed(Errno),
}

/// Opens a directory beneath another, never through a symbolic link, and looks at it.
pub(crate) fn open_and_look(
    parent: impl AsFd,
    name: &str,
    mounts: MountPoints,
    patience: Patience,
) -> Result<(OwnedFd, Seen), LookError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match patience {
        Patience::Wait => {
            let opened = match mounts {
                MountPoints::Enter => openat(parent, name, flags, Mode::empty()),
                MountPoints::Refuse => open_in_mount(parent, name, flags),
            };
            let directory = opened.map_err(LookError::Failed)?;
            let found = fstat(&directory).map_err(LookError::Failed)?;
            Ok((directory, Seen { uid: found.st_uid, mode: found.st_mode & 0o7777 }))
        }
        Patience::Cached => {
            let directory = open_in_memory(parent, name, flags, mounts)?;
            match ffi::stat_in_memory(&directory) {
                // Major number 0 is for file systems without a block device, the remote ones among them.
                Ok(found) if found.stx_dev_major != 0 => {
                    let mode = u32::from(found.stx_mode) & 0o7777;
                    Ok((directory, Seen { uid: found.stx_uid, mode }))
                }
                Ok(_) | Err(_) => Err(LookError::WouldWait),
            }
        }
    }
}

/// Opens what stands at a name beneath a directory as far as the kernel's caches know it.
pub(crate) fn open_in_memory(
    parent: impl AsFd,
    name: &str,
    flags: OFlag,
    mounts: MountPoints,
) -> Result<OwnedFd, LookError> {
    // RESOLVE_CACHED looks a name up in memory or not at all: it triggers no automount, and asks no server
    // whether what is in memory still holds (openat2(2), since Linux 5.12).
    let mut resolve = ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED);
    resolve.set(ResolveFlag::RESOLVE_NO_XDEV, mounts == MountPoints::Refuse);
    openat2(parent, name, OpenHow::new().flags(flags).resolve(resolve)).map_err(|errno| match errno {
        // Not in memory; no such flag; no such call; a seccomp filter that does not know it. And no directory:
        // to say what it is instead takes another look.
        Errno::EAGAIN | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM | Errno::ENOTDIR | Errno::ELOOP => {
            LookError::WouldWait
        }
        errno => LookError::Failed(errno),
    })
}

/// Opens what is not a mount point; EXDEV if it is one, whose file system is then not asked.
pub(crate) fn open_in_mount(parent: impl AsFd, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    match openat2(&parent, name, how) {
        // A kernel before 5.6, or a seccomp filter that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let opened = openat(&parent, name, flags, Mode::empty())?;
            if fstat(&opened)?.st_dev == fstat(&parent)?.st_dev { Ok(opened) } else { Err(Errno::EXDEV) }
        }
        opened => opened,
    }
}

/// For the message alone: the component was refused already.
fn is_symlink(parent: BorrowedFd<'_>, name: &str) -> bool {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|found| kind(&found) == SFlag::S_IFLNK)
}

/// The type bits of a mode.
pub(crate) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
}
