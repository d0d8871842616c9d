//! Bringing the tree over from another file system, where a rename cannot.
//!
//! The source is taken over where it is, so that no name in it changes any more; copied; compared with the
//! copy; and removed last, after the copy has its name and is on the disk, and only if nothing in the source
//! changed since it was compared. Whatever of it was done before a crash is found to be there and kept.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, Whence, fchown, linkat, lseek, unlinkat};

use super::busy::Locks;
use super::settle::{KEPT, Links, copy_entry, copy_name, remove_if_there, take_over};
use super::source::{Found, Source};
use super::staging::{Staging, TREE};
use super::survey::unreadable;
use super::{Target, refused_for};
use crate::cache_dir::Owner;
use crate::tree::{Directory, Kind, Seen, Visit, open_directory, time_spec, walk};

/// Longer than the kernel's clock for files takes to tick: what changes afterwards is seen to have.
const CLOCK_TICK: Duration = Duration::from_millis(25);

/// How often the source is copied and compared before it is said to change all the time.
const ROUNDS: u32 = 3;

/// Copies a file's content; where the source has holes, the copy has them too.
pub(super) fn copy_content(from: &File, to: &File) -> anyhow::Result<u64> {
    let size = from.metadata()?.len();
    let end = i64::try_from(size)?;
    let mut at = 0;
    let mut copied = 0;
    while at < end {
        let data = match lseek(from, at, Whence::SeekData) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::ENXIO) => break,
            // The file system does not say.
            Err(_) => at,
        };
        let hole = lseek(from, data, Whence::SeekHole).unwrap_or(end).clamp(data, end);
        lseek(from, data, Whence::SeekSet)?;
        lseek(to, data, Whence::SeekSet)?;
        let length = u64::try_from(hole - data)?;
        // The standard library lets the kernel copy, or share the blocks, where it can.
        let done = io::copy(&mut io::Read::take(from, length), &mut &*to)?;
        copied += done;
        if done < length {
            bail!("it became shorter while it was copied; run this again");
        }
        at = hole;
    }
    to.set_len(size)?;
    Ok(copied)
}

/// One source and the place it is copied to.
pub(super) struct Copy<'a> {
    pub(super) source: &'a Source,
    pub(super) found: &'a Found,
    pub(super) target: &'a Target,
    pub(super) staging: &'a Staging,
    pub(super) locks: &'a Locks,
    pub(super) tick: &'a (dyn Fn(u64) + Sync),
    pub(super) bytes: &'a AtomicU64,
}

impl Copy<'_> {
    /// Copies all of it, and answers with the time, by the source's own clock, since which nothing in it may
    /// change.
    pub(super) fn run(&self) -> anyhow::Result<(i64, u32)> {
        let links = Links::default();
        let taken = TakeOver { copy: self, links: &links, names: AtomicU64::new(0) };
        self.walk_source(&taken)?;
        super::or_busy(self.locks.busy())?;
        match mkdirat(&self.staging.fd, TREE, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => bail!("cannot make {}/tree: {}", self.staging.path, errno.desc()),
        }
        let scratch = self.staging.scratch()?;
        for _ in 0..ROUNDS {
            let fill = Fill {
                copy: self,
                links: &links,
                scratch: &scratch,
                locks: [(); 16].map(|()| Mutex::default()),
            };
            self.walk_source(&fill)?;
            let sealed = self.seal()?;
            let compare = Compare { copy: self, same: AtomicU64::new(0) };
            self.walk_source(&compare)?;
            // Only root could have added a name, or taken one out, since they were counted.
            if compare.same.into_inner() == taken.names.load(Ordering::Relaxed) {
                return Ok(sealed);
            }
        }
        bail!("{} changes while it is copied; see who writes there, then run this again", self.source.path)
    }

    fn walk_source<V: Visit>(&self, visit: &V) -> anyhow::Result<()> {
        walk(&self.found.top, &self.source.path, visit)
    }

    /// Marks a moment on the source's clock.
    fn seal(&self) -> anyhow::Result<(i64, u32)> {
        let mode = Seen::of(&self.found.top)?.mode;
        fchmod(&self.found.top, Mode::from_bits_truncate(mode))?;
        let sealed = Seen::of(&self.found.top)?.changed;
        thread::sleep(CLOCK_TICK);
        Ok(sealed)
    }

    fn admits<S>(&self, directory: &Directory<S>, name: &CStr) -> bool {
        !directory.is_top() || self.source.moves(self.target, name)
    }
}

