//! Bringing the tree over from another file system, where a rename cannot.
//!
//! The source is taken over where it is, so that no name in it changes any more; copied; and compared with the
//! copy. Of every file that was copied it is written down what it was ([`Record`]). The source is removed last,
//! after the copy has its name and is on the disk, if all of it still is what was written down; and while it is
//! removed, each inode is looked at again: whatever else is found there stays, and is told. A copy that was
//! killed is begun again.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, Whence, fchown, linkat, lseek, unlinkat};

use super::busy::Locks;
use super::outputs::{self, Rewrite};
use super::settle::{Done, KEPT, Links, complete_top, copy_file, copy_link, remove_if_there, take_over};
use super::source::{Found, Source};
use super::staging::{Staging, TREE};
use super::survey::unreadable;
use super::{Target, guard, refused_for};
use crate::cache_dir::Owner;
use crate::ffi;
use crate::tree::{Directory, Kind, Opened, Seen, Visit, open_directory, time_spec, walk};

/// How often a file is copied that changes meanwhile, before it is said to change all the time.
const ROUNDS: u32 = 3;

/// Copies a file's content, of a file that grows meanwhile what it was when it was `seen`; where the source has
/// holes, the copy has them too.
pub(super) fn copy_content(from: &File, seen: &Seen, to: &File) -> anyhow::Result<u64> {
    // The standard library lets the kernel copy, or share the blocks, where it can.
    if seen.allocated >= seen.size {
        return Ok(io::copy(&mut io::Read::take(from, seen.size), &mut &*to)?);
    }
    let end = i64::try_from(seen.size)?;
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
        let done = io::copy(&mut io::Read::take(from, length), &mut &*to)?;
        copied += done;
        if done < length {
            break;
        }
        at = hole;
    }
    to.set_len(seen.size)?;
    Ok(copied)
}

/// What a file, a symbolic link or a directory was when it was copied. The device is the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    inode: u64,
    /// The size, and in the low 16 bits how many names it had: a million of these are held at once.
    size_and_links: u64,
    /// In nanoseconds since 1970.
    modified: i64,
    changed: i64,
}

impl Record {
    const LENGTH: usize = 32;

    fn of(seen: &Seen) -> Self {
        let nanoseconds = |(seconds, rest): (i64, u32)| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(rest))
        };
        Self {
            inode: seen.inode,
            size_and_links: seen.size << 16 | u64::from(seen.links.min(0xffff)),
            modified: nanoseconds(seen.modified),
            changed: nanoseconds(seen.changed),
        }
    }

    /// Whether this is what is there now. One of several names that is taken away changes the others' ctime:
    /// where names are missing, it does not count.
    fn still_holds(&self, seen: &Seen) -> bool {
        let now = Self::of(seen);
        let lost_names = now.size_and_links & 0xffff < self.size_and_links & 0xffff;
        *self == now
            || lost_names
                && (now.inode, now.size_and_links >> 16, now.modified)
                    == (self.inode, self.size_and_links >> 16, self.modified)
    }

    fn to_bytes(self) -> Vec<u8> {
        [
            self.inode.to_le_bytes(),
            self.size_and_links.to_le_bytes(),
            self.modified.to_le_bytes(),
            self.changed.to_le_bytes(),
        ]
        .concat()
    }

    fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let field = |index: usize| {
            let mut field = [0; 8];
            field.iter_mut().zip(bytes.iter().skip(index * 8)).for_each(|(to, from)| *to = *from);
            field
        };
        Self {
            inode: u64::from_le_bytes(field(0)),
            size_and_links: u64::from_le_bytes(field(1)),
            modified: i64::from_le_bytes(field(2)),
            changed: i64::from_le_bytes(field(3)),
        }
    }
}

/// All that was written down, in the order of inodes.
struct Records(Vec<Record>);

impl Records {
    fn read(staging: &Staging) -> anyhow::Result<Self> {
        let file = staging.open_records()?;
        let count = usize::try_from(file.metadata()?.len())? / Record::LENGTH;
        let mut records = Vec::with_capacity(count);
        let mut file = BufReader::with_capacity(64 * 1024, file);
        for _ in 0..count {
            let mut bytes = [0; Record::LENGTH];
            file.read_exact(&mut bytes)?;
            records.push(Record::from_bytes(bytes));
        }
        records.sort_unstable();
        Ok(Self(records))
    }

    fn of(&self, inode: u64) -> Option<&Record> {
        let index = self.0.binary_search_by_key(&inode, |record| record.inode).ok()?;
        self.0.get(index)
    }
}

