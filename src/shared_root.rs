//! Opening the shared root, and judging it.
//!
//! One walk from `/` by held descriptors, so that what was judged is what is used. Every directory on the
//! way must be root's and closed to the writing of others: whoever can write one of them can put a
//! directory of their own where a user's cache is looked for.
//!
//! Nothing here allocates memory: the walk may run in a child of a threaded process.

use std::fmt::{self, Formatter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::config::RootPath;
use crate::ffi;
use crate::mounts::Mounts;
use crate::quoting::ShellWord;

/// Write permission for the group or for others. An access ACL shows in the group bits, as its mask.
pub(crate) const OTHERS_MAY_WRITE: u32 = 0o022;

const STICKY: u32 = 0o1000;

/// Whether a file system may be asked, or only the kernel's caches.
#[derive(Debug, Clone, Copy)]
pub enum Patience<'a> {
    /// Wait for whoever has the answer, on these mounts. On one that is not among them, since it was mounted
    /// after the list was read, it is `WouldWait`.
    Wait(&'a Mounts),
    /// Wait for nobody: what the caches do not have, or have from a file system that is neither on a block
    /// device nor the one mounted at `/`, is `WouldWait`.
    Cached,
}

/// The shared root, open and found in order.
#[derive(Debug)]
pub struct SharedRoot {
    directory: OwnedFd,
    identity: Identity,
    only_root_writes: bool,
    /// The mount at `/`, which a process in a chroot does not find in its list of mounts.
    top_mount: u64,
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
            RootCause::WouldWait => write!(
                f,
                "{path} lies on a file system that was not in the list of mounts a moment ago; log in again, and see \
                 that /proc is mounted"
            ),
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
                "{path} belongs to uid {uid}, who could replace what is in it; run: chown -h root {in_shell}"
            ),
            RootCause::Writable(mode) => write!(
                f,
                "{path} (mode {mode:04o}) is writable by group or others without the sticky bit: they could replace \
                 another user's directory in it; run: chmod go-w {in_shell}"
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
    pub fn open(path: &RootPath, patience: Patience<'_>) -> Result<Self, RootError> {
        let at = |depth| move |cause| RootError { cause, depth };
        let mut root = Self::step(AT_FDCWD, "/", None, patience).map_err(at(0))?;
        for (index, name) in path.components().enumerate() {
            let top_mount = Some(root.top_mount);
            root = Self::step(root.as_fd(), name, top_mount, patience).map_err(at(index + 1))?;
        }
        Ok(root)
    }

    /// Opens and judges one component, never through a symbolic link.
    fn step(
        parent: BorrowedFd<'_>,
        name: &str,
        top_mount: Option<u64>,
        patience: Patience<'_>,
    ) -> Result<Self, RootCause> {
        let look = open_and_look(parent, name, top_mount, patience);
        let (directory, seen) = look.map_err(|error| match error {
            LookError::WouldWait => RootCause::WouldWait,
            LookError::MountedBy(uid) => RootCause::MountedBy(uid),
            LookError::Failed(Errno::ENOENT) => RootCause::Absent,
            LookError::Failed(Errno::ENOTDIR | Errno::ELOOP) if is_symlink(parent, name) => {
                RootCause::Symlink
            }
            LookError::Failed(Errno::ENOTDIR) => RootCause::NotADirectory,
            LookError::Failed(errno) => RootCause::Failed(errno),
        })?;
        let only_root_writes = seen.mode & OTHERS_MAY_WRITE == 0;
        if seen.uid != 0 {
            return Err(RootCause::NotRootOwned(seen.uid));
        }
        if !only_root_writes && seen.mode & STICKY == 0 {
            return Err(RootCause::Writable(seen.mode));
        }
        let top_mount = top_mount.unwrap_or(seen.mount);
        Ok(Self { directory, identity: seen.identity, only_root_writes, top_mount })
    }

    /// Whether root alone can add a name to it; otherwise it is sticky.
    #[must_use]
    pub fn only_root_writes(&self) -> bool {
        self.only_root_writes
    }

    /// Which directory it is, by whatever path.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Opens and looks at a directory in it.
    pub(crate) fn look(&self, name: &str, patience: Patience<'_>) -> Result<(OwnedFd, Seen), LookError> {
        open_and_look(self.directory.as_fd(), name, Some(self.top_mount), patience)
    }
}

impl AsFd for SharedRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Which file it is, by whatever path: stat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(found: &libc::statx) -> Self {
        let device = libc::makedev(found.stx_dev_major, found.stx_dev_minor);
        Self { device, inode: found.stx_ino }
    }

    /// Of what a path leads to, if the kernel's caches know it: no file system is asked.
    pub(crate) fn in_memory(path: &Path) -> Option<Self> {
        // nix would allocate for a longer one.
        if path.len() >= 1024 {
            return None;
        }
        let opened = open_in_memory(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC).ok()?;
        ffi::stat_in_memory(opened).ok().map(|found| Self::of(&found))
    }
}

