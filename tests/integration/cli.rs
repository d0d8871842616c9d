//! The administrator's tool, as an administrator sees it.
//!
//! Each file of `tests/cli` is a transcript: commands after `$ `, and below each what it must print (stdout
//! and stderr, and its exit status in brackets where that is not 0). A test runs the commands in a sandbox and
//! prints the transcript as it came out where the two differ, so that a change that is meant can be copied.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::sandbox::{SyslogSocket, TOOL, User, add_group, checkout, module_path, sandboxed, succeeded};

/// A machine with the tool and the module, and with nothing set up: alice and bob are members of workspace,
/// carol is not.
fn machine() -> SyslogSocket {
    fs::copy(TOOL, "/usr/bin/cargo-targetctl").unwrap();
    fs::copy(module_path(), crate::install::installed_module()).unwrap();
    add_group("workspace", 4000);
    User::developer("alice", 2001).add();
    User::developer("bob", 2002).add();
    User::new("carol", 2003).add();
    SyslogSocket::bind()
}

/// Runs a transcript, and asserts that it comes out as it is written.
fn replay(name: &str) {
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

fn run(command: &str) -> String {
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
    for command in ["init", "check", "try"] {
        let help = succeeded(&tool().args([command, "--help"]).output().unwrap());
        let options: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
        assert!(options.len() > 6, "{help}");
        for option in options {
            let option = option.trim_end_matches([',', ';']);
            assert!(manual.contains(option), "{option} of {command} is not in the manual:\n{manual}");
        }
    }
    for section in [".SH NAME", ".SH \"EXIT STATUS\"", ".SH JSON", ".SS init", ".SS check"] {
        assert!(manual.contains(section), "{section}\n{manual}");
    }
    let script = succeeded(&tool().args(["completions", "bash"]).output().unwrap());
    assert!(script.contains("--dry-run"));
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

    fn bad_input_gets_a_sentence_and_the_right_exit_status() {
        replay("bad-input.t");
    }
}
