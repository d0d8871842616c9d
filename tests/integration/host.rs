//! The host process, before and after: a module is a guest in sshd, in threaded daemons and in lockers.
//!
//! `tests/host/host.c` is a PAM application that describes itself before and after many sessions and reports
//! every difference; `tests/host/litter.c` is a module that leaves behind whatever it is told to, by which
//! each test first shows that it would notice.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use crate::pam::{Call, PAM_SUCCESS, Services};
use crate::sandbox::{SyslogSocket, User, checkout, module_path, print_figures, sandboxed, succeeded};

/// More than the 1,024 thread-specific keys, and the 1,024 descriptors, that a process usually has.
const SESSIONS: u32 = 1100;

/// What sessions may make the process's own memory grow more than `pam_permit` does, in kB. A leak of 240
/// bytes a session would show.
const GROWTH: i64 = 256;

/// The same by mode: how many threads of a crowd are in malloc at a time, and so how scattered it becomes, is
/// chance.
fn growth(mode: &str) -> i64 {
    if mode == "crowd" { 8 * GROWTH } else { GROWTH }
}

const PROGRAMS: &str = "/tmp/host";

/// One session of every kind: two that find or make the directory, two with more to do or to say, three that
/// cannot be served, three that policy skips.
pub(crate) const EVERY_KIND: [&str; 10] = [
    "ready:alice",
    "named:alice",
    "told:alice",
    "odd:alice",
    "taken:alice",
    "open:alice",
    "broken:alice",
    "ready:carol",
    "ready:root",
    "ready:stranger",
];

/// For `make soak`: a leak of six bytes a session would show.
const MANY_SESSIONS: u32 = 50_000;

/// How many of these get the variable.
pub(crate) const SERVED: u32 = 4;

/// A machine with users, roots and services, and the programs of `tests/host`.
pub(crate) struct Stage {
    pub(crate) services: Services,
}

impl Stage {
    /// `module` is what the services use; `compiler_flags` are for the programs.
    pub(crate) fn set_up(module: &Path, compiler_flags: &[&str]) -> Self {
        for number in 0..16 {
            User::developer(&format!("dev{number}"), 2100 + number).add();
        }
        User::developer("alice", 2001).add();
        User::new("carol", 2003).add();
        for root in ["/srv/cargo-target", "/srv/taken", "/srv/open"] {
            fs::create_dir(root).unwrap();
        }
        fs::write("/srv/taken/alice", "").unwrap();
        fs::set_permissions("/srv/open", fs::Permissions::from_mode(0o777)).unwrap();
        fs::write("/etc/security/odd.conf", "# odd\nroot = /srv/cargo-target\ncolour = green\nshape\n")
            .unwrap();

        let stage = Self { services: Services::new() };
        stage.service("permit", Path::new("pam_permit.so"), "");
        // libpam complains at each start where there is none.
        stage.service("other", Path::new("pam_deny.so"), "");
        for (service, arguments) in [
            ("ready", "root=/srv/cargo-target"),
            ("named", "root=/srv/cargo-target name=%u@%h"),
            ("told", "root=/srv/cargo-target debug skip=@contractors,ci-*"),
            ("odd", "conf=/etc/security/odd.conf"),
            ("taken", "root=/srv/taken"),
            ("open", "root=/srv/open"),
            ("broken", "root=/srv/cargo-target mode=0777"),
        ] {
            stage.service(service, module, arguments);
        }

        fs::create_dir(PROGRAMS).unwrap();
        let compile = |arguments: &[&str]| {
            let mut cc = Command::new("cc");
            cc.args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-value"]);
            succeeded(
                &cc.args(compiler_flags)
                    .args(arguments)
                    .current_dir(checkout().join("tests/host"))
                    .output()
                    .unwrap(),
            );
        };
        compile(&["-rdynamic", "-o", "/tmp/host/host", "host.c", "state.c", "-lpam", "-lpthread", "-ldl"]);
        compile(&["-fPIC", "-shared", "-o", "/tmp/host/litter.so", "litter.c", "-lpam"]);
        compile(&[
            "-fPIC",
            "-shared",
            "-Wl,-z,nodelete",
            "-o",
            "/tmp/host/litter-stays.so",
            "litter.c",
            "-lpam",
        ]);
        stage
    }

