//! `try`: a real PAM session, with the module alone in a private directory of services.
//!
//! The session runs in a child, the tool itself once more: as root, the child has a mount namespace of its
//! own, with a `/dev` in which `/dev/log` is its, so that the log lines can be shown; whatever was mounted
//! there is gone when it ends.

use std::env;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::lstat;
use nix::unistd::{geteuid, mkdtemp};
use serde_json::{Value, json};

use super::check::{Verdict, oneself};
use super::output::{self, Output, SCHEMA, Style, complain};
use super::settings::{self, Settings};
use super::{Exit, Globals, UsageError, module_file};
use crate::cache_dir::TAG_NAME;
use crate::ffi::{self, Application, ChildError};
use crate::policy::Skip;

/// Open and close a real PAM session, and show what the module did
///
/// The module stands alone in a private directory of services; nothing in /etc/pam.d is used or changed,
/// but for the words on the module's line there. It is a real session: a directory that is missing is made.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Whose session [default: who called sudo, or oneself]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The PAM service to pose as
    #[arg(long, value_name = "NAME", default_value = settings::DEFAULT_SERVICE)]
    service: String,
    /// The module, instead of the installed one
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
}

/// What the child is told.
#[derive(Debug, clap::Args)]
pub(super) struct ChildArguments {
    /// Whose session
    user: String,
    /// The PAM service
    service: String,
    /// What the service is to say
    line: OsString,
}

/// Device nodes that code in a session may want.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Where the private services are in the child's own `/dev`.
const PRIVATE_SERVICES: &str = "/dev/pam.d";

pub(super) fn run(globals: &Globals, arguments: &Arguments, output: &mut Output) -> anyhow::Result<Exit> {
    let settings = Settings::of(globals, &arguments.service)?;
    let user = match &arguments.user {
        Some(user) => user.clone(),
        None => match env::var("SUDO_USER") {
            Ok(user) if geteuid().is_root() => user,
            _ => oneself()?,
        },
    };
    if Verdict::of(&user, &settings).uid.is_none() {
        bail!("{}", Skip::UnknownUser(user));
    }
    let module = match (&arguments.module, &settings.line) {
        (Some(module), _) => std::path::absolute(module)?,
        (None, Some(line)) => {
            module_file::path_of(&line.module).context("libpam's modules were not found")?
        }
        (None, None) => module_file::installed().context("libpam's modules were not found")?,
    };
    if !module.is_file() {
        bail!("{} is not there; install it: make install", module.display());
    }
    let line = line(&module, &settings.arguments)?;

    let child = Command::new("/proc/self/exe")
        .arg0("cargo-targetctl")
        .args(["session", "--"])
        .args([&user, &settings.service])
        .arg(&line)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start a child for the session")?;
    let came: Value = serde_json::from_slice(&child.stdout)
        .map_err(|_| anyhow!("the session's process ended early: {}", child.status))?;
    let number = |key: &str| came.get(key).and_then(Value::as_i64).unwrap_or(-1);
    let code = i32::try_from(number("code"))?;
    let close_code = i32::try_from(number("close_code"))?;
    let exit = if code == 0 && close_code == 0 { Exit::Fine } else { Exit::Failed };

    let timeout = settings.loaded.config.timeout;
    let directory = Verdict::of(&user, &settings).directory().map(|path| Directory::look(&path, timeout));
    settings.announce(output)?;
    if output.is_json {
        let mut answer = json!({
            "schema": SCHEMA, "command": "try", "user": user, "service": settings.service,
            "root_given": settings.root_was.as_ref().map(|root| root.display().to_string()),
            "module": module.display().to_string(), "line": line.to_string_lossy(),
            "directory": directory.as_ref().map(Directory::as_json),
            "code_text": ffi::pam_error(code), "exit": exit as u8,
        });
        if let (Some(answer), Some(came)) = (answer.as_object_mut(), came.as_object()) {
            answer.extend(came.clone());
        }
        output::json(&answer)?;
        return Ok(exit);
    }

    output.line(format!("{}: {}", settings.service, line.to_string_lossy()))?;
    output.line(format!("user         {user}"))?;
    let style = if exit == Exit::Fine { Style::Good } else { Style::Bad };
    output.tagged(style, "answer      ", format!("{code} ({})", ffi::pam_error(code)))?;
    if close_code != 0 {
        output.line(format!("at close     {close_code} ({})", ffi::pam_error(close_code)))?;
    }
    tell_list("environment ", &texts(&came, "environment"), "no variable", output)?;
    match &directory {
        Some(directory) => output.line(format!("directory    {}", directory.describe()))?,
        None => output.line("directory    -")?,
    }
    output.line(format!(
        "time         {} µs, after {} µs for loading",
        number("open_us"),
        number("load_us")
    ))?;
    if came.get("log_caught") == Some(&Value::Bool(true)) {
        tell_list("log         ", &texts(&came, "log"), "no line", output)?;
    } else {
        output.line("log          not caught: that needs root and a mount namespace")?;
    }
    Ok(exit)
}

