//! The grammar of the settings: bytes in, [`Config`] out.
//!
//! Settings stand in two places, as with faillock.conf(5): `key=value` words on the pam.d line, and the
//! same as lines of `/etc/security/cargo-target.conf`. The pam.d line wins, key by key. A setting that
//! cannot be used is a [`Problem`] and never disturbs the others; where its loss would widen what the
//! module does, the whole configuration is not [`usable`](Loaded::usable).
//!
//! [`parse`] is pure. [`load`] reads the one file first, and trusts it like code: it must be root's alone.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::quoting::ShellWord;

/// The file that is read when no `conf=` names another; it may be absent.
pub const DEFAULT_FILE: &str = "/etc/security/cargo-target.conf";

/// The largest configuration file, in bytes.
pub const MAX_FILE_SIZE: u64 = 64 * 1024;

/// What a byte of the file can take in memory, in bytes, and the length of the file's path on top: a line of
/// two letters makes a [`Problem`], which has both the path and a message of its own (measured: 64 at most).
const MEMORY_PER_BYTE: usize = 128;

/// A key of the file, as the manual and the README describe it. In its texts `code` stands in backquotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// What stands before the `=`.
    pub name: &'static str,
    /// What holds where it is not set.
    pub default: &'static str,
    /// What its value is, and means.
    pub meaning: &'static str,
}

/// Every key that the file may have.
pub const KEYS: [Key; 11] = [
    Key {
        name: "root",
        default: "none",
        meaning: "absolute path of the shared root; without one, or where it does not exist, the module does nothing",
    },
    Key {
        name: "group",
        default: "`workspace`",
        meaning: "comma list of group names or gids: a member of any, primary or supplementary, is a developer",
    },
    Key {
        name: "skip",
        default: "empty",
        meaning: "comma list of users who are not: `name`, `glob*`, `@group`",
    },
    Key { name: "min_uid", default: "`1000`", meaning: "users below are system users" },
    Key {
        name: "name",
        default: "`%u`",
        meaning: "what the directory is called: `%u` user, `%U` uid, `%h` short host name, `%%`; `%u` or `%U` must be in it",
    },
    Key {
        name: "mode",
        default: "`0700`",
        meaning: "of a new directory, octal: the user's bits full, no group or other write; an existing one may be stricter",
    },
    Key {
        name: "export",
        default: "`CARGO_TARGET_DIR`",
        meaning: "`NAME` or `NAME:SUFFIX`, may be repeated: the directory, or a path beneath it, which is not created",
    },
    Key {
        name: "services",
        default: "all",
        meaning: "comma list of PAM services: names limit, `!name` removes",
    },
    Key {
        name: "on_error",
        default: "`ignore`",
        meaning: "`fail` fails the session on a fault, a refusal or a bad configuration, never for whom policy skips; \
            it takes effect only where the module's line says `required`, and there a missing module file fails \
            logins too",
    },
    Key {
        name: "timeout",
        default: "`2`",
        meaning: "seconds (1 to 60) that a root on a network, FUSE or autofs mount may take to answer",
    },
    Key { name: "debug", default: "off", meaning: "log every decision" },
];

/// What the sentence about any other key starts with.
const UNKNOWN_KEY: &str = "unknown key ";

/// How much of a faulty word is quoted in a message, in characters.
const MAX_QUOTED: usize = 64;

/// Variables that decide which code a session runs: no `export` may name them, nor any `LD_*`.
const RESERVED_VARIABLES: [&str; 4] = ["PATH", "HOME", "SHELL", "IFS"];

/// What the administrator asked for, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The shared root; without one the module does nothing.
    pub root: Option<RootPath>,
    /// A member of any of these groups is a developer.
    pub groups: Vec<GroupRef>,
    /// Users who are not, whatever their groups.
    pub skip: Vec<SkipRule>,
    /// Users with a smaller uid are system users.
    pub min_uid: u32,
    /// What a user's directory is called.
    pub name: NameTemplate,
    /// The mode of a new directory.
    pub mode: DirMode,
    /// The variables to set.
    pub exports: Vec<Export>,
    /// The PAM services to act for.
    pub services: Services,
    /// What a fault does to the login.
    pub on_error: OnError,
    /// How long a root on a network, FUSE or autofs mount may take.
    pub timeout: Duration,
    /// Whether every decision is logged.
    pub debug: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: None,
            groups: vec![GroupRef::Name("workspace".into())],
            skip: Vec::new(),
            min_uid: 1000,
            name: NameTemplate(vec![Piece::User]),
            mode: DirMode(0o700),
            exports: vec![Export { variable: "CARGO_TARGET_DIR".into(), suffix: None }],
            services: Services::default(),
            on_error: OnError::Ignore,
            timeout: Duration::from_secs(2),
            debug: false,
        }
    }
}

/// Prints the file that [`parse`] reads back as the same configuration.
impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(root) = &self.root {
            writeln!(f, "root = {root}")?;
        }
        writeln!(f, "group = {}", Commas(&self.groups))?;
        writeln!(f, "skip = {}", Commas(&self.skip))?;
        writeln!(f, "min_uid = {}", self.min_uid)?;
        writeln!(f, "name = {}", self.name)?;
        writeln!(f, "mode = {}", self.mode)?;
        for export in &self.exports {
            writeln!(f, "export = {export}")?;
        }
        if self.services != Services::default() {
            writeln!(f, "services = {}", self.services)?;
        }
        writeln!(f, "on_error = {}", self.on_error)?;
        writeln!(f, "timeout = {}", self.timeout.as_secs())?;
        writeln!(f, "debug = {}", if self.debug { "on" } else { "off" })
    }
}

/// A configuration with what was wrong in its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Every setting that could be used, and defaults for the others.
    pub config: Config,
    /// What could not be used.
    pub problems: Vec<Problem>,
    /// False where a setting was lost that would have narrowed what the module does: then it must do
    /// nothing for the session.
    pub usable: bool,
}

/// One setting, or a whole file, that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: Place,
    cause: String,
}