    /// Makes a service whose only module this is.
    pub(crate) fn service(&self, service: &str, module: &Path, arguments: &str) {
        self.services.write(service, &format!("session required {} {arguments}", module.display()));
    }

    /// A service with the module that litters.
    pub(crate) fn litter(&self, what: &str) {
        self.service("litter", Path::new("/tmp/host/litter.so"), what);
    }

    /// A service whose root may only be touched in a child process, since its file system is of a kind that
    /// the module does not know to be local.
    pub(crate) fn remote(&self, module: &Path) {
        fs::create_dir("/srv/remote").unwrap();
        let none: Option<&str> = None;
        mount(none, "/srv/remote", Some("hugetlbfs"), MsFlags::empty(), none).unwrap();
        fs::set_permissions("/srv/remote", fs::Permissions::from_mode(0o755)).unwrap();
        self.service("remote", module, "root=/srv/remote timeout=60");
    }

    /// The command that opens `count` sessions, after as many that are not compared.
    pub(crate) fn command(wrapper: &[&str], mode: &str, count: u32, sessions: &[&str]) -> Command {
        let mut words = wrapper.iter().copied().chain(["/tmp/host/host"]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(["/tmp/host/report", "/run/pam-services", mode, &count.to_string()])
            .args(sessions)
            .current_dir("/var")
            .stdin(File::open("/etc/passwd").unwrap())
            .stdout(File::create("/tmp/host/stdout").unwrap())
            .stderr(File::create("/tmp/host/stderr").unwrap());
        command
    }
}

/// What came of a host that ran.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    /// What differs between before the first session and later, and between then and the end.
    differences: Vec<String>,
    /// What grew, in kB.
    pub(crate) grew: i64,
    pub(crate) succeeded: u32,
    pub(crate) exported: u32,
    pub(crate) printed: String,
    ended_in_order: bool,
}

impl Ran {
    pub(crate) fn of(mut command: Command) -> Self {
        let status = command.status().unwrap();
        let report = fs::read_to_string("/tmp/host/report").unwrap();
        let number = |what: &str| -> i64 {
            let mut words = report.split_whitespace().skip_while(|word| *word != what);
            words.nth(1).map_or(-1, |number| number.parse().unwrap())
        };
        let is_difference = |line: &&str| line.starts_with("first ") || line.starts_with("later ");
        Self {
            status,
            differences: report.lines().filter(is_difference).map(str::to_owned).collect(),
            grew: number("grew"),
            succeeded: u32::try_from(number("succeeded")).unwrap_or(0),
            exported: u32::try_from(number("exported")).unwrap_or(0),
            printed: fs::read_to_string("/tmp/host/stdout").unwrap()
                + &fs::read_to_string("/tmp/host/stderr").unwrap(),
            ended_in_order: report.ends_with("exited in order\n"),
        }
    }

    /// Whether the mappings of `module` are there after the first sessions, and still at the end.
    fn stays_mapped(&self, module: &Path) -> bool {
        let has = |line: &String| line.starts_with(&format!("first + mapping {} r-xp", module.display()));
        self.differences.iter().any(has)
            && !self.differences.iter().any(|line| line.starts_with("later - mapping"))
    }

    /// All that is not as it was; that a module stays mapped is as it should be.
    fn left_behind(&self, module: &Path, log: &SyslogSocket) -> Vec<String> {
        let its_own = format!("first + mapping {} ", module.display());
        let mut left: Vec<String> =
            self.differences.iter().filter(|line| !line.starts_with(&its_own)).cloned().collect();
        if !self.status.success() || !self.ended_in_order {
            left.push(format!("the host ended with {}", self.status));
        }
        if !self.printed.is_empty() {
            left.push(format!("printed {:?}", self.printed));
        }
        // The host said openlog(3) before the first session and syslog(3) after the last.
        let is_the_hosts = |line: &String| line.starts_with("<158>") && line.contains(" host[");
        match log.drain().last() {
            Some(last) if is_the_hosts(last) => {}
            other => left.push(format!("the host's last log line is {other:?}")),
        }
        left
    }
}

