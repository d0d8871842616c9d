//! What may stand at a user's name, or inside their directory, before a login: whatever it is, the login opens
//! without waiting for it, what is not the user's own directory in order is refused in one line, and nothing
//! that stands there, or that it leads to, is created, changed or removed.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::fuse::Fuse;
use crate::pam::{Call, PAM_SUCCESS, Services};
use crate::sandbox::{SyslogSocket, User, module_path, mount_deep_down, sandboxed, succeeded};

const ROOT: &str = "/srv/cargo-target";
const DIRECTORY: &str = "/srv/cargo-target/alice";
const TAG: &str = "/srv/cargo-target/alice/CACHEDIR.TAG";
const STAGING: &str = "/srv/cargo-target/.staging";
/// What planted objects lead to: nobody's business but its owners'.
const OUTSIDE: &str = "/srv/outside";

const ALICE: u32 = 2001;
const BOB: u32 = 2002;
const MALLORY: u32 = 2666;

/// A login that is not kept waiting takes less, on however busy a machine: the fastest of three counts.
const A_SECOND: Duration = Duration::from_secs(1);

/// A login that waits for a FIFO waits for ever.
const FOR_EVER: Duration = Duration::from_secs(60);

/// A member, an empty root, and what must not change.
struct Host {
    log: SyslogSocket,
}

/// What one login got.
#[derive(Debug)]
struct Login {
    exported: Option<String>,
    log: Vec<String>,
    took: Duration,
}

impl Host {
    fn new() -> Self {
        for (name, uid) in [("alice", ALICE), ("bob", BOB), ("mallory", MALLORY)] {
            User::developer(name, uid).add();
        }
        directory(OUTSIDE, 0, 0o755);
        directory("/srv/outside/directory", 0, 0o755);
        directory("/srv/outside/home", ALICE, 0o700);
        fs::write("/srv/outside/shadow", "root:*:19000:0:99999:7:::\n").unwrap();
        fs::set_permissions("/srv/outside/shadow", Permissions::from_mode(0o600)).unwrap();
        let services = Services::new();
        services.write("sshd", &format!("session required {} root={ROOT}", module_path().display()));
        let host = Self { log: SyslogSocket::bind() };
        Self::reset();
        host
    }

    /// Makes the root anew, empty.
    fn reset() {
        if Path::new(ROOT).exists() {
            fs::remove_dir_all(ROOT).unwrap();
        }
        directory(ROOT, 0, 0o755);
    }

    /// One login, in a thread: the test must end where it does not.
    #[track_caller]
    fn login(&self) -> Login {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut transaction = Services::new().start("sshd", Some(b"alice"));
            let begin = Instant::now();
            let code = transaction.call(Call::OpenSession);
            let took = begin.elapsed();
            sender.send((code, transaction.environment(), took)).unwrap();
        });
        let (code, environment, took) = receiver.recv_timeout(FOR_EVER).expect("the login ends");
        assert_eq!(code, PAM_SUCCESS);
        let exported = environment.iter().find_map(|variable| variable.strip_prefix("CARGO_TARGET_DIR="));
        Login { exported: exported.map(str::to_owned), log: self.log.drain_module(), took }
    }

    /// Three logins get nothing, say why in one line each, and leave everything as it is.
    #[track_caller]
    fn refuses(&self, what: &str, parts: &[&str]) {
        let before = everything();
        let logins = [self.login(), self.login(), self.login()];
        for got in &logins {
            assert_eq!(got.exported, None, "{what}");
            let [line] = got.log.as_slice() else { panic!("{what}: {got:#?}") };
            assert!(line.contains("nothing done for alice: /srv/cargo-target/alice "), "{what}: {line}");
            assert!(parts.iter().all(|part| line.contains(part)), "{what}: {parts:?} in {line}");
        }
        assert_fast(&logins, what);
        assert_same(&before, &everything(), what);
    }

    /// Three logins get the directory, have nothing to say, and leave everything as it is.
    #[track_caller]
    fn accepts(&self, what: &str) {
        let before = everything();
        let logins = [self.login(), self.login(), self.login()];
        for got in &logins {
            assert_eq!(got.exported.as_deref(), Some(DIRECTORY), "{what}: {got:?}");
            assert_eq!(got.log, Vec::<String>::new(), "{what}");
        }
        assert_fast(&logins, what);
        assert_same(&before, &everything(), what);
    }

    /// The first login gets the directory and puts the tag into it, with nothing to say; the next ones
    /// change nothing.
    #[track_caller]
    fn tags(&self, what: &str) {
        let got = self.login();
        assert_eq!((got.exported.as_deref(), got.log.len()), (Some(DIRECTORY), 0), "{what}: {got:?}");
        let tag = fs::symlink_metadata(TAG).unwrap();
        assert_eq!((tag.uid(), tag.gid(), tag.mode()), (ALICE, ALICE, 0o100_644), "{what}");
        self.accepts(what);
    }
}

