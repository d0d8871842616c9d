//! The administrator's tool, as an administrator sees it.
//!
//! Each file of `tests/cli` is a transcript: commands after `$ `, and below each what it must print (stdout
//! and stderr, and its exit status in brackets where that is not 0). A test runs the commands in a sandbox and
//! prints the transcript as it came out where the two differ, so that a change that is meant can be copied.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::fuse::Fuse;
use crate::sandbox::{
    SyslogSocket, TOOL, User, add_group, checkout, make, module_path, sandboxed, succeeded,
};

/// The clients of a Debian, in short.
const FILES: [(&str, &str); 14] = [
    ("/etc/pam.d/common-session", "# all\nsession required pam_permit.so\n"),
    ("/etc/pam.d/common-session-noninteractive", "# all\nsession required pam_permit.so\n"),
    ("/etc/pam.d/cron", "@include common-session-noninteractive\n"),
    ("/etc/pam.d/login", "session optional pam_motd.so\n@include common-session\n"),
    ("/etc/pam.d/other", "session required pam_permit.so\n"),
    ("/etc/pam.d/sshd", "@include common-session\nsession required pam_env.so\n"),
    ("/etc/pam.d/su", "@include common-session\n"),
    ("/etc/pam.d/su-l", "session optional pam_keyinit.so force revoke\n@include su\n"),
    ("/etc/pam.d/sudo", "@include common-session-noninteractive\n"),
    ("/etc/pam.d/sudo-i", "@include common-session\n"),
    ("/etc/ssh/sshd_config", "Port 22\nUsePAM yes\n"),
    ("/etc/security/pam_env.conf", "# none\n"),
    ("/etc/login.defs", "UID_MIN 1000\n"),
    ("/etc/sudoers", "root ALL=(ALL:ALL) ALL\n"),
];

/// Does what doctor says, to the letter, and asks again.
const HEAL: &str = r#"#!/bin/bash
cargo-targetctl doctor --json >/tmp/remedies.json
jq -r '.findings[] | "\(.gravity) \(.id)\(if .fixable then ", fixable" else "" end)"' /tmp/remedies.json
jq -r '.findings[].commands[]' /tmp/remedies.json >/tmp/remedies
bash /tmp/remedies >/tmp/remedies.log 2>&1
rm /tmp/remedies*
cargo-targetctl doctor
"#;

/// A machine with the tool and the module, and with nothing set up: alice and bob are members of workspace,
/// carol is not.
pub(crate) fn machine() -> SyslogSocket {
    fs::copy(TOOL, "/usr/bin/cargo-targetctl").unwrap();
    fs::copy(module_path(), crate::install::installed_module()).unwrap();
    // What a host has to say here is the same on every host.
    for directory in ["/etc/pam.d", "/usr/lib/pam.d", "/etc/ssh/sshd_config.d"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for (file, content) in FILES {
        fs::write(file, content).unwrap();
    }
    fs::write("/usr/bin/heal", HEAL).unwrap();
    fs::set_permissions("/usr/bin/heal", fs::Permissions::from_mode(0o755)).unwrap();
    add_group("workspace", 4000);
    User::developer("alice", 2001).add();
    User::developer("bob", 2002).add();
    User::new("carol", 2003).add();
    SyslogSocket::bind()
}

/// Runs a transcript, and asserts that it comes out as it is written.
pub(crate) fn replay(name: &str) {
    let _log = machine();
    let path = checkout().join("tests/cli").join(name);
    let expected = fs::read_to_string(&path).unwrap();
    let mut came_out = Vec::new();
    for line in expected.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            came_out.extend([line.to_owned(), run(command)]);
        } else if line.starts_with("# ") {
            came_out.push(line.to_owned());
        }
    }
    let came_out = came_out.join("\n");
    let same = expected.trim_end() == came_out.trim_end();
    assert!(same, "{} came out differently:\n>>>>\n{}\n<<<<", path.display(), came_out.trim_end());
    assert!(came_out.contains("cargo-targetctl"));
}

pub(crate) fn run(command: &str) -> String {
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &format!("exec 2>&1\n{command}")])
        .current_dir("/")
        .env_remove("SUDO_USER")
        .output()
        .unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => writeln!(text, "[{code}]").unwrap(),
        None => panic!("{command}: {}", output.status),
    }
    text
}