/// A second build of the module, made before the sandbox is entered: there its path alone is needed.
pub(crate) fn another_build(name: &str, prepare: impl FnOnce(&mut Command), within: &str) -> PathBuf {
    let directory = env::current_exe().unwrap().ancestors().nth(3).unwrap().join(name);
    if env::var_os("PAM_CARGO_TARGET_SANDBOXED").is_none() {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["rustc", "--locked", "--quiet", "--release", "--lib", "--crate-type", "cdylib"])
            .args(["--no-default-features", "--features", "test-panic", "--target-dir"])
            .arg(&directory)
            .current_dir(checkout());
        prepare(&mut cargo);
        succeeded(&cargo.output().unwrap());
    }
    directory.join(within).join("release/libpam_cargo_target.so")
}

/// A copy of a module without the flag that keeps it mapped after dlclose(3).
fn without_nodelete(module: &Path) -> PathBuf {
    const PT_DYNAMIC: usize = 2;
    const DT_FLAGS_1: usize = 0x6fff_fffb;
    const DF_1_NODELETE: u8 = 8;
    let mut elf = fs::read(module).unwrap();
    let number = |elf: &[u8], at: usize, size: usize| -> usize {
        elf[at..at + size].iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
    };
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a little-endian 64-bit module");
    let headers = (number(&elf, 0x20, 8)..).step_by(number(&elf, 0x36, 2)).take(number(&elf, 0x38, 2));
    let dynamic = headers.clone().find(|&at| number(&elf, at, 4) == PT_DYNAMIC).unwrap();
    let mut entries = (number(&elf, dynamic + 8, 8)..).step_by(16);
    let flags = entries.find(|&at| number(&elf, at, 8) == DT_FLAGS_1).unwrap() + 8;
    assert_ne!(elf[flags] & DF_1_NODELETE, 0, "build.rs asks for -z nodelete");
    elf[flags] &= !DF_1_NODELETE;
    let copy = PathBuf::from("/tmp/host/unloadable.so");
    fs::write(&copy, elf).unwrap();
    copy
}

/// Runs `mode` with the module and with `pam_permit`, and asserts that nothing is left behind.
fn assert_left_as_it_was(mode: &str, sessions: &[&str], exported: u32) {
    assert_left_after(SESSIONS, mode, sessions, exported);
}

/// The same, after so many sessions.
fn assert_left_after(count: u32, mode: &str, sessions: &[&str], exported: u32) {
    let module = module_path();
    let stage = Stage::set_up(&module, &[]);
    stage.remote(&module);
    let log = SyslogSocket::bind();
    let permit = Ran::of(Stage::command(&[], mode, count, &["permit:alice"]));
    assert_eq!(permit.left_behind(&module, &log), Vec::<String>::new(), "pam_permit");
    let ran = Ran::of(Stage::command(&[], mode, count, sessions));
    assert_eq!(ran.left_behind(&module, &log), Vec::<String>::new(), "{ran:?}");
    assert_eq!((ran.succeeded, ran.exported), (count, exported), "{ran:?}");
    assert!(ran.stays_mapped(&module), "{ran:?}");
    assert!(
        ran.grew <= permit.grew.max(0) + growth(mode),
        "grew {} kB, pam_permit {} kB",
        ran.grew,
        permit.grew
    );
    for staging in ["/srv/cargo-target/.staging", "/srv/remote/.staging"] {
        assert_eq!(fs::read_dir(staging).map_or(0, Iterator::count), 0, "litter in {staging}");
    }
    print_figures(&format!(
        "host, {mode}: {count} sessions leave nothing behind; memory grew {} kB, with pam_permit {} kB",
        ran.grew, permit.grew
    ));
}