/// One source and the place it is copied to.
pub(super) struct Copy<'a> {
    pub(super) source: &'a Source,
    pub(super) found: &'a Found,
    pub(super) target: &'a Target,
    pub(super) staging: &'a Staging,
    pub(super) locks: &'a Locks,
    pub(super) rewrite: &'a Rewrite,
    pub(super) done: &'a Done,
    pub(super) tick: &'a (dyn Fn(u64) + Sync),
    pub(super) bytes: &'a AtomicU64,
}

impl Copy<'_> {
    /// Copies all of it, as the user's own. Files that somebody may have written to meanwhile are copied as they
    /// were, and stay where they are.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let links = Links::default();
        let taken = TakeOver { copy: self, links: &links, names: AtomicU64::new(0) };
        self.walk_source(&taken)?;
        super::or_busy(self.locks.busy())?;
        mkdirat(&self.staging.fd, TREE, Mode::S_IRWXU)
            .map_err(|errno| anyhow!("cannot make {}/tree: {}", self.staging.path, errno.desc()))?;
        let scratch = self.staging.scratch()?;
        let fill = Fill {
            copy: self,
            links: &links,
            scratch: &scratch,
            locks: [(); 16].map(|()| Mutex::default()),
            records: Mutex::new(BufWriter::new(self.staging.new_records()?)),
            written_to: Mutex::default(),
        };
        self.walk_source(&fill)?;
        super::or_busy(self.locks.busy())?;
        fill.records.into_inner().unwrap_or_else(PoisonError::into_inner).flush()?;
        let written_to = fill.written_to.into_inner().unwrap_or_else(PoisonError::into_inner);
        let compare = Compare {
            copy: self,
            records: Records::read(self.staging)?,
            written_to: &written_to,
            scratch: &scratch,
            names: AtomicU64::new(0),
        };
        self.walk_source(&compare)?;
        let names = compare.names.into_inner();
        // Only root could have added a name, or taken one out, since they were counted.
        if names != taken.names.into_inner() {
            bail!(
                "{} changed while it was copied; see who works there, then run this again",
                self.source.path
            );
        }
        self.done.entries.store(names, Ordering::Relaxed);
        self.done.written_to.store(written_to.len() as u64, Ordering::Relaxed);
        self.staging.empty_scratch()
    }

    fn walk_source<V: Visit>(&self, visit: &V) -> anyhow::Result<()> {
        walk(&self.found.top, &self.source.path, visit)
    }
}

/// Takes the source over, and counts its names.
struct TakeOver<'a> {
    copy: &'a Copy<'a>,
    links: &'a Links,
    /// How many there are, directories included.
    names: AtomicU64,
}

impl Visit for TakeOver<'_> {
    type State = ();

    fn enter(&self, opened: Opened<'_, ()>) -> anyhow::Result<()> {
        let Opened { fd, seen, parent, .. } = opened;
        take_over(fd, seen, self.copy.target.owner.gid)?;
        if parent.is_none() {
            // Nobody comes in by the old path any more.
            fchmod(fd, Mode::S_IRWXU)?;
        }
        self.names.fetch_add(1, Ordering::Relaxed);
        Ok(())
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

/// Copies everything.
struct Fill<'a> {
    copy: &'a Copy<'a>,
    links: &'a Links,
    scratch: &'a OwnedFd,
    /// A file with several names is copied by one thread, while the other may copy another one.
    locks: [Mutex<()>; 16],
    records: Mutex<BufWriter<File>>,
    /// The inodes of files that somebody may have written to while they were copied.
    written_to: Mutex<HashSet<u64>>,
}

