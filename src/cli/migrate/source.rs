//! The tree that is to move: found without following what others may have put in the way, and judged.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fmt::{self, Display};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::User;

use super::busy::user_name;
use super::{Target, refused, refused_for};
use crate::cache_dir::{CARGO_NAMES, STAGING, TAG_NAME};
use crate::cli::accounts::Person;
use crate::cli::init;
use crate::config::RootPath;
use crate::mounts::Mounts;
use crate::shared_root::{Patience, SharedRoot};
use crate::tree::{
    self, Directory, Identity, Kind, Opened, Seen, Visit, ancestors, each_name, is_empty_but_for,
    open_directory, open_file, walk,
};

/// What the first line of every valid tag says.
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Names at the top of a shared root that are nobody's build.
const NOT_BUILT: [&CStr; 2] = [c"CACHEDIR.TAG", c"lost+found"];

/// How many symbolic links are followed, as in path_resolution(7).
const MAX_LINKS: usize = 40;

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
    /// Of the shared root, the names that move, and their inodes.
    pub(super) names: Option<BTreeMap<String, u64>>,
    /// And what does not, since it is somebody's.
    pub(super) stays: Vec<String>,
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
        let (parent, fd) = open_parent(parent)?;
        let path = parent.join(last);
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
                    // Ours is root's.
                    is_link_to_target = seen.uid == 0 && Path::new(&leads_to) == Path::new(&target.path);
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
        let root = Seen::of(&target.directory)?;
        let is_root = there.as_ref().is_some_and(|found| found.seen.identity() == root.identity());
        if is_root && there.as_ref().is_some_and(|found| found.seen.mount != root.mount) {
            return Err(refused(format!(
                "{} is the shared root, mounted once more; name it by its own path: --from {}",
                path.display(),
                target.root
            )));
        }
        Ok(Self {
            given: text(&given)?,
            is_root,
            names: None,
            stays: Vec::new(),
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

    /// Refuses what is no target directory, or somebody's else; and of the shared root, says what moves.
    pub(super) fn judge(&mut self, target: &Target, people: &[Person], force: bool) -> anyhow::Result<()> {
        let Some(found) = &self.there else {
            return Err(refused(format!("{} does not exist", self.path)));
        };
        if fstatvfs(&found.top)?.flags().contains(FsFlags::ST_RDONLY) {
            return Err(refused(format!("{} lies on a file system that is mounted read-only", self.path)));
        }
        let above = ancestors(&found.top)?;
        self.refuse_the_systems(&above)?;
        let path = Path::new(&self.path);
        if let Some(person) = people.iter().find(|person| person.home.starts_with(path)) {
            let home = person.home.display();
            return Err(refused(format!(
                "{} is, or contains, the home directory of {}: {home}",
                self.path, person.name
            )));
        }
        if self.is_root {
            let names = names_of_root(target, people, &mut self.stays)?;
            if names.is_empty() {
                return Err(refused(format!("there is nothing in {} but users' own directories", self.path)));
            }
            self.names = Some(names.into_iter().collect());
        } else {
            self.refuse_what_is_in_the_root(found, &above, target, people)?;
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

    /// By name, and whatever it is called, by inode.
    fn refuse_the_systems(&self, above: &[Seen]) -> anyhow::Result<()> {
        let is = |seen: &Seen, path: &str| is_it(path, seen);
        let [top, ..] = above else { return Ok(()) };
        let exactly = init::SYSTEM.iter().chain(&init::SYSTEM_BELOW_VAR).chain(&["/"]);
        // A cache of root's own lies in its home.
        let trees = init::SYSTEM_TREES.iter().filter(|tree| **tree != "/root");
        if exactly.into_iter().any(|path| is(top, path))
            || trees.into_iter().any(|path| above.iter().any(|seen| is(seen, path)))
            || (init::is_the_systems(&self.path) && !Path::new(&self.path).starts_with("/root/"))
        {
            return Err(refused(format!("{} is the system's", self.path)));
        }
        Ok(())
    }

    /// What lies in the shared root may be somebody's, by whatever path it is given; and the root may lie in it.
    fn refuse_what_is_in_the_root(
        &self,
        found: &Found,
        above: &[Seen],
        target: &Target,
        people: &[Person],
    ) -> anyhow::Result<()> {
        let root = Seen::of(&target.directory)?;
        let is_above = |other: &Seen| other.identity() == found.seen.identity();
        if ancestors(&target.directory)?.iter().any(is_above) {
            return Err(refused(format!("{} contains the shared root {}", self.path, target.root)));
        }
        let Some(depth) = above.iter().position(|seen| seen.identity() == root.identity()) else {
            return self.refuse_an_alias(found, target);
        };
        let first = depth.checked_sub(1).and_then(|index| above.get(index)).context("it is the root")?;
        let mut name = None;
        each_entry(target, |entry, seen| {
            if seen.identity() == first.identity() {
                name = Some(entry.to_owned());
            }
            Ok(())
        })?;
        let Some(name) = name else {
            return Err(refused(format!("{} was moved a moment ago; see who does that", self.path)));
        };
        if name.as_c_str() == STAGING_NAME || is_ours(&name) {
            return Err(refused(format!("{} is where directories are made, or set aside", self.path)));
        }
        if let Some(owner) = whose(target, people, &name, first)? {
            return Err(refused(format!("{} is {owner}'s own", self.path)));
        }
        if first.uid != 0 && is_closed(first) {
            return Err(refused(format!(
                "{} may be the own directory of a user (uid {}): nobody else can enter it; if it is not, move it out of \
                 {} first",
                self.path, first.uid, target.root
            )));
        }
        Ok(())
    }

    /// Refuses what lies in the shared root as well, since it is mounted twice: who is in which directory cannot
    /// be told from above it.
    fn refuse_an_alias(&self, found: &Found, target: &Target) -> anyhow::Result<()> {
        let wanted = found.seen;
        each_entry(target, |name, seen| {
            if seen.kind != Kind::Directory || seen.device != wanted.device || seen.mount == wanted.mount {
                return Ok(());
            }
            let shown = format!("{}/{}", target.root, shown(name));
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let top = openat(&target.directory, name, flags, Mode::empty())
                .map_err(|errno| anyhow!("cannot open {shown}: {}", errno.desc()))?;
            match walk(&top, &shown, &Seek(wanted.identity())) {
                Ok(()) => Ok(()),
                Err(error) if error.is::<IsThere>() => Err(refused(format!(
                    "{} is mounted there, and lies in {shown} too; name it by its path in {}",
                    self.path, target.root
                ))),
                Err(error) => Err(refused(format!(
                    "{} may lie in {shown} too, being on the same file system, and it cannot be told: {error:#}",
                    self.path
                ))),
            }
        })
    }

    /// Whether a name at the top belongs to the tree.
    pub(super) fn admits(&self, name: &CStr) -> bool {
        self.names
            .as_ref()
            .is_none_or(|names| tree::os(name).to_str().is_some_and(|name| names.contains_key(name)))
    }

    /// Whether nothing has the old name.
    pub(super) fn is_free(&self) -> anyhow::Result<bool> {
        match Seen::at(&self.parent, &self.name) {
            Err(Errno::ENOENT) => Ok(true),
            Err(errno) => Err(errno.into()),
            Ok(_) => Ok(false),
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

/// Whether this is a name that this command makes in the root.
fn is_ours(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b".migrate-") || name.starts_with(b".set-aside-")
}

/// Opens a directory, and answers with its real path. A link on the way is followed if it is root's: anybody
/// else's could lead into what is not theirs, and could lead elsewhere the next moment.
fn open_parent(given: &Path) -> anyhow::Result<(PathBuf, OwnedFd)> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = || openat(AT_FDCWD, "/", flags, Mode::empty());
    let (mut path, mut directory) = (PathBuf::from("/"), top()?);
    let mut rest: Vec<PathBuf> = vec![given.to_owned()];
    let mut links = 0;
    while let Some(next) = rest.pop() {
        let mut components = next.components();
        let Some(first) = components.next() else { continue };
        rest.push(components.as_path().to_owned());
        let name = match first {
            Component::Normal(name) => name,
            Component::RootDir => {
                (path, directory) = (PathBuf::from("/"), top()?);
                continue;
            }
            Component::ParentDir => {
                path.pop();
                directory = openat(&directory, "..", flags, Mode::empty())?;
                continue;
            }
            Component::CurDir | Component::Prefix(_) => continue,
        };
        let place = path.join(name);
        let opened = openat(&directory, name, flags, Mode::empty());
        let opened = opened.map_err(|errno| no_source(&place, &errno.desc()))?;
        let seen = Seen::of(&opened)?;
        match seen.kind {
            Kind::Directory => (path, directory) = (place, opened),
            Kind::Symlink => {
                let leads_to = PathBuf::from(readlinkat(&opened, c"")?);
                links += 1;
                if seen.uid != 0 {
                    return Err(refused(format!(
                        "{} is a symbolic link of {} to {}; name the directory by its real path",
                        place.display(),
                        user_name(seen.uid),
                        leads_to.display()
                    )));
                }
                if links > MAX_LINKS {
                    return Err(no_source(given, &Errno::ELOOP.desc()));
                }
                rest.push(leads_to);
            }
            Kind::File | Kind::Special => return Err(no_source(&place, &Errno::ENOTDIR.desc())),
        }
    }
    Ok((path, directory))
}

/// Whether nobody but its owner can do anything with it.
fn is_closed(seen: &Seen) -> bool {
    seen.mode & 0o777 | 0o700 == 0o700
}

/// Whether a path leads to this very directory.
fn is_it(path: &str, seen: &Seen) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty())
        .and_then(Seen::of)
        .is_ok_and(|found| found.identity() == seen.identity())
}

/// A walk that ends where this directory is.
struct Seek(Identity);

#[derive(Debug)]
struct IsThere;

impl Display for IsThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is there")
    }
}

