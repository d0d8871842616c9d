//! Every system call of the module failing, and every one its last.
//!
//! strace runs a session once to see which calls the module makes: those between two marks that the stack
//! writes before it and after it, NSS and all. Then it runs the session again for each of these calls, and
//! makes that call fail, or kills the process in its place. Whatever fails, the login goes on and nothing
//! wrong comes of it; whatever dies, the next login is right. A careless module is held to the same, and
//! is found out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use pam_cargo_target::cache_dir::TAG;

use crate::c_host;
use crate::pam::{Call as PamCall, PAM_SUCCESS, Services};
use crate::sandbox::{
    SyslogSocket, User, module_path, print_figures, sandboxed, succeeded, text_of, wait_until,
};

const ROOT: &str = "/srv/cargo-target";
const TRACE: &str = "/run/trace";
const CONF: &str = "/run/cargo-target.conf";

/// The variable as the module finds it, and leaves it when something fails.
const AS_FOUND: &str = "CARGO_TARGET_DIR=as-found";

/// What any call can be made to answer: by a disk, by a server, by a limit, by a seccomp filter.
const ERRNOS: [&str; 17] = [
    "EIO",
    "EACCES",
    "ENOMEM",
    "EPERM",
    "ENOSYS",
    "ENOSPC",
    "EINTR",
    "EROFS",
    "EMFILE",
    "EDQUOT",
    "EAGAIN",
    "ELOOP",
    "ESTALE",
    "ETIMEDOUT",
    "ENOENT",
    "EINVAL",
    "EEXIST",
];

const UNFINISHED_TAG: &str = "has an unfinished tag";

