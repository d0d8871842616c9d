//! Which paths lie on file systems of this machine's own, and who has mounted the others.
//!
//! A network server, a FUSE daemon or an automounter that is dead leaves whoever touches its mount in a
//! wait that nothing inside the process can end. And on a directory of their own, users can mount a FUSE file
//! system that says of what is in it that it is root's, or a victim's. So these questions are put to the
//! kernel's own list of mounts, and to no file system.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;

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

/// The longest list that is read, in bytes: about 100,000 mounts. Users can make it long: FUSE lets them have
/// 1,000, with paths as long as they like.
const MAX_LIST: u64 = 16 * 1024 * 1024;

/// The mounts of this process, as /proc/self/mountinfo lists them (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounts(Vec<u8>);

impl Mounts {
    /// Reads the list. Where there is none to read, no path is known to be local.
    #[must_use]
    pub fn read() -> Self {
        // The kernel hands it out by pages; a usual list has a few.
        let mut list = Vec::with_capacity(16 * 1024);
        let read =
            File::open("/proc/self/mountinfo").and_then(|file| file.take(MAX_LIST).read_to_end(&mut list));
        // What is not whole says nothing.
        if read.is_err() || list.len() as u64 == MAX_LIST {
            list.clear();
        }
        Self(list)
    }

    /// Whether every mount on the way to this absolute path, its own included, is a local one. A mount that
    /// another covers counts too: it may be the automounter that the other needed. What is mounted at `/` counts
    /// as local, whatever it is: without it no program of this host runs.
    #[must_use]
    pub fn are_local_up_to(&self, path: &str) -> bool {
        let mut mounts = self.all().peekable();
        mounts.peek().is_some()
            && mounts.all(|mount| {
                let point = mount.point();
                point == b"/"
                    || !lies_below(path.as_bytes(), &unescape(point))
                    || LOCAL.contains(&mount.kind_and_options().0)
            })
    }

    /// Who has mounted the file system with this id: a user, with FUSE; root, for all others. None, where the
    /// list does not have it: it was mounted since. Allocates no memory.
    pub(crate) fn mounter(&self, id: u64) -> Option<u32> {
        let (kind, options) = self.all().find(|mount| mount.id() == Some(id))?.kind_and_options();
        if !kind.starts_with(b"fuse") {
            return Some(0);
        }
        let user = options.split(|&byte| byte == b',').find_map(|option| option.strip_prefix(b"user_id="))?;
        std::str::from_utf8(user).ok()?.parse().ok()
    }

    fn all(&self) -> impl Iterator<Item = Mount<'_>> {
        self.0.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(Mount)
    }
}

/// A line of the list. Each field is looked for when it is asked for: of most mounts one decides.
struct Mount<'a>(&'a [u8]);

impl<'a> Mount<'a> {
    fn fields(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.split(|&byte| byte == b' ')
    }

    /// Its id, as statx(2) gives it too.
    fn id(&self) -> Option<u64> {
        std::str::from_utf8(self.fields().next()?).ok()?.parse().ok()
    }

    /// Where it is mounted, with octal escapes. A line without is of a mount anywhere, of no known type.
    fn point(&self) -> &'a [u8] {
        self.fields().nth(4).unwrap_or_default()
    }

    /// The file system's type, and its options, with commas between.
    fn kind_and_options(&self) -> (&'a [u8], &'a [u8]) {
        // Optional fields end with a dash; then come the type, the source and the options.
        let mut last = self.fields().skip(5).skip_while(|field| *field != b"-").skip(1);
        (last.next().unwrap_or_default(), last.nth(1).unwrap_or_default())
    }
}

/// Whether a path is, or lies below, a directory.
fn lies_below(path: &[u8], directory: &[u8]) -> bool {
    match path.strip_prefix(directory.strip_suffix(b"/").unwrap_or(directory)) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

/// Undoes the octal escapes (`\040`) that the kernel writes for blanks and backslashes.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return field.into();
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                plain.push(escaped);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => plain.push(byte),
        }
    }
    plain.into()
}

#[cfg(test)]
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

    #[test]
    fn only_known_local_mounts_all_the_way_are_local() {
        let mounts = Mounts(LIST.to_vec());
        for path in ["/srv/cargo-target", "/srv/nfsx", "/srv", "/local", "/local/alicex", "/srv/team"] {
            assert!(mounts.are_local_up_to(path), "{path}");
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
            assert!(!mounts.are_local_up_to(path), "{path}");
        }
    }

    #[test]
    fn a_users_own_mount_is_told_from_roots() {
        let mounts = Mounts(LIST.to_vec());
        assert_eq!(mounts.mounter(47), Some(2002));
        for id in [22, 23, 40, 41, 45, 46] {
            assert_eq!(mounts.mounter(id), Some(0), "{id}");
        }
        assert_eq!(mounts.mounter(4), None);
        let without_user = Mounts(b"9 1 0:9 / /x rw - fuse x rw,allow_other\n".to_vec());
        assert_eq!(without_user.mounter(9), None);
    }

    #[test]
    fn nothing_is_local_without_a_list() {
        assert!(!Mounts(Vec::new()).are_local_up_to("/srv"));
        assert!(!Mounts(b"garbage\n".to_vec()).are_local_up_to("/srv"));
        assert!(!Mounts([LIST, b"49 22 0:49"].concat()).are_local_up_to("/srv"));
    }

    #[test]
    fn this_machine_has_a_list() {
        assert!(Mounts::read().0.split(|&byte| byte == b'\n').count() > 1);
    }
}
