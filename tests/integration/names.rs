//! Names that a name service can hand out: each user gets a directory of exactly that name, or none.
//!
//! The sources are real: Debian's `extrausers`, a second passwd(5) file whose lines nothing checks, and
//! `tests/attack/nss_hostile.c`, which answers with another name than it was asked for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pam::{Call, PAM_SUCCESS, Services};
use crate::sandbox::{SyslogSocket, add_group, append, checkout, module_path, sandboxed, succeeded};

const ROOT: &str = "/srv/cargo-target";
const WORKSPACE: u32 = 4000;

/// A root, a service, and what its syslog gets.
struct Host {
    services: Services,
    log: SyslogSocket,
}

/// What one login got.
#[derive(Debug)]
struct Login {
    exported: Option<String>,
    log: Vec<String>,
}

impl Host {
    /// A host whose users come from these sources too; it must be there before anybody is looked up.
    fn new(sources: &str) -> Self {
        let switch = fs::read_to_string("/etc/nsswitch.conf").unwrap();
        fs::write("/etc/nsswitch.conf", switch.replace("passwd: files", &format!("passwd: files {sources}")))
            .unwrap();
        add_group("workspace", WORKSPACE);
        let services = Services::new();
        services.write("sshd", &format!("session required {} root={ROOT}", module_path().display()));
        let host = Self { services, log: SyslogSocket::bind() };
        Self::reset();
        host
    }

    /// Makes the root anew, empty.
    fn reset() {
        let _ = fs::remove_dir_all(ROOT);
        fs::create_dir(ROOT).unwrap();
        fs::set_permissions(ROOT, Permissions::from_mode(0o755)).unwrap();
    }

    #[track_caller]
    fn login(&self, user: &[u8]) -> Login {
        let mut transaction = self.services.start("sshd", Some(user));
        assert_eq!(transaction.call(Call::OpenSession), PAM_SUCCESS);
        let environment = transaction.environment();
        let exported = environment.iter().find_map(|variable| variable.strip_prefix("CARGO_TARGET_DIR="));
        let log = self.log.drain_module();
        assert!(!log.iter().any(|line| line.contains(char::is_control)), "{log:?}");
        Login { exported: exported.map(str::to_owned), log }
    }

    /// The user gets a directory of this name: once made, then found.
    #[track_caller]
    fn provides(&self, user: &[u8], name: &str, uid: u32) {
        let path = format!("{ROOT}/{name}");
        let first = self.login(user);
        assert_eq!(first.exported.as_ref(), Some(&path), "{first:?}");
        let [line] = first.log.as_slice() else { panic!("{first:?}") };
        assert!(line.contains(&format!("provisioned {path} for ")), "{line}");
        let made = fs::symlink_metadata(&path).unwrap();
        assert_eq!((made.uid(), made.mode()), (uid, 0o040_700), "{name}");
        let next = self.login(user);
        assert_eq!((next.exported, next.log), (Some(path), vec![]));
    }

    /// The user gets nothing, one line that ends so says why, and nothing is made.
    #[track_caller]
    fn refuses(&self, user: &[u8], cause: &str) {
        let before = names();
        let got = self.login(user);
        assert_eq!(got.exported, None, "{got:?}");
        let [line] = got.log.as_slice() else { panic!("{got:?}") };
        assert!(line.starts_with("<84>") && line.contains("no directory can be named `"), "{line}");
        assert!(line.contains(cause), "{cause}: {line}");
        assert_eq!(names(), before, "{line}");
    }
}

/// What is in the root, and in `.staging` if that is there.
fn names() -> BTreeSet<PathBuf> {
    let list =
        |path: &Path| fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    let mut names: BTreeSet<PathBuf> = list(Path::new(ROOT));
    names.extend(list(&Path::new(ROOT).join(".staging")));
    names
}

/// Adds a user to the second passwd file, in the group `workspace`.
fn add(name: &[u8], uid: u32) {
    add_in_group(name, uid, WORKSPACE);
}

fn add_in_group(name: &[u8], uid: u32, gid: u32) {
    let path = "/var/lib/extrausers/passwd";
    let mut lines = fs::read(path).unwrap_or_default();
    lines.extend([name, format!(":x:{uid}:{gid}::/nonexistent:/bin/bash\n").as_bytes()].concat());
    fs::write(path, lines).unwrap();
}

/// Names that look like something else to a shell, a printf or a path, and that are in order.
const ODD: [&str; 22] = [
    r"DOM\jo",
    "a b",
    "a ",
    "jo.doe",
    "jo@example.org",
    "a-rf",
    "$(touch reboot)",
    "`touch reboot`",
    "a;touch reboot",
    "a|touch reboot",
    "a&touch reboot",
    "a>reboot",
    "a'b",
    "';touch reboot;'",
    "a\"b",
    "*",
    "~",
    "%n%s",
    "{a,b}",
    "a #b",
    "!a",
    "é",
];