/// Calls that have no way to fail.
const INFALLIBLE: [&str; 7] = ["getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "umask"];

/// A place and a user, and what an undisturbed session makes of them.
#[derive(Clone, Copy)]
struct Scene {
    what: &'static str,
    user: &'static str,
    /// The words of the pam.d line.
    line: &'static str,
    prepare: fn(),
    /// strace's words for a fault that is there all along.
    always: Option<&'static str>,
    /// The user's directory, for whom there is to be one.
    directory: Option<&'static str>,
}

impl Scene {
    /// What the host prints of a session.
    fn printed(&self, in_order: bool) -> String {
        let variable = match self.directory {
            Some(directory) if in_order => format!("CARGO_TARGET_DIR={directory}"),
            _ => AS_FOUND.into(),
        };
        format!("open {PAM_SUCCESS}\n{variable}\nclose {PAM_SUCCESS}\nend {PAM_SUCCESS}\n")
    }
}

/// Alice, a member, at her first login ever.
const FIRST_LOGIN: Scene = Scene {
    what: "first login",
    user: "alice",
    line: "root=/srv/cargo-target",
    prepare: || {},
    always: None,
    directory: Some("/srv/cargo-target/alice"),
};

/// Who gets nothing.
const NOTHING: Scene = Scene { directory: None, ..FIRST_LOGIN };

const LITTER: Scene = Scene { what: "first login, litter in .staging", prepare: litter, ..FIRST_LOGIN };

const LATER_LOGIN: Scene =
    Scene { what: "later login", prepare: || make_cache("alice", true), ..FIRST_LOGIN };

const TAG_MISSING: Scene =
    Scene { what: "later login, tag missing", prepare: || make_cache("alice", false), ..FIRST_LOGIN };

const REFUSED: Scene = Scene {
    what: "refusal, writable by the group",
    prepare: || make_directory("alice", 0o770, 2001),
    ..NOTHING
};

const NOT_A_MEMBER: Scene =
    Scene { what: "skip, not a member", user: "dave", line: "root=/srv/cargo-target debug", ..NOTHING };

/// The ways on which a directory is made.
const PROVISIONING: [Scene; 5] = [
    FIRST_LOGIN,
    Scene {
        what: "first login, .staging there",
        prepare: || make_directory(".staging", 0o700, 0),
        ..FIRST_LOGIN
    },
    LITTER,
    Scene { what: "first login, no exclusive rename", always: Some("renameat2:error=EINVAL"), ..FIRST_LOGIN },
    Scene {
        what: "first login, a configuration file, a name with the host's",
        line: "conf=/run/cargo-target.conf",
        prepare: || {
            let settings = "root = /srv/cargo-target\nname = %u@%h\ndebug\ncolour = red\n";
            fs::write(CONF, settings).unwrap();
        },
        directory: Some("/srv/cargo-target/alice@sandbox"),
        ..FIRST_LOGIN
    },
];

/// All other ways through the module.
const OTHERS: [Scene; 8] = [
    LATER_LOGIN,
    TAG_MISSING,
    REFUSED,
    Scene {
        what: "refusal, a symbolic link",
        prepare: || symlink("/srv/elsewhere", format!("{ROOT}/alice")).unwrap(),
        ..NOTHING
    },
    NOT_A_MEMBER,
    Scene { what: "skip, unknown", user: "nemo", line: "root=/srv/cargo-target debug", ..NOTHING },
    Scene { what: "skip, no root", line: "root=/srv/absent debug", ..NOTHING },
    Scene { what: "refusal, the root is a symbolic link", line: "root=/srv/link", ..NOTHING },
];

/// Makes a directory in the root.
fn make_directory(name: &str, mode: u32, owner: u32) {
    let path = Path::new(ROOT).join(name);
    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    chown(&path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a user's directory with something in it.
fn make_cache(name: &str, tagged: bool) {
    make_directory(name, 0o700, 2001);
    let path = Path::new(ROOT).join(name);
    fs::write(path.join("built"), "long ago").unwrap();
    if tagged {
        let tag = path.join("CACHEDIR.TAG");
        fs::write(&tag, TAG).unwrap();
        chown(&tag, Some(2001), Some(2001)).unwrap();
    }
}

/// What logins leave in `.staging` that die early, and late.
fn litter() {
    make_directory(".staging", 0o700, 0);
    make_directory(".staging/early", 0o700, 0);
    make_cache(".staging/late", true);
    fs::remove_file(format!("{ROOT}/.staging/late/built")).unwrap();
}

/// One call of the module: its name, and how many of that name the process has made by then.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    name: String,
    count: usize,
    /// As strace prints it.
    line: String,
}

impl Call {
    /// What of `errnos` this call is made to answer.
    fn errnos(&self, depth: Depth) -> Vec<&'static str> {
        if INFALLIBLE.contains(&self.name.as_str()) {
            return Vec::new();
        }
        let telling = match self.name.as_str() {
            "openat" | "socket" => "EMFILE",
            "mkdirat" | "write" => "ENOSPC",
            "fchown" | "fchmod" | "fremovexattr" => "EPERM",
            "renameat2" | "getrandom" | "prlimit64" => "ENOSYS",
            "mmap" | "mremap" | "mprotect" | "munmap" | "brk" => "ENOMEM",
            "flock" | "connect" => "EINTR",
            "unlinkat" => "EROFS",
            _ => "EIO",
        };
        let mut chosen: Vec<&str> = ERRNOS.into_iter().filter(|errno| *errno != telling).collect();
        if depth == Depth::Sample {
            // Which others differs from call to call, so that all of them have their turn.
            let turn = self.count * 2 % chosen.len();
            chosen.rotate_left(turn);
            chosen.truncate(2);
        }
        chosen.insert(0, telling);
        chosen
    }

    /// strace's words for the most telling error.
    fn telling(&self) -> Option<String> {
        self.errnos(Depth::Sample).first().map(|errno| self.fails(errno))
    }

    /// strace's words for making this call answer with an error.
    fn fails(&self, errno: &str) -> String {
        match self.name.as_str() {
            // The kernel's brk answers with an address, whatever happens.
            "brk" => format!("brk:retval=0:when={}", self.count),
            name => format!("{name}:error={errno}:when={}", self.count),
        }
    }
}

/// What is made to fail in one session.
struct Fault {
    /// strace's words for it.
    words: Vec<String>,
    /// The calls, as strace prints them.
    calls: String,
    /// Whether it is one call that fails once.
    single: bool,
}

impl Fault {
    /// Whether it ends a process.
    fn is_death(&self) -> bool {
        self.words.iter().any(|word| word.contains(":signal=KILL:"))
    }

    /// Whether the call may not come: how often a child is waited for depends on when it ends.
    fn depends_on_luck(&self) -> bool {
        self.words.iter().any(|word| word.starts_with("wait4:") || word.starts_with("clock_nanosleep:"))
    }

    /// The names of the calls, as strace's `trace=` has them.
    fn names(&self) -> String {
        let names: Vec<&str> = self.words.iter().filter_map(|word| word.split(':').next()).collect();
        names.join(",")
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.words.join(" "), self.calls)
    }
}

/// How many errors a call is made to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The most telling one and two others.
    Sample,
    All,
}

/// What is wrong after a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// The process crashed, or did not get to its end.
    Ended,
    /// The session did not open.
    Closed,
    /// Something was printed that is not the host's own.
    Printed,
    /// The variable is neither as it was nor right.
    Exported,
    /// The directory is there, and not in order.
    HalfMade,
    /// Something else was touched.
    Touched,
    /// One fault, several log lines.
    LoggedTwice,
    /// The next login was not right.
    NextLogin,
    /// The next provisioning left litter.
    Litter,
}

/// What came before the aftermath.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// A session that exported the right value.
    Exported,
    /// A session that did not.
    Fault,
    /// A session that died.
    Death,
}

/// A session under one fault, in which something went wrong.
#[derive(Debug)]
struct Violation {
    wrong: Wrong,
    scene: &'static str,
    fault: String,
    detail: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {:?}: {}", self.scene, self.fault, self.wrong, self.detail)
    }
}

/// What was tried, and what came of it.
#[derive(Default)]
struct Tally {
    scenes: usize,
    calls: usize,
    faults: usize,
    harmful: usize,
    violations: Vec<Violation>,
    /// Faults after which there was no variable and no log line.
    silent: BTreeSet<String>,
}

impl Tally {
    #[track_caller]
    fn assert_clean(&self) {
        let first: Vec<String> = self.violations.iter().take(20).map(ToString::to_string).collect();
        assert!(
            first.is_empty(),
            "{} of {} faults did harm:\n{}",
            self.harmful,
            self.faults,
            first.join("\n")
        );
    }

