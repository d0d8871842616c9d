//! The manual, as the tool prints it: every key and every flag is in it, and mandoc finds no fault.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use pam_cargo_target::config::KEYS;

use crate::sandbox::{TOOL, checkout, succeeded};

const PAGES: [&str; 3] = ["pam_cargo_target", "cargo-target.conf", "cargo-targetctl"];

fn page(name: &str) -> String {
    succeeded(&Command::new(TOOL).args(["manual", name]).output().unwrap())
}

fn help(of: &[&str]) -> String {
    succeeded(&Command::new(TOOL).args(of).arg("--help").output().unwrap())
}

/// What `mandoc -Tlint` says, matters of style included.
fn faults(page: &str) -> String {
    let mut lint = Command::new("mandoc")
        .args(["-Tlint", "-Wall"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("mandoc runs");
    lint.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    String::from_utf8(lint.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn mandoc_finds_no_fault() {
    for name in PAGES {
        assert_eq!(faults(&page(name)), "", "{name}");
    }
    // It would say so.
    assert!(faults(&(page("pam_cargo_target") + ".NOSUCH\n")).contains("NOSUCH"));
}

#[test]
fn every_key_has_an_entry() {
    for name in ["pam_cargo_target", "cargo-target.conf"] {
        let page = page(name);
        for key in KEYS {
            assert!(page.contains(&format!(".TP\n.B {}\n", key.name)), "{name} lacks {}", key.name);
        }
    }
    assert!(page("pam_cargo_target").contains("\\fBconf=\\fIPATH"));
}

#[test]
fn every_command_and_flag_has_an_entry() {
    let page = page("cargo-targetctl");
    let listed = help(&[]);
    let commands = listed.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() >= 4, "{listed}");
    for command in commands {
        let (_, rest) = page.split_once(&format!(".SS {command}\n")).expect("a section of the command's");
        let section = rest.split("\n.S").next().unwrap();
        let (everywhere, _) = page.split_once("\n.SH COMMANDS\n").expect("a section of commands");
        let help = help(&[command]);
        let flags = help.lines().filter(|line| line.trim_start().starts_with('-'));
        for flag in flags
            .flat_map(|line| line.split([' ', ',']))
            .filter(|word| word.len() > 1 && word.starts_with('-'))
        {
            let tag = flag.replace('-', "\\-");
            let stands = |text: &str| {
                let tags = text.lines().filter_map(|line| line.strip_prefix("\\fB")?.split("\\fR").next());
                tags.flat_map(|tag| tag.split(", ")).any(|found| found == tag)
            };
            assert!(stands(section) || stands(everywhere), "{command} lacks {flag}:\n{section}");
        }
    }
}

#[test]
fn packages_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("debian/changelog", format!("pam-cargo-target ({version}-1) unstable; urgency=medium")),
        ("rpm/pam_cargo_target.spec", format!("Version:        {version}")),
        ("rpm/README.rpm.md", format!("rpmbuild -ta build/pam_cargo_target-{version}.tar.gz")),
        ("arch/PKGBUILD", format!("pkgver={version}")),
        ("nix/package.nix", format!("  version = \"{version}\";")),
    ] {
        let text = fs::read_to_string(checkout().join("packaging").join(file)).unwrap();
        assert!(text.lines().any(|found| found == line), "packaging/{file} lacks: {line}");
    }
}