/// Takes the source over, and counts the names of its files.
struct TakeOver<'a> {
    copy: &'a Copy<'a>,
    links: &'a Links,
    /// How many there are, directories included.
    names: AtomicU64,
}

impl Visit for TakeOver<'_> {
    type State = ();

    fn enter(
        &self,
        fd: BorrowedFd<'_>,
        _name: &CStr,
        seen: &mut Seen,
        parent: Option<&Directory<()>>,
    ) -> anyhow::Result<()> {
        if parent.is_some() || !self.copy.source.is_root {
            take_over(fd, seen, self.copy.target.owner.gid)?;
        }
        self.names.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn admits(&self, directory: &Directory<()>, name: &CStr) -> bool {
        self.copy.admits(directory, name)
    }

    fn entry(&self, directory: &Directory<()>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        if seen.kind == Kind::Special {
            bail!("it is a device, a FIFO or a socket; remove it, then run this again");
        }
        if seen.links > 1 {
            self.links.see(seen);
        }
        self.names.fetch_add(1, Ordering::Relaxed);
        self.copy
            .locks
            .take(directory, name, seen, || Path::new(&self.copy.source.path).join(directory.path_of(name)))
    }
}

/// Copies what is not there yet.
struct Fill<'a> {
    copy: &'a Copy<'a>,
    links: &'a Links,
    scratch: &'a OwnedFd,
    /// A file with several names is copied by one thread, while the other may copy another one.
    locks: [Mutex<()>; 16],
}

impl Fill<'_> {
    fn link(&self, directory: &Directory<OwnedFd>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        let turn = self.locks.get(usize::try_from(seen.inode % 16)?).map(|lock| lock.lock());
        let copy = copy_name(seen);
        let there = Seen::at(self.scratch, &copy).ok().filter(|there| is_copy_of(there, seen));
        let inode = if let Some(there) = there {
            there.inode
        } else {
            remove_if_there(self.scratch, &copy)?;
            self.count(copy_entry(directory, name, seen, self.scratch, &copy, self.copy.target.owner)?);
            Seen::at(self.scratch, &copy)?.inode
        };
        drop(turn);
        match Seen::at(&directory.state, name) {
            Ok(there) if there.inode == inode => return Ok(()),
            Ok(_) => remove_if_there(&directory.state, name)?,
            Err(_) => {}
        }
        Ok(linkat(self.scratch, copy.as_c_str(), &directory.state, name, LinkatFlags::empty())?)
    }

    fn count(&self, bytes: u64) {
        self.copy.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Visit for Fill<'_> {
    type State = OwnedFd;

    fn enter(
        &self,
        _fd: BorrowedFd<'_>,
        name: &CStr,
        _seen: &mut Seen,
        parent: Option<&Directory<OwnedFd>>,
    ) -> anyhow::Result<OwnedFd> {
        let Some(parent) = parent else { return Ok(open_directory(&self.copy.staging.fd, TREE)?) };
        match mkdirat(&parent.state, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => Ok(open_directory(&parent.state, name)?),
            Err(errno) => Err(anyhow!("cannot make its copy: {}", errno.desc())),
        }
    }

    fn admits(&self, directory: &Directory<OwnedFd>, name: &CStr) -> bool {
        self.copy.admits(directory, name)
    }

    fn entry(&self, directory: &Directory<OwnedFd>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        (self.copy.tick)(1);
        if seen.links > 1 {
            // Complete or not: with a name outside the tree it is a copy all the same, but of what the user
            // may not read there is none.
            if self.links.is_complete(seen) == Some(false) && !self.copy.target.may_read(seen)? {
                let path = Path::new(&self.copy.source.path).join(directory.path_of(name));
                let user = &self.copy.target.user;
                return Err(refused_for(&unreadable(user), &[path.display().to_string()]));
            }
            return self.link(directory, name, seen);
        }
        match Seen::at(&directory.state, name) {
            Ok(there) if is_copy_of(&there, seen) => return Ok(()),
            Ok(_) => remove_if_there(&directory.state, name)?,
            Err(_) => {}
        }
        self.count(copy_entry(directory, name, seen, &directory.state, name, self.copy.target.owner)?);
        Ok(())
    }

    fn leave(&self, directory: &Directory<OwnedFd>) -> anyhow::Result<()> {
        let Owner { uid, gid } = self.copy.target.owner;
        let copy = &directory.state;
        fchown(copy, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(copy, Mode::from_bits_truncate(directory.seen.mode & KEPT))?;
        Ok(futimens(copy, &time_spec(directory.seen.accessed), &time_spec(directory.seen.modified))?)
    }
}

/// Whether this is a complete copy: the time is what it gets last.
fn is_copy_of(copy: &Seen, original: &Seen) -> bool {
    copy.kind == original.kind && copy.size == original.size && copy.modified == original.modified
}

/// Compares the source with its copy.
struct Compare<'a> {
    copy: &'a Copy<'a>,
    /// How many names stand for the same in both.
    same: AtomicU64,
}

