//! Properties of what is pure: the grammar of the settings, and the naming of directories.
//!
//! `fuzz/promises.rs` says what holds for every input; the fuzz targets beside it search blindly and long,
//! this test with inputs that look like settings, in a moment. What either finds becomes a unit test of the
//! code that was wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise and says so"
)]

use pam_cargo_target::config::{self, Loaded};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

#[path = "../fuzz/promises.rs"]
#[allow(unreachable_pub, reason = "it is a crate of its own there")]
mod promises;

const KEYS: [&str; 15] = [
    "root", "group", "skip", "min_uid", "name", "mode", "export", "services", "on_error", "timeout", "debug",
    "conf", "colour", "Root", "",
];

/// Good values, bad values, and values that are good for another key.
const VALUES: [&str; 41] = [
    "",
    "/srv/cargo-target",
    "//srv//a/",
    "/srv/a b",
    "/srv/a /",
    "relative",
    "/",
    "/srv/../etc",
    "/srv/./a",
    "/a:b",
    "workspace",
    "workspace,1000",
    "a,,b",
    "@staff",
    "@",
    "@ staff",
    "ci-*,@bots",
    "4294967295",
    "1000",
    "007",
    "+7",
    "%u",
    "%U@%h",
    "%%%u",
    "%",
    "%x",
    "user",
    "-%u",
    "0700",
    "0777",
    "0770",
    "02700",
    "CARGO_TARGET_DIR",
    "GOCACHE:go//x/",
    "A: b /",
    "A:/b",
    "LD_PRELOAD",
    "sshd,!cron",
    "! cron",
    "fail",
    "on",
];

/// Characters that mean something somewhere: to the grammar, to paths, to terminals, to Unicode.
const CHARACTERS: [char; 28] = [
    ' ', '\t', '\r', '\n', '\0', '\u{b}', '\u{85}', '\u{a0}', '\u{3000}', '\u{2028}', '\u{fffd}', '\u{feff}',
    '/', '.', ':', '=', ',', '%', '*', '@', '!', '#', 'u', 'h', 'a', '7', '0', 'é',
];

fn text() -> impl Strategy<Value = String> {
    vec(select(&CHARACTERS[..]), 0..6).prop_map(String::from_iter)
}

fn value() -> impl Strategy<Value = String> {
    let known = select(&VALUES[..]).prop_map(str::to_owned);
    prop_oneof![
        4 => known.clone(),
        2 => (text(), known, text()).prop_map(|(before, known, after)| before + &known + &after),
        1 => text(),
    ]
}

/// A setting as somebody may write it.
fn setting() -> impl Strategy<Value = String> {
    let key = select(&KEYS[..]);
    let equals = select(&["=", "=", "=", " = ", "\t=", "", " "][..]);
    (key, equals, value()).prop_map(|(key, equals, value)| format!("{key}{equals}{value}"))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => setting().prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..12)]
}

/// A setting that can stand in either place: on one line, neither blank nor a comment.
fn portable() -> impl Strategy<Value = String> {
    setting().prop_filter("one line, text", |setting| {
        !setting.contains(['\n', '\0'])
            && !setting.trim_ascii().is_empty()
            && !setting.trim_ascii_start().starts_with('#')
            && !setting.contains("conf")
    })
}

fn parse(arguments: &[String], file: &str) -> Loaded {
    let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
    config::parse(&arguments, config::DEFAULT_FILE, Ok(file.as_bytes()))
}

/// Whether a glob names a text, by trying everything a `*` can stand for.
fn names(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|taken| names(rest, &text[taken..])),
        Some((character, rest)) => text.first() == Some(character) && names(rest, &text[1..]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Never a panic, never a value out of bounds, printed and read again the same, and unusable exactly when
    /// the value that counts for a limit is a bad one.
    #[test]
    fn configuration_keeps_its_promises(arguments in vec(bytes(), 0..5), lines in vec(bytes(), 0..5)) {
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        promises::configuration(&arguments, &lines.join(&b'\n'));
    }

    /// One grammar, two places; and comments, blank lines and carriage returns count nowhere.
    #[test]
    fn file_and_line_read_alike(settings in vec(portable(), 0..5), fill in select(&["\n", "\r\n", "\n\n \t\n", "\n# x = y\n"][..])) {
        let on_the_line = parse(&settings, "");
        let in_the_file = parse(&[], &settings.join(fill));
        prop_assert_eq!(&on_the_line.config, &in_the_file.config);
        prop_assert_eq!(on_the_line.usable, in_the_file.usable);
        prop_assert_eq!(on_the_line.problems.len(), in_the_file.problems.len());
        // The line wins, key by key: the same again in the file changes nothing.
        let in_both = parse(&settings, &settings.join("\n"));
        prop_assert_eq!(&in_both.config, &on_the_line.config);
        prop_assert_eq!(in_both.usable, on_the_line.usable);
    }

    /// Whatever a directory service calls a user, the directory is one plain component beneath the root.
    #[test]
    fn directory_name_keeps_its_promises(template in value(), user in prop_oneof![value(), any::<String>()], uid: u32, host in text()) {
        promises::directory_name(&template, &user, uid, &host);
        promises::directory_name("%u", &user, uid, &host);
    }

    /// Two users never meet in one directory by the usual templates.
    #[test]
    fn two_users_never_meet(template in select(&["%u", "%U", "user-%u", "%u@%h", "%U-%u"][..]), one in text(), other in text(), uids: (u32, u32)) {
        prop_assume!(one != other && uids.0 != uids.1);
        let first = promises::directory_name(template, &one, uids.0, "host");
        let second = promises::directory_name(template, &other, uids.1, "host");
        prop_assert!(first.is_none() || first != second);
    }

    /// The glob matcher agrees with one that tries everything.
    #[test]
    fn glob_names_whom_it_should(pattern in "[ab*]{1,8}", user in "[ab]{0,8}") {
        let loaded = parse(&[format!("skip={pattern}")], "");
        let characters = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(loaded.config.skip[0].names(&user), names(&characters(&pattern), &characters(&user)));
    }
}
