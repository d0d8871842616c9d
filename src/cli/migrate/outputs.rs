//! What build scripts printed, where it names the old place of the tree.
//!
//! cargo mends a script's own OUT_DIR when a target directory has moved (by `root-output`, which tells where
//! it was), but not the directories of other scripts, which a script learns from `DEP_X_…` and may print. A
//! line `rerun-if-changed` stays as it is: its path is part of the unit's fingerprint.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::cache_dir::Owner;
use crate::ffi;
use crate::tree::{Kind, Seen, open_file, time_spec};

/// What lies beside a build script's output.
pub(super) const MARK: &CStr = c"root-output";

/// Where cargo keeps what a build script printed; the second name is that of a newer layout.
const OUTPUTS: [&CStr; 2] = [c"output", c"stdout"];

/// No build script prints more, in bytes.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// Which paths become which.
pub(super) struct Rewrite {
    old: Vec<Vec<u8>>,
    new: Vec<u8>,
}

impl Rewrite {
    /// `old` is to begin with the longest.
    pub(super) fn new(old: Vec<String>, new: &str) -> Self {
        Self { old: old.into_iter().map(String::into_bytes).collect(), new: new.as_bytes().to_vec() }
    }

    /// Whether a build script's directory has an output that names the old path.
    pub(super) fn applies_in(&self, directory: impl AsFd) -> anyhow::Result<bool> {
        for name in OUTPUTS {
            if let Some((text, _)) = read(&directory, name)? {
                if self.rewritten(&text).is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Rewrites the outputs of a directory that was taken over. `touch` is told before it is changed; the new
    /// file is made in `scratch`, complete with owner and times, and renamed over the old one.
    pub(super) fn run(
        &self,
        directory: impl AsFd,
        scratch: &OwnedFd,
        owner: Owner,
        mut touch: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for name in OUTPUTS {
            let Some((text, seen)) = read(&directory, name)? else { continue };
            let Some(new) = self.rewritten(&text) else { continue };
            if seen.links > 1 {
                continue;
            }
            touch()?;
            let draft = format!("output-{:x}", seen.inode);
            match unlinkat(scratch, draft.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mut file = File::from(openat(scratch, draft.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
            file.write_all(&new)?;
            fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
            fchmod(&file, Mode::from_bits_truncate(seen.mode & 0o755))?;
            futimens(&file, &time_spec(seen.accessed), &time_spec(seen.modified))?;
            // The old one is gone with the rename.
            ffi::write_out(&file)?;
            renameat(scratch, draft.as_str(), &directory, name)?;
        }
        Ok(())
    }

    /// The text with every old path replaced; none if there is nothing to replace.
    fn rewritten(&self, text: &[u8]) -> Option<Vec<u8>> {
        // Most name no old path anywhere.
        let is_in_text = |old: &Vec<u8>| text.windows(old.len()).any(|part| part == old.as_slice());
        if !self.old.iter().any(is_in_text) {
            return None;
        }
        let mut new = Vec::with_capacity(text.len());
        let mut changed = false;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let stays = [&b"cargo:rerun-if-changed="[..], b"cargo::rerun-if-changed="];
            if stays.iter().any(|start| line.starts_with(start)) {
                new.extend_from_slice(line);
                continue;
            }
            let mut at = 0;
            while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
                let before = line.get(..at).unwrap_or_default();
                let old = self.old.iter().find(|old| is_path_at(before, rest, old));
                // A tree that moves into itself: the new path begins with the old one.
                if is_path_at(before, rest, &self.new) {
                    new.extend_from_slice(&self.new);
                    at += self.new.len();
                } else if let Some(old) = old {
                    new.extend_from_slice(&self.new);
                    at += old.len();
                    changed = true;
                } else {
                    new.extend(rest.first());
                    at += 1;
                }
            }
        }
        changed.then_some(new)
    }
}

/// Whether a text goes on with this path, and neither began it earlier nor goes on with its last name.
fn is_path_at(before: &[u8], rest: &[u8], path: &[u8]) -> bool {
    let continues_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let Some(after) = rest.strip_prefix(path) else { return false };
    let is_flag = matches!(before, [.., b'-', b'L' | b'I']);
    let begins = is_flag || before.last().is_none_or(|byte| !continues_name(byte) && *byte != b'/');
    begins && after.first().is_none_or(|byte| !continues_name(byte))
}

fn read(directory: impl AsFd, name: &CStr) -> anyhow::Result<Option<(Vec<u8>, Seen)>> {
    match Seen::at(&directory, name) {
        Ok(seen) if seen.kind == Kind::File && seen.size <= MAX_OUTPUT => {}
        _ => return Ok(None),
    }
    let Ok(file) = open_file(&directory, name) else { return Ok(None) };
    let seen = Seen::of(&file)?;
    if seen.kind != Kind::File {
        return Ok(None);
    }
    let mut text = Vec::new();
    File::from(file)
        .take(MAX_OUTPUT)
        .read_to_end(&mut text)
        .context("cannot read a build script's output")?;
    Ok(Some((text, seen)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn rewritten(old: &[&str], new: &str, text: &str) -> Option<String> {
        let rewrite = Rewrite::new(old.iter().map(ToString::to_string).collect(), new);
        rewrite.rewritten(text.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn only_whole_paths_are_replaced() {
        let replaced = |text| rewritten(&["/srv/t"], "/new", text);
        assert_eq!(
            replaced("cargo:rustc-link-search=native=/srv/t/debug/build/a/out\n").unwrap(),
            "cargo:rustc-link-search=native=/new/debug/build/a/out\n"
        );
        assert_eq!(
            replaced("cargo:rustc-flags=-L/srv/t/x -L /srv/t\n").unwrap(),
            "cargo:rustc-flags=-L/new/x -L /new\n"
        );
        for other in ["/srv/target/x", "/srv/t-2", "/mnt/srv/t/x", "/srv/t.d", "x/srv/t", "nothing"] {
            assert_eq!(replaced(other), None, "{other}");
        }
        assert_eq!(replaced("cargo:rerun-if-changed=/srv/t/a\ncargo::rerun-if-changed=/srv/t/b\n"), None);
        assert_eq!(
            rewritten(&["/data/home/t", "/home/t"], "/n", "a=/home/t b=/data/home/t").unwrap(),
            "a=/n b=/n"
        );
    }

    #[test]
    fn a_tree_that_moves_into_itself_is_rewritten_once() {
        let once = rewritten(&["/srv/t"], "/srv/t/alice", "root=/srv/t/debug").unwrap();
        assert_eq!(once, "root=/srv/t/alice/debug");
        assert_eq!(rewritten(&["/srv/t"], "/srv/t/alice", &once), None);
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let rewrite = Rewrite::new(vec!["/a".into()], "/b");
        assert_eq!(rewrite.rewritten(b"\xff\x00=/a/\xfe\n").unwrap(), b"\xff\x00=/b/\xfe\n");
    }
}