#[test]
fn manual_names_every_option_and_completions_are_a_script() {
    let tool = || Command::new(TOOL);
    let manual = succeeded(&tool().arg("manual").output().unwrap()).replace('\\', "");
    for command in ["init", "check", "doctor", "migrate", "try"] {
        let help = succeeded(&tool().args([command, "--help"]).output().unwrap());
        let options: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
        assert!(options.len() > 6, "{help}");
        for option in options {
            let option = option.trim_end_matches([',', ';']);
            assert!(manual.contains(option), "{option} of {command} is not in the manual:\n{manual}");
        }
    }
    // Every field that the transcripts show.
    for entry in fs::read_dir(checkout().join("tests/cli")).unwrap() {
        let transcript = fs::read_to_string(entry.unwrap().path()).unwrap();
        let printed = transcript.lines().filter(|line| !line.starts_with("$ "));
        for (_, rest) in printed.filter_map(|line| line.split_once('"')) {
            if let Some((field, _)) = rest.split_once("\":") {
                let stands = |font: &str| manual.contains(&format!("{font} {field}"));
                assert!(stands(".B") || stands(".BR"), "the field {field} is not in the manual");
            }
        }
    }
    for section in [".SH NAME", ".SH \"EXIT STATUS\"", ".SH JSON", ".SS init", ".SS check"] {
        assert!(manual.contains(section), "{section}\n{manual}");
    }
    let script = succeeded(&tool().args(["completions", "bash"]).output().unwrap());
    assert!(script.contains("--dry-run"));
    assert!(!script.contains("manual"), "a hidden command is offered:\n{script}");
    succeeded(&Command::new("bash").args(["-n", "-c", &script]).output().unwrap());
}

sandboxed! {
    fn init_makes_a_root_once_and_shows_what_it_does() {
        replay("init.t");
    }

    fn init_makes_an_unsafe_root_safe() {
        replay("init-existing.t");
    }

    fn init_refuses_before_anything_changes() {
        replay("init-refused.t");
    }

    fn check_says_what_a_login_would_do() {
        replay("check.t");
    }

    fn try_opens_a_real_session() {
        replay("try.t");
    }

    fn doctor_finds_what_a_new_machine_lacks() {
        replay("doctor-new.t");
    }

    fn doctor_finds_faults_of_pam() {
        replay("doctor-pam.t");
    }

    fn doctor_finds_faults_of_the_root() {
        replay("doctor-root.t");
    }

    fn doctor_finds_faults_of_members_and_their_directories() {
        replay("doctor-members.t");
    }

    fn doctor_finds_who_overrides_the_variable() {
        replay("doctor-overrides.t");
    }

    fn doctor_mends_what_is_safe_to_mend() {
        replay("doctor-fix.t");
    }

    fn doctor_sees_a_root_that_is_not_local_and_one_that_is_dead() {
        // A dead file server is the one thing that no command of a transcript can plant.
        let _log = machine();
        fs::create_dir("/srv/cargo-target").unwrap();
        let fuse = Fuse::mount("/srv/cargo-target", "");
        fs::write("/etc/security/cargo-target.conf", "root = /srv/cargo-target\ntimeout = 1\n").unwrap();
        let printed = run("cargo-targetctl doctor");
        assert!(printed.contains("lies on a network, FUSE or autofs mount"), "{printed}");
        assert!(printed.contains("name = %u@%h"), "{printed}");
        fuse.behave("hang");
        for command in ["cargo-targetctl doctor", "cargo-targetctl check"] {
            let printed = run(command);
            assert!(printed.contains("did not answer within 1 s") && printed.ends_with("[3]\n"), "{printed}");
        }
        fuse.behave("");
    }

    fn doctor_leads_a_fresh_debian_to_a_working_setup() {
        succeeded(&make(["install"]));
        User::new("alice", 2001).add();
        let _log = SyslogSocket::bind();
        let printed = run("cargo-targetctl init --root /srv/cargo-target --create-group --yes");
        assert!(printed.contains("Next:"), "{printed}");
        let mut rounds = 0;
        loop {
            let output = Command::new("cargo-targetctl").args(["doctor", "--json"]).output().unwrap();
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            let findings = answer["findings"].as_array().unwrap();
            let missing: Vec<&str> = findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect();
            match rounds {
                // What a fresh machine lacks, and that only: the group is there, and the root is in order.
                0 => {
                    assert!(missing.contains(&"client-without-module"), "{missing:?}");
                    assert!(missing.contains(&"no-members"), "{missing:?}");
                    assert!(missing.iter().all(|id| ["client-without-module", "no-members"].contains(id)));
                    assert_eq!(output.status.code(), Some(3));
                }
                _ if answer["problems"] == 0 => break assert_eq!(missing, ["no-directory-yet"]),
                _ => assert!(rounds < 3, "{answer}"),
            }
            for finding in findings {
                let commands = finding["commands"].as_array().unwrap();
                assert!(!commands.is_empty(), "{finding}");
                for command in commands {
                    let command = command.as_str().unwrap().replace("USER", "alice");
                    succeeded(&Command::new("bash").args(["-c", &command]).output().unwrap());
                }
            }
            rounds += 1;
        }
        // "The next login makes it."
        assert_eq!(run("su -l alice -c 'echo $CARGO_TARGET_DIR'"), "/srv/cargo-target/alice\n");
        let printed = run("cargo-targetctl doctor");
        let (places, verdict) = printed.rsplit_once(".\n").and_then(|(rest, _)| rest.rsplit_once('\n')).unwrap();
        assert_eq!(verdict, "No problem found", "{printed}");
        assert!(places.lines().all(|line| line.starts_with("pam_cargo_target.so stands in /etc/pam.d/")), "{places}");
        assert!(places.contains(", sshd,") && places.contains("cron, "), "{places}");
    }

    fn bad_input_gets_a_sentence_and_the_right_exit_status() {
        replay("bad-input.t");
    }
}
