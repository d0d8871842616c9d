//! Looking first: what is in the tree, whose it is, and what will be done about it. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::busy::Locks;
use super::outputs::{self, Rewrite};
use super::settle::{Links, has_acls};
use super::source::Source;
use super::{Target, guard, refused, refused_for};
use crate::cli::accounts::Person;
use crate::cli::init;
use crate::mounts::Mounts;
use crate::tree::{Directory, Identity, Kind, Opened, Seen, Visit, walk};

/// How many examples of a kind are kept.
const EXAMPLES: usize = 5;

/// A count, and the first few paths.
#[derive(Debug, Default, Clone)]
pub(super) struct Sample {
    pub(super) count: u64,
    pub(super) paths: Vec<String>,
}

impl Sample {
    fn add(&mut self, path: impl FnOnce() -> PathBuf) {
        self.count += 1;
        if self.paths.len() < EXAMPLES {
            let path = path();
            let top = path.as_os_str().is_empty();
            self.paths.push(if top { ".".into() } else { path.display().to_string() });
        }
    }
}

/// What one user has in the tree.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Share {
    pub(super) entries: u64,
    /// Of the entries, those that are files.
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What is in the tree.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) symlinks: u64,
    /// What it takes on the disk, hard links once.
    pub(super) bytes: u64,
    pub(super) owners: BTreeMap<u32, Share>,
    /// Entries that the group or others can write.
    pub(super) writable: u64,
    pub(super) set_id: Sample,
    pub(super) set_gid_directories: u64,
    pub(super) special: Sample,
    /// Immutable, or append-only: neither owner nor name of these can be changed.
    fixed: Sample,
    /// Of directories: files get theirs from these.
    pub(super) acls: Sample,
    /// Names of files that have names outside the tree too.
    pub(super) linked_outside: u64,
    pub(super) absolute_symlinks: Sample,
    /// Relative ones that lead out of the tree.
    pub(super) leaving_symlinks: Sample,
    /// Build scripts' outputs that name the old path.
    pub(super) outputs: u64,
    /// The newest file: when, and whose.
    pub(super) newest: Option<((i64, u32), u32)>,
    /// The hashes of units of which something is not the user's own.
    pub(super) others_units: BTreeSet<Vec<u8>>,
}

/// Looks at all that would move, and takes cargo's locks on it.
pub(super) fn look(
    source: &Source,
    target: &Target,
    rewrite: &Rewrite,
    locks: &Locks,
    own_only: Option<u32>,
    forbidden: &Forbidden,
) -> anyhow::Result<Facts> {
    let Some(found) = &source.there else { return Ok(Facts::default()) };
    let survey = Survey {
        source,
        target,
        rewrite,
        locks,
        own_only,
        forbidden,
        links: Links::default(),
        facts: Mutex::default(),
    };
    walk(&found.top, &source.path, &survey)?;
    let mut facts = std::mem::take(&mut *guard(&survey.facts));
    facts.linked_outside = survey.links.names_outside();
    for sample in [
        &mut facts.set_id,
        &mut facts.special,
        &mut facts.fixed,
        &mut facts.acls,
        &mut facts.absolute_symlinks,
        &mut facts.leaving_symlinks,
    ] {
        // Two threads found them.
        sample.paths.sort_unstable();
    }
    if facts.special.count > 0 {
        return Err(refused_for(
            "devices, FIFOs and sockets are no part of a build; remove them, or move them away:",
            &facts.special.paths,
        ));
    }
    if facts.fixed.count > 0 {
        return Err(refused_for(
            "these are immutable or append-only, so that their owner cannot be changed; run chattr -i -a on them:",
            &facts.fixed.paths,
        ));
    }
    if own_only.is_none() && survey.links.is_anothers(None) {
        let names = Unreadable { survey: &survey, sample: Mutex::default() };
        walk(&found.top, &source.path, &names)?;
        let mut paths = names.sample.into_inner().unwrap_or_else(PoisonError::into_inner).paths;
        paths.sort_unstable();
        return Err(refused_for(&unreadable(&target.user), &paths));
    }
    Ok(facts)
}

