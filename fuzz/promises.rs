//! What the grammar of the settings and the naming of directories promise, whatever comes in.
//!
//! The fuzz targets beside this file and `tests/properties.rs` hold the code to the same promises: each
//! function here asserts them for one input.

use std::path::{Component, Path};

use pam_cargo_target::cache_dir::DirName;
use pam_cargo_target::config::{self, Config, Loaded};

/// The keys whose loss would widen what the module does.
const LIMITS: [&str; 7] = ["root", "group", "skip", "min_uid", "name", "mode", "services"];

/// What cargo has at the top of a target directory.
const CARGO_NAMES: [&str; 7] = ["debug", "release", "doc", "tmp", "package", "build", "CACHEDIR.TAG"];

/// Reads a configuration, and asserts all that holds for every one.
pub fn configuration(arguments: &[&[u8]], file: &[u8]) -> Loaded {
    let loaded = config::parse(arguments, config::DEFAULT_FILE, Ok(file));
    prints_what_it_reads(&loaded.config);
    assert_eq!(loaded.usable, no_limit_is_lost(arguments, file), "usable: {loaded:?}");
    assert!(loaded.usable || !loaded.problems.is_empty(), "unusable for no reason that is told");
    for problem in &loaded.problems {
        assert!(!problem.to_string().is_empty());
    }
    stays_within_bounds(&loaded.config);
    loaded
}

/// The file that a configuration prints is read back as the same configuration.
fn prints_what_it_reads(config: &Config) {
    let printed = config.to_string();
    let again = config::parse(&[], config::DEFAULT_FILE, Ok(printed.as_bytes()));
    assert_eq!(&again.config, config, "printed as:\n{printed}");
    assert!(again.usable && again.problems.is_empty(), "{:?}, printed as:\n{printed}", again.problems);
}

/// Whether, of each key that limits, the value that counts is a good one: the last on the pam.d line, or else
/// the last in the file. Each is judged alone, so that nothing around it can matter.
fn no_limit_is_lost(arguments: &[&[u8]], file: &[u8]) -> bool {
    if file.contains(&0) || std::str::from_utf8(file).is_err() {
        return false;
    }
    let arguments = arguments.iter().map(|argument| argument.trim_ascii());
    let lines = file.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| !line.starts_with(b"#"));
    LIMITS.iter().all(|key| {
        let names = |setting: &&[u8]| key_of(setting) == key.as_bytes();
        let counts = arguments.clone().rfind(names).or_else(|| lines.clone().rfind(names));
        counts.is_none_or(|setting| {
            config::parse(&[setting], config::DEFAULT_FILE, Ok(b"")).problems.is_empty()
        })
    })
}

/// What stands before the `=`, or the first word where there is none.
fn key_of(setting: &[u8]) -> &[u8] {
    match setting.iter().position(|&byte| byte == b'=') {
        Some(at) => setting[..at].trim_ascii(),
        None => setting.split(u8::is_ascii_whitespace).next().unwrap_or_default(),
    }
}

/// No value of a configuration can reach out of the root, or mean something else in an environment.
fn stays_within_bounds(config: &Config) {
    if let Some(root) = &config.root {
        let path = root.as_str();
        assert!(
            path.len() > 1 && path.starts_with('/') && !path.ends_with('/') && !path.contains("//"),
            "{path:?}"
        );
        assert!(!path.contains([':', '\0', '\n']), "{path:?}");
        let plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
        assert!(Path::new(path).components().all(plain), "{path:?}");
        let rejoined: String = root.components().flat_map(|component| ["/", component]).collect();
        assert_eq!(rejoined, path);
    }
    let mode = config.mode.bits();
    assert!(mode & 0o700 == 0o700 && mode & 0o022 == 0 && mode <= 0o777, "{mode:o}");
    assert!((1..=60).contains(&config.timeout.as_secs()));
    assert!(!config.exports.is_empty() && !config.groups.is_empty());
    for export in &config.exports {
        let assignment = export.assignment("/srv/cache/alice");
        let (name, value) = assignment.split_once('=').expect("NAME=VALUE");
        assert!(
            !name.starts_with("LD_") && !["PATH", "HOME", "SHELL", "IFS", ""].contains(&name),
            "{assignment:?}"
        );
        assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()), "{assignment:?}");
        let below = Path::new(value).strip_prefix("/srv/cache/alice").expect("beneath the directory");
        assert!(
            below.components().all(|component| matches!(component, Component::Normal(_))),
            "{assignment:?}"
        );
        assert!(!value.contains([':', '\0', '\n']) && !value.ends_with('/'), "{assignment:?}");
    }
}

/// Names a user's directory by a template, and asserts that it is one plain component of a path, or none.
pub fn directory_name(template: &str, user: &str, uid: u32, host: &str) -> Option<DirName> {
    let argument = format!("name={template}");
    let loaded = config::parse(&[argument.as_bytes()], config::DEFAULT_FILE, Ok(b""));
    let made = loaded.config.name.expand(user, uid, host);
    let name = DirName::new(user, made.clone()).ok();

    let forbidden = |text: &str| {
        ["", ".", ".."].contains(&text)
            || text.contains(['/', '\0', ':', '=', char::REPLACEMENT_CHARACTER])
            || text.contains(char::is_control)
    };
    let refused = forbidden(user)
        || forbidden(&made)
        || made.starts_with(['.', '-'])
        || made.len() > 255
        || CARGO_NAMES.contains(&made.as_str());
    assert_eq!(name.is_none(), refused, "{user:?} by {template:?}: {made:?}");

    if let Some(name) = &name {
        assert_eq!(name.as_str(), made, "a name was rewritten");
        let path = Path::new("/srv/cache").join(name.as_str());
        assert_eq!(path.parent(), Some(Path::new("/srv/cache")), "{made:?}");
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(made.as_str()));
        assert_eq!(path.components().count(), 4, "{made:?}");
    }
    name
}
