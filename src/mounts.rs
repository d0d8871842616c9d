//! Which paths lie on file systems of this machine's own, and who has mounted the others.
//!
//! A network server, a FUSE daemon or an automounter that is dead leaves whoever touches its mount in a
//! wait that nothing inside the process can end. And on a directory of their own, users can mount a FUSE file
//! system that says of what is in it that it is root's, or a victim's. So these questions are put to the
//! kernel's own list of mounts, and to no file system.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::str::FromStr;

/// File systems that answer from this machine alone. What is not listed is treated like a network: that
/// costs a login a child process, where the opposite mistake would cost it for good. What lies on top of
/// another file system (overlay, ecryptfs) is as remote as that one may be.
const LOCAL: [&[u8]; 24] = [
    b"bcachefs",
    b"btrfs",
    b"devtmpfs",
    b"erofs",
    b"exfat",
    b"ext2",
    b"ext3",
    b"ext4",
    b"f2fs",
    b"iso9660",
    b"jfs",
    b"msdos",
    b"nilfs2",
    b"ntfs3",
    b"ramfs",
    b"reiserfs",
    b"rootfs",
    b"squashfs",
    b"tmpfs",
    b"udf",
    b"ufs",
    b"vfat",
    b"xfs",
    b"zfs",
];

/// How much of a line is looked at, in bytes. Users choose how long a line is, by mounting something of theirs
/// deep down: what matters of a line that is on the way to a path comes long before this.
const MAX_LINE: usize = 64 * 1024;

/// The mounts on the way to one path, as /proc/self/mountinfo lists them (proc(5)).
///
/// The others are not kept: users can make the list long. FUSE lets each have 1,000, with paths of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounts {
    /// Whether there was a list to read.
    listed: bool,
    on_the_way: Vec<Mount>,
}

/// What the list says of a mount, as far as the module asks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Its id, as statx(2) gives it too.
    id: Option<u64>,
    /// How much of the path its mount point is, in bytes; 0 for `/`.
    length: usize,
    /// Whether it answers from this machine alone.
    is_local: bool,
    /// Who has mounted it, where that is known.
    mounter: Option<u32>,
}

impl Mounts {
    /// Reads the mounts on the way to this absolute path, its own included. Where there is no list to read, no
    /// path is known to be local.
    #[must_use]
    pub fn on_the_way_to(path: &str) -> Self {
        let list = File::open("/proc/self/mountinfo").map(BufReader::new);
        // What is not whole says nothing.
        list.and_then(|list| Self::parse(list, path.as_bytes()))
            .unwrap_or(Self { listed: false, on_the_way: Vec::new() })
    }

    fn parse(mut list: impl BufRead, path: &[u8]) -> io::Result<Self> {
        let mut mounts = Self { listed: false, on_the_way: Vec::new() };
        let mut line = Vec::with_capacity(MAX_LINE);
        while list.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                list.skip_until(b'\n')?;
            }
            mounts.listed = true;
            if let Some(mount) = Mount::parse(line.trim_ascii_end(), path) {
                mounts.on_the_way.try_reserve(1).map_err(|_| io::ErrorKind::OutOfMemory)?;
                mounts.on_the_way.push(mount);
            }
            line.clear();
        }
        Ok(mounts)
    }

    /// Whether every mount on the way to this path, its own included, is a local one; the path is the one that
    /// they were read for, or leads to it. A mount that another covers counts too: it may be the automounter that
    /// the other needed. What is mounted at `/` counts as local, whatever it is: without it no program of this
    /// host runs.
    #[must_use]
    pub fn are_local_up_to(&self, path: &str) -> bool {
        self.listed && self.on_the_way.iter().all(|mount| mount.is_local || mount.length > path.len())
    }

    /// Who has mounted the file system with this id: a user, with FUSE; root, for all others. None, where the
    /// list does not have it: it was mounted since. Allocates no memory.
    pub(crate) fn mounter(&self, id: u64) -> Option<u32> {
        self.on_the_way.iter().find(|mount| mount.id == Some(id))?.mounter
    }
}

impl Mount {
    /// What a line says of a mount, if that is on the way to this path.
    fn parse(line: &[u8], path: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = fields.next().and_then(number);
        // A line without a mount point is of a mount anywhere, of no known type.
        let Some(point) = fields.nth(3) else {
            return Some(Self { id, length: 0, is_local: false, mounter: None });
        };
        let length = covered(path, point)?;
        // Optional fields end with a dash; then come the type, the source and the options.
        let mut last = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = last.next().unwrap_or_default();
        let mounter = if kind.starts_with(b"fuse") {
            let mut options = last.nth(1).unwrap_or_default().split(|&byte| byte == b',');
            options.find_map(|option| option.strip_prefix(b"user_id=")).and_then(number)
        } else {
            Some(0)
        };
        Some(Self { id, length, is_local: length == 0 || LOCAL.contains(&kind), mounter })
    }
}