/// Puts the hostile name service where the C library finds its own.
fn install_hostile() {
    let library = "/run/libnss_hostile.so.2";
    let source = checkout().join("tests/attack/nss_hostile.c");
    let options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library];
    succeeded(&Command::new("cc").args(options).arg(source).output().unwrap());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc =
        maps.lines().filter_map(|line| line.split_whitespace().last()).find(|path| path.contains("/libc."));
    fs::copy(library, Path::new(libc.unwrap()).with_file_name("libnss_hostile.so.2")).unwrap();
}

sandboxed! {
    /// Whatever a shell would make of it, the directory has the user's name and the log's remedy moves that
    /// directory and does nothing else.
    fn odd_names_are_taken_as_they_are() {
        let host = Host::new("extrausers");
        for (uid, name) in (3001..).zip(ODD) {
            add(name.as_bytes(), uid);
        }
        fs::create_dir("/run/empty").unwrap();
        for (uid, name) in (3001..).zip(ODD) {
            Host::reset();
            host.provides(name.as_bytes(), name, uid);

            Host::reset();
            fs::write(Path::new(ROOT).join(name), "").unwrap();
            let got = host.login(name.as_bytes());
            assert_eq!((got.exported, got.log.len()), (None, 1), "{name}: {:?}", got.log);
            let (_, remedy) = got.log[0].split_once("move it away: ").unwrap();
            succeeded(&Command::new("bash").args(["-c", remedy]).current_dir("/run/empty").output().unwrap());
            assert_eq!(names(), BTreeSet::from([Path::new(ROOT).join(format!(".{name}.old"))]), "{remedy}");
            assert_eq!(fs::read_dir("/run/empty").unwrap().count(), 0, "{remedy}");
            assert_eq!(host.login(name.as_bytes()).exported.unwrap(), format!("{ROOT}/{name}"));
        }
    }

    /// Names are refused, never rewritten: no two users meet in one directory.
    fn names_that_no_directory_may_have_are_refused() {
        let host = Host::new("extrausers");
        let long = [b'x'; 256];
        let mut refused: Vec<(&[u8], &str)> = vec![
            (b".", "`.`, which is a directory of its own"),
            (b"..", "`..`, which is a directory of its own"),
            (b".hid", "`.hid`, which starts with `.`"),
            (b".staging", "`.staging`, which starts with `.`"),
            (b"-rf", "`-rf`, which starts with `-`"),
            (b"--", "`--`, which starts with `-`"),
            (b"a/b", "`a/b`, which contains `/`"),
            (b"../bob", "`../bob`, which contains `/`"),
            (b"a=b", "`a=b`, which contains `=`"),
            (b"a\tb", r"`a\u{9}b`, which contains a control character"),
            (b"a\x1b[2Jb", r"`a\u{1b}[2Jb`, which contains a control character"),
            (b"a\x7f", r"`a\u{7f}`, which contains a control character"),
            // U+0085, a line break to some.
            (b"a\xc2\x85b", r"`a\u{85}b`, which contains a control character"),
            (&long, "x`, which is longer than 255 bytes"),
        ];
        for name in ["debug", "release", "doc", "tmp", "package", "build", "CACHEDIR.TAG"] {
            refused.push((name.as_bytes(), "which is a name that cargo uses in a target directory"));
        }
        for (uid, (name, _)) in (3001..).zip(&refused) {
            add(name, uid);
        }
        for (name, cause) in refused {
            let known = Command::new("getent").arg("passwd").arg(OsStr::from_bytes(name)).output().unwrap();
            // `--` ends getent's own options.
            assert!(known.status.success() || name.starts_with(b"-"), "{name:?} is not known");
            host.refuses(name, cause);
        }
        // 255 bytes are a name, and so is what only starts like one of cargo's.
        add(&long[..255], 3100);
        host.provides(&long[..255], &"x".repeat(255), 3100);
        add(b"debugger", 3101);
        host.provides(b"debugger", "debugger", 3101);
    }

    fn names_that_differ_in_case_get_two_directories() {
        let host = Host::new("extrausers");
        add(b"Jo", 3001);
        add(b"jo", 3002);
        host.provides(b"Jo", "Jo", 3001);
        host.provides(b"jo", "jo", 3002);
        assert_eq!(names().len(), 3, "{:?}", names());
    }

    /// PAM can only be asked for text; what is none is no developer's name.
    fn names_that_are_not_utf_8_get_nothing() {
        let host = Host::new("extrausers");
        add(b"caf\xe9", 3001);
        let got = host.login(b"caf\xe9");
        assert_eq!((got.exported, got.log, names().len()), (None, vec![], 0));
    }

    /// chown takes the highest uid, and gid, for "leave it as it is": such a user owns nothing.
    fn id_that_nothing_can_have_gets_nothing() {
        let host = Host::new("extrausers");
        add(b"highest", u32::MAX - 1);
        host.provides(b"highest", "highest", u32::MAX - 1);

        add(b"none", u32::MAX);
        add_in_group(b"nogroup", 3001, u32::MAX);
        append("/etc/group", "others:x:4001:nogroup\n");
        host.services.write("sshd", &format!("session required {} root={ROOT} group=workspace,others", module_path().display()));
        for user in ["none", "nogroup"] {
            let before = names();
            let got = host.login(user.as_bytes());
            assert_eq!((got.exported, got.log.len()), (None, 1), "{user}: {:?}", got.log);
            assert!(got.log[0].contains("4294967295 is not an id that anything can have"), "{:?}", got.log);
            assert_eq!(names(), before);
        }
    }

    /// The canonical name counts, not what was typed: for the directory, and for who is a member.
    fn canonical_name_counts() {
        install_hostile();
        let host = Host::new("hostile");
        append("/etc/group", "others:x:4001:listed,TYPED\n");
        host.services.write("sshd", &format!("session required {} root={ROOT} group=workspace,others", module_path().display()));
        host.provides(b"JO.DOE", "jo.doe", 3301);
        let again = host.login(b"jo.doe");
        assert_eq!((again.exported.as_deref(), again.log.len()), (Some("/srv/cargo-target/jo.doe"), 0));
        host.provides(b"LISTED", "listed", 3302);
        let typed = host.login(b"TYPED");
        assert_eq!((typed.exported, typed.log.len()), (None, 0), "the typed name is listed, the canonical is not");

        for (typed, cause) in [
            ("latin1", "which is not UTF-8"),
            ("mark", "which is not UTF-8"),
            ("newline", r"`a\u{a}b`, which contains a control character"),
            ("above", "`../bob`, which contains `/`"),
            ("dots", "`..`, which is a directory of its own"),
            ("nothing", "``, which is empty"),
            ("slash", "`/`, which contains `/`"),
        ] {
            host.refuses(typed.as_bytes(), cause);
        }
        assert_eq!(fs::read_dir("/srv").unwrap().count(), 1);
    }

    /// A group is unknown when a service says so. One that cannot be asked, as nslcd's while its server is gone,
    /// leaves ENOENT too: whoever `skip` would have named must not slip through.
    fn group_that_cannot_be_looked_up_is_not_one_without_members() {
        install_hostile();
        let host = Host::new("extrausers");
        let switch = fs::read_to_string("/etc/nsswitch.conf").unwrap();
        fs::write("/etc/nsswitch.conf", switch.replace("group: files", "group: files hostile")).unwrap();
        add(b"alice", 3001);
        let line = |setting: &str| format!("session required {} root={ROOT} {setting}", module_path().display());
        for setting in ["skip=@unreachable", "group=unreachable"] {
            host.services.write("sshd", &line(setting));
            let got = host.login(b"alice");
            assert_eq!((got.exported, got.log.len()), (None, 1), "{setting}: {:?}", got.log);
            assert!(got.log[0].contains("cannot look up group unreachable: "), "{:?}", got.log);
            assert!(!Path::new(ROOT).join("alice").exists(), "{setting}");
        }
        host.services.write("sshd", &line("skip=@unknown"));
        host.provides(b"alice", "alice", 3001);
    }

    /// A root's path is the administrator's, who may paste the remedy without a look.
    fn remedies_for_a_root_of_an_odd_name_work() {
        let host = Host::new("extrausers");
        add(b"alice", 3001);
        let root = "/srv/it's a $(touch reboot); root";
        let line = format!("session required {} [root={root}] [conf={root}.conf]", module_path().display());
        host.services.write("sshd", &line);
        fs::create_dir("/run/empty").unwrap();
        // What an unquoted remedy would hit.
        fs::create_dir_all("/srv/it's/kept").unwrap();

        let remedied = |what: &str, before_remedy: &str| {
            let got = host.login(b"alice");
            let [line] = got.log.as_slice() else { panic!("{what}: {got:?}") };
            assert_eq!(got.exported, None, "{what}");
            let (_, remedy) = line.split_once(before_remedy).unwrap_or_else(|| panic!("{what}: {line}"));
            succeeded(&Command::new("bash").args(["-c", remedy]).current_dir("/run/empty").output().unwrap());
            assert_eq!(fs::read_dir("/run/empty").unwrap().count(), 0, "{what}: {remedy}");
            assert!(Path::new("/srv/it's/kept").exists(), "{what}: {remedy}");
        };
        let mode = |path: &str, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        fs::create_dir(root).unwrap();
        fs::write(format!("{root}.conf"), "").unwrap();

        mode(&format!("{root}.conf"), 0o666);
        remedied("open configuration", "run: ");
        mode(root, 0o775);
        remedied("open root", "run: ");
        std::os::unix::fs::chown(root, Some(3001), None).unwrap();
        remedied("another's root", "run: ");
        fs::write(format!("{root}/.staging"), "").unwrap();
        remedied("unsafe .staging", "move it away: ");
        assert_eq!(host.login(b"alice").exported, Some(format!("{root}/alice")));
        mode(&format!("{root}/alice"), 0o770);
        remedied("open directory", "then run: ");
        assert_eq!(host.login(b"alice").exported, Some(format!("{root}/alice")));
    }
}
