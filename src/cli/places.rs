//! Where paths lead and whether what is there answers, found out without waiting for a file server, a FUSE
//! daemon or an automounter that is dead.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::stat;

use crate::config::RootPath;
use crate::ffi::{self, ChildError};
use crate::mounts::Mounts;
use crate::shared_root::{Patience, RootError, SharedRoot};

/// How many symbolic links are followed, as in path_resolution(7).
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Real {
    /// Here, with all symbolic links resolved; the last parts need not be there.
    Local(PathBuf),
    /// Here, with those resolved that lie on this machine: the rest lies on a network, FUSE or autofs mount, which
    /// was not asked.
    Remote(PathBuf),
}

/// Whether every mount on the way to a path is a local one.
pub(super) fn is_local(path: &Path) -> bool {
    path.to_str().is_some_and(|path| Mounts::on_the_way_to(path).are_local_up_to(path))
}

/// Where an absolute path leads. No file system is asked that need not answer.
pub(super) fn real_path(path: &Path) -> io::Result<Real> {
    walk(path, is_local)
}

/// The same, of a path whose file systems are known to answer.
pub(super) fn real_path_there(path: &Path) -> io::Result<PathBuf> {
    let (Real::Local(real) | Real::Remote(real)) = walk(path, |_| true)?;
    Ok(real)
}

/// All that a path leads through, from below `/` on: directories, and symbolic links by where they stand.
pub(super) fn steps(path: &Path) -> io::Result<Vec<PathBuf>> {
    let steps = RefCell::new(Vec::new());
    walk(path, |step| {
        steps.borrow_mut().push(step.to_owned());
        true
    })?;
    Ok(steps.into_inner())
}

fn walk(path: &Path, may_ask: impl Fn(&Path) -> bool) -> io::Result<Real> {
    let mut real = PathBuf::from("/");
    let mut rest = Vec::new();
    push(&mut rest, path);
    let mut links = 0;
    // The link that is being followed, and what is left once it has been.
    let mut following: Option<(PathBuf, usize)> = None;
    while let Some(name) = rest.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        following = following.filter(|(_, left)| rest.len() >= *left);
        if !may_ask(&next) {
            let rest = rest.iter().rev();
            return Ok(Real::Remote(rest.fold(next, |path, name| path.join(name))));
        }
        match (fs::symlink_metadata(&next), &following) {
            (Ok(found), _) if found.is_symlink() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(leads_nowhere(&next, &io::Error::from_raw_os_error(libc::ELOOP)));
                }
                let target = fs::read_link(&next)?;
                following.get_or_insert((next, rest.len()));
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                push(&mut rest, &target);
            }
            // A link must lead somewhere; what is beyond it may not be there yet.
            (Err(error), Some((link, _))) => return Err(leads_nowhere(link, &error)),
            _ => real = next,
        }
    }
    Ok(Real::Local(real))
}

/// Puts the names of a path on a stack, the first on top.
fn push(stack: &mut Vec<OsString>, path: &Path) {
    stack.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    }));
}

fn leads_nowhere(link: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} leads nowhere: {error}", link.display()))
}

/// Whether whoever serves a path answers in time, be it that nothing is there.
pub(super) fn answers(path: &Path, timeout: Duration) -> Result<(), ChildError> {
    ffi::in_child(timeout, || stat(path).is_ok()).map(drop)
}

/// Opens the shared root; one that may lie on a remote mount, once a child has opened it in time.
pub(super) fn open_root(
    path: &RootPath,
    timeout: Duration,
) -> Result<Result<SharedRoot, RootError>, ChildError> {
    let mounts = Mounts::on_the_way_to(path.as_str());
    let open = || SharedRoot::open(path, Patience::Wait(&mounts));
    if !mounts.are_local_up_to(path.as_str()) {
        ffi::in_child(timeout, || open().is_ok())?;
    }
    Ok(open())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops and says so")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_as_far_as_may_be_asked() {
        let base = fs::canonicalize(std::env::temp_dir()).unwrap();
        let base = base.join(format!("places.{}", std::process::id()));
        fs::create_dir_all(base.join("data/home")).unwrap();
        for (target, link) in [
            ("data/home", "home"),
            ("../home/../home/alice", "data/there"),
            ("home", "twice"),
            ("loop", "loop"),
            ("none/x", "dangling"),
        ] {
            symlink(target, base.join(link)).unwrap();
        }
        let real = |path: &str| real_path_there(&base.join(path));
        assert_eq!(real("twice/alice").unwrap(), base.join("data/home/alice"));
        assert_eq!(real("data/home/new/er").unwrap(), base.join("data/home/new/er"));
        for (path, link) in [
            ("loop", "loop"),
            ("dangling", "dangling"),
            ("dangling/y", "dangling"),
            ("data/there", "data/there"),
        ] {
            let sentence = real(path).unwrap_err().to_string();
            assert!(
                sentence.starts_with(&format!("{} leads nowhere", base.join(link).display())),
                "{sentence}"
            );
        }
        // What may not be asked is not looked at: `data/home` could be a dead server.
        let far = base.join("data");
        let seen = walk(&base.join("twice/x/y"), |path| !path.starts_with(&far)).unwrap();
        assert_eq!(seen, Real::Remote(base.join("data/home/x/y")));
        fs::remove_dir_all(base).unwrap();
    }
}
