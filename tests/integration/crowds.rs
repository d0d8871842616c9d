//! Many first logins at once: a cluster job that fans out, a class that begins, a machine that is up again.
//!
//! Every login gets its directory, there is one for each user, made once, and nothing is left beside it. Logins
//! that are merely started together reach the module one after the other, for sshd has long sums to do before:
//! a gate right before the module lets nobody pass until everybody is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use crate::c_host;
use crate::clients::{Sshd, Workspace};
use crate::fuse::Fuse;
use crate::sandbox::{User, append, module_path, print_figures, sandboxed, succeeded, wait_until};

const ROOT: &str = "/srv/cargo-target";

/// What each login does: says what it was given, if that is its own and can be written.
const USE_IT: &str =
    r#"printenv CARGO_TARGET_DIR && [ -O "$CARGO_TARGET_DIR" ] && [ -w "$CARGO_TARGET_DIR" ]"#;

/// Run by `pam_exec` at the head of sshd's session stack. To open a FIFO waits until it has a writer.
const GATE: &str = "#!/bin/sh
[ \"$PAM_TYPE\" = open_session ] || exit 0
: >/run/arrived/$$
exec </run/gate
";

/// A workspace with so many new developers, besides the usual ones, and an sshd.
struct Crowd {
    workspace: Workspace,
    sshd: Sshd,
    users: BTreeMap<String, u32>,
}

impl Crowd {
    fn new(users: u32) -> Self {
        let workspace = Workspace::set_up();
        read_syslog_first();
        let users: BTreeMap<_, _> = (1..=users).map(|count| (format!("dev{count}"), 3000 + count)).collect();
        for (name, uid) in &users {
            User::developer(name, *uid).add();
        }
        nix::unistd::mkfifo("/run/gate", Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        fs::create_dir("/run/arrived").unwrap();
        fs::write("/run/gate.sh", GATE).unwrap();
        fs::set_permissions("/run/gate.sh", fs::Permissions::from_mode(0o755)).unwrap();
        let stack = fs::read_to_string("/etc/pam.d/sshd").unwrap();
        fs::write("/etc/pam.d/sshd", format!("session required pam_exec.so /run/gate.sh\n{stack}")).unwrap();
        Self { workspace, sshd: Sshd::start(), users }
    }

    /// All at once, each of the users logs in so many times. The time is from the moment that the module sees
    /// the first of them until the last has had its session and is gone.
    fn log_in(&self, times: usize) -> Logins {
        let start = |user: &String| {
            let mut client = self.sshd.client("ssh", user, &["-o", "ConnectTimeout=300"]);
            client.arg(USE_IT).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            (user.clone(), client.spawn().unwrap())
        };
        let clients: Vec<(String, Child)> = (0..times).flat_map(|_| self.users.keys()).map(start).collect();
        wait_until("everybody is at the gate", || {
            fs::read_dir("/run/arrived").unwrap().count() == clients.len()
        });
        let begin = Instant::now();
        let _open = open_gate();
        let finish = |(user, client): (String, Child)| (user, client.wait_with_output().unwrap());
        let outputs = clients.into_iter().map(finish).collect();
        Logins { outputs, took: begin.elapsed(), log: self.workspace.log.drain_module() }
    }

    /// The same, and each login gets its directory, made once, with nothing left beside it.
    fn is_served(&self, times: usize, what: &str) {
        let Logins { outputs, took, log } = self.log_in(times);
        let unserved = |(user, output): &&(String, Output)| {
            !output.status.success() || output.stdout != format!("{ROOT}/{user}\n").into_bytes()
        };
        let unserved: Vec<_> = outputs.iter().filter(unserved).collect();
        assert!(unserved.is_empty(), "{} of {}: {unserved:#?}\n{log:#?}", unserved.len(), outputs.len());
        self.assert_one_directory_each();
        for user in self.users.keys() {
            let line = format!("(sshd:session) provisioned {ROOT}/{user} for {user}");
            assert_eq!(log.iter().filter(|found| found.ends_with(&line)).count(), 1, "{user}: {log:#?}");
        }
        assert_eq!(log.len(), self.users.len(), "{log:#?}");
        print_figures(&format!(
            "{} ssh logins at once of {} new users{what}: {took:.1?}",
            outputs.len(),
            self.users.len()
        ));
    }

    /// One each, complete, and nothing else.
    fn assert_one_directory_each(&self) {
        let names = |path| -> BTreeSet<String> {
            let entries = fs::read_dir(path).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut expected: BTreeSet<String> = self.users.keys().cloned().collect();
        expected.insert(".staging".into());
        assert_eq!(names(ROOT.into()), expected);
        assert_eq!(names(format!("{ROOT}/.staging")), BTreeSet::new(), "litter");

        for (user, uid) in &self.users {
            let found = fs::symlink_metadata(format!("{ROOT}/{user}")).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode()), (*uid, *uid, 0o040_700), "{user}");
            let tag = fs::symlink_metadata(format!("{ROOT}/{user}/CACHEDIR.TAG")).unwrap();
            assert_eq!((tag.uid(), tag.mode(), tag.size()), (*uid, 0o100_644, 177), "{user}");
        }
    }
}

/// Nobody waits at the gate for as long as the answer lives. To open it for writing alone would wait for a reader.
fn open_gate() -> File {
    File::options().read(true).write(true).open("/run/gate").unwrap()
}

/// What came of many logins.
struct Logins {
    outputs: Vec<(String, Output)>,
    took: Duration,
    log: Vec<String>,
}

/// The kernel queues ten messages for /dev/log, and the module waits 20 ms for a place, then goes on without.
/// So the thread that reads them, the youngest of this process, goes before all that is not real-time.
fn read_syslog_first() {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let ids =
        threads.map(|thread| thread.unwrap().file_name().into_string().unwrap().parse::<u32>().unwrap());
    let youngest = ids.max().unwrap().to_string();
    succeeded(&Command::new("chrt").args(["--fifo", "--pid", "1", &youngest]).output().unwrap());
}

sandboxed! {
    fn two_hundred_logins_of_one_new_user() {
        Crowd::new(1).is_served(200, "");
    }

    fn four_logins_of_each_of_fifty_new_users() {
        Crowd::new(50).is_served(4, "");
    }

    /// The file system takes 50 ms for each of a session's many questions, and counts as a remote one, so that
    /// every login has a child that asks them. The kernel lets one process at a time change a directory: this
    /// crowd has to queue, and is given the time.
    fn logins_at_once_where_the_root_is_slow() {
        let crowd = Crowd::new(5);
        append("/etc/security/cargo-target.conf", "timeout = 60\n");
        let slow = Fuse::mount(ROOT, "delay=50");
        crowd.is_served(4, ", 50 ms an operation, timeout=60");
        drop(slow);
    }

    /// The lock of `.staging` keeps sweepers and makers apart, but not those on other hosts of a network file
    /// system, nor a maker who is tired of waiting for a sweeper. Whose work is swept away starts again.
    fn login_whose_work_is_swept_away_starts_again() {
        User::developer("alice", 2001).add();
        fs::create_dir(ROOT).unwrap();
        let services = "/run/pam-services";
        fs::create_dir(services).unwrap();
        let stack = format!("session required {} root={ROOT}\n", module_path().display());
        fs::write(format!("{services}/sshd"), stack).unwrap();
        // The first rename is late.
        let login = Command::new("strace")
            .args(["-f", "-qq", "-o", "/tmp/trace", "-e", "trace=renameat2"])
            .args(["-e", "inject=renameat2:delay_enter=3s:when=1"])
            .arg(c_host::program("session"))
            .args([services, "sshd", "alice"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let staging = format!("{ROOT}/.staging");
        let unfinished = || {
            let made = fs::read_dir(&staging).ok()?.next()?.unwrap().path();
            (fs::metadata(&made).ok()?.uid() == 2001).then_some(made)
        };
        wait_until("a directory is ready to be renamed", || unfinished().is_some());
        // As a sweep does it.
        let made = unfinished().unwrap();
        fs::remove_file(made.join("CACHEDIR.TAG")).unwrap();
        fs::remove_dir(made).unwrap();

        let printed = succeeded(&login.wait_with_output().unwrap());
        assert!(printed.contains("CARGO_TARGET_DIR=/srv/cargo-target/alice\n"), "{printed}");
        assert_eq!(fs::metadata("/srv/cargo-target/alice/CACHEDIR.TAG").unwrap().uid(), 2001);
        assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
        let trace = fs::read_to_string("/tmp/trace").unwrap();
        assert!(trace.contains("ENOENT"), "the sweep came too late: {trace}");
    }

    /// The slow root again, with the time that a login is given by default: some are served, the others go without.
    fn logins_at_once_where_the_root_is_too_slow() {
        overwhelmed(10, 4);
    }

    #[ignore = "long: make soak"]
    fn soak_two_hundred_logins_where_the_root_is_too_slow() {
        overwhelmed(50, 4);
    }
}

/// Logins before a slow server, with the time that each is given by default: every session opens, with a
/// directory or with a line that says why there is none, and the next login of everybody is in order.
fn overwhelmed(users: u32, times: usize) {
    let mut crowd = Crowd::new(users);
    let server = Fuse::mount(ROOT, "delay=20");
    let Logins { outputs, took, log } = crowd.log_in(times);
    let (mut served, mut late) = (0, 0);
    for (user, output) in &outputs {
        match (output.status.code(), output.stdout.as_slice()) {
            // The session was there for printenv to run in, and to find nothing.
            (Some(1), b"") => late += 1,
            (Some(0), directory) if directory == format!("{ROOT}/{user}\n").into_bytes() => served += 1,
            _ => panic!("{user}: {output:?}"),
        }
    }
    assert_eq!(
        log.iter().filter(|line| line.contains("did not answer within 2 s")).count(),
        late,
        "{log:#?}"
    );
    assert!(late > 0, "this crowd was no crowd: {log:#?}");

    server.behave("");
    let (name, uid) = ("latecomer".to_owned(), 3999);
    User::developer(&name, uid).add();
    crowd.users.insert(name, uid);
    let _open = open_gate();
    for user in crowd.users.keys() {
        let output = crowd.sshd.client("ssh", user, &[]).arg(USE_IT).output().unwrap();
        assert_eq!(succeeded(&output), format!("{ROOT}/{user}\n"));
    }
    crowd.assert_one_directory_each();
    print_figures(&format!(
        "{} ssh logins at once of {users} new users, 20 ms an operation, timeout=2: {took:.1?}; {served} had their \
         directory in time, {late} went without, all had it at the next login",
        outputs.len()
    ));
}