sandboxed! {
    /// Descriptors, threads, children, mappings, memory, umask, directories, credentials, signals, environment,
    /// limits, locale, exit handlers, output, syslog: all as before, after 1,100 sessions of every kind.
    fn host_is_left_as_it_was() {
        assert_left_as_it_was("main", &EVERY_KIND, SESSIONS / 10 * SERVED);
    }

    /// The same where each session is on a thread of its own that ends, before or after the module is unloaded.
    fn host_is_left_as_it_was_by_threads_that_end() {
        assert_left_as_it_was("thread", &EVERY_KIND, SESSIONS / 10 * SERVED);
    }

    /// The same with 16 transactions at once; each thread has a user, or a fault, of its own.
    fn host_is_left_as_it_was_by_a_crowd_of_threads() {
        let developers: Vec<String> = (0..12).map(|number| format!("ready:dev{number}")).collect();
        let mut sessions: Vec<&str> = developers.iter().map(String::as_str).collect();
        sessions.extend(["taken:alice", "broken:alice", "ready:carol", "told:dev15"]);
        let served = (0..SESSIONS).filter(|turn| !(12..15).contains(&(turn % 16))).count();
        assert_left_as_it_was("crowd", &sessions, u32::try_from(served).unwrap());
    }

    /// A fork before the session and one while it is open: parent and children all go on and close.
    fn forks_in_mid_transaction_go_on() {
        assert_left_as_it_was("fork", &EVERY_KIND, SESSIONS / 10 * SERVED);
    }

    /// The same where a child process touches the root: no child, no pipe, no signal mask is left.
    fn host_is_left_as_it_was_by_the_child_for_a_remote_root() {
        assert_left_as_it_was("main", &["remote:alice"], SESSIONS);
    }

    /// The same with many threads that each have a child. A child once waited for malloc's lock, which another
    /// thread had held when it was made: a thread-local's first use allocates, unseen by Rust's allocator.
    fn child_for_a_remote_root_waits_for_no_thread() {
        let developers: Vec<String> = (0..16).map(|number| format!("remote:dev{number}")).collect();
        let sessions: Vec<&str> = developers.iter().map(String::as_str).collect();
        assert_left_as_it_was("crowd", &sessions, SESSIONS);
    }

    #[ignore = "long: make soak"]
    fn soak_host_is_left_as_it_was() {
        assert_left_after(MANY_SESSIONS, "main", &EVERY_KIND, MANY_SESSIONS / 10 * SERVED);
    }

    /// The control of those above: what a module leaves behind is reported, whatever it is.
    fn harness_sees_what_a_module_leaves_behind() {
        let stage = Stage::set_up(&module_path(), &[]);
        let log = SyslogSocket::bind();
        let mut missed = Vec::new();
        for (what, part) in [
            ("descriptor", "+ fd "),
            ("closed", "- fd 0 "),
            ("offset", "+ fd 0 -> /etc/passwd (pos:\t"),
            ("thread", "+ threads "),
            ("child", "+ children some"),
            ("mapping", "+ mapping anonymous r--p"),
            ("umask", "+ status Umask:\t0123"),
            ("cwd", "+ cwd /tmp"),
            ("uid", "+ status Uid:\t0\t0\t5\t0"),
            ("gid", "+ status Gid:\t0\t0\t5\t0"),
            ("groups", "+ status Groups:\t5"),
            ("capability", "+ status CapEff:"),
            ("signal", "+ signal 13 handler 0x1"),
            ("mask", "+ status SigBlk:\t0000000000004000"),
            ("alternate-stack", "+ signal stack"),
            ("timer", "+ timer 0 runs"),
            ("environ", "LEFT_BEHIND=1"),
            ("limit", "+ limit Max open files"),
            ("name", "+ prctl name other"),
            ("priority", "+ priority "),
            ("stdout", "printed \"hello"),
            ("stderr", "printed \"hello"),
            ("printf", "+ unflushed stdout"),
            ("prompt", "+ conversation called"),
            ("log", "the host's last log line is"),
            ("log-mask", "+ log mask"),
            ("locale", "+ locale C,"),
            ("exit-handler", "+ exit handlers"),
            ("fork-handler", "fork handlers"),
            ("thread-key", "+ thread keys left"),
            ("held-user", "+ held users nobody root"),
        ] {
            stage.litter(what);
            let host = Stage::command(&["timeout", "--signal=KILL", "60"], "main", 20, &["litter:alice"]);
            let left = Ran::of(host).left_behind(&module_path(), &log);
            if !left.iter().any(|line| line.contains(part)) {
                missed.push(format!("{what}: {left:#?}"));
            }
        }
        assert!(missed.is_empty(), "{}", missed.join("\n"));

        stage.litter("nothing");
        let ran = Ran::of(Stage::command(&[], "main", 20, &["litter:alice"]));
        assert_eq!(ran.left_behind(&module_path(), &log), Vec::<String>::new());
        stage.litter("memory");
        let ran = Ran::of(Stage::command(&[], "main", SESSIONS, &["litter:alice"]));
        assert!(ran.grew > GROWTH, "512 bytes a session: {} kB", ran.grew);
    }

    /// A thread that ends after dlclose(3) runs what the module registered for that: `-z nodelete` keeps it
    /// there.
    fn module_stays_mapped_after_it_was_unloaded() {
        let unloadable = {
            let stage = Stage::set_up(&module_path(), &[]);
            // The harness sees the crash that this is about ...
            for (module, survives) in [("litter.so", false), ("litter-stays.so", true)] {
                stage.service("litter", &Path::new(PROGRAMS).join(module), "thread-destructor");
                let ran = Ran::of(Stage::command(&[], "thread", 20, &["litter:alice"]));
                assert_eq!(ran.status.success(), survives, "{module}: {ran:?}");
            }
            // ... and whether a module is there: so it is with the flag, and not without.
            let unloadable = without_nodelete(&module_path());
            stage.service("ready", &module_path(), "root=/srv/cargo-target");
            stage.service("unloadable", &unloadable, "root=/srv/cargo-target");
            unloadable
        };
        let ran = Ran::of(Stage::command(&[], "thread", 20, &["ready:alice"]));
        assert!(ran.stays_mapped(&module_path()) && ran.exported == 20, "{ran:?}");
        let ran = Ran::of(Stage::command(&[], "thread", 20, &["unloadable:alice"]));
        assert!(!ran.stays_mapped(&unloadable), "{ran:?}");
    }

    /// What is undone again would not show above, but another thread of the host could be hit by it: so no
    /// call is ever made that concerns the whole process, and nothing is started.
    fn session_makes_no_call_that_concerns_the_whole_process() {
        let module = module_path();
        let stage = Stage::set_up(&module, &[]);
        let _log = SyslogSocket::bind();
        let trace = |sessions: &[&str]| -> BTreeSet<String> {
            let strace = ["strace", "--follow-forks", "--quiet=all", "--output=/tmp/host/trace"];
            let ran = Ran::of(Stage::command(&strace, "main", 40, sessions));
            assert!(ran.status.success(), "{ran:?}");
            calls_in_sessions(&fs::read_to_string("/tmp/host/trace").unwrap())
        };
        let permit = trace(&["permit:alice"]);
        let ours = trace(&EVERY_KIND);
        // A child is made for a remote root, and for no other.
        stage.remote(&module);
        assert!(trace(&["remote:alice"]).contains("clone") && !ours.contains("clone"));
        let added: Vec<&String> = ours.difference(&permit).filter(|call| !HARMLESS.contains(&call.as_str())).collect();
        assert_eq!(added, Vec::<&String>::new());
        assert!(ours.contains("renameat2") && ours.contains("sendto"), "nothing was provisioned or said: {ours:?}");

        for (what, call) in [("brief-umask", "umask"), ("brief-thread", "clone3"), ("signal", "rt_sigaction"),
            ("limit", "prlimit64 to set"), ("cwd", "chdir"), ("child", "clone"), ("stdout", "write to 1")] {
            stage.litter(what);
            let seen = trace(&["litter:alice"]);
            assert!(seen.contains(call) && !permit.contains(call) && !HARMLESS.contains(&call), "{what}: {seen:?}");
        }
    }
}

