//! Real clients of PAM, and what their processes really had in the environment.
//!
//! Each test is the first login ever: the user's directory does not exist before. The stacks are the
//! machine's own `/etc/pam.d`, with the lines that we ship in `pam.d/` added; the module is put there by
//! `make install`. What a process had is read from `/proc/PID/environ`, that is: what it was started with,
//! whatever a shell's start-up files did after.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::sandbox::{
    SyslogSocket, User, add_group, append, checkout, make, sandboxed, succeeded, text_of, wait_until,
};

const ROOT: &str = "/srv/cargo-target";
const ALICE_DIR: &str = "/srv/cargo-target/alice";
const VARIABLE: &str = "CARGO_TARGET_DIR=/srv/cargo-target/alice";
/// What follows the `tr` keeps the shell from becoming it: its environment would be gone before it is read.
const PRINT_ENVIRON: &str = r"echo; tr '\0' '\n' </proc/$$/environ; echo";

/// A workspace host as the README sets it up: alice is a developer, carol is not.
pub(crate) struct Workspace {
    pub(crate) log: SyslogSocket,
}

impl Workspace {
    pub(crate) fn set_up() -> Self {
        Self::with_shell("/bin/bash")
    }

    /// The same, with another login shell for alice.
    fn with_shell(shell: &str) -> Self {
        add_group("workspace", 5000);
        User { shell, ..User::developer("alice", 2001) }.add();
        User::new("carol", 2003).add();
        fs::create_dir(ROOT).unwrap();
        succeeded(&make(["install"]));
        append("/etc/security/cargo-target.conf", "\nroot = /srv/cargo-target\n");
        for stack in ["common-session", "common-session-noninteractive"] {
            let lines = fs::read_to_string(checkout().join("pam.d").join(stack)).unwrap();
            append(&format!("/etc/pam.d/{stack}"), &format!("\n{lines}"));
        }
        assert!(!Path::new(ALICE_DIR).exists());
        Self { log: SyslogSocket::bind() }
    }
}

/// An sshd of this machine's own on 127.0.0.1, and a key with which everybody can log in.
pub(crate) struct Sshd {
    daemon: Child,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        for key in ["/tmp/host_key", "/tmp/user_key"] {
            let keygen =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", key]).output();
            succeeded(&keygen.unwrap());
        }
        fs::copy("/tmp/user_key.pub", "/etc/ssh/everybody").unwrap();
        // The subsystem is started like any client process: it records what it had, then is what it would be.
        fs::write(
            "/etc/ssh/recording-sftp",
            "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/environ >/tmp/sftp.environ\nexec /usr/lib/openssh/sftp-server\n",
        )
        .unwrap();
        fs::set_permissions("/etc/ssh/recording-sftp", fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            "/etc/ssh/sshd_config",
            "ListenAddress 127.0.0.1\n\
             HostKey /tmp/host_key\n\
             AuthorizedKeysFile /etc/ssh/everybody\n\
             KbdInteractiveAuthentication no\n\
             PasswordAuthentication no\n\
             UsePAM yes\n\
             UseDNS no\n\
             LoginGraceTime 0\n\
             PrintMotd no\n\
             PidFile none\n\
             KexAlgorithms curve25519-sha256\n\
             MaxStartups 300:30:500\n\
             Subsystem sftp /etc/ssh/recording-sftp\n",
        )
        .unwrap();
        let log = fs::File::create("/tmp/sshd.log").unwrap();
        let mut daemon = Command::new("/usr/sbin/sshd").args(["-D", "-e"]).stderr(log).spawn().unwrap();
        wait_until("sshd listens", || {
            assert_eq!(daemon.try_wait().unwrap(), None, "{}", fs::read_to_string("/tmp/sshd.log").unwrap());
            std::net::TcpStream::connect("127.0.0.1:22").is_ok()
        });
        Self { daemon }
    }

    /// A client, still without a command.
    #[expect(clippy::unused_self, reason = "a client needs a running daemon")]
    pub(crate) fn client(&self, program: &str, user: &str, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args([
            "-F",
            "none",
            "-i",
            "/tmp/user_key",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
        ]);
        command.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]);
        command.args(options).arg(format!("{user}@127.0.0.1"));
        command
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.daemon.kill().ok();
        self.daemon.wait().ok();
        if std::thread::panicking() {
            println!("sshd said:\n{}", fs::read_to_string("/tmp/sshd.log").unwrap_or_default());
        }
    }
}