fn number<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// How much of a path a mount point is, in bytes, if it is the path or above it. The kernel writes blanks and
/// backslashes in octal (`\040`).
fn covered(path: &[u8], mut point: &[u8]) -> Option<usize> {
    if point == b"/" {
        return Some(0);
    }
    let mut rest = path;
    while let Some((&byte, after)) = point.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\');
        point = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
        rest = rest.strip_prefix(&[octal.unwrap_or(byte)])?;
    }
    (rest.is_empty() || rest.starts_with(b"/")).then(|| path.len() - rest.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops and says so")]
mod tests {
    use super::*;

    const LIST: &[u8] = b"\
22 1 0:22 / / rw,relatime - overlay overlay rw,lowerdir=/a
23 22 0:21 / /proc rw - proc proc rw
40 22 0:40 / /srv/nfs rw shared:5 - nfs4 server:/export rw
41 22 0:41 / /srv/team\\040cache rw shared:6 master:1 - fuse.sshfs host: rw,user_id=0,group_id=0,allow_other
42 22 0:42 / /auto rw - autofs systemd-1 rw
43 42 8:1 / /auto rw - xfs /dev/sda1 rw
44 22 0:44 / /new rw - somefs none rw
48 22 0:48 / /layered rw - overlay overlay rw,lowerdir=/srv/nfs
45 22 8:2 / /local rw - xfs /dev/sda2 rw
46 45 0:46 / /local/alice rw - nfs server:/alice rw
47 45 0:47 / /local/bob rw,nosuid shared:9 - fuse bobs rw,user_id=2002,group_id=2002,allow_other
";

    fn mounts(list: &[u8], path: &str) -> Mounts {
        Mounts::parse(list, path.as_bytes()).unwrap()
    }

    #[test]
    fn only_known_local_mounts_all_the_way_are_local() {
        for path in ["/srv/cargo-target", "/srv/nfsx", "/srv", "/local", "/local/alicex", "/srv/team"] {
            assert!(mounts(LIST, path).are_local_up_to(path), "{path}");
        }
        for path in [
            "/srv/nfs",
            "/srv/nfs/a/b",
            "/srv/team cache",
            "/srv/team cache/x",
            "/auto/x",
            "/new/x",
            "/layered",
            "/local/alice",
            "/proc/1",
        ] {
            assert!(!mounts(LIST, path).are_local_up_to(path), "{path}");
        }
        // One list serves for the root and for a directory in it.
        let both = mounts(LIST, "/local/alice");
        assert!(both.are_local_up_to("/local") && !both.are_local_up_to("/local/alice"));
    }

    #[test]
    fn a_users_own_mount_is_told_from_roots() {
        for (id, path, mounter) in [
            (47, "/local/bob", Some(2002)),
            (22, "/srv", Some(0)),
            (23, "/proc", Some(0)),
            (40, "/srv/nfs/alice", Some(0)),
            (41, "/srv/team cache", Some(0)),
            (45, "/local/bob", Some(0)),
            (46, "/local/alice", Some(0)),
            (46, "/local/bob", None),
            (4, "/local/bob", None),
        ] {
            assert_eq!(mounts(LIST, path).mounter(id), mounter, "{id} {path}");
        }
        assert_eq!(mounts(b"9 1 0:9 / /x rw - fuse x rw,allow_other\n", "/x").mounter(9), None);
    }

    #[test]
    fn nothing_is_local_without_a_list() {
        for list in [&b""[..], b"garbage\n", &[LIST, b"49 22 0:49"].concat()] {
            assert!(!mounts(list, "/srv").are_local_up_to("/srv"));
        }
    }

    #[test]
    fn mounts_of_others_take_no_memory_and_hide_nothing() {
        let elsewhere = b"60 22 0:60 / /home/mallory/".repeat(3 * MAX_LINE / 26);
        let long = [&elsewhere, &b" rw - fuse x rw,user_id=2003\n"[..], LIST].concat();
        for path in ["/local/bob", "/srv/cargo-target"] {
            assert_eq!(mounts(&long, path), mounts(LIST, path));
        }
        let many = b"60 22 0:60 / /home/mallory/x rw - fuse x rw,user_id=2003\n".repeat(10_000);
        assert_eq!(mounts(&[&many, LIST].concat(), "/local/bob"), mounts(LIST, "/local/bob"));
        // Of a line that is cut before its mount point, nothing is known.
        let cut = [b"60 22 0:60 /", &b"x".repeat(2 * MAX_LINE)[..], b" /mnt rw - xfs x rw\n"].concat();
        assert!(!mounts(&[&cut, LIST].concat(), "/srv").are_local_up_to("/srv"));
    }

    #[test]
    fn this_machine_has_a_list() {
        let mounts = Mounts::on_the_way_to("/proc/self");
        assert!(mounts.listed && mounts.on_the_way.len() > 1 && !mounts.are_local_up_to("/proc/self"));
    }
}
