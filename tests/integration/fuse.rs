//! A file system of our own, in memory, that can be told to fail, to squash owners, to be slow, or never to
//! answer: what file systems of a network do, at a test's word.
//!
//! It speaks the kernel's protocol (linux/fuse.h, fuse(4)) over `/dev/fuse` itself, so that nothing stands
//! between the word and the deed. The server is a process of its own, this test binary started again for the
//! one test [`serve`]: whoever waits for it is never the one who serves. It reads its manners from a file,
//! anew for each request. The kernel is told to cache neither names nor attributes, so that every look at
//! the tree is a request.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Set for the server, to the file that holds its manners.
const MANNERS: &str = "PAM_CARGO_TARGET_FUSE_MANNERS";

/// How many requests are served, are slow, or hang, at once; more of them wait in the kernel's queue.
const SERVERS: usize = 32;

/// Who owns what root makes, where root is squashed.
const NOBODY: u32 = 65534;

/// The file system, mounted; gone when dropped.
pub(crate) struct Fuse {
    server: Child,
    at: PathBuf,
    manners: PathBuf,
}

impl Fuse {
    /// Mounts an empty tree, root's and 0755, on a directory. The manners are words:
    ///
    /// * `eio`: every request is answered with EIO;
    /// * `hang`, `hang-at-mkdir`, `hang-at-rename`: none, or none of that kind, is answered until the word is
    ///   taken back; then all are;
    /// * `delay=N`: each takes N milliseconds;
    /// * `squash`: what is made is nobody's, and chown answers EPERM; `squash-silently`: chown answers that it
    ///   is done, and is not;
    /// * `keep-group`: a change of group answers that it is done, and is not;
    /// * `no-exclusive-rename`: a rename with flags answers EINVAL;
    /// * `cached`: the kernel may believe what it was told for an hour.
    pub(crate) fn mount(at: impl AsRef<Path>, manners: &str) -> Self {
        Self::mount_as("fuse.test", "test", 0, at.as_ref(), manners)
    }

    /// The same as fusermount mounts it for this user, for all to use.
    pub(crate) fn mount_by(user: u32, at: impl AsRef<Path>, manners: &str) -> Self {
        Self::mount_as("fuse.test", "test", user, at.as_ref(), manners)
    }

    /// The same on a file: what is there is then no directory, whatever the server says.
    pub(crate) fn mount_by_on_a_file(user: u32, at: impl AsRef<Path>, manners: &str) -> Self {
        Self::mount_root("fuse.test", "test", user, at.as_ref(), manners, libc::S_IFREG)
    }

    /// The same as if it lived on a block device, as that of ntfs-3g does.
    pub(crate) fn mount_on_block_device(device: &str, at: &str, manners: &str) -> Self {
        Self::mount_as("fuseblk", device, 0, Path::new(at), manners)
    }

    fn mount_as(kind: &str, source: &str, user: u32, at: &Path, manners: &str) -> Self {
        Self::mount_root(kind, source, user, at, manners, libc::S_IFDIR)
    }

    fn mount_root(kind: &str, source: &str, user: u32, at: &Path, manners: &str, root: libc::mode_t) -> Self {
        let at = at.to_owned();
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let manners_file = PathBuf::from(format!("/run/fuse-{}", at.display().to_string().replace('/', "-")));
        fs::write(&manners_file, manners).unwrap();
        let options = format!(
            "fd={},rootmode={root:o},user_id={user},group_id={user},allow_other,default_permissions",
            device.as_raw_fd()
        );
        mount(Some(source), &at, Some(kind), MsFlags::empty(), Some(options.as_str())).unwrap();
        // The server has the only copy of the descriptor: with its last thread the connection ends.
        let server = Command::new(env::current_exe().unwrap())
            .args(["--exact", "fuse::serve", "--ignored", "--nocapture", "--test-threads=1"])
            .env(MANNERS, &manners_file)
            .stdin(Stdio::from(device))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { server, at, manners: manners_file }
    }

    /// New manners for all requests from now on.
    pub(crate) fn behave(&self, manners: &str) {
        let new = self.manners.with_extension("new");
        fs::write(&new, manners).unwrap();
        fs::rename(new, &self.manners).unwrap();
    }

    /// Ends the server: what it has not answered, and all that is asked later, fails.
    pub(crate) fn kill_server(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
        umount2(&self.at, MntFlags::MNT_DETACH).ok();
    }
}