impl Problem {
    /// Where the setting stands: `argument N`, `PATH:LINE`, or the path of a file that cannot be used.
    #[must_use]
    pub fn place(&self) -> String {
        self.place.to_string()
    }

    /// What is wrong with it.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// The key, where it is none of [`KEYS`]; as quoted in the cause.
    #[must_use]
    pub fn unknown_key(&self) -> Option<&str> {
        self.cause.strip_prefix(UNKNOWN_KEY)?.strip_prefix('`')?.strip_suffix('`')
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.cause)
    }
}

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The pam.d line; arguments count from 1.
    Argument(usize),
    /// A line of the file; lines count from 1.
    Line(String, usize),
    /// The file as a whole.
    File(String),
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(number) => write!(f, "argument {number}"),
            Self::Line(path, line) => write!(f, "{path}:{line}"),
            Self::File(path) => f.write_str(path),
        }
    }
}

/// Reads the configuration of one session: the words of the pam.d line and the file they name, or
/// [`DEFAULT_FILE`].
#[must_use]
pub fn load(arguments: &[&[u8]]) -> Loaded {
    let named = file_named_in(arguments);
    let path = named.as_deref().unwrap_or(DEFAULT_FILE);
    match read(path) {
        Err(Unreadable::Absent) if named.is_none() => parse(arguments, path, Ok(&[])),
        content => parse(arguments, path, content.as_deref()),
    }
}

/// The last `conf=` among the arguments. A path that is not UTF-8 names a file that does not exist.
fn file_named_in(arguments: &[&[u8]]) -> Option<String> {
    let path = arguments.iter().rev().find_map(|argument| argument.strip_prefix(b"conf="))?;
    Some(String::from_utf8_lossy(path).into_owned())
}

/// Why a configuration file is not used.
#[derive(Debug)]
pub enum Unreadable {
    /// There is none.
    Absent,
    /// It is there, or should be, but cannot be read.
    Io(io::Error),
    /// It is not what only root could have written.
    Untrusted(String),
}

impl Display for Unreadable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("does not exist; create it, or drop conf= from the pam.d line"),
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::Untrusted(cause) => f.write_str(cause),
        }
    }
}

/// Reads a file that only root could have written, without waiting for anyone (a FIFO would).
fn read(path: &str) -> Result<Vec<u8>, Unreadable> {
    let open = || -> io::Result<File> {
        File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(Path::new(path))
    };
    if !path.starts_with('/') {
        return Err(Unreadable::Untrusted("is not an absolute path; conf= takes one".into()));
    }
    let file = open().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Absent,
        _ => Unreadable::Io(error),
    })?;
    let found = file.metadata().map_err(Unreadable::Io)?;
    let kind = found.file_type();
    if !kind.is_file() {
        let what = match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () => "a special file",
        };
        return Err(Unreadable::Untrusted(format!("is {what}, not a regular file")));
    }
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        let in_shell = ShellWord(path);
        return Err(Unreadable::Untrusted(format!(
            "belongs to uid {} with mode {:04o}, but whoever can write it decides for root; \
             look into it, then run: chown root {in_shell}; chmod go-w {in_shell}",
            found.uid(),
            found.mode() & 0o7777
        )));
    }
    let mut content = Vec::with_capacity(usize::try_from(found.len().min(MAX_FILE_SIZE)).unwrap_or(0) + 1);
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut content).map_err(Unreadable::Io)?;
    if content.len() as u64 > MAX_FILE_SIZE {
        return Err(Unreadable::Untrusted(format!("is larger than {} KiB", MAX_FILE_SIZE / 1024)));
    }
    // A failed allocation would abort the host, and nothing that a session keeps can be larger than this.
    let mut parsed = Vec::<u8>::new();
    let size = content.len() * (MEMORY_PER_BYTE + path.len());
    match black_box(&mut parsed).try_reserve_exact(size) {
        Ok(()) => Ok(content),
        Err(_) => Err(Unreadable::Io(io::ErrorKind::OutOfMemory.into())),
    }
}

/// The configuration that the words of a pam.d line and the content of the file at `path` make.
#[must_use]
pub fn parse(arguments: &[&[u8]], path: &str, content: Result<&[u8], &Unreadable>) -> Loaded {
    let mut problems = Vec::new();

    let mut from_line = Settings::default();
    for (index, argument) in arguments.iter().enumerate() {
        if argument.starts_with(b"conf=") {
            continue;
        }
        let (key, value) = split(argument);
        if let Err(cause) = from_line.put(key, value) {
            problems.push(Problem { place: Place::Argument(index + 1), cause });
        }
    }

    let mut from_file = Settings::default();
    let mut file_is_lost = false;
    match content.map_err(ToString::to_string).and_then(as_text) {
        Ok(text) => {
            for (index, line) in text.lines().enumerate() {
                let line = line.trim_ascii();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (key, value) = split(line.as_bytes());
                if let Err(cause) = from_file.put(key, value) {
                    problems.push(Problem { place: Place::Line(path.into(), index + 1), cause });
                }
            }
        }
        Err(cause) => {
            file_is_lost = true;
            problems.push(Problem { place: Place::File(path.into()), cause });
        }
    }

    let settings = from_line.over(from_file);
    Loaded { usable: !file_is_lost && !settings.has_lost_a_limit(), config: settings.into_config(), problems }
}

/// The content as text. A file with a byte that no text has is not one whose other lines can be trusted.
fn as_text(content: &[u8]) -> Result<&str, String> {
    let line_of =
        |offset: usize| content.iter().take(offset).filter(|&&byte| byte == b'\n').count().saturating_add(1);
    if let Some(offset) = content.iter().position(|&byte| byte == 0) {
        return Err(format!("is not text: there is a NUL byte in line {}", line_of(offset)));
    }
    std::str::from_utf8(content)
        .map_err(|error| format!("is not text: line {} is not UTF-8", line_of(error.valid_up_to())))
}