/// What a directory is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Which it is.
    pub(crate) identity: Identity,
    /// Its owner.
    pub(crate) uid: u32,
    /// Its permissions, setuid, setgid and sticky bits.
    pub(crate) mode: u32,
    /// The id of the mount it lies on; 0 where the kernel does not tell (Linux before 5.8).
    mount: u64,
}

/// Why a directory was not opened and looked at.
pub(crate) enum LookError {
    /// Only its file system could tell.
    WouldWait,
    /// It lies on a FUSE file system that this user has mounted.
    MountedBy(u32),
    /// A system call failed.
    Failed(Errno),
}

/// Opens a directory beneath another, never through a symbolic link, and looks at it. It is on the mount at
/// `/`, or on one that root has mounted: not even a user's own will do, whose server need not answer.
fn open_and_look(
    parent: BorrowedFd<'_>,
    name: &str,
    top_mount: Option<u64>,
    patience: Patience<'_>,
) -> Result<(OwnedFd, Seen), LookError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match patience {
        Patience::Wait(mounts) => {
            let directory = openat(parent, name, flags, Mode::empty()).map_err(LookError::Failed)?;
            // From memory: until it is known whose it is, nothing is asked of it.
            let mount = ffi::stat_in_memory(&directory).map_or(0, |found| found.stx_mnt_id);
            if mount != 0 && top_mount.is_some_and(|top| top != mount) {
                match mounts.mounter(mount) {
                    None => return Err(LookError::WouldWait),
                    Some(0) => {}
                    Some(mounter) => return Err(LookError::MountedBy(mounter)),
                }
            }
            let found = fstat(&directory).map_err(LookError::Failed)?;
            let identity = Identity { device: found.st_dev, inode: found.st_ino };
            Ok((directory, Seen { identity, uid: found.st_uid, mode: found.st_mode & 0o7777, mount }))
        }
        Patience::Cached => {
            let directory = open_in_memory(parent, name, flags)?;
            match ffi::stat_in_memory(&directory) {
                // Major number 0 is for file systems without a block device: the remote ones are among them,
                // and all that users can mount. But what is mounted at `/` counts as local, whatever it is.
                Ok(found)
                    if found.stx_dev_major != 0
                        || found.stx_mnt_id != 0 && top_mount.is_none_or(|top| top == found.stx_mnt_id) =>
                {
                    let (identity, mode) = (Identity::of(&found), u32::from(found.stx_mode) & 0o7777);
                    Ok((directory, Seen { identity, uid: found.stx_uid, mode, mount: found.stx_mnt_id }))
                }
                Ok(_) | Err(_) => Err(LookError::WouldWait),
            }
        }
    }
}

/// Opens what stands at a name beneath a directory as far as the kernel's caches know it.
pub(crate) fn open_in_memory(
    parent: impl AsFd,
    name: &(impl NixPath + ?Sized),
    flags: OFlag,
) -> Result<OwnedFd, LookError> {
    // RESOLVE_CACHED looks a name up in memory or not at all: it triggers no automount, and asks no server
    // whether what is in memory still holds (openat2(2), since Linux 5.12).
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED));
    openat2(parent, name, how).map_err(|errno| match errno {
        // Not in memory; no such flag; no such call; a seccomp filter that does not know it. And no directory:
        // to say what it is instead takes another look.
        Errno::EAGAIN | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM | Errno::ENOTDIR | Errno::ELOOP => {
            LookError::WouldWait
        }
        errno => LookError::Failed(errno),
    })
}

/// Opens what is not a mount point; EXDEV if it is one, whose file system is then not asked.
pub(crate) fn open_in_mount(
    parent: impl AsFd,
    name: &(impl nix::NixPath + ?Sized),
    flags: OFlag,
) -> nix::Result<OwnedFd> {
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
    kind_in_memory(parent, name) == Ok(SFlag::S_IFLNK)
}

/// The type bits of what stands at a name, without asking it: it may be a mount point whose server is dead.
pub(crate) fn kind_in_memory(parent: impl AsFd, name: &str) -> nix::Result<SFlag> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = ffi::stat_in_memory(openat(parent, name, flags, Mode::empty())?)?;
    Ok(SFlag::from_bits_truncate(u32::from(found.stx_mode) & SFlag::S_IFMT.bits()))
}

/// The type bits of a mode.
pub(crate) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
}