#[test]
#[ignore = "the server's process, which other tests start"]
fn serve() {
    let Some(manners) = env::var_os(MANNERS) else { return };
    // The device is stdin, but std's own handle on that has a buffer between.
    let device = File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let server = Server { device, manners: manners.into(), tree: Mutex::new(Tree::new()) };
    thread::scope(|scope| {
        for _ in 0..SERVERS {
            scope.spawn(|| server.serve());
        }
    });
}

/// The requests that are served, by their numbers in linux/fuse.h; any other is answered with ENOSYS, which
/// the kernel knows how to do without.
mod op {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const READLINK: u32 = 5;
    pub(super) const SYMLINK: u32 = 6;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const RENAME: u32 = 12;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const CREATE: u32 = 35;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const RENAME2: u32 = 45;
}

/// What the kernel asks: the header, and what follows it.
struct Request<'a> {
    operation: u32,
    id: u64,
    node: u64,
    uid: u32,
    gid: u32,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Self {
        let (header, body) = bytes.split_at(40);
        Self {
            operation: word(header, 4),
            id: long(header, 8),
            node: long(header, 16),
            uid: word(header, 24),
            gid: word(header, 28),
            body,
        }
    }

    /// The names, each ended by a NUL, that follow the first `skip` bytes.
    fn names(&self, skip: usize) -> impl Iterator<Item = &'a OsStr> + use<'a> {
        self.body[skip..].split(|byte| *byte == 0).map(OsStr::from_bytes)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// An answer in the making.
#[derive(Default)]
struct Reply(Vec<u8>);

impl Reply {
    fn words(mut self, words: &[u32]) -> Self {
        self.0.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        self
    }

    fn longs(mut self, longs: &[u64]) -> Self {
        self.0.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
        self
    }

    /// A node's attributes: no times, and as many links as the kernel wants to see.
    fn attributes(self, id: u64, node: &Node) -> Self {
        let size = node.content.len() as u64;
        self.longs(&[id, size, size.div_ceil(512), 0, 0, 0])
            .words(&[0, 0, 0, node.mode, 1])
            .words(&[node.uid, node.gid, 0, 4096, 0])
    }

    /// A name looked up or made, and for how many seconds it may be cached.
    fn entry(self, id: u64, node: &Node, seconds: u64) -> Self {
        self.longs(&[id, 0, seconds, seconds]).words(&[0, 0]).attributes(id, node)
    }

    /// A file opened: there is no handle.
    fn opened(self) -> Self {
        self.longs(&[0]).words(&[0, 0])
    }
}

struct Server {
    device: File,
    manners: PathBuf,
    tree: Mutex<Tree>,
}

impl Server {
    /// Answers one request after another until there is nobody left to ask.
    fn serve(&self) {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let length = match (&self.device).read(&mut buffer) {
                Ok(length) => length,
                // A request was taken back, or a signal came.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
                // Unmounted.
                Err(_) => return,
            };
            let request = Request::parse(&buffer[..length]);
            if matches!(request.operation, op::FORGET | op::BATCH_FORGET | op::INTERRUPT) {
                continue;
            }
            let (error, body) = match self.answer(&request) {
                Ok(reply) => (0, reply.0),
                Err(errno) => (-(errno as i32), Vec::new()),
            };
            let size = u32::try_from(16 + body.len()).unwrap();
            let mut reply = size.to_ne_bytes().to_vec();
            reply.extend(error.to_ne_bytes());
            reply.extend(request.id.to_ne_bytes());
            reply.extend(body);
            // Who asked may have gone.
            (&self.device).write_all(&reply).ok();
        }
    }

    fn manners(&self) -> Manners {
        Manners(fs::read_to_string(&self.manners).unwrap())
    }

    fn answer(&self, request: &Request<'_>) -> Result<Reply, Errno> {
        let mut manners = self.manners();
        if request.operation == op::INIT {
            return Ok(greet(request));
        }
        while manners.hang_at(request.operation) {
            thread::sleep(Duration::from_millis(10));
            manners = self.manners();
        }
        thread::sleep(manners.delay());
        if manners.have("eio") {
            return Err(Errno::EIO);
        }
        self.tree.lock().unwrap().answer(request, &manners)
    }
}

struct Manners(String);