impl std::error::Error for IsThere {}

impl Visit for Seek {
    type State = ();

    fn enter(&self, opened: Opened<'_, ()>) -> anyhow::Result<()> {
        let Opened { seen, .. } = opened;
        if seen.identity() == self.0 { Err(IsThere.into()) } else { Ok(()) }
    }

    fn wants_entries(&self, _directory: &Directory<()>) -> bool {
        false
    }

    fn entry(&self, _directory: &Directory<()>, _name: &CStr, _seen: &Seen) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Tells of everything in the root.
fn each_entry(
    target: &Target,
    mut tell: impl FnMut(&CStr, &Seen) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    each_name(open_directory(&target.directory, c".")?, |name, _| {
        match Seen::at(&target.directory, name) {
            Ok(seen) => tell(name, &seen)?,
            Err(Errno::ENOENT) => {}
            Err(errno) => bail!("cannot look at {}/{}: {}", target.root, shown(name), errno.desc()),
        }
        Ok(true)
    })
}

/// What of the shared root moves: all that is no user's, and not ours. Where it cannot be told whether a
/// directory is a user's, nothing moves.
fn names_of_root(
    target: &Target,
    people: &[Person],
    stays: &mut Vec<String>,
) -> anyhow::Result<Vec<(String, u64)>> {
    let mut names = Vec::new();
    let mut unsure = Vec::new();
    each_entry(target, |name, seen| {
        if name == STAGING_NAME || NOT_BUILT.contains(&name) || is_ours(name) {
            return Ok(());
        }
        let text = tree::os(name).to_str().map(str::to_owned);
        let is_cargos = text.as_deref().is_some_and(|name| CARGO_NAMES.contains(&name));
        if !is_cargos {
            if let Some(user) = whose(target, people, name, seen)? {
                stays.push(format!("{} ({user}'s)", shown(name)));
                return Ok(());
            }
            if seen.kind == Kind::Directory && seen.uid != 0 && may_be_a_users(target, name, seen)? {
                unsure.push(format!("{}/{} (uid {})", target.root, shown(name), seen.uid));
                return Ok(());
            }
        }
        let text = text
            .ok_or_else(|| refused(format!("{}/{} is not UTF-8; move it away", target.root, shown(name))))?;
        names.push((text, seen.inode));
        Ok(())
    })?;
    stays.sort_unstable();
    if unsure.is_empty() {
        return Ok(names);
    }
    unsure.sort_unstable();
    Err(refused_for(
        "these may be the own directories of users, of whom nobody has that name now; move away what is not to be \
         migrated, and make root the owner of what is:",
        &unsure,
    ))
}

/// Whose own directory this is, as far as names tell: it is called as a login would call it, on whatever host,
/// or as a user is called, or by a user's number. What is root's is nobody's, unless it has a developer's name.
fn whose(target: &Target, people: &[Person], name: &CStr, seen: &Seen) -> anyhow::Result<Option<String>> {
    let Some(name) = tree::os(name).to_str() else { return Ok(None) };
    let unknown = |errno: Errno| anyhow!("cannot ask whose {}/{name} is: {}", target.root, errno.desc());
    let owner = User::from_uid(seen.uid.into()).map_err(unknown)?;
    let namesake = User::from_name(name).map_err(unknown)?;
    let asked = [owner, namesake].into_iter().flatten().map(|user| (user.name, user.uid.as_raw()));
    let listed = people.iter().map(|person| (person.name.clone(), person.uid));
    let is_theirs = |(user, uid): &(String, u32)| {
        let can_be = *uid != 0 && (seen.uid != 0 || *uid >= target.min_uid);
        can_be
            && (user == name
                || uid.to_string() == name
                || fits(&target.template.expand(user, *uid, ANY_HOST), name))
    };
    Ok(asked.chain(listed).find(is_theirs).map(|(user, _)| user))
}

/// Stands for a host's name: no name has it.
const ANY_HOST: &str = "\0";

/// Whether a name is what a template makes, whatever the host is called.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once(ANY_HOST) else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    // A host's name has one letter at least.
    name.char_indices().skip(1).any(|(at, _)| fits(rest, name.get(at..).unwrap_or_default()))
        || (!name.is_empty() && rest.is_empty())
}

