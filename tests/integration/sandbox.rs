//! Each integration test in a sandbox of its own.
//!
//! A test here needs to be root, with users, a `/dev/log` and an `/etc/pam.d` that it may change. So a test
//! declared by [`sandboxed!`] starts this very test binary again, inside `tests/sandbox`, for that one test;
//! there its body runs, as root, and whatever it changes is gone when it ends. Tests can so run in parallel,
//! under plain `cargo test`, by root or (through `sudo -n`) by anybody else.
//!
//! The rest of this file is what such a body starts from: users, a syslog socket, the installed module.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat, renameat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};

/// Set inside the sandbox, to the name of the test that runs there.
const MARKER: &str = "PAM_CARGO_TARGET_SANDBOXED";

/// What the lines of [`print_figures`] start with.
const FIGURES: &str = "measured: ";

/// Bounds a test that hangs, not one that is slow on a busy machine.
const TEST_SECONDS: &str = "600";

/// The same for the long forms.
const SOAK_SECONDS: &str = "7200";

/// How long something that will surely come is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tests whose bodies run as root in their own sandbox.
macro_rules! sandboxed {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            crate::sandbox::run(concat!(module_path!(), "::", stringify!($name)), || $body);
        }
    )*};
}
pub(crate) use sandboxed;

/// Runs `body` if this process is the one inside the sandbox of `test`, and makes that process if not.
pub(crate) fn run(test: &str, body: impl FnOnce()) {
    let (_crate, test) = test.split_once("::").unwrap();
    if env::var_os(MARKER).is_some_and(|marked| marked == test) {
        return body();
    }

    let exe = env::current_exe().unwrap();
    // <target directory>/<profile>/deps/<exe>
    let target_dir = exe.ancestors().nth(3).unwrap();
    let output = Command::new(checkout().join("tests/sandbox"))
        .args(["--", "env", &format!("{MARKER}={test}")])
        .args([
            "timeout",
            "--kill-after=10",
            if test.contains("::soak_") { SOAK_SECONDS } else { TEST_SECONDS },
        ])
        .arg(&exe)
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env("CARGO_TARGET_DIR", target_dir)
        .env("PAM_CARGO_TARGET_SO", module_path())
        .current_dir(checkout())
        .output()
        .expect("tests/sandbox starts");
    let printed = text_of(&output);
    assert!(output.status.success(), "{test} failed in its sandbox ({}):\n{printed}", output.status);
    assert!(printed.contains("1 passed"), "{test} did not run in its sandbox:\n{printed}");
    for line in printed.lines().filter(|line| line.starts_with(FIGURES)) {
        println!("{line}");
    }
}

/// Says what a run measured; shown where the tests' output is (`--nocapture`).
pub(crate) fn print_figures(figures: &str) {
    // A line of its own: the name of the test stands on the one before.
    println!("\n{FIGURES}{figures}");
}

/// The checkout under test.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The module under test: `PAM_CARGO_TARGET_SO`, or what `make build` left in the target directory.
pub(crate) fn module_path() -> PathBuf {
    let path = env::var_os("PAM_CARGO_TARGET_SO").map_or_else(
        || env::current_exe().unwrap().ancestors().nth(3).unwrap().join("release/libpam_cargo_target.so"),
        PathBuf::from,
    );
    assert!(path.is_file(), "{} is not there: build it with `make build`", path.display());
    path
}

/// The tool under test.
pub(crate) const TOOL: &str = env!("CARGO_BIN_EXE_cargo-targetctl");

/// Runs `make` in the checkout with the packaged module and the tool as they are, and without cargo on the `PATH`: as
/// `sudo make install` does after `make build`.
pub(crate) fn make<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let module = module_path();
    Command::new("make")
        .arg("-C")
        .arg(checkout())
        .arg(format!("MODULE={}", module.display()))
        .arg(format!("--old-file={}", module.display()))
        .args([format!("TOOL={TOOL}"), format!("--old-file={TOOL}")])
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap()
}