#[track_caller]
fn assert_fast(logins: &[Login], what: &str) {
    let fastest = logins.iter().map(|login| login.took).min().unwrap();
    assert!(fastest < A_SECOND, "{what}: a login took {fastest:?}");
}

/// Everything below /srv, with all that a call could change in it.
fn everything() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::from("/srv")];
    while let Some(path) = todo.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        let kind = status.file_type();
        let content = if kind.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if kind.is_file() {
            fs::read_to_string(&path).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            format!("{}", status.rdev())
        };
        // A change of owner, mode, links or attributes shows in the time of change.
        let all = format!(
            "{kind:?} {:o} {}:{} {} links, changed {}.{}, modified {}.{}: {content}",
            status.mode(),
            status.uid(),
            status.gid(),
            status.nlink(),
            status.ctime(),
            status.ctime_nsec(),
            status.mtime(),
            status.mtime_nsec()
        );
        found.insert(path, all);
    }
    found
}

#[track_caller]
fn assert_same(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>, what: &str) {
    let mut different = Vec::new();
    for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
        if before.get(path) != after.get(path) {
            different.push(format!("{}: {:?}, now {:?}", path.display(), before.get(path), after.get(path)));
        }
    }
    assert!(different.is_empty(), "{what}: {}", different.join("\n"));
}