/// `key=value`, blanks around both dropped. A word without `=` is a key without a value, and so is the
/// first word of a line that forgot it: `min_uid 2000` must not be lost unnoticed.
fn split(setting: &[u8]) -> (&[u8], Option<&[u8]>) {
    if let Some(at) = setting.iter().position(|&byte| byte == b'=') {
        let (key, value) = setting.split_at(at);
        (key.trim_ascii(), Some(value.get(1..).unwrap_or_default().trim_ascii()))
    } else {
        let setting = setting.trim_ascii();
        let word = setting.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        // `debug` needs no value, so that `debug off` must not be taken for it.
        (if word == b"debug" { setting } else { word }, None)
    }
}

/// A faulty word as messages show it: quoted, and no longer than a line can bear.
fn quoted(word: &str) -> String {
    match word.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("`{}...`", word.get(..end).unwrap_or_default()),
        None => format!("`{word}`"),
    }
}

/// What one place says of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Setting<T> {
    /// Nothing.
    #[default]
    Unset,
    /// Something that cannot be used.
    Lost,
    /// This.
    Is(T),
}

impl<T> Setting<T> {
    fn put(&mut self, parsed: Result<T, String>) -> Result<(), String> {
        match parsed {
            Ok(value) => {
                *self = Self::Is(value);
                Ok(())
            }
            Err(cause) => {
                *self = Self::Lost;
                Err(cause)
            }
        }
    }

    fn over(self, other: Self) -> Self {
        if matches!(self, Self::Unset) { other } else { self }
    }

    fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }

    fn value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unset | Self::Lost => None,
        }
    }
}

/// What one place says, key by key; the last of several values counts.
#[derive(Debug, Default)]
struct Settings {
    root: Setting<RootPath>,
    group: Setting<Vec<GroupRef>>,
    skip: Setting<Vec<SkipRule>>,
    min_uid: Setting<u32>,
    name: Setting<NameTemplate>,
    mode: Setting<DirMode>,
    /// `export` adds, so that one bad value takes no other with it.
    export: Setting<Vec<Export>>,
    services: Setting<Services>,
    on_error: Setting<OnError>,
    timeout: Setting<Duration>,
    debug: Setting<bool>,
}

impl Settings {
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let name = String::from_utf8_lossy(key);
        let text = match value.map(std::str::from_utf8) {
            Some(Ok(text)) => Ok(text),
            Some(Err(_)) => Err(format!("the value of {} is not UTF-8", quoted(&name))),
            None => Err(format!("{} has no value; write {name}=VALUE", quoted(&name))),
        };
        let in_context = |cause: String| format!("{name}: {cause}");
        match &*name {
            "root" => self.root.put(text.and_then(|text| RootPath::parse(text).map_err(in_context))),
            "group" => self.group.put(text.and_then(|text| list(text, GroupRef::parse).map_err(in_context))),
            "skip" if text == Ok("") => self.skip.put(Ok(Vec::new())),
            "skip" => self.skip.put(text.and_then(|text| list(text, SkipRule::parse).map_err(in_context))),
            "min_uid" => self.min_uid.put(text.and_then(|text| number(text).map_err(in_context))),
            "name" => self.name.put(text.and_then(|text| NameTemplate::parse(text).map_err(in_context))),
            "mode" => self.mode.put(text.and_then(|text| DirMode::parse(text).map_err(in_context))),
            "export" => match text.and_then(|text| Export::parse(text).map_err(in_context)) {
                Ok(export) => {
                    let mut all = std::mem::take(&mut self.export).value().unwrap_or_default();
                    all.push(export);
                    self.export.put(Ok(all))
                }
                Err(cause) if matches!(self.export, Setting::Unset) => self.export.put(Err(cause)),
                Err(cause) => Err(cause),
            },
            "services" => self.services.put(text.and_then(|text| Services::parse(text).map_err(in_context))),
            "on_error" => self.on_error.put(text.and_then(|text| OnError::parse(text).map_err(in_context))),
            "timeout" => self.timeout.put(text.and_then(|text| timeout(text).map_err(in_context))),
            "debug" if value.is_none() => self.debug.put(Ok(true)),
            "debug" => self.debug.put(text.and_then(|text| match text {
                "on" => Ok(true),
                "off" => Ok(false),
                _ => Err(in_context(format!("{} is neither on nor off", quoted(text)))),
            })),
            "conf" => Err("conf= can only stand on the pam.d line".into()),
            _ => Err(format!("{UNKNOWN_KEY}{}", quoted(&name))),
        }
    }

    fn over(self, other: Self) -> Self {
        Self {
            root: self.root.over(other.root),
            group: self.group.over(other.group),
            skip: self.skip.over(other.skip),
            min_uid: self.min_uid.over(other.min_uid),
            name: self.name.over(other.name),
            mode: self.mode.over(other.mode),
            export: self.export.over(other.export),
            services: self.services.over(other.services),
            on_error: self.on_error.over(other.on_error),
            timeout: self.timeout.over(other.timeout),
            debug: self.debug.over(other.debug),
        }
    }

    /// Whether a value was lost without which the module would do more than it was asked to.
    fn has_lost_a_limit(&self) -> bool {
        self.root.is_lost()
            || self.group.is_lost()
            || self.skip.is_lost()
            || self.min_uid.is_lost()
            || self.name.is_lost()
            || self.mode.is_lost()
            || self.services.is_lost()
    }

    fn into_config(self) -> Config {
        let default = Config::default();
        Config {
            root: self.root.value(),
            groups: self.group.value().unwrap_or(default.groups),
            skip: self.skip.value().unwrap_or(default.skip),
            min_uid: self.min_uid.value().unwrap_or(default.min_uid),
            name: self.name.value().unwrap_or(default.name),
            mode: self.mode.value().unwrap_or(default.mode),
            exports: self.export.value().unwrap_or(default.exports),
            services: self.services.value().unwrap_or(default.services),
            on_error: self.on_error.value().unwrap_or(default.on_error),
            timeout: self.timeout.value().unwrap_or(default.timeout),
            debug: self.debug.value().unwrap_or(default.debug),
        }
    }
}

/// A comma list of at least one element, blanks around each dropped.
fn list<T>(text: &str, element: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',')
        .map(|word| match word.trim_ascii() {
            "" => Err("there is an empty element in the list".into()),
            word => element(word),
        })
        .collect()
}