    fn kinds(&self) -> BTreeSet<Wrong> {
        self.violations.iter().map(|violation| violation.wrong).collect()
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} faults at {} calls of {} kinds of login: {} did harm; {} silent",
            self.faults,
            self.calls,
            self.scenes,
            self.harmful,
            self.silent.len()
        )
    }
}

/// Everything beneath a directory, on its file system: each path with its mode, owner and content.
type Snapshot = BTreeMap<PathBuf, String>;

fn snapshot(path: &Path) -> Snapshot {
    fn add(path: &Path, device: u64, to: &mut Snapshot) {
        let found = fs::symlink_metadata(path).unwrap();
        let kind = found.file_type();
        let content = match () {
            () if kind.is_file() => fs::read_to_string(path).unwrap_or_else(|_| found.size().to_string()),
            () if kind.is_symlink() => fs::read_link(path).unwrap().display().to_string(),
            () => String::new(),
        };
        let line = format!("{:06o} {}:{} {content}", found.mode(), found.uid(), found.gid());
        // In an overlay, the files of a directory may be on another device than it.
        if kind.is_dir() && found.dev() != device {
            return;
        }
        to.insert(path.to_owned(), line);
        if kind.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                add(&entry.unwrap().path(), device, to);
            }
        }
    }
    let mut found = Snapshot::new();
    add(path, fs::symlink_metadata(path).unwrap().dev(), &mut found);
    found
}

/// The parts of `found` that are not at or beneath any of `but`.
fn without<'a>(found: &'a Snapshot, but: &[&str]) -> BTreeMap<&'a Path, &'a str> {
    let kept = found.iter().filter(|(path, _)| !but.iter().any(|but| path.starts_with(but)));
    kept.map(|(path, line)| (path.as_path(), line.as_str())).collect()
}

/// Why a directory is not a user's private one, if it is not.
fn disorder(found: &Snapshot, directory: &str, must_be_tagged: bool) -> Option<String> {
    let directory = Path::new(directory);
    let Some(line) = found.get(directory) else { return Some("is not there".into()) };
    if line != "040700 2001:2001 " {
        return Some(line.clone());
    }
    match found.get(&directory.join("CACHEDIR.TAG")) {
        Some(tag) if *tag == format!("100644 2001:2001 {TAG}") => None,
        Some(tag) if tag.starts_with("100600 0:0 ") || tag.starts_with("100644 0:0 ") => {
            Some(format!("{UNFINISHED_TAG}: {tag}"))
        }
        Some(tag) => Some(format!("has a wrong tag: {tag}")),
        None if must_be_tagged => Some("has no tag".into()),
        None => None,
    }
}

/// Where `/srv` is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In memory, as all of the sandbox is: the module looks into the list of mounts, and finds it local.
    Memory,
    /// On a block device, and so is `/`: the module knows it for local from the first look.
    Disk,
    /// Below a mount that the module does not know for local: it works in a child.
    Remote,
}

impl Place {
    /// Where a file system on a block device is `/`.
    const DISK: &str = "/mnt";

    fn make(self) {
        match self {
            Self::Memory => {}
            Self::Disk => {
                run(
                    "truncate --size=16M /tmp/disk && mkfs.ext4 -q -m 0 /tmp/disk && mount -o loop /tmp/disk /mnt",
                );
                run("mkdir /mnt/srv && mount --bind /mnt/srv /srv");
                // All else there is the sandbox's.
                run("for path in /*; do
                    case $path in
                        /mnt | /srv) ;;
                        *) if [ -L $path ]; then cp -a $path /mnt$path
                        elif [ -d $path ]; then mkdir /mnt$path && mount --rbind $path /mnt$path
                        fi ;;
                    esac
                done");
            }
            // What covers it is as good as any, but it might have been an automounter.
            Self::Remote => run("mount -t proc proc /srv && mount -t tmpfs -o mode=0755 remote /srv"),
        }
    }
}

/// Whose calls are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The host's, as far as the module makes them.
    Host,
    /// The child's that the module starts for a remote root; of these, those that the host never makes.
    Child,
}

/// A line of the shell.
fn run(script: &str) {
    succeeded(&Command::new("sh").args(["-euc", script]).output().unwrap());
}

struct Harness {
    place: Place,
    whose: Whose,
    services: Services,
    log: SyslogSocket,
    program: PathBuf,
    /// The module under test.
    module: PathBuf,
    marker: PathBuf,
    tally: Tally,
}

impl Harness {
    const SERVICES: &str = "/run/pam-services";

    fn new(module: PathBuf) -> Self {
        Self::at(Place::Memory, module)
    }

    fn at(place: Place, module: PathBuf) -> Self {
        place.make();
        User::developer("alice", 2001).add();
        User::developer("bob", 2002).add();
        User::new("dave", 2004).add();
        Self {
            place,
            whose: Whose::Host,
            services: Services::new(),
            log: SyslogSocket::bind(),
            program: c_host::program("session"),
            module,
            marker: c_host::module("marker"),
            tally: Tally::default(),
        }
    }