/// Opens a session of each of [`EVERY_KIND`] from this process, a directory having to be made for each; returns
/// how long the longest took.
fn sessions_of_every_kind(stage: &Stage) -> Duration {
    let session = |name: &&str| {
        let _ = fs::remove_dir_all("/srv/cargo-target/alice");
        let (service, user) = name.split_once(':').unwrap();
        let mut transaction = stage.services.start(service, Some(user.as_bytes()));
        let start = Instant::now();
        assert_eq!(transaction.call(Call::OpenSession), PAM_SUCCESS, "{name}");
        let took = start.elapsed();
        let served = EVERY_KIND.iter().position(|kind| kind == name).unwrap() < SERVED as usize;
        assert_eq!(transaction.environment().len(), usize::from(served), "{name}");
        took
    };
    EVERY_KIND.iter().map(session).max().unwrap()
}

/// Fills the queue of a log socket that nobody reads.
fn fill(log: &UnixDatagram) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    let address = log.local_addr().unwrap();
    let mut sent = 0;
    while sender.send_to(b"<13>filler", address.as_pathname().unwrap()).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "the queue has no end");
    }
}

/// What arrived, without waiting for more.
fn received(log: &UnixDatagram) -> Vec<String> {
    log.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 65536];
    let next =
        || log.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
    let mut messages: Vec<String> = std::iter::from_fn(next).collect();
    messages.retain(|message| message.contains("pam_cargo_target["));
    messages
}

