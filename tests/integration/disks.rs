//! Real file systems that are full, read-only or failing, that squash owners, or that lack what the module
//! would like to use: the session opens on each, one line says what is wrong, nothing half-made is left, and
//! the first login after the fault is gone finds everything in order.
//!
//! Images lie in the sandbox's own memory. Loop devices are the host's, so they are set to detach
//! themselves, and each test sees to it that its own did.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use crate::fuse::Fuse;
use crate::pam::{Call, PAM_SUCCESS, Services};
use crate::sandbox::{SyslogSocket, User, module_path, sandboxed, succeeded, wait_until};

/// Where the disk under test is mounted; the shared root is a directory on it, so that a filler has a place.
const DISK: &str = "/srv/disk";
const ROOT: &str = "/srv/disk/root";
const FILLER: &str = "/srv/disk/filler";
const TAG: &str = "CACHEDIR.TAG";

const ALICE: (&str, u32) = ("alice", 2001);
const BOB: (&str, u32) = ("bob", 2002);

/// A host with two developers, and what its syslog gets.
struct Host {
    services: Services,
    log: SyslogSocket,
}

/// What one login got.
#[derive(Debug)]
struct Login {
    value: String,
    log: Vec<String>,
}

impl Host {
    fn new() -> Self {
        for (name, uid) in [ALICE, BOB] {
            User::developer(name, uid).add();
        }
        fs::create_dir(DISK).unwrap();
        Self { services: Services::new(), log: SyslogSocket::bind() }
    }

    /// Opens a session, which must succeed, with the variable as an earlier module might have set it.
    #[track_caller]
    fn login(&self, user: &str) -> Login {
        let stack = format!("session required {} root={ROOT}", module_path().display());
        self.services.write("login", &stack);
        let mut transaction = self.services.start("login", Some(user.as_bytes()));
        transaction.put("CARGO_TARGET_DIR=/old");
        assert_eq!(transaction.call(Call::OpenSession), PAM_SUCCESS, "{user}");
        let environment = transaction.environment();
        assert_eq!(transaction.call(Call::CloseSession), PAM_SUCCESS, "{user}");
        let [variable] = environment.as_slice() else { panic!("{environment:?}") };
        let value = variable.strip_prefix("CARGO_TARGET_DIR=").unwrap().to_owned();
        Login { value, log: self.log.drain_module() }
    }

    /// The login gets nothing, and one line with all these parts says why.
    #[track_caller]
    fn fails(&self, user: &str, parts: &[&str]) {
        let got = self.login(user);
        let [line] = got.log.as_slice() else { panic!("{got:#?}") };
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
        assert!(line.contains(&format!("nothing done for {user}: ")) && line.contains(DISK), "{line}");
        assert_eq!(got.value, "/old", "{got:?}");
    }

    /// The login gets a directory that was made just now, complete, and nothing else is left in the root.
    #[track_caller]
    fn provisions(&self, (name, uid): (&str, u32)) {
        let got = self.login(name);
        let [line] = got.log.as_slice() else { panic!("{got:#?}") };
        assert!(line.contains(&format!("provisioned {ROOT}/{name} for {name}")), "{line}");
        assert_eq!(got.value, format!("{ROOT}/{name}"));
        assert_own(&got.value, uid, libc::S_IFDIR | 0o700);
        assert_no_litter();
    }

    /// The login gets the directory that was there, and there is nothing to say about it.
    #[track_caller]
    fn finds(&self, (name, uid): (&str, u32)) {
        let got = self.login(name);
        assert_eq!((got.value, got.log), (format!("{ROOT}/{name}"), Vec::new()));
        assert_own(&format!("{ROOT}/{name}"), uid, libc::S_IFDIR | 0o700);
        assert_no_litter();
    }

    /// A fault comes and goes. Who has a directory keeps it, even one that lacks its tag; who has none gets
    /// one as soon as the fault is gone.
    #[track_caller]
    fn survives(&self, cause: &str, break_disk: impl Fn(), mend_disk: impl Fn()) {
        // Before the module ever made anything, and after it has.
        for round in 0..2 {
            if round == 1 {
                self.provisions(BOB);
                fs::remove_file(format!("{ROOT}/bob/{TAG}")).unwrap();
            }
            break_disk();
            self.fails("alice", &["<83>", cause, "see that"]);
            // The last free block may just do for `.staging`, which is nobody's directory.
            let mut in_root = names_in(ROOT);
            if in_root.remove(".staging") {
                assert_eq!(names_in(&format!("{ROOT}/.staging")), BTreeSet::new());
            }
            let others: &[&str] = if round == 1 { &["bob"] } else { &[] };
            assert_eq!(in_root, others.iter().map(ToString::to_string).collect());
            if round == 1 {
                self.finds(BOB);
                assert!(!Path::new(&format!("{ROOT}/bob/{TAG}")).exists(), "half a tag was left");
            }
            mend_disk();
        }
        self.provisions(ALICE);
        assert_tagged("alice", ALICE.1);
        self.finds(ALICE);
        self.finds(BOB);
        assert_tagged("bob", BOB.1);
    }
}