impl Fill<'_> {
    /// Copies a file; not if somebody has a lease on it, who is noted.
    fn file(
        &self,
        to: &OwnedFd,
        new_name: &CStr,
        directory: &Directory<OwnedFd>,
        name: &CStr,
    ) -> anyhow::Result<bool> {
        let path = || Path::new(&self.copy.source.path).join(directory.path_of(name));
        let Some(source) = self.copy.locks.open(directory, name, path)? else { return Ok(false) };
        let source = File::from(source);
        for _ in 0..ROUNDS {
            let before = Seen::of(&source)?;
            let may_have_writers = ffi::may_have_writers(&source);
            let copied = copy_file(&source, &before, to, new_name, self.copy.target.owner)?;
            self.copy.bytes.fetch_add(copied, Ordering::Relaxed);
            if may_have_writers {
                guard(&self.written_to).insert(before.inode);
                return Ok(true);
            }
            if Record::of(&Seen::of(&source)?) == Record::of(&before) {
                return self.write_down(&before).and(Ok(true));
            }
            remove_if_there(to, new_name)?;
            lseek(&source, 0, Whence::SeekSet)?;
        }
        bail!("it changes while it is copied; see who writes there, then run this again")
    }

    fn write_down(&self, seen: &Seen) -> anyhow::Result<()> {
        Ok(guard(&self.records).write_all(&Record::of(seen).to_bytes())?)
    }

    fn linked(&self, directory: &Directory<OwnedFd>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        let turn = self.locks.get(usize::try_from(seen.inode % 16)?).map(|lock| lock.lock());
        let copy = std::ffi::CString::new(seen.inode.to_string())?;
        if Seen::at(self.scratch, &copy).is_err()
            && !self.first(self.scratch, &copy, directory, name, seen)?
        {
            return Ok(());
        }
        drop(turn);
        Ok(linkat(self.scratch, copy.as_c_str(), &directory.state, name, LinkatFlags::empty())?)
    }

    /// Copies a file or a link for the first of its names, if it can be.
    fn first(
        &self,
        to: &OwnedFd,
        new_name: &CStr,
        directory: &Directory<OwnedFd>,
        name: &CStr,
        seen: &Seen,
    ) -> anyhow::Result<bool> {
        if seen.kind == Kind::Symlink {
            copy_link(directory, name, seen, to, new_name, self.copy.target.owner)?;
            return self.write_down(seen).and(Ok(true));
        }
        self.file(to, new_name, directory, name)
    }
}

impl Visit for Fill<'_> {
    type State = OwnedFd;

    fn enter(&self, opened: Opened<'_, OwnedFd>) -> anyhow::Result<OwnedFd> {
        let Opened { name, parent, .. } = opened;
        let Some(parent) = parent else { return Ok(open_directory(&self.copy.staging.fd, TREE)?) };
        mkdirat(&parent.state, name, Mode::S_IRWXU)
            .and_then(|()| open_directory(&parent.state, name))
            .map_err(|errno| anyhow!("cannot make its copy: {}", errno.desc()))
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
            return self.linked(directory, name, seen);
        }
        self.first(&directory.state, name, directory, name, seen).map(drop)
    }

    fn leave(&self, directory: &Directory<OwnedFd>) -> anyhow::Result<()> {
        let Owner { uid, gid } = self.copy.target.owner;
        let copy = &directory.state;
        fchown(copy, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(copy, Mode::from_bits_truncate(directory.seen.mode & KEPT))?;
        futimens(copy, &time_spec(directory.seen.accessed), &time_spec(directory.seen.modified))?;
        self.write_down(&directory.seen)
    }
}

/// Compares the source with what was written down, and with its copy; and rewrites what is to be rewritten in
/// the copy.
struct Compare<'a> {
    copy: &'a Copy<'a>,
    records: Records,
    written_to: &'a HashSet<u64>,
    scratch: &'a OwnedFd,
    names: AtomicU64,
}

/// The copy of a directory.
struct Compared {
    fd: OwnedFd,
    is_script: AtomicBool,
}

impl Visit for Compare<'_> {
    type State = Compared;

    fn enter(&self, opened: Opened<'_, Compared>) -> anyhow::Result<Compared> {
        let Opened { name, parent, .. } = opened;
        let opened = match parent {
            None => open_directory(&self.copy.staging.fd, TREE),
            Some(parent) => open_directory(&parent.state.fd, name),
        };
        self.names.fetch_add(1, Ordering::Relaxed);
        let fd = opened.map_err(|errno| anyhow!("cannot open its copy: {}", errno.desc()))?;
        Ok(Compared { fd, is_script: AtomicBool::new(false) })
    }

    fn entry(&self, directory: &Directory<Compared>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        self.names.fetch_add(1, Ordering::Relaxed);
        if self.written_to.contains(&seen.inode) {
            return Ok(());
        }
        if name == outputs::MARK {
            directory.state.is_script.store(true, Ordering::Relaxed);
        }
        let copy = Seen::at(&directory.state.fd, name).context("its copy")?;
        let same = self.records.of(seen.inode) == Some(&Record::of(seen))
            && (copy.kind, copy.size, copy.modified) == (seen.kind, seen.size, seen.modified)
            && (seen.kind != Kind::Symlink
                || readlinkat(directory, name)? == readlinkat(&directory.state.fd, name)?);
        if same {
            return Ok(());
        }
        bail!("it changed after it was copied; see who works there, then run this again")
    }

    fn leave(&self, directory: &Directory<Compared>) -> anyhow::Result<()> {
        let Compared { fd, is_script } = &directory.state;
        let mut touched = false;
        let mut touch = || {
            touched = true;
            Ok(())
        };
        if directory.is_top() {
            complete_top(fd, self.copy.target, &mut touch)?;
        }
        if is_script.load(Ordering::Relaxed) {
            self.copy.rewrite.run(fd, self.scratch, self.copy.target.owner, touch)?;
        }
        if touched {
            futimens(fd, &time_spec(directory.seen.accessed), &time_spec(directory.seen.modified))?;
        }
        Ok(())
    }
}