/// Prints a list the way [`list`] reads it.
struct Commas<'a, T>(&'a [T]);

impl<T: Display> Display for Commas<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, element) in self.0.iter().enumerate() {
            write!(f, "{}{element}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A uid or gid. The largest number is no id: chown(2) takes it for "leave as it is".
fn number(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(id) if id < u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id),
        _ => Err(format!("{} is not a number from 0 to {}", quoted(text), u32::MAX - 1)),
    }
}

/// Whole seconds, bounded by what anyone would wait for a login.
fn timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=60) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Duration::from_secs(seconds))
        }
        _ => Err(format!("{} is not a number of seconds from 1 to 60", quoted(text))),
    }
}

/// Drops doubled and trailing slashes, and refuses what would make a path mean something else in a
/// variable, a log line or another directory.
fn clean_path(text: &str) -> Result<String, String> {
    if text.contains(':') {
        return Err(format!("{} contains `:`, which separates paths in a variable", quoted(text)));
    }
    if text.contains(char::is_control) {
        return Err(format!("{} contains a control character", quoted(text)));
    }
    let components: Vec<&str> = text.split('/').filter(|component| !component.is_empty()).collect();
    if components.iter().any(|component| matches!(*component, "." | "..")) {
        return Err(format!("{} contains a `.` or `..` component", quoted(text)));
    }
    if components.iter().any(|component| component.len() > 255) || text.len() > 4095 {
        return Err(format!("{} is longer than a path can be", quoted(text)));
    }
    let clean = components.join("/");
    if clean.ends_with(|c: char| c.is_ascii_whitespace()) {
        return Err(format!(
            "{} ends with a blank, which would be lost where it is written again",
            quoted(text)
        ));
    }
    Ok(clean)
}

/// The absolute path of the shared root, without doubled or trailing slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPath(String);

impl RootPath {
    /// # Errors
    ///
    /// A sentence that says what is wrong with the path.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("{} is not an absolute path", quoted(text)));
        }
        match clean_path(text)?.as_str() {
            "" => Err("`/` is the whole system; give the shared root a directory of its own".into()),
            clean => Ok(Self(format!("/{clean}"))),
        }
    }

    /// The path, which starts with `/` and does not end with one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of the directory that so many components lead to; `/` for none.
    pub(crate) fn first_components(&self, count: usize) -> &str {
        let end = self.0.match_indices('/').map(|(at, _)| at).skip(1).nth(count.saturating_sub(1));
        if count == 0 { "/" } else { self.0.get(..end.unwrap_or(self.0.len())).unwrap_or_default() }
    }

    /// Whether this is a user's home directory, or one above it: `/home` would find `/home/alice` in order
    /// and take it for a cache.
    ///
    /// Compared as text: to resolve a home directory could mount it, or wait for its server.
    #[must_use]
    pub fn contains_home(&self, home: &Path) -> bool {
        home.starts_with(&self.0)
    }

    /// The names on the way from `/` to the root, the root's own last.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }
}

impl Display for RootPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A group, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRef {
    /// A name that NSS is asked about.
    Name(String),
    /// A gid.
    Gid(u32),
}

impl GroupRef {
    fn parse(word: &str) -> Result<Self, String> {
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(word).map(Self::Gid);
        }
        if word.contains(|c: char| c == ':' || c.is_control()) {
            return Err(format!("{} cannot be the name of a group", quoted(word)));
        }
        Ok(Self::Name(word.into()))
    }
}

impl Display for GroupRef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Gid(gid) => write!(f, "{gid}"),
        }
    }
}

/// One element of the skip list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipRule {
    /// Users by name; `*` stands for any run of characters.
    Users(String),
    /// The members of a group.
    Members(GroupRef),
}

impl SkipRule {
    fn parse(word: &str) -> Result<Self, String> {
        match word.strip_prefix('@').map(str::trim_ascii_start) {
            Some("") => Err("`@` names no group".into()),
            Some(group) => GroupRef::parse(group).map(Self::Members),
            None if word.contains(char::is_control) => {
                Err(format!("{} contains a control character", quoted(word)))
            }
            None => Ok(Self::Users(word.into())),
        }
    }

    /// Whether the rule names this user; a group is not asked about.
    #[must_use]
    pub fn names(&self, user: &str) -> bool {
        let Self::Users(pattern) = self else { return false };
        let Some((head, rest)) = pattern.split_once('*') else { return pattern == user };
        let Some(mut left) = user.strip_prefix(head) else { return false };
        let mut pieces = rest.split('*').peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return left.ends_with(piece);
            }
            let Some(at) = left.find(piece) else { return false };
            left = left.get(at + piece.len()..).unwrap_or_default();
        }
        true
    }
}

impl Display for SkipRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users(pattern) => f.write_str(pattern),
            Self::Members(group) => write!(f, "@{group}"),
        }
    }
}

/// What a user's directory is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    User,
    Uid,
    Host,
}

impl NameTemplate {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains(|c: char| matches!(c, '/' | ':' | '=') || c.is_control()) {
            return Err(format!("{} contains `/`, `:`, `=` or a control character", quoted(text)));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                plain.push(character);
                continue;
            }
            let piece = match characters.next() {
                Some('%') => {
                    plain.push('%');
                    continue;
                }
                Some('u') => Piece::User,
                Some('U') => Piece::Uid,
                Some('h') => Piece::Host,
                _ => return Err(format!("{} has a `%` that is not %u, %U, %h or %%", quoted(text))),
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::User | Piece::Uid)) {
            return Err(format!(
                "{} has neither %u nor %U: all users would share one directory",
                quoted(text)
            ));
        }
        Ok(Self(pieces))
    }

    /// Whether the host's name is needed.
    #[must_use]
    pub fn names_host(&self) -> bool {
        self.0.contains(&Piece::Host)
    }

    /// The name that the template makes. What is put in is not expanded again.
    #[must_use]
    pub fn expand(&self, user: &str, uid: u32, host: &str) -> String {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::User => name.push_str(user),
                Piece::Uid => name.push_str(&uid.to_string()),
                Piece::Host => name.push_str(host),
            }
        }
        name
    }
}