impl Manners {
    fn have(&self, word: &str) -> bool {
        self.0.split_whitespace().any(|said| said == word)
    }

    fn hang_at(&self, operation: u32) -> bool {
        self.have("hang")
            || (operation == op::MKDIR && self.have("hang-at-mkdir"))
            || (matches!(operation, op::RENAME | op::RENAME2) && self.have("hang-at-rename"))
    }

    fn cached(&self) -> u64 {
        if self.have("cached") { 3600 } else { 0 }
    }

    fn delay(&self) -> Duration {
        let delay = self.0.split_whitespace().find_map(|said| said.strip_prefix("delay="));
        Duration::from_millis(delay.map_or(0, |delay| delay.parse().unwrap()))
    }
}

/// The first request: which protocol. 7.31 is older than any kernel that we meet.
fn greet(request: &Request<'_>) -> Reply {
    // As libfuse has it; without, the kernel asks about one name of a directory after the other.
    const PARALLEL_DIROPS: u32 = 1 << 18;
    let read_ahead = word(request.body, 8);
    let (queue, largest_write, unused) = (64 | 48 << 16, 64 * 1024, [0; 9]);
    Reply::default().words(&[7, 31, read_ahead, PARALLEL_DIROPS, queue, largest_write, 1]).words(&unused)
}

/// A file or directory. Nodes are never forgotten: a test makes few.
struct Node {
    mode: u32,
    uid: u32,
    gid: u32,
    content: Vec<u8>,
    children: BTreeMap<std::ffi::OsString, u64>,
}

struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
}

impl Tree {
    const ROOT: u64 = 1;

    fn new() -> Self {
        let root = Node {
            mode: libc::S_IFDIR | 0o755,
            uid: 0,
            gid: 0,
            content: Vec::new(),
            children: BTreeMap::new(),
        };
        Self { nodes: HashMap::from([(Self::ROOT, root)]), next: Self::ROOT + 1 }
    }