/// Runs `command` as somebody who types `input`.
fn typing(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The environment printed has our variable, once, and the directory is what DESIGN.md promises.
#[track_caller]
fn assert_provisioned(environ: &str) {
    let is_variable = |line: &&str| line.trim_end().starts_with("CARGO_TARGET_DIR=");
    let found: Vec<&str> = environ.lines().filter(is_variable).map(str::trim_end).collect();
    assert_eq!(found, [VARIABLE], "in:\n{environ}");

    for (path, mode) in [(ALICE_DIR.to_owned(), 0o700), (format!("{ALICE_DIR}/CACHEDIR.TAG"), 0o644)] {
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!((metadata.uid(), metadata.gid()), (2001, 2001), "{path}");
    }
}

/// Exactly one message, at info, for the first directory of a session of `service`.
#[track_caller]
fn assert_one_info_line(messages: &[String], service: &str) {
    let [message] = messages else { panic!("one line of ours was expected: {messages:#?}") };
    let pid_and_text = message.strip_prefix("<86>pam_cargo_target[").unwrap_or_else(|| panic!("{message}"));
    let (pid, text) = pid_and_text.split_once("]: ").unwrap();
    assert!(pid.parse::<u32>().is_ok(), "{message}");
    assert!(text.starts_with(&format!("({service}:session) ")), "{message}");
    assert!(text.contains(ALICE_DIR), "{message}");
}

sandboxed! {
    fn ssh_command() {
        let workspace = Workspace::set_up();
        let sshd = Sshd::start();
        let output = sshd.client("ssh", "alice", &[]).arg(PRINT_ENVIRON).output().unwrap();
        assert_provisioned(&succeeded(&output));
        assert_one_info_line(&workspace.log.drain_module(), "sshd");
    }

    fn second_login_says_nothing() {
        let workspace = Workspace::set_up();
        let sshd = Sshd::start();
        assert_provisioned(&succeeded(&sshd.client("ssh", "alice", &[]).arg(PRINT_ENVIRON).output().unwrap()));
        assert_one_info_line(&workspace.log.drain_module(), "sshd");
        for _ in 0..2 {
            assert_provisioned(&succeeded(&sshd.client("ssh", "alice", &[]).arg(PRINT_ENVIRON).output().unwrap()));
            assert_eq!(workspace.log.drain_module(), [""; 0]);
        }
    }

    fn ssh_of_others_is_left_alone() {
        let workspace = Workspace::set_up();
        let sshd = Sshd::start();
        for user in ["carol", "root"] {
            let environ = succeeded(&sshd.client("ssh", user, &[]).arg(PRINT_ENVIRON).output().unwrap());
            assert!(environ.contains(&format!("USER={user}\n")), "{environ}");
            assert!(!environ.contains("CARGO_TARGET_DIR"), "{environ}");
        }
        assert_eq!(fs::read_dir(ROOT).unwrap().count(), 0);
        assert_eq!(workspace.log.drain_module(), [""; 0]);
    }

    fn ssh_command_on_a_terminal() {
        let workspace = Workspace::set_up();
        let sshd = Sshd::start();
        let command = format!("test -t 0 || exit 1; {PRINT_ENVIRON}");
        assert_provisioned(&succeeded(&sshd.client("ssh", "alice", &["-tt"]).arg(command).output().unwrap()));
        assert_one_info_line(&workspace.log.drain_module(), "sshd");
    }

    fn ssh_interactive_bash() {
        interactive_ssh("/bin/bash");
    }

    fn ssh_interactive_dash() {
        interactive_ssh("/bin/dash");
    }

    fn sftp() {
        let workspace = Workspace::set_up();
        let sshd = Sshd::start();
        let listing = typing(&mut sshd.client("sftp", "alice", &["-b", "-"]), "pwd\n");
        assert!(succeeded(&listing).contains("/home/alice"), "{}", text_of(&listing));
        assert_provisioned(&fs::read_to_string("/tmp/sftp.environ").unwrap());
        assert_one_info_line(&workspace.log.drain_module(), "sshd");
    }

    /// A terminal multiplexer, an editor and a build that start together after a reboot, many times over.
    fn fifty_ssh_logins_at_once() {
        let workspace = Workspace::set_up();
        let sshd = Sshd::start();
        let login = || {
            let mut client = sshd.client("ssh", "alice", &["-o", "ConnectTimeout=300"]);
            client.arg(PRINT_ENVIRON).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            client.spawn().unwrap()
        };
        let logins: Vec<Child> = std::iter::repeat_with(login).take(50).collect();
        for login in logins {
            assert_provisioned(&succeeded(&login.wait_with_output().unwrap()));
        }
        let in_root: Vec<_> = fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let visible: Vec<_> = in_root.iter().filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert_eq!(visible, ["alice"]);
        let messages = workspace.log.drain_module();
        // With fifty at once the kernel's queue of ten may be full at the moment of the one line.
        assert!(messages.len() <= 1, "{messages:#?}");
    }

    fn su() {
        let workspace = Workspace::set_up();
        let output = Command::new("su").args(["alice", "-c", PRINT_ENVIRON]).output().unwrap();
        assert_provisioned(&succeeded(&output));
        assert_one_info_line(&workspace.log.drain_module(), "su");
    }

    fn su_login() {
        let workspace = Workspace::set_up();
        let output = Command::new("su").args(["-", "alice", "-c", PRINT_ENVIRON]).output().unwrap();
        assert_provisioned(&succeeded(&output));
        assert_one_info_line(&workspace.log.drain_module(), "su-l");
    }

    fn sudo_command() {
        let workspace = Workspace::set_up();
        let output = Command::new("sudo").args(["-u", "alice", "sh", "-c", PRINT_ENVIRON]).output().unwrap();
        assert_provisioned(&succeeded(&output));
        assert_one_info_line(&workspace.log.drain_module(), "sudo");
    }

    fn sudo_login() {
        let workspace = Workspace::set_up();
        let output = Command::new("sudo").args(["-i", "-u", "alice", "sh", "-c", PRINT_ENVIRON]).output().unwrap();
        assert_provisioned(&succeeded(&output));
        assert_one_info_line(&workspace.log.drain_module(), "sudo-i");
    }

    /// `login` as getty starts it: the leader of a session, on a terminal of its own.
    fn login_on_a_terminal() {
        let workspace = Workspace::set_up();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", "exec login -f alice", "/dev/null"]);
        let output = typing(&mut script, &format!("{PRINT_ENVIRON}\nexit\n"));
        assert_provisioned(&succeeded(&output));
        assert_one_info_line(&workspace.log.drain_module(), "login");
    }

    fn cron_job_at_reboot() {
        let workspace = Workspace::set_up();
        let crontab = "@reboot tr '\\0' '\\n' </proc/$$/environ >/tmp/unfinished && mv /tmp/unfinished /tmp/cron.environ\n";
        let installed = typing(Command::new("crontab").args(["-u", "alice", "-"]), crontab);
        succeeded(&installed);
        // cron makes it at its first start since boot; a machine's own must not count.
        fs::remove_file("/run/crond.reboot").ok();
        let mut cron = Command::new("cron").arg("-f").process_group(0).spawn().unwrap();
        wait_until("cron has run the job", || Path::new("/tmp/cron.environ").exists());
        assert_provisioned(&fs::read_to_string("/tmp/cron.environ").unwrap());
        assert_one_info_line(&workspace.log.drain_module(), "cron");
        cron.kill().unwrap();
        cron.wait().unwrap();
    }
}

/// Somebody logs in without a command, types, and leaves; with a terminal and without.
fn interactive_ssh(shell: &str) {
    let workspace = Workspace::with_shell(shell);
    let sshd = Sshd::start();
    let keys = format!("echo; echo shell=$0; {PRINT_ENVIRON}\nexit\n");
    let printed = succeeded(&typing(&mut sshd.client("ssh", "alice", &["-tt"]), &keys));
    let name = format!("shell=-{}", shell.rsplit('/').next().unwrap());
    assert!(printed.lines().any(|line| line.trim_end() == name), "{printed}");
    assert_provisioned(&printed);
    assert_one_info_line(&workspace.log.drain_module(), "sshd");
    assert_provisioned(&succeeded(&typing(&mut sshd.client("ssh", "alice", &["-T"]), &keys)));
}