impl Visit for Compare<'_> {
    type State = OwnedFd;

    fn enter(
        &self,
        _fd: BorrowedFd<'_>,
        name: &CStr,
        _seen: &mut Seen,
        parent: Option<&Directory<OwnedFd>>,
    ) -> anyhow::Result<OwnedFd> {
        let opened = match parent {
            None => open_directory(&self.copy.staging.fd, TREE),
            Some(parent) => open_directory(&parent.state, name),
        };
        self.same.fetch_add(1, Ordering::Relaxed);
        opened.map_err(|errno| anyhow!("cannot open its copy: {}", errno.desc()))
    }

    fn admits(&self, directory: &Directory<OwnedFd>, name: &CStr) -> bool {
        self.copy.admits(directory, name)
    }

    fn entry(&self, directory: &Directory<OwnedFd>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        let same = match Seen::at(&directory.state, name) {
            Ok(there) if is_copy_of(&there, seen) && seen.kind == Kind::Symlink => {
                readlinkat(directory, name)? == readlinkat(&directory.state, name)?
            }
            Ok(there) => is_copy_of(&there, seen),
            Err(_) => false,
        };
        self.same.fetch_add(u64::from(same), Ordering::Relaxed);
        Ok(())
    }
}

/// What in the source has changed since it was compared with its copy.
pub(super) fn changed_since(
    source: &Source,
    found: &Found,
    target: &Target,
    sealed: (i64, u32),
) -> anyhow::Result<Vec<String>> {
    let look = Look { source, target, sealed, changed: Mutex::default() };
    walk(&found.top, &source.path, &look)?;
    Ok(look.changed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Look<'a> {
    source: &'a Source,
    target: &'a Target,
    sealed: (i64, u32),
    changed: Mutex<Vec<String>>,
}

impl Look<'_> {
    fn check(&self, seen: &Seen, path: impl FnOnce() -> PathBuf) {
        if seen.changed > self.sealed {
            let path = Path::new(&self.source.path).join(path());
            self.changed.lock().unwrap_or_else(PoisonError::into_inner).push(path.display().to_string());
        }
    }
}

impl Visit for Look<'_> {
    type State = ();

    fn enter(
        &self,
        _fd: BorrowedFd<'_>,
        name: &CStr,
        seen: &mut Seen,
        parent: Option<&Directory<()>>,
    ) -> anyhow::Result<()> {
        // Of the shared root only some is the source.
        if parent.is_some() || !self.source.is_root {
            self.check(seen, || parent.map(|parent| parent.path_of(name)).unwrap_or_default());
        }
        Ok(())
    }

    fn admits(&self, directory: &Directory<()>, name: &CStr) -> bool {
        !directory.is_top() || self.source.moves(self.target, name)
    }

    fn entry(&self, directory: &Directory<()>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        self.check(seen, || directory.path_of(name));
        Ok(())
    }
}

/// Removes a source that was copied.
pub(super) fn remove(source: &Source, found: &Found, target: &Target) -> anyhow::Result<()> {
    walk(&found.top, &source.path, &Remove { source, target })?;
    if source.is_root || found.is_mount_point {
        return Ok(());
    }
    unlinkat(&source.parent, source.name.as_c_str(), UnlinkatFlags::RemoveDir)
        .with_context(|| format!("cannot remove {}, which is empty now", source.path))
}

struct Remove<'a> {
    source: &'a Source,
    target: &'a Target,
}

impl Visit for Remove<'_> {
    type State = ();

    fn enter(
        &self,
        _fd: BorrowedFd<'_>,
        _name: &CStr,
        _seen: &mut Seen,
        _parent: Option<&Directory<()>>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    fn admits(&self, directory: &Directory<()>, name: &CStr) -> bool {
        !directory.is_top() || self.source.moves(self.target, name)
    }

    fn entry(&self, directory: &Directory<()>, name: &CStr, _seen: &Seen) -> anyhow::Result<()> {
        remove_if_there(directory.as_fd(), name)
    }

    fn leave(&self, directory: &Directory<()>) -> anyhow::Result<()> {
        let Some(parent) = directory.parent() else { return Ok(()) };
        match unlinkat(parent, directory.name(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(anyhow!("cannot remove it: {}", errno.desc())),
        }
    }
}