/// The owner, the mode and the type, and that no ACL says otherwise.
#[track_caller]
fn assert_own(path: &str, uid: u32, mode: u32) {
    let found = fs::symlink_metadata(path).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode()), (uid, uid, mode), "{path}: {:o}", found.mode());
    let acl =
        succeeded(&Command::new("getfacl").args(["--skip-base", "--absolute-names", path]).output().unwrap());
    assert_eq!(acl, "", "{path} inherited an ACL");
}

#[track_caller]
fn assert_tagged(name: &str, uid: u32) {
    let tag = format!("{ROOT}/{name}/{TAG}");
    assert_own(&tag, uid, libc::S_IFREG | 0o644);
    assert_eq!(fs::read_to_string(tag).unwrap(), pam_cargo_target::cache_dir::TAG);
}

/// Nothing is in the root but users' directories and an empty `.staging`.
#[track_caller]
fn assert_no_litter() {
    let mut names = names_in(ROOT);
    for known in [".staging", "alice", "bob"] {
        names.remove(known);
    }
    assert_eq!(names, BTreeSet::new());
    assert_eq!(names_in(&format!("{ROOT}/.staging")), BTreeSet::new());
}

fn names_in(directory: &str) -> BTreeSet<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Runs a command line without quotes.
#[track_caller]
fn run(command_line: &str) -> String {
    let mut words = command_line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output();
    succeeded(&output.unwrap_or_else(|error| panic!("{command_line}: {error}")))
}

/// Makes the shared root, on whatever is mounted there.
fn make_root() {
    fs::create_dir(ROOT).unwrap();
    fs::set_permissions(ROOT, Permissions::from_mode(0o755)).unwrap();
}

/// Fills the disk until neither a byte nor a directory goes in any more. A block that no file gets can still
/// do for a directory, and what a failed write or delayed allocation held comes free with the journal's next
/// commit: so in turns, until a whole turn adds nothing.
fn fill_up() {
    fs::create_dir(FILLER).unwrap();
    let mut file = File::options().create(true).append(true).open(format!("{FILLER}/file")).unwrap();
    let mut directories = 0;
    loop {
        let before = (file.metadata().unwrap().len(), directories);
        for chunk in [64 * 1024, 512, 1] {
            while file.write_all(&vec![b'x'; chunk]).is_ok() {}
            file.sync_all().ok();
        }
        // Where directories take no block there would be no end.
        while directories < 64 && fs::create_dir(format!("{FILLER}/{directories}")).is_ok() {
            directories += 1;
        }
        nix::unistd::sync();
        if before == (file.metadata().unwrap().len(), directories) {
            break;
        }
    }
}

fn make_room() {
    fs::remove_dir_all(FILLER).unwrap();
    nix::unistd::sync();
}

/// A disk in a file, by way of a loop device that is detached when this is dropped.
pub(crate) struct Image {
    file: String,
    at: String,
}

impl Image {
    /// Makes a file system with this command, and mounts it on a directory.
    pub(crate) fn mount(make: &str, megabytes: u64, at: &str) -> Self {
        // Loop devices are everybody's: the name tells ours from others'.
        let file = run("mktemp /tmp/disk-XXXXXXXXXX").trim().to_owned();
        File::options().write(true).open(&file).unwrap().set_len(megabytes << 20).unwrap();
        run(&format!("{make} {file}"));
        run(&format!("mount -o loop {file} {at}"));
        let image = Self { file, at: at.to_owned() };
        assert!(image.is_attached());
        image
    }

    fn is_attached(&self) -> bool {
        run("losetup --list --noheadings --output BACK-FILE").contains(&self.file)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        run(&format!("umount --recursive {}", self.at));
        wait_until("the loop device is detached", || !self.is_attached());
    }
}

/// The same as the disk under test, with an empty root.
fn disk(make: &str, megabytes: u64) -> Image {
    let image = Image::mount(make, megabytes, DISK);
    make_root();
    image
}