/// Asserts success, showing what was printed if not, and returns stdout.
pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}:\n{}", output.status, text_of(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a process printed, stdout first.
pub(crate) fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Mounts as users can make them, only that root makes these: so many, at mount points of so many kilobytes
/// each. Nobody may move a mount point, but anybody the directory above it.
pub(crate) fn mount_deep_down(count: usize, kilobytes: usize) {
    let name = "d".repeat(255);
    let mut deepest = File::open("/home").unwrap();
    mkdirat(&deepest, "mounts", Mode::S_IRWXU).unwrap();
    for number in 0..count {
        let at = format!("/home/mounts/{number}");
        fs::create_dir(&at).unwrap();
        mount(None::<&str>, at.as_str(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }
    let top = File::open("/home").unwrap();
    for _ in 0..kilobytes * 4 {
        mkdirat(&deepest, name.as_str(), Mode::S_IRWXU).unwrap();
        deepest = openat(&deepest, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap().into();
    }
    renameat(&top, "mounts", &deepest, "mounts").unwrap();
    let listed = fs::read("/proc/self/mountinfo").unwrap().len();
    assert!(listed > count * kilobytes * 1024, "{listed}");
}

/// Waits until `what` is `true`: a process of the sandbox is on its way there.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A user of the sandbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a str,
    pub(crate) uid: u32,
    /// The primary group; it gets the user's name if no group has that gid yet.
    pub(crate) gid: u32,
    pub(crate) shell: &'a str,
    /// `None` for `/home/<name>`.
    pub(crate) home: Option<&'a str>,
    /// Supplementary groups; one that is not there is made.
    pub(crate) groups: &'a [&'a str],
}

impl<'a> User<'a> {
    /// An ordinary user with bash and a private group.
    pub(crate) const fn new(name: &'a str, uid: u32) -> Self {
        Self { name, uid, gid: uid, shell: "/bin/bash", home: None, groups: &[] }
    }

    /// The same user in the group `workspace`.
    pub(crate) const fn developer(name: &'a str, uid: u32) -> Self {
        Self { groups: &["workspace"], ..Self::new(name, uid) }
    }

    /// Writes the user into the sandbox's account files, and makes the home.
    pub(crate) fn add(self) -> Self {
        let Self { name, uid, gid, shell, .. } = self;
        let home = self.home.map_or_else(|| format!("/home/{name}"), str::to_owned);
        if !groups().iter().any(|group| group.gid == gid) {
            add_group(name, gid);
        }
        for group in self.groups {
            join(name, group);
        }
        append("/etc/passwd", &format!("{name}:x:{uid}:{gid}::{home}:{shell}\n"));
        // "*": no password will do, and the account is not locked.
        append("/etc/shadow", &format!("{name}:*:19000:0:99999:7:::\n"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(gid)).unwrap();
        self
    }
}

/// Adds an empty group.
pub(crate) fn add_group(name: &str, gid: u32) {
    append("/etc/group", &format!("{name}:x:{gid}:\n"));
}

/// Makes `user` a member of `group`, which is made if it is not there.
pub(crate) fn join(user: &str, group: &str) {
    if !groups().iter().any(|known| known.name == group) {
        let gid = (5000..60_000).find(|gid| groups().iter().all(|known| known.gid != *gid)).unwrap();
        add_group(group, gid);
    }
    let lines = fs::read_to_string("/etc/group").unwrap();
    let mut joined = String::new();
    for line in lines.lines() {
        joined.push_str(line);
        if line.split(':').next() == Some(group) {
            joined.push_str(if line.ends_with(':') { "" } else { "," });
            joined.push_str(user);
        }
        joined.push('\n');
    }
    fs::write("/etc/group", joined).unwrap();
}

struct Group {
    name: String,
    gid: u32,
}

fn groups() -> Vec<Group> {
    let lines = fs::read_to_string("/etc/group").unwrap();
    let group = |line: &str| {
        let mut fields = line.split(':');
        Some(Group { name: fields.next()?.to_owned(), gid: fields.nth(1)?.parse().ok()? })
    };
    lines.lines().filter_map(group).collect()
}

/// Adds `text` at the end of a file of the sandbox.
pub(crate) fn append(path: &str, text: &str) {
    fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// `/dev/log`, as a syslog daemon has it, and what arrives there.
pub(crate) struct SyslogSocket {
    messages: Receiver<String>,
}

impl SyslogSocket {
    const PATH: &str = "/dev/log";
    const MARK: &str = "-- drained to here --";

    /// Binds the socket. A thread reads it at once: the kernel queues ten messages and no more.
    pub(crate) fn bind() -> Self {
        let socket = UnixDatagram::bind(Self::PATH).unwrap();
        fs::set_permissions(Self::PATH, fs::Permissions::from_mode(0o666)).unwrap();
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok(length) = socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Self { messages }
    }

    /// All that was sent before this call and since the last one, from whatever program.
    pub(crate) fn drain(&self) -> Vec<String> {
        // The queue keeps its order: what was sent before the mark is read before it.
        UnixDatagram::unbound().unwrap().send_to(Self::MARK.as_bytes(), Self::PATH).unwrap();
        let next = || self.messages.recv_timeout(PATIENCE).expect("the mark arrives");
        std::iter::repeat_with(next).take_while(|message| message != Self::MARK).collect()
    }

    /// Of these, the messages of the module.
    pub(crate) fn drain_module(&self) -> Vec<String> {
        let mut messages = self.drain();
        messages.retain(|message| message.contains("pam_cargo_target["));
        messages
    }
}

sandboxed! {
    /// The claims of this file and of `tests/sandbox` that every other test rests on.
    fn sandbox_is_private() {
        assert!(nix::unistd::geteuid().is_root());
        assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim(), "sandbox");
        assert_eq!(fs::read_dir("/home").unwrap().count(), 0);
        assert!(fs::write("/proc/sys/kernel/hostname", "other").is_err(), "sysctls can be written");
        assert!(fs::write(checkout().join("Cargo.toml.new"), "").is_err(), "the checkout can be written");
        assert!(!Path::new("/dev/log").exists());

        let alice = User::developer("alice", 2001).add();
        let id = succeeded(&Command::new("id").arg(alice.name).output().unwrap());
        assert!(id.starts_with("uid=2001(alice) gid=2001(alice) groups=2001(alice),"), "{id}");
        assert!(id.contains("(workspace)"), "{id}");

        let reads_home = Command::new("setpriv").args(["--reuid=2001", "--regid=2001", "--clear-groups"])
            .args(["ls", "/root"]).output().unwrap();
        assert!(!reads_home.status.success(), "a user of the sandbox reads root's home");

        let log = SyslogSocket::bind();
        for count in 1..=30 {
            succeeded(&Command::new("logger").args(["-t", "pam_cargo_target[1]"]).arg(count.to_string())
                .output().unwrap());
        }
        assert_eq!(log.drain_module().len(), 30);
        assert!(log.drain().is_empty());
    }
}