fn directory(path: &str, owner: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn special(path: &str, kind: SFlag, device: (u64, u64)) {
    mknod(path, kind, Mode::from_bits_truncate(0o666), makedev(device.0, device.1)).unwrap();
}

/// Runs a command line without quotes.
#[track_caller]
fn run(command_line: &str) -> String {
    let mut words = command_line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output();
    succeeded(&output.unwrap_or_else(|error| panic!("{command_line}: {error}")))
}

/// Runs a command line as mallory would; whether it succeeded.
fn mallory_can(command_line: &str) -> bool {
    let ids = [format!("--reuid={MALLORY}"), format!("--regid={MALLORY}"), "--init-groups".into()];
    Command::new("setpriv").args(ids).args(command_line.split_whitespace()).output().unwrap().status.success()
}

/// What is no directory, in every kind there is, and how the log calls it: made at any path.
type Plant = (&'static str, &'static str, fn(&str));

const NO_DIRECTORIES: [Plant; 14] = [
    ("link to a file", "is a symbolic link", |path| symlink("/srv/outside/shadow", path).unwrap()),
    ("link to a directory", "is a symbolic link", |path| symlink("/srv/outside/directory", path).unwrap()),
    ("link to one's own directory", "is a symbolic link", |path| symlink("/srv/outside/home", path).unwrap()),
    ("relative link", "is a symbolic link", |path| symlink("../outside/directory", path).unwrap()),
    ("dangling link", "is a symbolic link", |path| symlink("/srv/outside/new", path).unwrap()),
    ("link to itself", "is a symbolic link", |path| symlink(path, path).unwrap()),
    ("FIFO", "is a FIFO", |path| special(path, SFlag::S_IFIFO, (0, 0))),
    ("socket", "is a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("character device", "is a device", |path| special(path, SFlag::S_IFCHR, (1, 3))),
    ("terminal", "is a device", |path| special(path, SFlag::S_IFCHR, (5, 0))),
    // No driver has it: to open it would fail or load a kernel module.
    ("block device", "is a device", |path| special(path, SFlag::S_IFBLK, (254, 255))),
    ("file", "is a file", |path| fs::write(path, "").unwrap()),
    ("file that nobody may read", "is a file", |path| {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    }),
    ("hard link", "is a file", |path| fs::hard_link("/srv/outside/shadow", path).unwrap()),
];

sandboxed! {
    /// Whoever put it there, and whoever owns it.
    fn what_is_no_directory_is_refused_at_once() {
        let host = Host::new();
        for (what, described, plant) in NO_DIRECTORIES {
            for owner in [0, ALICE, MALLORY] {
                Host::reset();
                plant(DIRECTORY);
                if what != "hard link" {
                    lchown(DIRECTORY, Some(owner), Some(owner)).unwrap();
                }
                let remedy = "mv -nT /srv/cargo-target/alice /srv/cargo-target/.alice.old";
                host.refuses(&format!("{what} of uid {owner}"), &[described, "not a directory", remedy]);
            }
        }
        // The remedy is one.
        run("mv -nT /srv/cargo-target/alice /srv/cargo-target/.alice.old");
        assert_eq!(host.login().exported.as_deref(), Some(DIRECTORY));
    }

    /// The tag is for others to read: whatever stands there by its name, the directory serves.
    fn what_stands_for_the_tag_is_left_alone() {
        let host = Host::new();
        for (what, _, plant) in NO_DIRECTORIES {
            for owner in [0, ALICE, MALLORY] {
                Host::reset();
                directory(DIRECTORY, ALICE, 0o700);
                plant(TAG);
                if what != "hard link" {
                    lchown(TAG, Some(owner), Some(owner)).unwrap();
                }
                let what = format!("{what} of uid {owner} for a tag");
                // A login that died while it wrote the tag leaves a file of root's, which is written anew.
                if what.starts_with("file") && owner == 0 { host.tags(&what) } else { host.accepts(&what) }
            }
        }
        for (owner, mode) in [(0, 0o755), (ALICE, 0o700), (ALICE, 0o000), (MALLORY, 0o777)] {
            Host::reset();
            directory(DIRECTORY, ALICE, 0o700);
            directory(TAG, owner, mode);
            host.accepts(&format!("directory of uid {owner} for a tag"));
        }
    }

    fn only_ones_own_closed_directory_serves() {
        let host = Host::new();
        for (owner, mode, part) in [
            (0, 0o755, "belongs to uid 0, not to uid 2001"),
            (0, 0o700, "belongs to uid 0, not to uid 2001"),
            (BOB, 0o700, "belongs to uid 2002, not to uid 2001"),
            (MALLORY, 0o777, "belongs to uid 2666, not to uid 2001"),
            (ALICE, 0o777, "(mode 0777) is writable by group or others"),
            (ALICE, 0o1777, "(mode 1777) is writable by group or others"),
            (ALICE, 0o720, "(mode 0720) is writable by group or others"),
            (ALICE, 0o2770, "(mode 2770) is writable by group or others"),
            (ALICE, 0o702, "(mode 0702) is writable by group or others"),
        ] {
            Host::reset();
            directory(DIRECTORY, owner, mode);
            host.refuses(&format!("directory of uid {owner}, {mode:o}"), &[part]);
        }
        for mode in [0o700, 0o755, 0o2755, 0o500, 0o000] {
            Host::reset();
            directory(DIRECTORY, ALICE, mode);
            host.tags(&format!("own directory, {mode:o}"));
            assert_eq!(fs::metadata(DIRECTORY).unwrap().mode() & 0o7777, mode);
        }
    }

    /// An administrator may give each user a volume.
    fn a_volume_of_ones_own_serves() {
        let host = Host::new();
        let mounted = |options: &str, judge: &dyn Fn()| {
            Host::reset();
            directory(DIRECTORY, 0, 0o755);
            run(&format!("mount -t tmpfs -o {options} volume {DIRECTORY}"));
            judge();
            run(&format!("umount {DIRECTORY}"));
        };
        mounted("uid=2001,gid=2001,mode=0700", &|| host.tags("own volume"));
        mounted("ro,uid=2001,gid=2001,mode=0700", &|| host.accepts("own read-only volume"));
        mounted("mode=0700", &|| host.refuses("root's volume", &["belongs to uid 0"]));
        mounted("uid=2002,mode=0700", &|| host.refuses("another's volume", &["belongs to uid 2002"]));
        mounted("uid=2001,mode=0777", &|| host.refuses("open volume", &["(mode 0777) is writable"]));

        // Another's directory, by a bind mount.
        Host::reset();
        directory("/srv/cargo-target/bob", BOB, 0o700);
        directory(DIRECTORY, ALICE, 0o700);
        run(&format!("mount --bind /srv/cargo-target/bob {DIRECTORY}"));
        host.refuses("another's directory, bound", &["belongs to uid 2002"]);
        run(&format!("umount {DIRECTORY}"));
        // A file over a directory cannot be mounted, and a FIFO over a file can.
        fs::remove_dir(DIRECTORY).unwrap();
        fs::write(DIRECTORY, "").unwrap();
        special("/srv/outside/fifo", SFlag::S_IFIFO, (0, 0));
        run(&format!("mount --bind /srv/outside/fifo {DIRECTORY}"));
        host.refuses("a FIFO, bound", &["is a FIFO"]);
        run(&format!("umount {DIRECTORY}"));
    }

    /// `chattr +i` and `+a` bind root too: what was made serves, and what cannot be made is told.
    fn immutable_directories_cost_a_line_at_most() {
        let host = Host::new();
        let image = "/tmp/immutable.img";
        fs::File::create(image).unwrap().set_len(16 << 20).unwrap();
        run(&format!("mkfs.ext4 -q {image}"));
        run(&format!("mount -o loop {image} {ROOT}"));
        fs::remove_dir(format!("{ROOT}/lost+found")).unwrap();
        let faults = |what: &str, part: &str| {
            let names = names(ROOT);
            let got = host.login();
            assert_eq!(got.exported, None, "{what}");
            let [line] = got.log.as_slice() else { panic!("{what}: {got:#?}") };
            assert!(line.contains("<83>") && line.contains("nothing done for alice: cannot "), "{what}: {line}");
            assert!(line.contains("Operation not permitted") && line.contains(part), "{what}: {line}");
            assert_eq!(names, self::names(ROOT), "{what}");
        };

        run(&format!("chattr +i {ROOT}"));
        faults("immutable root", "use .staging");
        run(&format!("chattr -i {ROOT}"));
        directory(STAGING, 0, 0o700);
        run(&format!("chattr +i {ROOT}"));
        faults("immutable root with .staging", "rename");
        assert!(names(STAGING).is_empty());
        run(&format!("chattr -i {ROOT}"));

        run(&format!("chattr +i {STAGING}"));
        faults("immutable .staging", "make");
        run(&format!("chattr -i {STAGING}"));
        // What cannot be taken out of it again is litter there, and seen by nobody.
        run(&format!("chattr +a {STAGING}"));
        faults("append-only .staging", "rename");
        run(&format!("chattr -a {STAGING}"));
        assert_eq!(host.login().exported.as_deref(), Some(DIRECTORY));
        assert!(names(STAGING).is_empty(), "the litter was not swept");

        for attribute in ["i", "a"] {
            run(&format!("chattr +{attribute} {DIRECTORY}"));
            host.accepts(&format!("own directory +{attribute}, with its tag"));
            run(&format!("chattr -{attribute} {DIRECTORY}"));
            run(&format!("chattr +{attribute} {TAG}"));
            host.accepts(&format!("tag +{attribute}"));
            run(&format!("chattr -{attribute} {TAG}"));
        }
        fs::remove_file(TAG).unwrap();
        run(&format!("chattr +i {DIRECTORY}"));
        host.accepts("own directory +i, without its tag");
        run(&format!("chattr -i {DIRECTORY}"));
        // To add is all that an append-only directory allows.
        run(&format!("chattr +a {DIRECTORY}"));
        host.tags("own directory +a, without its tag");
        run(&format!("chattr -a {DIRECTORY}"));
        run(&format!("umount {ROOT}"));
    }

    /// `.staging` is root's alone and on the root's own file system, or nothing is made.
    fn what_stands_for_staging_is_refused() {
        let host = Host::new();
        let refused = |what: &str| {
            let before = everything();
            let logins = [host.login(), host.login(), host.login()];
            for got in &logins {
                assert_eq!(got.exported, None, "{what}");
                let [line] = got.log.as_slice() else { panic!("{what}: {got:#?}") };
                assert!(line.contains("/srv/cargo-target/.staging is not a directory of root's"), "{what}: {line}");
            }
            assert_fast(&logins, what);
            assert_same(&before, &everything(), what);
        };
        for (what, _, plant) in NO_DIRECTORIES {
            Host::reset();
            plant(STAGING);
            refused(what);
        }
        for (owner, mode) in [(ALICE, 0o700), (MALLORY, 0o777), (0, 0o755), (0, 0o770), (0, 0o701), (0, 0o1777)] {
            Host::reset();
            directory(STAGING, owner, mode);
            refused(&format!("directory of uid {owner}, {mode:o}"));
        }
        Host::reset();
        directory(STAGING, 0, 0o700);
        run(&format!("mount -t tmpfs -o mode=0700 volume {STAGING}"));
        refused("volume");
        run(&format!("umount {STAGING}"));

        // In a sticky root, a FUSE mount of mallory's that says it is root's, and then says nothing at all.
        Host::reset();
        fs::set_permissions(ROOT, Permissions::from_mode(0o1777)).unwrap();
        directory(STAGING, MALLORY, 0o700);
        let mallorys = Fuse::mount_by(MALLORY, STAGING, "");
        fs::set_permissions(STAGING, Permissions::from_mode(0o700)).unwrap();
        refused("mallory's mount");
        mallorys.behave("hang");
        let got = host.login();
        assert_eq!((got.exported, got.log.len()), (None, 1), "{:?}", got.log);
        mallorys.behave("");
    }

    /// In a sticky root anybody can make a directory of the victim's name, and mount on it, with the help of
    /// fusermount, a file system that says that it is the victim's: as here, where /etc/fuse.conf has
    /// `user_allow_other`.
    fn mount_at_the_name_in_a_sticky_root_is_refused() {
        let host = Host::new();
        fs::set_permissions(ROOT, Permissions::from_mode(0o1777)).unwrap();
        directory(DIRECTORY, MALLORY, 0o755);
        let mallorys = Fuse::mount_by(MALLORY, DIRECTORY, "");
        chown(DIRECTORY, Some(ALICE), Some(ALICE)).unwrap();
        fs::set_permissions(DIRECTORY, Permissions::from_mode(0o700)).unwrap();
        host.refuses("mallory's mount", &["lies on a file system that uid 2666 has mounted", "umount "]);
        // It is not even asked.
        mallorys.behave("hang");
        let got = host.login();
        assert_eq!((got.exported, got.log.len()), (None, 1), "{:?}", got.log);
        mallorys.behave("");
        drop(mallorys);

        // Her own does not serve either: each login would leave a process that waits for her server. A volume that
        // root has mounted is told from both.
        Host::reset();
        fs::set_permissions(ROOT, Permissions::from_mode(0o1777)).unwrap();
        directory(DIRECTORY, ALICE, 0o700);
        let her_own = Fuse::mount_by(ALICE, DIRECTORY, "");
        chown(DIRECTORY, Some(ALICE), Some(ALICE)).unwrap();
        fs::set_permissions(DIRECTORY, Permissions::from_mode(0o700)).unwrap();
        host.refuses("her own mount", &["lies on a file system that uid 2001 has mounted"]);
        her_own.behave("hang");
        assert_fast(&[host.login(), host.login(), host.login()], "her own mount that hangs");
        her_own.behave("");
        drop(her_own);
        Host::reset();
        fs::set_permissions(ROOT, Permissions::from_mode(0o1777)).unwrap();
        directory(DIRECTORY, 0, 0o755);
        run(&format!("mount -t tmpfs -o uid=2001,gid=2001,mode=0700 volume {DIRECTORY}"));
        host.tags("own volume in a sticky root");
        run(&format!("umount {DIRECTORY}"));
    }

    /// fusermount mounts on files too.
    fn mount_on_a_file_is_never_asked() {
        let host = Host::new();
        directory(DIRECTORY, ALICE, 0o700);
        fs::write(TAG, "").unwrap();
        chown(TAG, Some(ALICE), Some(ALICE)).unwrap();
        let at_the_tag = Fuse::mount_by_on_a_file(ALICE, TAG, "hang");
        for got in [host.login(), host.login(), host.login()] {
            assert_eq!((got.exported.as_deref(), got.log.len()), (Some(DIRECTORY), 0), "{:?}", got.log);
            assert!(got.took < A_SECOND, "{:?}", got.took);
        }
        at_the_tag.behave("");
        drop(at_the_tag);

        Host::reset();
        fs::write(DIRECTORY, "").unwrap();
        let at_the_name = Fuse::mount_by_on_a_file(MALLORY, DIRECTORY, "hang");
        for got in [host.login(), host.login(), host.login()] {
            let [line] = got.log.as_slice() else { panic!("{got:?}") };
            assert!(got.exported.is_none() && line.contains("is a file, not a directory"), "{got:?}");
            assert!(got.took < A_SECOND, "{:?}", got.took);
        }
        at_the_name.behave("");
        drop(at_the_name);
        fs::remove_file(DIRECTORY).unwrap();
    }

    /// A user has 1,000 FUSE mounts, and moves them down a tree: the list of mounts is then 16 MiB long.
    fn long_list_of_mounts_keeps_nobody_from_their_directory() {
        let host = Host::new();
        mount_deep_down(1000, 17);
        for lines in [1, 0, 0] {
            // The kernel itself takes its time to write such a list.
            let begin = Instant::now();
            fs::read("/proc/self/mountinfo").unwrap();
            let bound = 4 * begin.elapsed() + A_SECOND;
            let got = host.login();
            assert_eq!((got.exported.as_deref(), got.log.len()), (Some(DIRECTORY), lines), "{:?}", got.log);
            assert!(got.took < bound, "{:?}, and {bound:?} would do", got.took);
        }
    }

    /// `/home` is often a link, or a bind mount: that a root holds the homes then shows in no path.
    fn home_by_another_path_is_refused() {
        let host = Host::new();
        let refused = |how: &str| {
            fs::create_dir(DIRECTORY).unwrap();
            chown(DIRECTORY, Some(ALICE), Some(ALICE)).unwrap();
            host.refuses(how, &["is the user's home directory, by another path"]);
            fs::remove_dir(DIRECTORY).unwrap();
            // One that would be made there later.
            host.refuses(how, &["is the user's home directory, by another path"]);
        };
        run("umount /home");
        run(&format!("mount --bind {ROOT} /home"));
        refused("a bind mount");
        run("umount /home");
        run("usermod --home /media/homes/alice alice");
        symlink(ROOT, "/media/homes").unwrap();
        // As sshd does that looks for a key there: the caches let nobody past a link whose time of access is due,
        // as it is until it is later than that of its making.
        thread::sleep(Duration::from_millis(50));
        fs::metadata("/media/homes/alice").unwrap_err();
        refused("a link");
        fs::remove_file("/media/homes").unwrap();
        assert_eq!(host.login().exported.as_deref(), Some(DIRECTORY), "nothing is known of a home that is nowhere");
    }

    /// A directory that was refused, since its group can write it, is not made good by what a member of the
    /// group mounts on it.
    fn mount_over_a_refused_directory_is_refused() {
        let host = Host::new();
        directory(DIRECTORY, ALICE, 0o2775);
        let mallorys = Fuse::mount_by(MALLORY, DIRECTORY, "");
        chown(DIRECTORY, Some(ALICE), Some(ALICE)).unwrap();
        fs::set_permissions(DIRECTORY, Permissions::from_mode(0o700)).unwrap();
        host.refuses("mallory's mount", &["lies on a file system that uid 2666 has mounted"]);
        mallorys.behave("hang");
        let got = host.login();
        assert_eq!((got.exported, got.log.len()), (None, 1), "{:?}", got.log);
        mallorys.behave("");
        drop(mallorys);
        host.refuses("what is beneath", &["(mode 2775) is writable by group or others"]);
    }

    /// The same for the root itself, where it is missing in a sticky directory, or open to the group: what
    /// mallory mounts there says that it is root's.
    fn root_on_somebody_elses_mount_is_refused() {
        let host = Host::new();
        fs::remove_dir(ROOT).unwrap();
        let refused = |part: &str| {
            fs::create_dir(DIRECTORY).unwrap();
            chown(DIRECTORY, Some(ALICE), Some(ALICE)).unwrap();
            let got = host.login();
            let [line] = got.log.as_slice() else { panic!("{got:?}") };
            assert!(got.exported.is_none() && line.contains("<84>") && line.contains(part), "{got:?}");
            assert!(!Path::new(TAG).exists());
        };

        directory(ROOT, 0, 0o2775);
        let mallorys = Fuse::mount_by(MALLORY, ROOT, "");
        refused("/srv/cargo-target lies on a file system that uid 2666 has mounted");
        drop(mallorys);
        // Root's own is in order.
        let roots = Fuse::mount_by(0, ROOT, "");
        assert_eq!(host.login().exported.as_deref(), Some(DIRECTORY));
        drop(roots);
        fs::remove_dir(ROOT).unwrap();

        fs::set_permissions("/srv", Permissions::from_mode(0o1777)).unwrap();
        directory(ROOT, MALLORY, 0o755);
        let mallorys = Fuse::mount_by(MALLORY, ROOT, "");
        refused("/srv/cargo-target");
        drop(mallorys);
        // A volume that root has mounted is told from it.
        chown(ROOT, Some(0), Some(0)).unwrap();
        run(&format!("mount -t tmpfs -o mode=0755 volume {ROOT}"));
        assert_eq!(host.login().exported.as_deref(), Some(DIRECTORY));
        run(&format!("umount {ROOT}"));
    }

    /// An ACL that lets another write shows as the group's write permission, and its remedy works.
    fn acl_that_lets_another_write_is_refused() {
        let host = Host::new();
        directory(DIRECTORY, ALICE, 0o700);
        run(&format!("setfacl -m u:mallory:rwx {DIRECTORY}"));
        assert!(mallory_can(&format!("touch {DIRECTORY}/planted")), "the ACL does nothing");
        let remedy = format!("setfacl -b {DIRECTORY}; chmod go-w {DIRECTORY}");
        host.refuses("ACL", &["(mode 0770) is writable by group or others", &remedy]);
        let acl = run(&format!("getfacl --absolute-names {DIRECTORY}"));
        assert!(acl.contains("user:mallory:rwx"), "{acl}");

        for command in remedy.split("; ") {
            run(command);
        }
        host.tags("ACL removed");
        assert!(!mallory_can(&format!("touch {DIRECTORY}/planted-again")));

        // One that lets another read is the user's own affair.
        run(&format!("setfacl -m u:mallory:rx {DIRECTORY}"));
        host.accepts("ACL to read");
        let acl = run(&format!("getfacl --absolute-names {DIRECTORY}"));
        assert!(acl.contains("user:mallory:r-x"), "{acl}");

        // On the root itself it lets mallory swap directories.
        Host::reset();
        run(&format!("setfacl -m u:mallory:rwx {ROOT}"));
        let got = host.login();
        assert_eq!((got.exported, got.log.len()), (None, 1), "{:?}", got.log);
        assert!(got.log[0].contains("/srv/cargo-target (mode 0775) is writable"), "{:?}", got.log);
    }

    /// Default ACLs and setgid of the root reach neither the new directory nor its tag, nor `.staging` while
    /// it is made.
    fn default_acl_of_the_root_lets_nobody_in() {
        let host = Host::new();
        chown(ROOT, None, Some(MALLORY)).unwrap();
        fs::set_permissions(ROOT, Permissions::from_mode(0o2755)).unwrap();
        run(&format!("setfacl -d -m u:mallory:rwx,g:mallory:rwx,m:rwx {ROOT}"));
        fs::create_dir("/srv/cargo-target/control").unwrap();
        let acl = run("getfacl --absolute-names /srv/cargo-target/control");
        assert!(acl.contains("user:mallory:rwx") && acl.contains("flags: -s-"), "nothing is inherited: {acl}");

        let got = host.login();
        assert_eq!(got.exported.as_deref(), Some(DIRECTORY), "{got:?}");
        let acl = |path: &str| run(&format!("getfacl --absolute-names --omit-header {path}"));
        assert_eq!(acl(DIRECTORY).trim(), "user::rwx\ngroup::---\nother::---");
        assert_eq!(acl(TAG).trim(), "user::rw-\ngroup::r--\nother::r--");
        let (found, tag) = (fs::metadata(DIRECTORY).unwrap(), fs::metadata(TAG).unwrap());
        assert_eq!((found.gid(), found.mode(), tag.gid()), (ALICE, 0o040_700, ALICE));
        for path in [DIRECTORY, STAGING] {
            assert!(!mallory_can(&format!("ls {path}")), "mallory reads {path}");
            assert!(!mallory_can(&format!("touch {path}/planted")), "mallory writes {path}");
        }

        // A tag that is put back.
        fs::remove_file(TAG).unwrap();
        host.tags("tag put back");
        assert_eq!(acl(TAG).trim(), "user::rw-\ngroup::r--\nother::r--");
    }
}

fn names(directory: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| String::from_utf8_lossy(entry.unwrap().file_name().as_bytes()).into_owned())
        .collect();
    names.sort();
    names
}