fn tell_list(word: &str, lines: &[String], none: &str, output: &mut Output) -> io::Result<()> {
    if lines.is_empty() {
        return output.line(format!("{word} {none}"));
    }
    for (index, line) in lines.iter().enumerate() {
        let word = if index == 0 { word.to_owned() } else { " ".repeat(word.len()) };
        output.line(format!("{word} {line}"))?;
    }
    Ok(())
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The user's directory after the session.
struct Directory {
    path: String,
    seen: Result<Option<Seen>, ChildError>,
}

/// What there is to see of it.
#[derive(Clone, Copy)]
struct Seen {
    uid: u32,
    gid: u32,
    mode: u32,
    has_tag: bool,
}

impl Directory {
    /// Looks in a child: the root may be dead, and so may be what a user has mounted there.
    fn look(path: &str, timeout: Duration) -> Self {
        let tag = format!("{path}/{TAG_NAME}");
        let look = || {
            let found = lstat(path).ok()?;
            let (uid, gid, mode) = (found.st_uid, found.st_gid, found.st_mode & 0o7777);
            Some(Seen { uid, gid, mode, has_tag: lstat(tag.as_str()).is_ok() })
        };
        Self { path: path.into(), seen: ffi::in_child(timeout, look) }
    }

    fn describe(&self) -> String {
        match &self.seen {
            Err(_) => format!("{}, which does not answer", self.path),
            Ok(None) => format!("{} does not exist", self.path),
            Ok(Some(Seen { uid, gid, mode, has_tag })) => {
                let no = if *has_tag { "" } else { "no " };
                format!("{}: uid {uid}, gid {gid}, mode {mode:04o}, {no}{TAG_NAME}", self.path)
            }
        }
    }

    fn as_json(&self) -> Value {
        let exists = self.seen.as_ref().ok().map(Option::is_some);
        let seen = self.seen.as_ref().ok().and_then(Option::as_ref);
        json!({
            "path": self.path,
            "exists": exists,
            "uid": seen.map(|seen| seen.uid),
            "gid": seen.map(|seen| seen.gid),
            "mode": seen.map(|seen| format!("{:04o}", seen.mode)),
            "tag": exists.map(|_| seen.is_some_and(|seen| seen.has_tag)),
        })
    }
}

/// The line of the private service.
fn line(module: &Path, arguments: &[Vec<u8>]) -> anyhow::Result<OsString> {
    let mut line = b"session required ".to_vec();
    line.extend(word(module.as_os_str().as_bytes())?);
    for argument in arguments {
        line.push(b' ');
        line.extend(word(argument)?);
    }
    Ok(OsString::from_vec(line))
}

/// A word as libpam reads it back.
fn word(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    if text.iter().any(|byte| matches!(byte, b'#' | b'\n' | 0)) || text.ends_with(b"\\") {
        let text = String::from_utf8_lossy(text).into_owned();
        return Err(UsageError(format!("`{text}` cannot stand on a pam.d line")).into());
    }
    if !text.is_empty() && !text.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'[') {
        return Ok(text.to_vec());
    }
    let mut word = vec![b'['];
    for byte in text {
        if *byte == b']' {
            word.push(b'\\');
        }
        word.push(*byte);
    }
    word.push(b']');
    Ok(word)
}