impl Display for NameTemplate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('%', "%%"))?,
                Piece::User => f.write_str("%u")?,
                Piece::Uid => f.write_str("%U")?,
                Piece::Host => f.write_str("%h")?,
            }
        }
        Ok(())
    }
}

/// The mode of a new directory: the user's bits full, nobody else may write, no special bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirMode(u32);

impl DirMode {
    fn parse(text: &str) -> Result<Self, String> {
        let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode & !0o777 != 0 => {
                Err(format!("{} has a special bit or is no mode", quoted(text)))
            }
            Ok(mode) if octal && mode & 0o700 != 0o700 => {
                Err(format!("{} does not give the user all of its own directory", quoted(text)))
            }
            Ok(mode) if octal && mode & 0o022 != 0 => {
                Err(format!("{} would let others write into a user's directory", quoted(text)))
            }
            Ok(mode) if octal => Ok(Self(mode)),
            _ => Err(format!("{} is not an octal mode such as 0700", quoted(text))),
        }
    }

    /// The permission bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Display for DirMode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A variable to set: to the directory itself, or to a path beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    variable: String,
    suffix: Option<String>,
}

impl Export {
    /// The variable's name.
    #[must_use]
    pub fn variable(&self) -> &str {
        &self.variable
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (variable, suffix) = match text.split_once(':') {
            Some((variable, suffix)) => (variable, Some(suffix)),
            None => (text, None),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !variable.bytes().all(is_name) || variable.bytes().next().is_none_or(|byte| byte.is_ascii_digit())
        {
            return Err(format!("{} is not the name of a variable", quoted(variable)));
        }
        if RESERVED_VARIABLES.contains(&variable) || variable.starts_with("LD_") {
            return Err(format!("{variable} decides which programs a session runs and is not set here"));
        }
        let suffix = match suffix {
            None => None,
            Some(text) if text.starts_with('/') => {
                return Err(format!("{} is absolute; what follows the colon is relative", quoted(text)));
            }
            Some(text) => match clean_path(text)? {
                clean if clean.is_empty() => {
                    return Err(format!("{} has nothing after the colon", quoted(variable)));
                }
                clean => Some(clean),
            },
        };
        Ok(Self { variable: variable.into(), suffix })
    }

    /// The assignment `NAME=VALUE` for a user whose directory is `directory`.
    #[must_use]
    pub fn assignment(&self, directory: &str) -> String {
        match &self.suffix {
            None => format!("{}={directory}", self.variable),
            Some(suffix) => format!("{}={directory}/{suffix}", self.variable),
        }
    }
}

impl Display for Export {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.suffix {
            None => f.write_str(&self.variable),
            Some(suffix) => write!(f, "{}:{suffix}", self.variable),
        }
    }
}

/// The PAM services to act for: all, unless some are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    only: Vec<String>,
    except: Vec<String>,
}

impl Services {
    fn parse(text: &str) -> Result<Self, String> {
        let mut services = Self::default();
        for word in list(text, |word| Ok(word.to_owned()))? {
            if word.contains(char::is_control) {
                return Err(format!("{} contains a control character", quoted(&word)));
            }
            match word.strip_prefix('!').map(str::trim_ascii_start) {
                Some("") => return Err("`!` names no service".into()),
                Some(name) => services.except.push(name.into()),
                None => services.only.push(word),
            }
        }
        Ok(services)
    }

    /// Whether the module acts for this service.
    #[must_use]
    pub fn allow(&self, service: &str) -> bool {
        let is_it = |name: &String| name == service;
        (self.only.is_empty() || self.only.iter().any(is_it)) && !self.except.iter().any(is_it)
    }
}

impl Display for Services {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let except: Vec<String> = self.except.iter().map(|name| format!("!{name}")).collect();
        let separator = if self.only.is_empty() || except.is_empty() { "" } else { "," };
        write!(f, "{}{separator}{}", Commas(&self.only), Commas(&except))
    }
}

/// What a fault, a refusal or a bad configuration does to the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Nothing: the session opens without the variable.
    Ignore,
    /// The session fails with `PAM_SESSION_ERR`.
    Fail,
}

impl OnError {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ignore" => Ok(Self::Ignore),
            "fail" => Ok(Self::Fail),
            _ => Err(format!("{} is neither ignore nor fail", quoted(text))),
        }
    }
}

impl Display for OnError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignore => "ignore",
            Self::Fail => "fail",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops and says so")]
mod tests {
    use super::*;

    fn parse_both(arguments: &[&str], file: &str) -> Loaded {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        parse(&arguments, "F", Ok(file.as_bytes()))
    }

    /// The configuration of one good setting.
    fn good(setting: &str) -> Config {
        let loaded = parse_both(&[setting], "");
        assert!(loaded.usable && loaded.problems.is_empty(), "{setting}: {loaded:?}");
        loaded.config
    }

    /// Lines that a configuration prints, without those of the default.
    fn printed(config: &Config) -> Vec<String> {
        let default = Config::default().to_string();
        config
            .to_string()
            .lines()
            .filter(|line| !default.lines().any(|known| known == *line))
            .map(str::to_owned)
            .collect()
    }