    fn node(&mut self, id: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&id).ok_or(Errno::ESTALE)
    }

    fn child(&mut self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.node(parent)?.children.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn make(
        &mut self,
        request: &Request<'_>,
        name: &OsStr,
        mode: u32,
        content: Vec<u8>,
        manners: &Manners,
    ) -> Result<Reply, Errno> {
        if self.child(request.node, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let squashed = request.uid == 0 && (manners.have("squash") || manners.have("squash-silently"));
        let (uid, gid) = if squashed { (NOBODY, NOBODY) } else { (request.uid, request.gid) };
        let node = Node { mode, uid, gid, content, children: BTreeMap::new() };
        let id = self.next;
        self.next += 1;
        self.node(request.node)?.children.insert(name.into(), id);
        let reply = Reply::default().entry(id, &node, manners.cached());
        self.nodes.insert(id, node);
        Ok(reply)
    }

    fn change(&mut self, request: &Request<'_>, manners: &Manners) -> Result<Reply, Errno> {
        const MODE: u32 = 1;
        const UID: u32 = 2;
        const GID: u32 = 4;
        const SIZE: u32 = 8;
        let asked = word(request.body, 0);
        let squashed = request.uid == 0 && manners.have("squash-silently");
        if asked & (UID | GID) != 0 && request.uid == 0 && manners.have("squash") {
            return Err(Errno::EPERM);
        }
        let node = self.node(request.node)?;
        if asked & SIZE != 0 {
            node.content.resize(usize::try_from(long(request.body, 16)).unwrap(), 0);
        }
        if asked & MODE != 0 {
            node.mode = node.mode & libc::S_IFMT | word(request.body, 68) & 0o7777;
        }
        if asked & UID != 0 && !squashed {
            node.uid = word(request.body, 76);
        }
        if asked & GID != 0 && !squashed && !manners.have("keep-group") {
            node.gid = word(request.body, 80);
        }
        Ok(Reply::default().longs(&[manners.cached()]).words(&[0, 0]).attributes(request.node, node))
    }

    fn remove(&mut self, request: &Request<'_>, name: &OsStr) -> Result<Reply, Errno> {
        let id = self.child(request.node, name)?;
        if !self.node(id)?.children.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.node(request.node)?.children.remove(name);
        Ok(Reply::default())
    }

    fn rename(
        &mut self,
        request: &Request<'_>,
        flags: u32,
        skip: usize,
        manners: &Manners,
    ) -> Result<Reply, Errno> {
        let mut names = request.names(skip);
        let (from, to) = (names.next().unwrap(), names.next().unwrap());
        let new_parent = long(request.body, 0);
        if flags & !libc::RENAME_NOREPLACE != 0 || (flags != 0 && manners.have("no-exclusive-rename")) {
            return Err(Errno::EINVAL);
        }
        let id = self.child(request.node, from)?;
        if let Ok(there) = self.child(new_parent, to) {
            if flags & libc::RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if !self.node(there)?.children.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
        }
        self.node(request.node)?.children.remove(from);
        self.node(new_parent)?.children.insert(to.into(), id);
        Ok(Reply::default())
    }

    /// The entries after the first so many; the kernel asks anew until there is none.
    fn list(&mut self, request: &Request<'_>) -> Result<Reply, Errno> {
        let seen = usize::try_from(long(request.body, 8)).unwrap();
        let room = usize::try_from(word(request.body, 16)).unwrap();
        let mut reply = Reply::default();
        for (count, (name, id)) in self.node(request.node)?.children.iter().enumerate().skip(seen) {
            let length = u32::try_from(name.len()).unwrap();
            let padded = name.len().next_multiple_of(8);
            if reply.0.len() + 24 + padded > room {
                break;
            }
            reply = reply.longs(&[*id, count as u64 + 1]).words(&[length, 0]);
            reply.0.extend(name.as_bytes());
            reply.0.resize(reply.0.len().next_multiple_of(8), 0);
        }
        Ok(reply)
    }

    fn answer(&mut self, request: &Request<'_>, manners: &Manners) -> Result<Reply, Errno> {
        let body = request.body;
        match request.operation {
            op::LOOKUP => {
                let found = self.child(request.node, request.names(0).next().unwrap());
                if found.is_err() && manners.have("cached") {
                    // No node: that there is none may be believed too.
                    return Ok(Reply::default().longs(&[0, 0, manners.cached(), 0]).words(&[0; 24]));
                }
                let id = found?;
                Ok(Reply::default().entry(id, self.node(id)?, manners.cached()))
            }
            op::GETATTR => {
                let node = self.node(request.node)?;
                Ok(Reply::default().longs(&[manners.cached()]).words(&[0, 0]).attributes(request.node, node))
            }
            op::SETATTR => self.change(request, manners),
            op::MKDIR => {
                let name = request.names(8).next().unwrap();
                self.make(request, name, libc::S_IFDIR | word(body, 0) & 0o7777, Vec::new(), manners)
            }
            op::CREATE => {
                let name = request.names(16).next().unwrap();
                let made =
                    self.make(request, name, libc::S_IFREG | word(body, 4) & 0o7777, Vec::new(), manners)?;
                Ok(made.opened())
            }
            op::SYMLINK => {
                let mut names = request.names(0);
                let (name, target) = (names.next().unwrap(), names.next().unwrap());
                let content = target.as_bytes().to_vec();
                self.make(request, name, libc::S_IFLNK | 0o777, content, manners)
            }
            op::READLINK => Ok(Reply(self.node(request.node)?.content.clone())),
            op::UNLINK | op::RMDIR => self.remove(request, request.names(0).next().unwrap()),
            op::RENAME => self.rename(request, 0, 8, manners),
            op::RENAME2 => self.rename(request, word(body, 8), 16, manners),
            op::OPEN | op::OPENDIR => Ok(Reply::default().opened()),
            op::READDIR => self.list(request),
            op::RELEASE | op::RELEASEDIR => Ok(Reply::default()),
            op::READ => {
                let content = &self.node(request.node)?.content;
                let from = content.len().min(usize::try_from(long(body, 8)).unwrap());
                let to = content.len().min(from + usize::try_from(word(body, 16)).unwrap());
                Ok(Reply(content[from..to].to_vec()))
            }
            op::WRITE => {
                let (at, data) = (usize::try_from(long(body, 8)).unwrap(), &body[40..]);
                let content = &mut self.node(request.node)?.content;
                content.resize(content.len().max(at + data.len()), 0);
                content[at..at + data.len()].copy_from_slice(data);
                Ok(Reply::default().words(&[u32::try_from(data.len()).unwrap(), 0]))
            }
            _ => Err(Errno::ENOSYS),
        }
    }
}