sandboxed! {
    /// Whatever `/dev/log` is, the session opens and gets what it should, and waits for no reader.
    fn log_in_any_state_leaves_the_login_alone() {
        // Three messages at most, 20 ms each; the rest is for a busy machine.
        const BOUND: Duration = Duration::from_secs(5);
        let stage = Stage::set_up(&module_path(), &[]);
        let log = Path::new("/dev/log");
        let bounded = |what: &str| {
            let took = sessions_of_every_kind(&stage);
            assert!(took < BOUND, "{what}: {took:?}");
            print_figures(&format!("log {what}: the longest of 10 sessions took {took:?}"));
        };

        bounded("absent");
        fs::write(log, "").unwrap();
        bounded("a file");
        assert_eq!(fs::metadata(log).unwrap().len(), 0);
        fs::remove_file(log).unwrap();
        fs::create_dir(log).unwrap();
        bounded("a directory");
        fs::remove_dir(log).unwrap();
        std::os::unix::fs::symlink("/run/nowhere", log).unwrap();
        bounded("a dangling link");
        fs::remove_file(log).unwrap();
        nix::unistd::mkfifo(log, nix::sys::stat::Mode::S_IRWXU).unwrap();
        bounded("a FIFO");
        fs::remove_file(log).unwrap();
        let stream = UnixListener::bind(log).unwrap();
        bounded("a stream socket");
        drop(stream);
        bounded("a stream socket that is closed");
        fs::remove_file(log).unwrap();

        let unread = UnixDatagram::bind(log).unwrap();
        fill(&unread);
        bounded("full");
        // The control: a module that says the same with syslog(3) waits for ever.
        stage.litter("blocking-log");
        let services = stage.services;
        let waiting = thread::spawn(move || {
            assert_eq!(services.start("litter", Some(b"alice")).call(Call::OpenSession), PAM_SUCCESS);
        });
        thread::sleep(Duration::from_secs(1));
        assert!(!waiting.is_finished(), "the socket is not full");
        assert_eq!(received(&unread), Vec::<String>::new());
        waiting.join().unwrap();
    }

    /// A syslog that is restarted gets what is said from then on: nothing is kept from one message to the next.
    fn log_that_was_restarted_is_found_again() {
        let stage = Stage::set_up(&module_path(), &[]);
        let taken = || {
            let mut transaction = stage.services.start("taken", Some(b"alice"));
            assert_eq!(transaction.call(Call::OpenSession), PAM_SUCCESS);
            transaction
        };
        let arrived = |log: &UnixDatagram| {
            let messages = received(log);
            assert!(messages.iter().all(|message| message.contains("/srv/taken/alice is a file")), "{messages:?}");
            messages.len()
        };

        let log = UnixDatagram::bind("/dev/log").unwrap();
        let transaction = taken();
        assert_eq!(arrived(&log), 1);
        drop(log);
        let _unheard = taken();
        fs::remove_file("/dev/log").unwrap();
        let log = UnixDatagram::bind("/dev/log").unwrap();
        assert_eq!(arrived(&log), 0);
        let _heard = taken();
        // In a transaction from before, too.
        let mut transaction = transaction;
        assert_eq!(transaction.call(Call::OpenSession), PAM_SUCCESS);
        assert_eq!(arrived(&log), 2);
        // Full for a while, then read again.
        fill(&log);
        let _unheard = taken();
        assert_eq!(arrived(&log), 0);
        let _heard = taken();
        assert_eq!(arrived(&log), 1);
    }

    /// A log that the process may not write to is no fault.
    fn log_that_is_not_permitted_is_none() {
        let stage = Stage::set_up(&module_path(), &[]);
        let log = UnixDatagram::bind("/dev/log").unwrap();
        let uid = |uid| nix::unistd::seteuid(nix::unistd::Uid::from_raw(uid)).unwrap();
        let told = |mode| {
            fs::set_permissions("/dev/log", fs::Permissions::from_mode(mode)).unwrap();
            uid(2001);
            let mut transaction = stage.services.start("told", Some(b"alice"));
            let code = transaction.call(Call::OpenSession);
            uid(0);
            assert_eq!(code, PAM_SUCCESS);
            received(&log).len()
        };
        assert_eq!((told(0o600), told(0o666)), (0, 1));
    }
}