/// Whether a directory that has no user's name may be one's all the same: of someone who was renamed, or has
/// left. Nobody else can enter it; or it is a target directory by itself, or an empty one; or nobody knows whose
/// it is.
fn may_be_a_users(target: &Target, name: &CStr, seen: &Seen) -> anyhow::Result<bool> {
    if is_closed(seen) || User::from_uid(seen.uid.into())?.is_none() {
        return Ok(true);
    }
    let directory = match open_directory(&target.directory, name) {
        Ok(directory) => directory,
        // A mount point: a volume of somebody's.
        Err(Errno::EXDEV) => return Ok(true),
        Err(errno) => bail!("cannot open {}/{}: {}", target.root, shown(name), errno.desc()),
    };
    Ok(Seen::at(&directory, c".rustc_info.json").is_ok() || is_empty_but_for(&directory, &[c"CACHEDIR.TAG"])?)
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
    path.and_then(|path| {
        let mounts = Mounts::on_the_way_to(path.as_str());
        SharedRoot::open(&path, Patience::Wait(&mounts)).ok()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_its_template_on_any_host() {
        assert!(fits("bob", "bob") && !fits("bob", "bobby") && !fits("bob", ""));
        assert!(fits("bob@\0", "bob@one") && !fits("bob@\0", "bob@") && !fits("bob@\0", "bobby@one"));
        assert!(fits("\0-2002", "one-2002") && !fits("\0-2002", "-2002") && !fits("\0-2002", "one-20021"));
        assert!(fits("\0.bob.\0", "a.bob.b") && fits("\0bob", "bobbob") && !fits("\0.bob.\0", "a.bob."));
    }
}