/// Why a file is not copied.
pub(super) fn unreadable(user: &str) -> String {
    format!(
        "these are names of files that have others outside the tree, and that {user} may not read; find out who put \
         them there, then remove them:"
    )
}

struct Survey<'a> {
    source: &'a Source,
    target: &'a Target,
    rewrite: &'a Rewrite,
    locks: &'a Locks,
    own_only: Option<u32>,
    forbidden: &'a Forbidden,
    links: Links,
    facts: Mutex<Facts>,
}

/// Directories that no tree may contain, and what they are.
pub(super) type Forbidden = HashMap<Identity, String>;

/// The shared root and what is in it that does not move, homes, and the system's directories.
pub(super) fn forbidden(target: &Target, people: &[Person]) -> anyhow::Result<Forbidden> {
    let mut forbidden = Forbidden::new();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut add = |path: &str, what: &dyn Fn() -> String| {
        // A home on a server that is dead would be waited for without end, and is in no tree of this host's.
        if Mounts::on_the_way_to(path).are_local_up_to(path) {
            if let Ok(seen) = openat(AT_FDCWD, path, flags, Mode::empty()).and_then(Seen::of) {
                forbidden.entry(seen.identity()).or_insert_with(what);
            }
        }
    };
    for path in init::SYSTEM.iter().chain(&init::SYSTEM_BELOW_VAR).chain(&init::SYSTEM_TREES).chain(&["/"]) {
        add(path, &|| format!("the system's {path}"));
    }
    for person in people {
        if let Some(home) = person.home.to_str() {
            add(home, &|| format!("the home directory of {}, {home}", person.name));
        }
    }
    forbidden.insert(Seen::of(&target.directory)?.identity(), format!("the shared root {}", target.root));
    Ok(forbidden)
}

/// What is found in one directory, added to the rest when it is left.
pub(super) struct Found {
    facts: Mutex<Facts>,
    is_script: AtomicBool,
}

impl Survey<'_> {
    /// Counts what any entry counts for.
    fn count(&self, facts: &mut Facts, seen: &Seen, is_first: bool, path: &dyn Fn() -> PathBuf) {
        let share = facts.owners.entry(seen.uid).or_default();
        share.entries += 1;
        share.files += u64::from(seen.kind == Kind::File);
        if is_first {
            share.bytes += seen.allocated;
            facts.bytes += seen.allocated;
        }
        if seen.kind != Kind::Symlink && seen.mode & 0o022 != 0 {
            facts.writable += 1;
        }
        if seen.mode & 0o6000 != 0 {
            match seen.kind {
                Kind::Directory => facts.set_gid_directories += 1,
                _ => facts.set_id.add(path),
            }
        }
        if seen.is_fixed {
            facts.fixed.add(path);
        }
        if self.own_only.is_some_and(|own| own != seen.uid) {
            for name in path().components() {
                if let Some(hash) = unit_hash(name.as_os_str().as_encoded_bytes()) {
                    facts.others_units.insert(hash.to_vec());
                }
            }
        }
    }
}