/// The child's part: answers in JSON.
pub(super) fn child(arguments: &ChildArguments) -> anyhow::Result<Exit> {
    let caught = if geteuid().is_root() { private_dev() } else { Err(anyhow!("not root")) };
    let log = match caught {
        Ok(log) => Some(log),
        Err(error) => {
            if geteuid().is_root() {
                complain(&format!("{error:#}"));
            }
            None
        }
    };
    let place = Place::new(log.is_some())?;
    // Without a file of that name, libpam complains.
    place.write("other", b"")?;
    place.write(&arguments.service, arguments.line.as_bytes())?;

    let directory = CString::new(place.0.as_os_str().as_bytes())?;
    let (service, user) = (CString::new(arguments.service.as_str())?, CString::new(arguments.user.as_str())?);
    let micros = |start: Instant| u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut start = Instant::now();
    let application = Application::start(&directory, &service, &user);
    let load = micros(start);
    let (code, close_code, open, environment) = match application {
        Ok(mut application) => {
            start = Instant::now();
            let code = application.open_session();
            let open = micros(start);
            let environment = if code == 0 { application.environment() } else { Vec::new() };
            let close_code = if code == 0 { application.close_session() } else { 0 };
            (code, close_code, open, environment)
        }
        Err(code) => (code, 0, 0, Vec::new()),
    };
    let lines: Vec<String> = log.as_ref().map(drain).unwrap_or_default();
    output::json(&json!({
        "code": code,
        "close_code": close_code,
        "environment": environment,
        "load_us": load,
        "open_us": open,
        "log_caught": log.is_some(),
        "log": lines,
    }))?;
    Ok(Exit::Fine)
}

/// Where the private service is; removed when dropped, unless it vanishes with the namespace.
struct Place(PathBuf, bool);

impl Place {
    fn new(in_private_dev: bool) -> anyhow::Result<Self> {
        if in_private_dev {
            fs::DirBuilder::new().mode(0o700).create(PRIVATE_SERVICES)?;
            return Ok(Self(PRIVATE_SERVICES.into(), false));
        }
        // A name that nobody can know, and take, beforehand.
        let template = env::temp_dir().join("cargo-targetctl.XXXXXX");
        let path = mkdtemp(&template)
            .with_context(|| format!("cannot make {} for a private service", template.display()))?;
        Ok(Self(path, true))
    }

    fn write(&self, service: &str, line: &[u8]) -> anyhow::Result<()> {
        fs::write(self.0.join(service), [line, b"\n"].concat()).context("cannot write a private service")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.1 {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A `/dev` of this process's own, with a `/dev/log` that it reads.
fn private_dev() -> anyhow::Result<UnixDatagram> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace for the log lines")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("mounts stay shared")?;
    let nodes: Vec<(&str, File)> = NODES
        .iter()
        .filter_map(|name| {
            let path = Path::new("/dev").join(name);
            Some((*name, File::options().read(true).custom_flags(libc::O_PATH).open(path).ok()?))
        })
        .collect();
    mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755,size=1m"))
        .context("cannot mount a private /dev")?;
    for (name, node) in nodes {
        let path = Path::new("/dev").join(name);
        File::create(&path)?;
        let source = format!("/proc/self/fd/{}", node.as_raw_fd());
        mount(Some(source.as_str()), &path, NONE, MsFlags::MS_BIND, NONE)
            .with_context(|| format!("cannot show {}", path.display()))?;
    }
    let log = UnixDatagram::bind("/dev/log").context("cannot bind a private /dev/log")?;
    log.set_nonblocking(true)?;
    Ok(log)
}

/// What has come to the socket, without the priority in numbers.
fn drain(log: &UnixDatagram) -> Vec<String> {
    const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"];
    let mut buffer = vec![0; 64 * 1024];
    let mut lines = Vec::new();
    while let Ok(length) = log.recv(&mut buffer) {
        let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        let parsed = message.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let level =
            parsed.and_then(|(priority, _)| priority.parse::<usize>().ok()).map(|priority| priority % 8);
        match (parsed, level.and_then(|level| LEVELS.get(level))) {
            (Some((_, text)), Some(level)) => {
                lines.push(format!("{level}: {}", without_timestamp(text.trim_end())));
            }
            _ => lines.push(message),
        }
    }
    lines
}

/// Takes away what syslog(3) puts before a message, `Nov 22 11:03:04 `.
fn without_timestamp(message: &str) -> &str {
    let is_one = |stamp: &str| {
        stamp.len() == 16
            && stamp.char_indices().all(|(at, character)| match at {
                3 | 6 | 15 => character == ' ',
                9 | 12 => character == ':',
                0..3 => character.is_ascii_alphabetic(),
                _ => character.is_ascii_digit() || character == ' ',
            })
    };
    match message.split_at_checked(16) {
        Some((stamp, rest)) if is_one(stamp) => rest,
        _ => message,
    }
}