    /// Makes `/srv` anew, as the scene wants it, and the services.
    fn prepare(&self, scene: &Scene) {
        for entry in fs::read_dir("/srv").unwrap() {
            let path = entry.unwrap().path();
            if path.is_symlink() { fs::remove_file(path) } else { fs::remove_dir_all(path) }.unwrap();
        }
        for directory in [ROOT, "/srv/elsewhere"] {
            fs::create_dir(directory).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write("/srv/elsewhere/precious", "and not to be touched").unwrap();
        symlink(ROOT, "/srv/link").unwrap();
        make_directory("carol", 0o700, 2003);
        fs::write(format!("{ROOT}/carol/precious"), "and not to be touched").unwrap();
        (scene.prepare)();

        let (marker, module) = (self.marker.display(), self.module.display());
        // A traced child on a busy machine may need longer than a login should wait for one.
        let patience = if self.place == Place::Remote { "timeout=30" } else { "" };
        let module = |line: &str| format!("session required {module} {line} {patience}");
        let stack =
            format!("session required {marker} begin\n{}\nsession required {marker} end", module(scene.line));
        self.services.write("traced", &stack).write("plain", &module(scene.line));
        self.services.write("provisioning", &module(FIRST_LOGIN.line));
        self.log.drain();
    }

    /// A session of the scene's under strace, with these faults; what it traced is in [`TRACE`].
    fn traced(&self, scene: &Scene, traced: &str, faults: &[&str]) -> Output {
        self.strace(scene, traced, faults).output().unwrap()
    }

    fn strace(&self, scene: &Scene, traced: &str, faults: &[&str]) -> Command {
        let _ = fs::remove_file(TRACE);
        let mut strace = Command::new("strace");
        strace.args(["-q", "-o", TRACE, "-e"]).arg(format!("trace={traced}"));
        if self.whose == Whose::Child {
            strace.arg("-f");
        }
        for fault in faults.iter().copied().chain(scene.always) {
            strace.args(["-e", &format!("inject={fault}")]);
        }
        if self.place == Place::Disk {
            strace.args(["chroot", Place::DISK]);
        }
        strace.arg(&self.program).arg(format!("--put={AS_FOUND}"));
        strace.args([Self::SERVICES, "traced", scene.user]);
        strace
    }

    /// The calls that the module makes in this scene.
    fn calls(&self, scene: &Scene) -> Vec<Call> {
        // What the kernel remembers of names that are not there outlives a session, and spares the next one calls.
        self.prepare(scene);
        self.traced(scene, "write", &[]);
        self.prepare(scene);
        let output = self.traced(scene, "all", &[]);
        assert_eq!(text_of(&output), scene.printed(true), "{}, undisturbed", scene.what);
        if let Some(directory) = scene.directory {
            assert_eq!(disorder(&snapshot(Path::new("/srv")), directory, false), None, "{}", scene.what);
        }

        let trace = fs::read_to_string(TRACE).unwrap();
        let calls = match self.whose {
            Whose::Host => calls_of_host(&trace),
            Whose::Child => calls_of_child(&trace),
        };
        let is_always = |call: &Call| scene.always.is_some_and(|always| always.starts_with(&call.name));
        let calls: Vec<Call> = calls.into_iter().filter(|call| !is_always(call)).collect();
        assert!(calls.len() > 5, "{}: the module makes {} calls:\n{trace}", scene.what, calls.len());
        calls
    }

    /// The environment of an undisturbed session in this very process.
    fn environment(&self, service: &str, user: &str) -> Vec<String> {
        let mut transaction = self.services.start(service, Some(user.as_bytes()));
        transaction.put(AS_FOUND);
        assert_eq!(transaction.call(PamCall::OpenSession), PAM_SUCCESS);
        let environment = transaction.environment();
        assert_eq!(transaction.call(PamCall::CloseSession), PAM_SUCCESS);
        environment
    }

    /// Fails every call of the module in these scenes, each in a session of its own.
    fn fail_each_call(&mut self, scenes: &[Scene], depth: Depth) {
        for scene in scenes {
            let calls = self.calls(scene);
            let usual = severe(&self.log.drain_module());
            self.tally.scenes += 1;
            self.tally.calls += calls.len();
            for call in &calls {
                for errno in call.errnos(depth) {
                    let fault =
                        Fault { words: vec![call.fails(errno)], calls: call.line.clone(), single: true };
                    self.under_fault(scene, &fault, &usual);
                }
            }
        }
    }

    /// From each call of the module on, fails all that have its name.
    fn fail_each_call_from_then_on(&mut self, scenes: &[Scene]) {
        for scene in scenes {
            let calls = self.calls(scene);
            let usual = severe(&self.log.drain_module());
            self.tally.scenes += 1;
            self.tally.calls += calls.len();
            for call in &calls {
                let last =
                    calls.iter().rfind(|last| last.name == call.name).map_or(call.count, |last| last.count);
                for errno in call.errnos(Depth::Sample) {
                    let words = vec![format!("{}..{last}", call.fails(errno))];
                    let fault = Fault { words, calls: call.line.clone(), single: false };
                    self.under_fault(scene, &fault, &usual);
                }
            }
        }
    }

    /// Fails every two calls of the module together.
    fn fail_each_two_calls(&mut self, scenes: &[Scene]) {
        for scene in scenes {
            let calls = self.calls(scene);
            let usual = severe(&self.log.drain_module());
            self.tally.scenes += 1;
            self.tally.calls += calls.len();
            for (at, first) in calls.iter().enumerate() {
                for second in &calls[at + 1..] {
                    let (Some(one), Some(other)) = (first.telling(), second.telling()) else { continue };
                    let words = if first.name == second.name {
                        vec![format!("{one}..{}+{}", second.count, second.count - first.count)]
                    } else {
                        vec![one, other]
                    };
                    let calls = format!("{}, {}", first.line, second.line);
                    self.under_fault(scene, &Fault { words, calls, single: false }, &usual);
                }
            }
        }
    }

    /// One session under faults: its own end, and what it leaves.
    fn under_fault(&mut self, scene: &Scene, fault: &Fault, usual: &[String]) {
        self.prepare(scene);
        let before = snapshot(Path::new("/srv"));
        let words: Vec<&str> = fault.words.iter().map(String::as_str).collect();
        let output = self.traced(scene, &format!("write,{}", fault.names()), &words);
        let hits = Hits::of_last_trace();
        if fault.depends_on_luck() && !hits.module {
            return;
        }
        assert!(hits.module, "{}: {fault} did not hit the module", scene.what);
        if hits.beyond {
            // The first of several led the module to make fewer calls, and the last hit libpam's own.
            assert!(!fault.single, "{}: {fault} hit more than the module", scene.what);
            self.log.drain();
            return;
        }
        self.tally.faults += 1;

        let mut wrong = Vec::new();
        let log = self.log.drain_module();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let exported = scene.directory.is_some() && printed == scene.printed(true);
        if !output.status.success() {
            wrong.push((Wrong::Ended, output.status.to_string()));
        } else if !printed.starts_with("open 0\n") {
            wrong.push((Wrong::Closed, printed));
        } else if !exported && printed != scene.printed(false) {
            wrong.push((Wrong::Exported, printed));
        }
        if !output.stderr.is_empty() {
            wrong.push((Wrong::Printed, String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let complaints = severe(&log);
        if complaints.len() > usual.len() + if fault.single { 1 } else { 2 } {
            wrong.push((Wrong::LoggedTwice, log.join("\n")));
        }
        if fault.single && scene.directory.is_some() && !exported && complaints == usual {
            self.tally.silent.insert(fault.to_string());
        }
        let came = match () {
            () if exported => After::Exported,
            () if fault.is_death() => After::Death,
            () => After::Fault,
        };
        wrong.extend(self.aftermath(scene, &before, came));
        self.note(scene, &fault.to_string(), wrong);
    }

    fn note(&mut self, scene: &Scene, fault: &str, wrong: Vec<(Wrong, String)>) {
        self.tally.harmful += usize::from(!wrong.is_empty());
        self.tally.violations.extend(wrong.into_iter().map(|(wrong, detail)| Violation {
            wrong,
            scene: scene.what,
            fault: fault.into(),
            detail,
        }));
    }

    /// What a session left, and what the next logins make of it.
    fn aftermath(&self, scene: &Scene, before: &Snapshot, came: After) -> Vec<(Wrong, String)> {
        wait_until("what the module started has ended", || !session_is_running());
        let mut wrong = Vec::new();
        let staging = format!("{ROOT}/.staging");
        let tag = scene.directory.map(|directory| format!("{directory}/CACHEDIR.TAG"));

        let after = snapshot(Path::new("/srv"));
        let mut ours = vec![staging.as_str()];
        if let (Some(directory), Some(tag)) = (scene.directory, &tag) {
            let (was_there, is_there) =
                (before.contains_key(Path::new(directory)), after.contains_key(Path::new(directory)));
            if let Some(disorder) = disorder(&after, directory, false) {
                // Who dies while putting a tag into a directory that was there leaves it to the next login. So
                // does a child that the module cannot wait for: it is killed.
                let may_die = came == After::Death || self.place == Place::Remote;
                let unfinished = may_die && was_there && disorder.starts_with(UNFINISHED_TAG);
                if came == After::Exported {
                    wrong.push((Wrong::Exported, format!("{directory} {disorder}")));
                } else if is_there && !unfinished {
                    wrong.push((Wrong::HalfMade, format!("{directory} {disorder}")));
                }
            }
            ours.push(if was_there { tag } else { directory });
        }
        if without(before, &ours) != without(&after, &ours) {
            wrong.push((Wrong::Touched, format!("before: {before:#?}\nafter: {after:#?}")));
        }

        let next = self.environment("plain", scene.user);
        let expected = scene.directory.map_or(AS_FOUND.into(), |path| format!("CARGO_TARGET_DIR={path}"));
        if next != [expected] {
            wrong.push((Wrong::NextLogin, next.join(" ")));
        }
        if let Some(directory) = scene.directory {
            if let Some(disorder) = disorder(&snapshot(Path::new("/srv")), directory, true) {
                wrong.push((Wrong::NextLogin, format!("{directory} {disorder}")));
            }
        }

        let provisioned = self.environment("provisioning", "bob");
        let at_last = snapshot(Path::new("/srv"));
        if provisioned != [format!("CARGO_TARGET_DIR={ROOT}/bob")] {
            wrong.push((Wrong::NextLogin, format!("bob: {}", provisioned.join(" "))));
        }
        let bob = format!("{ROOT}/bob");
        if without(before, &ours) != without(&at_last, &[&ours[..], &[&bob]].concat())
            || at_last.get(Path::new(&staging)).is_some_and(|staging| staging != "040700 0:0 ")
            || at_last.keys().any(|path| path.parent() == Some(Path::new(&staging)))
        {
            wrong.push((Wrong::Litter, format!("before: {before:#?}\nafter: {at_last:#?}")));
        }
        wrong
    }

    /// Kills the process in place of every call of the module in these scenes.
    fn die_at_each_call(&mut self, scenes: &[Scene]) {
        for scene in scenes {
            let calls = self.calls(scene);
            let usual = severe(&self.log.drain_module());
            self.tally.scenes += 1;
            self.tally.calls += calls.len();
            for call in &calls {
                let words = vec![format!("{}:signal=KILL:when={}", call.name, call.count)];
                let fault = Fault { words, calls: call.line.clone(), single: true };
                match self.whose {
                    Whose::Host => self.under_death(scene, &fault),
                    Whose::Child => self.under_fault(scene, &fault, &usual),
                }
            }
        }
    }

    /// One session that dies, and what it leaves.
    fn under_death(&mut self, scene: &Scene, fault: &Fault) {
        self.prepare(scene);
        let before = snapshot(Path::new("/srv"));
        let words: Vec<&str> = fault.words.iter().map(String::as_str).collect();
        let output = self.traced(scene, &format!("write,{}", fault.names()), &words);
        let hits = Hits::of_last_trace();
        if fault.depends_on_luck() && !hits.module {
            return;
        }
        let died = output.status.signal() == Some(9) && hits.module && !hits.beyond;
        assert!(died, "{}: {fault} did not kill the module: {}", scene.what, text_of(&output));
        self.tally.faults += 1;
        let wrong = self.aftermath(scene, &before, After::Death);
        self.note(scene, &fault.to_string(), wrong);
    }
}

/// Whether a host program runs, or a child of one that died; not one that waits to be reaped.
fn session_is_running() -> bool {
    let stat = |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry.unwrap().path().join("stat")).ok();
    let mut processes = fs::read_dir("/proc").unwrap().filter_map(stat);
    processes.any(|stat| stat.contains("(session) ") && !stat.contains("(session) Z"))
}

/// The calls in a trace that lie between the marks.
fn calls_of_host(trace: &str) -> Vec<Call> {
    let mut counts = BTreeMap::new();
    let mut within = false;
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        let count = counts.entry(name).or_insert(0);
        *count += 1;
        match line {
            _ if line.starts_with(r#"write(-1, "begin""#) => within = true,
            _ if line.starts_with(r#"write(-1, "end""#) => within = false,
            _ if within => calls.push(Call { name: name.into(), count: *count, line: line.into() }),
            _ => {}
        }
    }
    calls
}

/// The calls of the second process in a trace, but for those that the first one makes too: strace counts
/// each process's calls for itself.
fn calls_of_child(trace: &str) -> Vec<Call> {
    let parse = |line: &str| {
        let (process, call) = line.split_once(' ')?;
        let call = call.trim_start();
        let (name, _) = call.split_once('(')?;
        let is_call = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_call.then(|| (process.to_owned(), name.to_owned(), call.to_owned()))
    };
    let lines: Vec<_> = trace.lines().filter_map(parse).collect();
    let host = lines.first().map_or("", |(process, ..)| process);
    let of_host: BTreeSet<&str> =
        lines.iter().filter(|(process, ..)| process == host).map(|(_, name, _)| name.as_str()).collect();
    let mut counts = BTreeMap::new();
    let mut calls = Vec::new();
    for (_, name, line) in lines.iter().filter(|(_, name, _)| !of_host.contains(name.as_str())) {
        let count = counts.entry(name).or_insert(0);
        *count += 1;
        calls.push(Call { name: name.clone(), count: *count, line: line.clone() });
    }
    calls
}

/// The log lines that are warnings or worse, without the process that they name.
fn severe(log: &[String]) -> Vec<String> {
    let severe = log.iter().filter(|line| line.starts_with("<83>") || line.starts_with("<84>"));
    severe.filter_map(|line| Some(line.split_once("]: ")?.1.to_owned())).collect()
}

/// Where the last trace says that faults hit.
struct Hits {
    /// Between the marks.
    module: bool,
    /// After them.
    beyond: bool,
}

impl Hits {
    fn of_last_trace() -> Self {
        let trace = fs::read_to_string(TRACE).unwrap();
        let hit = |lines: &str| lines.contains("(INJECTED)") || lines.contains("+++ killed by SIGKILL +++");
        let (_, within) = trace.split_once(r#"write(-1, "begin""#).unwrap_or_default();
        match within.split_once(r#"write(-1, "end""#) {
            // The rest of the line of the mark, which may have been hit too, is of no interest.
            Some((module, beyond)) => Self {
                module: hit(module),
                beyond: beyond.split_once('\n').is_some_and(|(_, beyond)| hit(beyond)),
            },
            None => Self { module: hit(within), beyond: false },
        }
    }
}

/// Where nothing may change, whatever becomes of `/srv`.
fn surroundings() -> Snapshot {
    let directories = ["/etc", "/home", "/root", "/tmp", "/var/tmp", "/var/log", "/var/mail", "/media"];
    directories.iter().flat_map(|directory| snapshot(Path::new(directory))).collect()
}

/// Asserts that these faults do no harm, and prints how many they were.
fn assert_harmless(place: Place, faults: impl FnOnce(&mut Harness)) {
    let mut harness = Harness::at(place, module_path());
    let calls = harness.calls(&LATER_LOGIN);
    let makes = |what: &str| calls.iter().any(|call| call.line.contains(what));
    assert_eq!(makes("mountinfo"), place != Place::Disk, "{calls:#?}");
    assert_eq!(makes("clone("), place == Place::Remote, "{calls:#?}");
    let before = surroundings();
    let start = Instant::now();
    faults(&mut harness);
    print_figures(&format!("{}, in {:.0?}", harness.tally, start.elapsed()));
    // An account database that is not there has no such user: getpwnam(3) says so, and so does the module.
    let silent: Vec<&String> =
        harness.tally.silent.iter().filter(|fault| !fault.contains(":error=ENOENT:")).collect();
    assert!(silent.is_empty(), "nothing exported, nothing logged: {silent:#?}");
    let after = surroundings();
    let changed = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let changed: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).filter(changed).collect();
    assert!(changed.is_empty(), "changed outside /srv: {changed:?}");
    harness.tally.assert_clean();
}

sandboxed! {
    /// Every call of the module, while a directory is made, answers with an error.
    fn no_failing_call_stops_a_first_login() {
        assert_harmless(Place::Memory, |harness| harness.fail_each_call(&PROVISIONING, Depth::Sample));
    }

    /// Every call of the module on all other ways through it.
    fn no_failing_call_stops_a_later_login() {
        assert_harmless(Place::Memory, |harness| harness.fail_each_call(&OTHERS, Depth::Sample));
    }

    /// Where `/` and the root are on a block device, the module takes a shorter way.
    fn no_failing_call_stops_a_login_on_a_disk() {
        assert_harmless(Place::Disk, |harness| {
            harness.fail_each_call(&[FIRST_LOGIN, LATER_LOGIN, REFUSED, NOT_A_MEMBER], Depth::Sample);
        });
    }

    /// The calls that start a child and wait for it, and those of the child.
    fn no_failing_call_stops_a_login_on_a_remote_root() {
        assert_harmless(Place::Remote, |harness| {
            harness.fail_each_call(&[FIRST_LOGIN, REFUSED], Depth::Sample);
            harness.whose = Whose::Child;
            harness.fail_each_call(&[LITTER, TAG_MISSING], Depth::Sample);
        });
    }

    #[ignore = "long: make soak"]
    fn soak_no_error_of_any_call_stops_a_first_login() {
        assert_harmless(Place::Memory, |harness| harness.fail_each_call(&PROVISIONING, Depth::All));
    }

    #[ignore = "long: make soak"]
    fn soak_no_error_of_any_call_stops_a_later_login() {
        assert_harmless(Place::Memory, |harness| harness.fail_each_call(&OTHERS, Depth::All));
    }

    #[ignore = "long: make soak"]
    fn soak_no_error_of_any_call_stops_a_login_on_a_disk() {
        assert_harmless(Place::Disk, |harness| {
            harness.fail_each_call(&PROVISIONING[..3], Depth::All);
            harness.fail_each_call(&OTHERS, Depth::All);
        });
    }

    #[ignore = "long: make soak"]
    fn soak_no_error_of_any_call_stops_a_login_on_a_remote_root() {
        assert_harmless(Place::Remote, |harness| {
            harness.fail_each_call(&[FIRST_LOGIN, TAG_MISSING, REFUSED], Depth::All);
            harness.whose = Whose::Child;
            harness.fail_each_call(&[FIRST_LOGIN, LITTER, TAG_MISSING], Depth::All);
        });
    }

    /// From some call on, all calls of its name fail, as on a disk that has died.
    #[ignore = "long: make soak"]
    fn soak_no_lasting_fault_stops_a_login() {
        assert_harmless(Place::Memory, |harness| {
            harness.fail_each_call_from_then_on(&PROVISIONING);
            harness.fail_each_call_from_then_on(&OTHERS);
        });
    }

    /// What undoes a fault fails too.
    #[ignore = "long: make soak"]
    fn soak_no_two_faults_stop_a_login() {
        assert_harmless(Place::Memory, |harness| harness.fail_each_two_calls(&[FIRST_LOGIN, TAG_MISSING]));
    }

    /// A login dies in place of each call; the next ones find nothing amiss.
    fn a_login_that_dies_at_any_call_leaves_the_next_one_right() {
        assert_harmless(Place::Memory, |harness| {
            harness.die_at_each_call(&PROVISIONING);
            harness.die_at_each_call(&OTHERS);
        });
    }

    /// The host dies, and leaves a child at work; or the child dies.
    fn a_login_on_a_remote_root_that_dies_at_any_call_leaves_the_next_one_right() {
        assert_harmless(Place::Remote, |harness| {
            harness.die_at_each_call(&[FIRST_LOGIN, TAG_MISSING]);
            harness.whose = Whose::Child;
            harness.die_at_each_call(&[FIRST_LOGIN, LITTER, TAG_MISSING]);
        });
    }

    /// The same faults find every kind of harm in a module that looks at no error.
    fn a_careless_module_is_found_out() {
        let mut harness = Harness::new(c_host::module("careless"));
        harness.fail_each_call(&[FIRST_LOGIN], Depth::Sample);
        let kinds = [
            Wrong::Ended, Wrong::Closed, Wrong::Printed, Wrong::Exported, Wrong::HalfMade, Wrong::Touched,
            Wrong::LoggedTwice, Wrong::NextLogin, Wrong::Litter,
        ];
        assert_eq!(harness.tally.kinds(), BTreeSet::from(kinds), "of {}", harness.tally);

        harness.tally = Tally::default();
        harness.die_at_each_call(&[FIRST_LOGIN]);
        let kinds = [Wrong::HalfMade, Wrong::NextLogin];
        assert_eq!(harness.tally.kinds(), BTreeSet::from(kinds), "of {}", harness.tally);
    }

    /// Whoever can stop a `su` can stop it anywhere, holding the lock of `.staging` too.
    fn a_stopped_login_stops_no_other() {
        let harness = Harness::new(module_path());
        let scene = LITTER;
        let calls = harness.calls(&scene);
        let locked = calls.iter().position(|call| call.line.contains("LOCK_EX")).unwrap();
        assert!(calls[locked..].iter().any(|call| call.name == "getdents64"), "no sweep: {calls:?}");

        let mut slowest = Duration::ZERO;
        for call in &calls[locked..] {
            harness.prepare(&scene);
            let before = snapshot(Path::new("/srv"));
            let what = &call.line;
            let fault = format!("{}:signal=STOP:when={}", call.name, call.count);
            let mut strace = harness.strace(&scene, &call.name, &[&fault]);
            let strace = strace.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let trace = || fs::read_to_string(TRACE).unwrap_or_default();
            wait_until(&format!("{what} is stopped"), || trace().contains("--- stopped by SIGSTOP"));

            let start = Instant::now();
            for user in ["bob", "alice"] {
                let expected = [format!("CARGO_TARGET_DIR={ROOT}/{user}")];
                assert_eq!(harness.environment("plain", user), expected, "{user}, {what} being stopped");
            }
            let took = start.elapsed();
            assert!(took < Duration::from_secs(5), "two others took {took:?}, {what} being stopped");
            slowest = slowest.max(took);

            let children = format!("/proc/{0}/task/{0}/children", strace.id());
            let stopped = fs::read_to_string(children).unwrap().trim().parse().unwrap();
            kill(Pid::from_raw(stopped), Signal::SIGCONT).unwrap();
            let output = strace.wait_with_output().unwrap();
            assert_eq!(text_of(&output), scene.printed(true), "{what}, stopped and continued");
            fs::remove_dir_all(format!("{ROOT}/bob")).unwrap();
            let wrong = harness.aftermath(&scene, &before, After::Exported);
            assert!(wrong.is_empty(), "{what}, stopped and continued: {wrong:?}");
        }
        let stops = calls.len() - locked;
        print_figures(&format!("a login stopped at {stops} calls: two others took {slowest:.0?} at most"));
    }

    /// A login that died while it put a tag into a directory that was there left root's file in it.
    fn a_tag_whose_writer_died_is_written_anew() {
        let harness = Harness::at(Place::Disk, module_path());
        let tag = format!("{ROOT}/alice/CACHEDIR.TAG");
        for (content, mode, owner, anew) in
            [("", 0o600, 0, true), (TAG, 0o600, 0, true), (TAG, 0o644, 0, true), ("mine", 0o644, 2001, false)]
        {
            // To this process the root is on a disk below a `/` in memory; to the host program both are on it.
            for by_host in [false, true] {
                harness.prepare(&TAG_MISSING);
                fs::write(&tag, content).unwrap();
                fs::set_permissions(&tag, fs::Permissions::from_mode(mode)).unwrap();
                chown(&tag, Some(owner), Some(owner)).unwrap();
                if by_host {
                    let output = harness.traced(&TAG_MISSING, "write", &[]);
                    assert_eq!(text_of(&output), TAG_MISSING.printed(true));
                } else {
                    assert_eq!(harness.environment("plain", "alice"), [format!("CARGO_TARGET_DIR={ROOT}/alice")]);
                }
                let found = snapshot(Path::new(&tag));
                let expected = format!("100644 2001:2001 {}", if anew { TAG } else { content });
                assert_eq!(found[Path::new(&tag)], expected, "{mode:o} {owner} {content:?}, {by_host}");
            }
        }
    }
}