    fn problems(loaded: &Loaded) -> Vec<String> {
        loaded.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_said_is_the_default() {
        for loaded in [parse_both(&[], ""), parse_both(&[], "\n \t\r\n#\n # group = x\n##")] {
            assert_eq!(loaded, Loaded { config: Config::default(), problems: vec![], usable: true });
        }
        let default = Config::default();
        assert_eq!(
            (default.root, default.min_uid, default.mode.bits(), default.timeout.as_secs()),
            (None, 1000, 0o700, 2)
        );
        assert_eq!(default.exports[0].assignment("/a/b"), "CARGO_TARGET_DIR=/a/b");
        assert_eq!(default.name.expand("alice", 2001, "host"), "alice");
        assert_eq!(default.groups, [GroupRef::Name("workspace".into())]);
    }

    #[test]
    fn good_values_mean_what_they_print() {
        for (setting, line) in [
            ("root=/srv/cargo-target", "root = /srv/cargo-target"),
            ("root=//srv///cargo-target//", "root = /srv/cargo-target"),
            ("  root\t = \t/srv/a b  ", "root = /srv/a b"),
            ("root=/srv/.hidden/..x/#y", "root = /srv/.hidden/..x/#y"),
            ("root=/srv/größe", "root = /srv/größe"),
            ("group=staff", "group = staff"),
            ("group= a , b b,7,007 ", "group = a,b b,7,7"),
            ("group=0", "group = 0"),
            ("group=4294967294", "group = 4294967294"),
            ("group=7up", "group = 7up"),
            ("group=@odd", "group = @odd"),
            ("skip=carol,ci-*, @bots ,@12,*", "skip = carol,ci-*,@bots,@12,*"),
            ("skip=@ bots", "skip = @bots"),
            ("min_uid=0", "min_uid = 0"),
            ("min_uid=0500", "min_uid = 500"),
            ("min_uid=4294967294", "min_uid = 4294967294"),
            ("name=%u@%h", "name = %u@%h"),
            ("name=%%%U%%", "name = %%%U%%"),
            ("name=a b%ucafé", "name = a b%ucafé"),
            ("mode=755", "mode = 0755"),
            ("mode=0000750", "mode = 0750"),
            ("mode=0711", "mode = 0711"),
            ("export=_A1:b/{c}/", "export = _A1:b/{c}"),
            ("export=PATHS", "export = PATHS"),
            ("services=sshd,!cron, ! su ,login", "services = sshd,login,!cron,!su"),
            ("services=!cron", "services = !cron"),
            ("on_error=fail", "on_error = fail"),
            ("timeout=60", "timeout = 60"),
            ("timeout=01", "timeout = 1"),
            ("debug", "debug = on"),
            ("debug=on", "debug = on"),
        ] {
            assert_eq!(printed(&good(setting)), [line], "{setting}");
        }
        for setting in ["skip=", "skip =  ", "debug=off", "on_error=ignore", "mode=700"] {
            assert_eq!(good(setting), Config::default(), "{setting}");
        }
    }

    #[test]
    fn bad_values_are_named_and_only_limits_stop() {
        const STOPS: bool = false;
        const GOES_ON: bool = true;
        for (setting, usable, cause) in [
            ("root=", STOPS, "root: `` is not an absolute path"),
            ("root", STOPS, "`root` has no value; write root=VALUE"),
            ("root=a/b", STOPS, "root: `a/b` is not an absolute path"),
            ("root=/", STOPS, "root: `/` is the whole system"),
            ("root=///", STOPS, "root: `/` is the whole system"),
            ("root=/a/../b", STOPS, "contains a `.` or `..` component"),
            ("root=/a/.", STOPS, "contains a `.` or `..` component"),
            ("root=/a:b", STOPS, "contains `:`"),
            ("root=/a\u{1b}b", STOPS, "contains a control character"),
            ("root=/a\u{85}b", STOPS, "contains a control character"),
            ("group=", STOPS, "group: there is an empty element"),
            ("group=a,,b", STOPS, "empty element"),
            ("group=,", STOPS, "empty element"),
            ("group=4294967295", STOPS, "`4294967295` is not a number from 0 to 4294967294"),
            ("group=99999999999", STOPS, "is not a number"),
            ("group=a:b", STOPS, "cannot be the name of a group"),
            ("skip=@", STOPS, "`@` names no group"),
            ("skip=@ ", STOPS, "`@` names no group"),
            ("skip=a,", STOPS, "empty element"),
            ("skip=a\tb", STOPS, "contains a control character"),
            ("skip", STOPS, "`skip` has no value"),
            ("min_uid=", STOPS, "`` is not a number"),
            ("min_uid=-1", STOPS, "`-1` is not a number"),
            ("min_uid=+1", STOPS, "`+1` is not a number"),
            ("min_uid=1e3", STOPS, "`1e3` is not a number"),
            ("min_uid 2000", STOPS, "`min_uid` has no value"),
            ("name=", STOPS, "has neither %u nor %U"),
            ("name=cache", STOPS, "has neither %u nor %U"),
            ("name=%%u", STOPS, "has neither %u nor %U"),
            ("name=%u%", STOPS, "has a `%` that is not"),
            ("name=%u%%%x", STOPS, "has a `%` that is not"),
            ("name=%u/x", STOPS, "contains `/`"),
            ("name=%u=x", STOPS, "contains `/`, `:`, `=`"),
            ("mode=", STOPS, "is not an octal mode"),
            ("mode=7x0", STOPS, "is not an octal mode"),
            ("mode=0o700", STOPS, "is not an octal mode"),
            ("mode=800", STOPS, "is not an octal mode"),
            ("mode=777777777777", STOPS, "is not an octal mode"),
            ("mode=1700", STOPS, "has a special bit"),
            ("mode=0600", STOPS, "does not give the user all"),
            ("mode=0702", STOPS, "would let others write"),
            ("mode=0720", STOPS, "would let others write"),
            ("services=", STOPS, "empty element"),
            ("services=!", STOPS, "`!` names no service"),
            ("services=!  ,sshd", STOPS, "`!` names no service"),
            ("export=", GOES_ON, "`` is not the name of a variable"),
            ("export=A-B", GOES_ON, "`A-B` is not the name of a variable"),
            ("export=É", GOES_ON, "is not the name of a variable"),
            ("export=A:", GOES_ON, "has nothing after the colon"),
            ("export=A:b:c", GOES_ON, "contains `:`"),
            ("export=A:b/../c", GOES_ON, "contains a `.` or `..` component"),
            ("export=A:/b", GOES_ON, "is absolute"),
            ("export=PATH:x", GOES_ON, "PATH decides"),
            ("export=LD_AUDIT", GOES_ON, "LD_AUDIT decides"),
            ("on_error=Fail", GOES_ON, "`Fail` is neither ignore nor fail"),
            ("timeout=0", GOES_ON, "from 1 to 60"),
            ("timeout=61", GOES_ON, "from 1 to 60"),
            ("timeout=1.5", GOES_ON, "from 1 to 60"),
            ("debug=yes", GOES_ON, "`yes` is neither on nor off"),
            ("debug=", GOES_ON, "`` is neither on nor off"),
            ("colour=green", GOES_ON, "unknown key `colour`"),
            ("Root=/srv", GOES_ON, "unknown key `Root`"),
            ("=x", GOES_ON, "unknown key ``"),
            ("", GOES_ON, "unknown key ``"),
        ] {
            let loaded = parse_both(&[setting], "");
            let told = problems(&loaded);
            assert!(
                told.len() == 1 && told[0].starts_with("argument 1: ") && told[0].contains(cause),
                "{setting}: {told:?}"
            );
            assert_eq!(loaded.usable, usable, "{setting}");
            assert_eq!(loaded.config, Config::default(), "{setting}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_and_lost() {
        let loaded = parse(&[b"group=caf\xe9", b"debug=\xff", b"\xe9=1"], "F", Ok(b""));
        assert_eq!(
            problems(&loaded),
            [
                "argument 1: the value of `group` is not UTF-8",
                "argument 2: the value of `debug` is not UTF-8",
                "argument 3: unknown key `\u{fffd}`",
            ]
        );
        assert!(!loaded.usable);

        for (content, cause) in [
            (&b"root = /srv\n\0"[..], "F: is not text: there is a NUL byte in line 2"),
            (b"a = 1\nb = 2\nc = \xe9", "F: is not text: line 3 is not UTF-8"),
            (b"\xff\xfe#", "F: is not text: line 1 is not UTF-8"),
        ] {
            let loaded = parse(&[b"root=/srv/a"], "F", Ok(content));
            assert_eq!((problems(&loaded), loaded.usable), (vec![cause.to_owned()], false));
            assert_eq!(loaded.config.root, Some(RootPath("/srv/a".into())), "the line is read all the same");
        }
        let gone = parse(&[], "F", Err(&Unreadable::Absent));
        assert!(!gone.usable && problems(&gone)[0].starts_with("F: does not exist"), "{gone:?}");
    }

    #[test]
    fn last_of_one_place_counts() {
        let min_uid = |arguments: &[&str], file: &str| {
            let loaded = parse_both(arguments, file);
            (loaded.config.min_uid, loaded.usable, loaded.problems.len())
        };
        assert_eq!(min_uid(&["min_uid=1", "min_uid=2"], ""), (2, true, 0));
        assert_eq!(min_uid(&[], "min_uid=1\nmin_uid=2"), (2, true, 0));
        assert_eq!(min_uid(&["min_uid=x", "min_uid=2"], ""), (2, true, 1));
        assert_eq!(min_uid(&["min_uid=1", "min_uid=x"], ""), (1000, false, 1));
        assert_eq!(min_uid(&["min_uid=1"], "min_uid=2"), (1, true, 0));
        assert_eq!(min_uid(&["min_uid=1"], "min_uid=x"), (1, true, 1));
        assert_eq!(min_uid(&["min_uid=x"], "min_uid=2"), (1000, false, 1), "the default, not the file's");
    }

    #[test]
    fn exports_add_in_one_place_and_replace_across() {
        let exports = |arguments: &[&str], file: &str| {
            let Config { exports, .. } = parse_both(arguments, file).config;
            exports.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(exports(&["export=A", "export=B:b"], "export = C"), ["A", "B:b"]);
        assert_eq!(exports(&[], "export = C\nexport = D\nexport = C"), ["C", "D", "C"]);
        assert_eq!(
            exports(&["export=1", "export=B"], "export = C"),
            ["B"],
            "one bad one takes no other with it"
        );
        assert_eq!(exports(&["export=B", "export=1"], "export = C"), ["B"]);
        assert_eq!(exports(&["export=1"], "export = C"), ["CARGO_TARGET_DIR"], "the default, not the file's");
        assert_eq!(exports(&[], "export = 1"), ["CARGO_TARGET_DIR"]);
    }

    #[test]
    fn problems_name_their_place() {
        let loaded = parse_both(&["x", "debug", "y=1"], "\n# fine\nz\r\ndebug\n\tq = 1\n");
        assert_eq!(
            problems(&loaded),
            [
                "argument 1: unknown key `x`",
                "argument 3: unknown key `y`",
                "F:3: unknown key `z`",
                "F:5: unknown key `q`",
            ]
        );
        let long = "k".repeat(100);
        let shown = format!("argument 1: unknown key `{}...`", "k".repeat(64));
        assert_eq!(problems(&parse_both(&[&long], "")), [shown]);
        let exact = "é".repeat(64);
        assert_eq!(problems(&parse_both(&[&exact], "")), [format!("argument 1: unknown key `{exact}`")]);
    }

    #[test]
    fn conf_is_of_the_line_alone() {
        assert_eq!(file_named_in(&[b"root=/srv", b"debug"]), None);
        assert_eq!(file_named_in(&[b"conf=/a", b"x", b"conf=/b"]).as_deref(), Some("/b"));
        assert_eq!(file_named_in(&[b"conf="]).as_deref(), Some(""));
        assert_eq!(file_named_in(&[b"conf=/\xe9"]).as_deref(), Some("/\u{fffd}"));
        assert_eq!(
            problems(&parse_both(&["conf=/a"], "conf = /b")),
            ["F:1: conf= can only stand on the pam.d line"]
        );
    }

    #[test]
    fn no_comment_within_a_line() {
        let loaded = parse_both(&[], "root = /srv/a # here\nname = %u#1\n");
        assert_eq!(printed(&loaded.config), ["root = /srv/a # here", "name = %u#1"]);
    }

    /// Only ASCII blanks are blanks: a no-break space belongs to the word that it stands in.
    #[test]
    fn one_kind_of_blank_is_dropped() {
        assert_eq!(printed(&good("name=\u{a0}%u\u{a0}")), ["name = \u{a0}%u\u{a0}"]);
        assert_eq!(problems(&parse_both(&[], "\u{a0}root = /srv")), ["F:1: unknown key `\u{a0}root`"]);
    }

    /// Found by tests/properties.rs: dropping the last slash bared a blank, which reading dropped.
    #[test]
    fn path_that_ends_with_a_blank_is_refused() {
        for setting in ["root=/srv/a /", "export=A:b /"] {
            let loaded = parse_both(&[setting], "");
            assert!(problems(&loaded)[0].contains("ends with a blank"), "{setting}: {loaded:?}");
        }
        assert_eq!(printed(&good("export=A: b /c")), ["export = A: b /c"]);
    }

    #[test]
    fn paths_too_long_for_the_kernel_are_refused() {
        let component = "c".repeat(255);
        assert_eq!(printed(&good(&format!("root=/{component}"))), [format!("root = /{component}")]);
        let deep = format!("root={}", format!("/{component}").repeat(16));
        for setting in [format!("root=/{component}c"), deep] {
            assert!(problems(&parse_both(&[&setting], ""))[0].contains("is longer than a path can be"));
        }
    }

    #[test]
    fn glob_matches_whole_names() {
        for (pattern, named, not_named) in [
            ("alice", &["alice"][..], &["alic", "alicea", "Alice", ""][..]),
            ("*", &["", "a", "*"], &[]),
            ("**", &["", "ab"], &[]),
            ("ci-*", &["ci-", "ci-runner"], &["ci", "xci-", "CI-1"]),
            ("*-bot", &["-bot", "a-bot", "-bot-bot"], &["bot", "a-bots"]),
            ("a*a", &["aa", "aba", "aaa"], &["a", "ab", "ba"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["acb", "ab", "abcd", "ac"]),
            ("*a*", &["a", "bab"], &["", "b"]),
            ("*é", &["é", "caffé"], &["e"]),
            ("a?[b]", &["a?[b]"], &["axb", "ab"]),
        ] {
            let rule = good(&format!("skip={pattern}")).skip.remove(0);
            assert!(named.iter().all(|user| rule.names(user)), "{pattern} names too few");
            assert!(!not_named.iter().any(|user| rule.names(user)), "{pattern} names too many");
        }
        assert!(!good("skip=@alice").skip[0].names("alice"), "a group is not asked about here");
    }

    #[test]
    fn services_are_named_or_left_out() {
        for (setting, allowed, left_out) in [
            ("services=sshd,login", &["sshd", "login"][..], &["cron", "sshd2", ""][..]),
            ("services=!cron", &["sshd", ""], &["cron"]),
            ("services=sshd,!sshd", &[], &["sshd", "cron"]),
            ("services=sshd,!cron", &["sshd"], &["cron", "login"]),
            ("services=*", &["*"], &["sshd"]),
        ] {
            let services = good(setting).services;
            assert!(allowed.iter().all(|service| services.allow(service)), "{setting}");
            assert!(!left_out.iter().any(|service| services.allow(service)), "{setting}");
        }
    }

    #[test]
    fn template_is_expanded_once() {
        for (template, user, made) in [
            ("%u", "alice", "alice"),
            ("%u", "%U%h%%", "%U%h%%"),
            ("%U", "alice", "2001"),
            ("%u@%h", "alice", "alice@build7"),
            ("%%u-%u-%%", "alice", "%u-alice-%"),
            ("%u%u%U", "a", "aa2001"),
            ("%u", "", ""),
        ] {
            let name = good(&format!("name={template}")).name;
            assert_eq!(name.expand(user, 2001, "build7"), made, "{template}");
            assert_eq!(name.names_host(), template.contains("%h"), "{template}");
        }
    }

    #[test]
    fn every_key_is_printed_as_it_is_read() {
        let file = "root = /srv/a\ngroup = a,7\nskip = b*,@c,@8\nmin_uid = 5\nname = x%%%u-%U@%h\nmode = 0751\n\
                    export = A\nexport = B:c/d\nservices = s,!t\non_error = fail\ntimeout = 7\ndebug = on\n";
        let loaded = parse_both(&[], file);
        assert_eq!(loaded.config.to_string(), file);
        assert!(loaded.usable && loaded.problems.is_empty());
    }

    #[test]
    fn root_knows_what_leads_to_it_and_what_lies_in_it() {
        let root = RootPath::parse("/srv/team/cache").unwrap();
        let ways: Vec<&str> = (0..5).map(|count| root.first_components(count)).collect();
        assert_eq!(ways, ["/", "/srv", "/srv/team", "/srv/team/cache", "/srv/team/cache"]);
        assert_eq!(root.components().collect::<Vec<_>>(), ["srv", "team", "cache"]);
        for (home, lies_in_it) in [
            ("/srv/team/cache", true),
            ("/srv/team/cache/alice", true),
            ("/srv/team/cache2", false),
            ("/srv/team", false),
            ("", false),
            ("srv/team/cache", false),
        ] {
            assert_eq!(root.contains_home(Path::new(home)), lies_in_it, "{home}");
        }
    }

    #[test]
    fn every_key_is_known_and_no_other() {
        let faults = |key: &str| parse(&[], "/c", Ok(format!("{key} = \x01\n").as_bytes())).problems;
        for Key { name, .. } in KEYS {
            assert!(faults(name).iter().all(|problem| problem.unknown_key().is_none()), "{name}");
        }
        for key in ["rot", "conf2", ""] {
            let found = faults(key);
            assert_eq!(found.iter().map(Problem::unknown_key).collect::<Vec<_>>(), [Some(key)]);
        }
    }
    #[test]
    fn described_defaults_are_the_defaults() {
        for Key { name, default, .. } in KEYS {
            let Some(value) = default.strip_prefix('`') else { continue };
            let loaded = parse(&[], "/c", Ok(format!("{name} = {}", value.trim_end_matches('`')).as_bytes()));
            assert_eq!((loaded.config, loaded.problems), (Config::default(), Vec::new()), "{name}");
        }
    }
}
