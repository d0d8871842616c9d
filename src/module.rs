//! The PAM entry points: the only place that knows PAM's codes.
//!
//! Whatever happens in a session, the login goes on, unless the administrator asked for `on_error=fail`.
//! A panic ends at the guard here; pam-bindings has one too, but its answer would fail a `required` line.

use std::ffi::{CStr, CString};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use pam::constants::{PamFlag, PamResultCode};
use pam::items::{Service, User};
use pam::module::{PamHandle, PamHooks};

use crate::config::{OnError, Problem};
use crate::session::{self, Ready, Report, Request, Stop};
use crate::{ffi, logging};

/// The memory that a session must be able to get, in bytes: a failed allocation would abort the host. A
/// session takes 116 KB at most, 64 KiB of it for a group's entry (measured, with a configuration of twenty
/// faults); what a large configuration takes is seen to when it is read.
const WORKING_SET: usize = 256 * 1024;

/// How many faults of a configuration one log line names.
const MAX_PROBLEMS: usize = 8;

struct PamCargoTarget;

pam::pam_hooks!(PamCargoTarget);

// The other entry points, which pam-bindings exports too, answer PAM_IGNORE by default.
impl PamHooks for PamCargoTarget {
    fn sm_open_session(handle: &mut PamHandle, arguments: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut working_set = Vec::<u8>::new();
            if black_box(&mut working_set).try_reserve_exact(WORKING_SET).is_err() {
                return PamResultCode::PAM_SUCCESS;
            }
            drop(working_set);
            logging::install();
            log_panics();
            open_session(handle, &arguments)
        }));
        // PAM_IGNORE would not do: a sole module that answers so makes libpam deny the session.
        opened.unwrap_or(PamResultCode::PAM_SUCCESS)
    }

    fn sm_close_session(_: &mut PamHandle, _: Vec<&CStr>, _: PamFlag) -> PamResultCode {
        PamResultCode::PAM_SUCCESS
    }
}

fn open_session(handle: &mut PamHandle, arguments: &[&CStr]) -> PamResultCode {
    #[cfg(feature = "test-panic")]
    if std::env::var_os("PAM_CARGO_TARGET_TEST_PANIC").is_some() {
        #[allow(clippy::panic)]
        {
            panic!("asked to, by PAM_CARGO_TARGET_TEST_PANIC");
        }
    }

    let service = item(handle.get_item::<Service<'_>>().map(|item| item.map(|item| item.0)));
    let user = item(handle.get_item::<User<'_>>().map(|item| item.map(|item| item.0)));
    let service = service.unwrap_or_else(|| "-".into());
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.to_bytes()).collect();

    let report = session::open(&Request { service: &service, user: user.as_deref(), arguments: &arguments });
    let exported = match &report.outcome {
        Ok(ready) => export(handle, ready),
        Err(_) => Ok(()),
    };
    tell(&service, user.as_deref().unwrap_or("nobody"), &report, exported);

    let skipped = matches!(report.outcome, Err(Stop::Skip(_)));
    let in_order = report.outcome.is_ok() && report.problems.is_empty() && exported.is_ok();
    match report.on_error {
        OnError::Fail if !skipped && !in_order => PamResultCode::PAM_SESSION_ERR,
        OnError::Fail | OnError::Ignore => PamResultCode::PAM_SUCCESS,
    }
}

/// A PAM item as text; what is absent, or is not UTF-8, is none.
fn item(found: Result<Option<&CStr>, PamResultCode>) -> Option<String> {
    found.ok().flatten().and_then(|text| text.to_str().ok()).map(str::to_owned)
}

/// Puts the variables into the session's environment, replacing what an earlier module set.
///
/// # Errors
///
/// The PAM return code, as a number.
fn export(handle: &mut PamHandle, ready: &Ready) -> Result<(), i32> {
    for assignment in &ready.assignments {
        // Neither a name nor a path can contain a NUL; a bare name would delete the variable.
        if let Ok(assignment) = CString::new(assignment.as_str()) {
            ffi::put_environment(handle, &assignment)?;
        }
    }
    Ok(())
}

/// Logs what an administrator wants to know of a session: nothing, when all is well.
fn tell(service: &str, user: &str, report: &Report, exported: Result<(), i32>) {
    if !report.problems.is_empty() {
        let problems = summary(&report.problems);
        match &report.outcome {
            Err(Stop::Configuration) => {
                log::error!("({service}:session) nothing done for {user}: {problems}");
            }
            _ => log::warn!("({service}:session) in the configuration: {problems}"),
        }
    }
    match &report.outcome {
        Ok(ready) if ready.provisioned => {
            log::info!("({service}:session) provisioned {} for {user}", ready.directory);
        }
        Ok(_) | Err(Stop::Skip(_) | Stop::Configuration) => {}
        Err(stop) if stop.is_fault() => {
            log::error!("({service}:session) nothing done for {user}: {stop}");
        }
        Err(stop) => log::warn!("({service}:session) nothing done for {user}: {stop}"),
    }
    if let Err(code) = exported {
        log::error!("({service}:session) cannot set a variable for {user}: pam_putenv answered {code}");
    }
    if report.debug {
        match &report.outcome {
            Ok(ready) => log::debug!("({service}:session) {user} gets {}", ready.assignments.join(" ")),
            Err(Stop::Skip(skip)) => log::debug!("({service}:session) {user} gets nothing: {skip}"),
            Err(_) => {}
        }
    }
}

fn summary(problems: &[Problem]) -> String {
    let mut named: Vec<String> = problems.iter().take(MAX_PROBLEMS).map(ToString::to_string).collect();
    match problems.len().saturating_sub(MAX_PROBLEMS) {
        0 => {}
        more => named.push(format!("and {more} more")),
    }
    named.join("; ")
}

/// Makes a panic a log line, and keeps it off the host's stderr. The hook is of this library's own copy of
/// std: the host's panics, if it is written in Rust, are not touched.
fn log_panics() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            log::error!(
                "internal error, the login goes on without a target directory; please report: {panic}"
            );
        }));
    });
}