sandboxed! {
    /// The directory comes before its tag, and both before nothing: with each inode more, the login gets
    /// more of what it should have, and never half of a thing.
    fn tmpfs_without_inodes() {
        let host = Host::new();
        // Those of the disk's own directory, of the root, and of bob's directory and tag.
        let taken = 4;
        run(&format!("mount -t tmpfs -o nr_inodes=100 disk {DISK}"));
        make_root();
        let inodes = |left| run(&format!("mount -o remount,nr_inodes={} {DISK}", taken + left));
        host.provisions(BOB);
        fs::remove_dir(format!("{ROOT}/.staging")).unwrap();

        inodes(0);
        host.fails("alice", &["<83>", "cannot use .staging to make /srv/disk/root/alice: No space left on device; see that"]);
        assert_eq!(host.login("bob").value, format!("{ROOT}/bob"));
        inodes(1);
        host.fails("alice", &["<83>", "cannot make /srv/disk/root/alice: No space left on device; see that"]);
        host.finds(BOB);
        inodes(2);
        host.provisions(ALICE);
        assert_eq!(names_in(&format!("{ROOT}/alice")), BTreeSet::new(), "half a tag was left");
        host.finds(ALICE);
        inodes(3);
        host.finds(ALICE);
        assert_tagged("alice", ALICE.1);
        run(&format!("umount {DISK}"));
    }

    /// Directories of a tmpfs take no block, tags do.
    fn tmpfs_without_blocks() {
        let host = Host::new();
        run(&format!("mount -t tmpfs -o size=64k disk {DISK}"));
        make_root();
        fill_up();
        host.provisions(ALICE);
        assert_eq!(names_in(&format!("{ROOT}/alice")), BTreeSet::new(), "half a tag was left");
        make_room();
        host.finds(ALICE);
        assert_tagged("alice", ALICE.1);
        run(&format!("umount {DISK}"));
    }

    fn full_ext4() {
        let host = Host::new();
        // -m 0: no blocks are kept for root, who is the one to write.
        let _disk = disk("mkfs.ext4 -q -m 0", 8);
        host.survives("No space left on device", fill_up, make_room);
    }

    fn read_only_ext4() {
        let host = Host::new();
        let _disk = disk("mkfs.ext4 -q", 8);
        let remount = |how| move || drop(run(&format!("mount -o remount,{how} {DISK}")));
        host.survives("Read-only file system", remount("ro"), remount("rw"));
    }

    fn full_xfs() {
        let host = Host::new();
        // The smallest that mkfs.xfs makes.
        let _disk = disk("mkfs.xfs -q", 300);
        host.survives("No space left on device", fill_up, make_room);
    }

    fn btrfs_with_an_exhausted_quota_group() {
        let host = Host::new();
        let _disk = disk("mkfs.btrfs -q --mixed", 64);
        run(&format!("btrfs quota enable {DISK}"));
        // A quota group is of a subvolume.
        fs::remove_dir(ROOT).unwrap();
        run(&format!("btrfs subvolume create {ROOT}"));
        fs::set_permissions(ROOT, Permissions::from_mode(0o755)).unwrap();
        let limit = |size: &str| {
            nix::unistd::sync();
            // 256 is the first subvolume. By its own path the limit could not be lifted: that asks it for room.
            run(&format!("btrfs qgroup limit {size} 0/256 {DISK}"));
        };
        host.survives("Quota exceeded", || limit("1"), || limit("none"));
    }

    /// It says nothing about directories; that nothing built there runs is the administrator's to find out.
    fn noexec() {
        let host = Host::new();
        run(&format!("mount -t tmpfs -o noexec,nosuid,nodev disk {DISK}"));
        make_root();
        host.provisions(ALICE);
        assert_tagged("alice", ALICE.1);
        host.finds(ALICE);
        run(&format!("umount {DISK}"));
    }

    /// Default ACLs, a foreign group and setgid of the root are not handed down, whatever the file system's
    /// idea of them.
    fn what_the_root_hands_down_is_undone() {
        let host = Host::new();
        let inherits = |what: &str| {
            chown(ROOT, None, Some(100)).unwrap();
            fs::set_permissions(ROOT, Permissions::from_mode(0o2755)).unwrap();
            run(&format!("setfacl -d -m u:{}:rwx,g:users:rwx,o:rx {ROOT}", BOB.0));
            // The control: what somebody else makes there does inherit.
            fs::create_dir(format!("{ROOT}/control")).unwrap();
            assert!(run(&format!("getfacl --absolute-names {ROOT}/control")).contains("user:bob:rwx"), "{what}");
            assert_eq!(fs::metadata(format!("{ROOT}/control")).unwrap().gid(), 100, "{what}");
            fs::remove_dir(format!("{ROOT}/control")).unwrap();

            host.provisions(ALICE);
            assert_tagged("alice", ALICE.1);
            fs::remove_file(format!("{ROOT}/alice/{TAG}")).unwrap();
            host.finds(ALICE);
            assert_tagged("alice", ALICE.1);
        };
        run(&format!("mount -t tmpfs disk {DISK}"));
        make_root();
        inherits("tmpfs");
        run(&format!("umount {DISK}"));
        for (make, megabytes) in [("mkfs.ext4 -q", 8), ("mkfs.xfs -q", 300), ("mkfs.btrfs -q --mixed", 64)] {
            let _disk = disk(make, megabytes);
            inherits(make);
        }
    }

    fn overlay() {
        let host = Host::new();
        // The lower layer has a root in which bob has been before; the upper is empty.
        for layer in ["lower", "upper", "work"] {
            fs::create_dir_all(format!("/tmp/layers/{layer}")).unwrap();
        }
        run(&format!("mount --bind /tmp/layers/lower {DISK}"));
        make_root();
        host.provisions(BOB);
        fs::remove_file(format!("{ROOT}/bob/{TAG}")).unwrap();
        run(&format!("umount {DISK}"));
        let layers = "lowerdir=/tmp/layers/lower,upperdir=/tmp/layers/upper,workdir=/tmp/layers/work";
        run(&format!("mount -t overlay -o {layers} disk {DISK}"));

        host.provisions(ALICE);
        assert_tagged("alice", ALICE.1);
        host.finds(ALICE);
        host.finds(BOB);
        assert_tagged("bob", BOB.1);
        // Read-only, as a live system has it.
        run(&format!("mount -o remount,ro {DISK}"));
        fs::remove_dir_all("/tmp/layers/upper/root/alice").unwrap();
        run(&format!("umount {DISK}"));
        run(&format!("mount -t overlay -o ro,{layers} disk {DISK}"));
        host.finds(BOB);
        run(&format!("umount {DISK}"));
    }

    fn disk_that_answers_eio() {
        let host = Host::new();
        let disk = Fuse::mount(DISK, "");
        make_root();
        host.provisions(BOB);
        disk.behave("eio");
        for user in ["alice", "bob"] {
            host.fails(user, &["<83>", "I/O error", "see that its file system is in order"]);
        }
        disk.behave("");
        host.provisions(ALICE);
        assert_tagged("alice", ALICE.1);
        host.finds(BOB);
    }

    /// As NFS has it with `root_squash`: root may not give anything away, and what it makes is nobody's.
    fn disk_that_squashes_owners() {
        squashed("squash");
    }

    /// The same where chown answers that all is well.
    fn disk_that_squashes_owners_silently() {
        squashed("squash-silently");
    }

    /// As a directory comes out whose file system has no groups, or modes, of its own.
    fn disk_that_keeps_another_group() {
        let host = Host::new();
        let disk = Fuse::mount(DISK, "keep-group");
        make_root();
        host.fails("alice", &["<83>", "does not keep the group and the mode of a new directory"]);
        assert_no_litter();
        disk.behave("");
        host.provisions(ALICE);
    }

    /// A plain rename serves where root alone can put names into the root; elsewhere it could replace what
    /// another user has put there.
    fn disk_without_exclusive_rename() {
        let host = Host::new();
        let disk = Fuse::mount(DISK, "no-exclusive-rename");
        make_root();
        host.provisions(ALICE);
        assert_tagged("alice", ALICE.1);
        host.finds(ALICE);

        fs::set_permissions(ROOT, Permissions::from_mode(0o1777)).unwrap();
        host.fails("bob", &["<84>", "has no exclusive rename", "run: chmod go-w /srv/disk/root"]);
        assert_no_litter();
        assert!(!names_in(ROOT).contains("bob"));
        host.finds(ALICE);
        disk.behave("");
        host.provisions(BOB);
    }
}

fn squashed(manners: &str) {
    let host = Host::new();
    let disk = Fuse::mount(DISK, "");
    make_root();
    // At the first login ever, when even .staging would be nobody's, and later.
    for round in 0..2 {
        if round == 1 {
            host.provisions(BOB);
        }
        disk.behave(manners);
        // The control: what root makes there is another's.
        let control = format!("{ROOT}/control");
        fs::create_dir(&control).unwrap();
        assert_eq!(fs::metadata(&control).unwrap().uid(), 65534);
        assert_eq!(chown(&control, Some(2001), None).is_ok(), manners == "squash-silently");
        assert_eq!(fs::metadata(&control).unwrap().uid(), 65534);
        fs::remove_dir(&control).unwrap();

        let before = names_in(ROOT);
        host.fails("alice", &["<83>", "root_squash", "make users' directories on its server"]);
        assert_eq!(names_in(ROOT), before, "round {round}");
        if round == 1 {
            host.finds(BOB);
        }
        disk.behave("");
    }
    host.provisions(ALICE);
    assert_tagged("alice", ALICE.1);
}