/// What of a source that was copied is not what was copied.
pub(super) fn changed_since(source: &Source, found: &Found, staging: &Staging) -> anyhow::Result<Kept> {
    let look = Remove { source, records: Records::read(staging)?, only_look: true, kept: Mutex::default() };
    walk(&found.top, &source.path, &look)?;
    Ok(look.kept.into_inner().unwrap_or_else(PoisonError::into_inner).sorted())
}

/// Removes what was copied of a source, and still is what was copied. Answers with what stays.
pub(super) fn remove(source: &Source, found: &Found, staging: &Staging) -> anyhow::Result<Kept> {
    let remove =
        Remove { source, records: Records::read(staging)?, only_look: false, kept: Mutex::default() };
    walk(&found.top, &source.path, &remove)?;
    let kept = remove.kept.into_inner().unwrap_or_else(PoisonError::into_inner).sorted();
    // Another one that has the name by now stays, empty or not.
    let is_it =
        Seen::at(&source.parent, &source.name).is_ok_and(|seen| seen.identity() == found.seen.identity());
    if kept.count == 0 && !found.is_mount_point && is_it {
        unlinkat(&source.parent, source.name.as_c_str(), UnlinkatFlags::RemoveDir)
            .with_context(|| format!("cannot remove {}, which should be empty now", source.path))?;
    }
    Ok(kept)
}

/// What was found in a source that was copied, and was not what had been copied.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) count: u64,
    /// The first of them.
    pub(super) paths: Vec<String>,
}

impl Kept {
    fn sorted(mut self) -> Self {
        self.paths.sort_unstable();
        self
    }
}

/// How many paths are named.
const NAMED: usize = 5;

struct Remove<'a> {
    source: &'a Source,
    records: Records,
    only_look: bool,
    kept: Mutex<Kept>,
}

impl Remove<'_> {
    fn keep(&self, directory: &Directory<()>, name: &CStr) {
        let mut kept = guard(&self.kept);
        kept.count += 1;
        if kept.paths.len() < NAMED {
            let path = Path::new(&self.source.path).join(directory.path_of(name));
            kept.paths.push(path.display().to_string());
        }
    }
}

impl Visit for Remove<'_> {
    type State = ();

    fn enter(&self, _: Opened<'_, ()>) -> anyhow::Result<()> {
        Ok(())
    }

    fn entry(&self, directory: &Directory<()>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        match self.records.of(seen.inode) {
            Some(record) if record.still_holds(seen) => {
                if self.only_look {
                    Ok(())
                } else {
                    remove_if_there(directory, name)
                }
            }
            _ => {
                self.keep(directory, name);
                Ok(())
            }
        }
    }

    fn leave(&self, directory: &Directory<()>) -> anyhow::Result<()> {
        let Some(parent) = directory.parent() else { return Ok(()) };
        if self.records.of(directory.seen.inode).is_none() {
            self.keep(parent, directory.name());
        } else if !self.only_look {
            // One in which something stays is not empty, and stays too.
            match unlinkat(parent, directory.name(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => {}
                Err(errno) => bail!("cannot remove it: {}", errno.desc()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_is_copied_as_far_as_it_was_seen() {
        let path = std::env::temp_dir().join(format!("grows.{}", std::process::id()));
        std::fs::write(&path, "seen").unwrap();
        let file = File::open(&path).unwrap();
        let seen = Seen::of(&file).unwrap();
        std::fs::write(&path, "seen, and more").unwrap();
        let copy = path.with_extension("copy");
        let copied = copy_content(&file, &seen, &File::create(&copy).unwrap()).unwrap();
        assert_eq!((copied, std::fs::read_to_string(&copy).unwrap().as_str()), (4, "seen"));
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(copy).unwrap();
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record =
            Record { inode: u64::MAX - 1, size_and_links: 7 << 16 | 2, modified: -5, changed: 1 << 60 };
        let mut bytes = [0; Record::LENGTH];
        bytes.iter_mut().zip(record.to_bytes()).for_each(|(to, from)| *to = from);
        assert_eq!(Record::from_bytes(bytes), record);
    }
}