impl Visit for Survey<'_> {
    type State = Found;

    fn enter(&self, opened: Opened<'_, Found>) -> anyhow::Result<Found> {
        let Opened { fd, name, seen, parent } = opened;
        let mut facts = Facts { directories: 1, ..Facts::default() };
        let path = || parent.map(|parent| parent.path_of(name)).unwrap_or_default();
        if let Some(what) =
            self.forbidden.get(&seen.identity()).filter(|_| !self.source.is_root || parent.is_some())
        {
            let place = Path::new(&self.source.path).join(path());
            return Err(refused(format!("{} is {what}", place.display())));
        }
        // The shared root itself stays.
        if parent.is_some() || !self.source.is_root {
            self.count(&mut facts, seen, true, &path);
        }
        if has_acls(fd)? {
            facts.acls.add(path);
        }
        Ok(Found { facts: Mutex::new(facts), is_script: AtomicBool::new(false) })
    }

    fn admits(&self, directory: &Directory<Found>, name: &CStr) -> bool {
        !directory.is_top() || self.source.admits(name)
    }

    fn entry(&self, directory: &Directory<Found>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        let mut facts = guard(&directory.state.facts);
        let path = || directory.path_of(name);
        let is_first = seen.links < 2 || self.links.see(seen);
        self.count(&mut facts, seen, is_first, &path);
        match seen.kind {
            Kind::Directory => {}
            Kind::Special => facts.special.add(path),
            Kind::Symlink => {
                facts.symlinks += 1;
                let leads_to = readlinkat(directory, name)?;
                if Path::new(&leads_to).is_absolute() {
                    facts.absolute_symlinks.add(path);
                } else if leaves(&path(), Path::new(&leads_to)) {
                    facts.leaving_symlinks.add(path);
                }
            }
            Kind::File => {
                facts.files += 1;
                if facts.newest.is_none_or(|(when, _)| when < seen.modified) {
                    facts.newest = Some((seen.modified, seen.uid));
                }
                if is_first && seen.links > 1 && !self.target.may_read(seen)? {
                    self.links.note_unreadable(seen);
                }
                if name == outputs::MARK {
                    directory.state.is_script.store(true, Ordering::Relaxed);
                }
                self.locks.take(directory, name, seen, || Path::new(&self.source.path).join(path()))?;
            }
        }
        Ok(())
    }

    fn leave(&self, directory: &Directory<Found>) -> anyhow::Result<()> {
        let mut here = std::mem::take(&mut *guard(&directory.state.facts));
        if directory.state.is_script.load(Ordering::Relaxed) && self.rewrite.applies_in(directory)? {
            here.outputs = 1;
        }
        guard(&self.facts).merge(here);
        Ok(())
    }
}

/// Finds the names of the files that the user may not read and that have others outside the tree: there may be
/// many, with long paths, so that none were kept.
struct Unreadable<'a> {
    survey: &'a Survey<'a>,
    sample: Mutex<Sample>,
}

impl Visit for Unreadable<'_> {
    type State = ();

    fn enter(&self, _: Opened<'_, ()>) -> anyhow::Result<()> {
        Ok(())
    }

    fn admits(&self, directory: &Directory<()>, name: &CStr) -> bool {
        !directory.is_top() || self.survey.source.admits(name)
    }

    fn entry(&self, directory: &Directory<()>, name: &CStr, seen: &Seen) -> anyhow::Result<()> {
        if seen.links > 1 && self.survey.links.is_anothers(Some(seen)) {
            guard(&self.sample).add(|| directory.path_of(name));
        }
        Ok(())
    }
}

impl Facts {
    fn merge(&mut self, other: Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.symlinks += other.symlinks;
        self.bytes += other.bytes;
        self.writable += other.writable;
        self.outputs += other.outputs;
        self.set_gid_directories += other.set_gid_directories;
        for (uid, share) in other.owners {
            let sum = self.owners.entry(uid).or_default();
            sum.entries += share.entries;
            sum.files += share.files;
            sum.bytes += share.bytes;
        }
        for (sum, sample) in [
            (&mut self.set_id, other.set_id),
            (&mut self.special, other.special),
            (&mut self.acls, other.acls),
            (&mut self.fixed, other.fixed),
            (&mut self.absolute_symlinks, other.absolute_symlinks),
            (&mut self.leaving_symlinks, other.leaving_symlinks),
        ] {
            sum.count += sample.count;
            let room = EXAMPLES.saturating_sub(sum.paths.len());
            sum.paths.extend(sample.paths.into_iter().take(room));
        }
        self.newest = self.newest.max(other.newest);
        self.others_units.extend(other.others_units);
    }

    /// How many names there are.
    pub(super) fn entries(&self) -> u64 {
        self.files + self.directories + self.symlinks
    }
}

/// Whether a relative link at this path leads above the top, as far as its text tells.
fn leaves(link: &Path, leads_to: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for component in leads_to.components() {
        match component {
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
    }
    false
}

/// The hash in the name of something that belongs to one unit of a build: `syn-0123456789abcdef`.
pub(super) fn unit_hash(name: &[u8]) -> Option<&[u8]> {
    let stem = name.split(|&byte| byte == b'.').next()?;
    let hash = stem.rsplit(|&byte| byte == b'-').next()?;
    (hash.len() == 16 && hash.len() < stem.len() && hash.iter().all(u8::is_ascii_hexdigit)).then_some(hash)
}
