//! Log lines, one datagram each, without a trace in the host process.
//!
//! `log` is the facade, the syslog crate the writer. The socket is opened for each message and closed: a
//! logger that kept it would leak a descriptor in each PAM transaction. It never waits for long: a
//! `/dev/log` that nobody reads would otherwise hang the login.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::Once;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use syslog::{Facility, LogFormat, Logger, LoggerBackend, Severity};

use crate::quoting::Escaped;

/// Where syslog listens, as in syslog(3).
const SOCKET: &str = "/dev/log";

/// How long a message waits for a syslog that is behind, before it is dropped.
const PATIENCE: Duration = Duration::from_millis(20);

/// The longest message, in characters before escaping: syslog daemons cut lines at some length of their
/// own, and a broken configuration can be long.
const MAX_MESSAGE: usize = 2048;

/// Makes the `log` macros write to syslog. The `log` statics are this library's own copy: whatever the
/// host logs with is not touched.
pub(crate) fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        if log::set_logger(&Syslog).is_ok() {
            log::set_max_level(LevelFilter::Debug);
        }
    });
}

struct Syslog;

impl Log for Syslog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // No syslog, or one that is stuck: there is nobody to tell.
        let _ = send(record.level(), record.args());
    }

    fn flush(&self) {}
}

fn send(level: Level, message: &Arguments<'_>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(SOCKET)?;
    let mut logger = Logger::new(LoggerBackend::Unix(socket), Rfc3164);
    let sent = match level {
        Level::Error => logger.err(message),
        Level::Warn => logger.warning(message),
        Level::Info => logger.info(message),
        Level::Debug | Level::Trace => logger.debug(message),
    };
    sent.map_err(io::Error::other)
}

/// `<priority>pam_cargo_target[pid]: message`, as libc's syslog(3) has it but for the timestamp, which the
/// daemon puts in: RFC 5424 messages lose their ident in rsyslog and journald.
struct Rfc3164;

impl LogFormat<&Arguments<'_>> for Rfc3164 {
    fn format<W: Write>(
        &self,
        to: &mut W,
        severity: Severity,
        message: &Arguments<'_>,
    ) -> syslog::Result<()> {
        let priority = Facility::LOG_AUTHPRIV as u8 | severity as u8;
        let text = message.to_string();
        let end = text.char_indices().nth(MAX_MESSAGE).map_or(text.len(), |(end, _)| end);
        let text = Escaped(text.get(..end).unwrap_or_default());
        // One call, one datagram.
        write!(to, "<{priority}>pam_cargo_target[{}]: {text}", std::process::id())
            .map_err(syslog::Error::Write)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops and says so")]
mod tests {
    use super::*;

    fn line(severity: Severity, message: &str) -> String {
        let mut written = Vec::new();
        Rfc3164.format(&mut written, severity, &format_args!("{message}")).unwrap();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn line_has_authpriv_priority_ident_and_pid() {
        let pid = std::process::id();
        for (severity, priority) in [
            (Severity::LOG_ERR, 83),
            (Severity::LOG_WARNING, 84),
            (Severity::LOG_INFO, 86),
            (Severity::LOG_DEBUG, 87),
        ] {
            assert_eq!(
                line(severity, "(sshd:session) x"),
                format!("<{priority}>pam_cargo_target[{pid}]: (sshd:session) x")
            );
        }
    }

    #[test]
    fn no_name_can_forge_a_line_or_reach_a_terminal() {
        assert!(line(Severity::LOG_INFO, "a\nsshd[1]: \u{1b}[2J").ends_with(r"]: a\u{a}sshd[1]: \u{1b}[2J"));
    }

    #[test]
    fn line_is_of_bounded_length() {
        assert!(
            line(Severity::LOG_ERR, &"x".repeat(10_000)).ends_with(&format!(": {}", "x".repeat(MAX_MESSAGE)))
        );
        // At worst each character is escaped, in eight.
        assert!(line(Severity::LOG_ERR, &"\u{202e}".repeat(10_000)).len() <= MAX_MESSAGE * 8 + 64);
        assert!(line(Severity::LOG_ERR, &"é".repeat(MAX_MESSAGE)).contains(&"é".repeat(MAX_MESSAGE)));
    }
}