/// What makes the `test-panic` build panic in each session.
pub(crate) const PANIC: &str = "PAM_CARGO_TARGET_TEST_PANIC";

/// A panic is one log line: the login is open, the terminal is clean, and the host is as it was.
#[test]
fn panic_leaves_the_login_open_and_the_terminal_clean() {
    let module = another_build("test-panic", |_| {}, "");
    crate::sandbox::run("integration::host::panic_leaves_the_login_open_and_the_terminal_clean", || {
        let stage = Stage::set_up(&module, &[]);
        stage.service("strict", &module, "root=/srv/cargo-target on_error=fail");
        stage
            .services
            .write("optional", &format!("session optional {} root=/srv/cargo-target", module.display()));
        let log = SyslogSocket::bind();
        for (service, panics, exported) in
            [("ready", true, 0), ("strict", true, 0), ("optional", true, 0), ("ready", false, 4)]
        {
            // All that is said fits into the socket's queue, so that nothing is dropped on a busy machine.
            let mut host = Stage::command(&[], "main", 4, &[&format!("{service}:alice")]);
            if panics {
                host.env(PANIC, "1");
            }
            let ran = Ran::of(host);
            assert_eq!((ran.succeeded, ran.exported), (4, exported), "{service}: {ran:?}");
            let messages = log.drain_module();
            if panics {
                assert_eq!(messages.len(), 8, "{service}: one line a session: {messages:?}");
                let told = |line: &String| {
                    line.starts_with("<83>pam_cargo_target[")
                        && line.contains("internal error, the login goes on")
                        && line.contains("asked to, by PAM_CARGO_TARGET_TEST_PANIC")
                        && !line.contains('\n')
                };
                assert!(messages.iter().all(told), "{service}: {messages:?}");
            }
        }
        assert_eq!(
            fs::read_dir("/srv/cargo-target").unwrap().count(),
            1,
            "`.staging` alone, as the host removes the rest"
        );

        for mode in ["main", "thread", "crowd", "fork"] {
            let mut host = Stage::command(&[], mode, SESSIONS, &["ready:alice"]);
            host.env(PANIC, "1");
            let ran = Ran::of(host);
            assert_eq!(ran.left_behind(&module, &log), Vec::<String>::new(), "{mode}: {ran:?}");
            assert_eq!((ran.succeeded, ran.exported), (SESSIONS, 0), "{mode}: {ran:?}");
            assert!(ran.stays_mapped(&module) && ran.grew <= growth(mode), "{mode}: {ran:?}");
        }
    });
}

/// Questions, and calls on files and sockets that the caller itself has opened. What libpam does in a session
/// of `pam_permit` is not counted.
const HARMLESS: [&str; 27] = [
    "brk",
    "clock_nanosleep",
    "connect",
    "fchmod",
    "fchown",
    "flock",
    "fremovexattr",
    "futex",
    "getdents64",
    "geteuid",
    "getpid",
    "getrandom",
    "lseek",
    "mkdirat",
    "newfstatat",
    "openat2",
    "prlimit64",
    "read",
    "renameat2",
    "rmdir",
    "sendto",
    "setsockopt",
    "statx",
    "uname",
    "unlink",
    "unlinkat",
    "write",
];

/// The names of the system calls made in sessions: those between the marks that the host sets.
fn calls_in_sessions(trace: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    let mut in_session = false;
    for line in trace.lines() {
        let Some((_, call)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        if arguments.starts_with("\"/sessions/") {
            in_session = arguments.starts_with("\"/sessions/begin");
        }
        if !in_session {
            continue;
        }
        calls.insert(match name {
            "prlimit64" if !arguments.starts_with("0, ") || !arguments.contains(", NULL, ") => {
                "prlimit64 to set".to_owned()
            }
            "write" if arguments.starts_with("1,") => "write to 1".to_owned(),
            "write" if arguments.starts_with("2,") => "write to 2".to_owned(),
            name => name.to_owned(),
        });
    }
    calls
}
