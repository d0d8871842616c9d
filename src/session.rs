//! One session, from the pam.d line to the variables: what happens at a login, in order.
//!
//! Knows nothing of PAM, so that a tool can ask the same question and get the answer a login gets.

use std::cell::OnceCell;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::stat;
use nix::unistd::{geteuid, gethostname};

use crate::account::{Account, NssError};
use crate::cache_dir::{CacheDirError, DirName, NameError, Owner, Provided, Provision, Purpose};
use crate::config::{self, Config, Loaded, OnError, Problem, RootPath};
use crate::ffi::{self, ChildError};
use crate::mounts::Mounts;
use crate::policy::{self, Skip};
use crate::shared_root::{Patience, RootCause, RootError, SharedRoot};

/// What PAM says of a session.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The name of the PAM service.
    pub service: &'a str,
    /// The user, as typed at login; none where PAM has none, or one that is not UTF-8.
    pub user: Option<&'a str>,
    /// The words of the pam.d line after the module's name.
    pub arguments: &'a [&'a [u8]],
}

/// What came of a session, and what there is to say about it.
#[derive(Debug)]
pub struct Report {
    /// What the session gets.
    pub outcome: Result<Ready, Stop>,
    /// What was wrong in the configuration; empty for a session that is none of the module's business.
    pub problems: Vec<Problem>,
    /// What a failure does to the login.
    pub on_error: OnError,
    /// Whether every decision is logged.
    pub debug: bool,
}

/// A developer's session: the directory is there, and these are the variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The user's directory.
    pub directory: String,
    /// Whether it was made just now, or would be.
    pub provisioned: bool,
    /// `NAME=VALUE`, in the order of the configuration.
    pub assignments: Vec<String>,
}

/// Why a session gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It is none of the module's business.
    Skip(Skip),
    /// A setting was lost that would have narrowed what the module does.
    Configuration,
    /// NSS did not answer.
    Nss(NssError),
    /// The host has no name to put into the directory's.
    HostName(Errno),
    /// The user's name cannot be a directory's.
    Name(NameError),
    /// The shared root is the user's home directory, or one above it.
    AboveHome(RootPath),
    /// The shared root is not in order.
    Root(RootPath, RootError),
    /// The user's directory is not in order, or could not be made.
    Directory {
        /// The shared root.
        root: RootPath,
        /// The directory's name.
        name: DirName,
        /// The user's id.
        uid: u32,
        /// What is wrong.
        error: CacheDirError,
    },
    /// The root is on a network, FUSE or autofs mount, and the child that was sent there gave no answer.
    Remote {
        /// The user's directory.
        path: String,
        /// How long it was given.
        timeout: Duration,
        /// What became of it.
        error: ChildError,
    },
}

impl Stop {
    /// Whether the system failed; otherwise, and where it is no skip, somebody set something up wrong.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Nss(_) | Self::HostName(_) | Self::Remote { .. } => true,
            Self::Root(_, error) => matches!(error.cause, RootCause::Failed(_)),
            Self::Directory { error, .. } => error.is_fault(),
            Self::Skip(_) | Self::Configuration | Self::Name(_) | Self::AboveHome(_) => false,
        }
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip(skip) => skip.fmt(f),
            Self::Configuration => f.write_str("the configuration is not usable"),
            Self::Nss(error) => error.fmt(f),
            Self::HostName(errno) => {
                write!(f, "cannot get the host's name: {}; take %h out of name", errno.desc())
            }
            Self::Name(error) => error.fmt(f),
            Self::AboveHome(root) => write!(
                f,
                "{root} is, or contains, the user's home directory; set root to a directory that holds nothing else"
            ),
            Self::Root(root, error) => error.describe(root, f),
            Self::Directory { root, name, uid, error } => error.describe(root.as_str(), name, *uid, f),
            Self::Remote { path, timeout, error } => match error {
                ChildError::Late => write!(
                    f,
                    "the file system of {path} did not answer within {} s; see that its server is up, or raise timeout",
                    timeout.as_secs()
                ),
                ChildError::Died => write!(
                    f,
                    "the process that was to look at {path} was killed; see the kernel's log, then log in again"
                ),
                ChildError::NotStarted(errno) => {
                    write!(
                        f,
                        "cannot start a process to look at {path}: {}; see what limits them",
                        errno.desc()
                    )
                }
            },
        }
    }
}

impl From<Skip> for Stop {
    fn from(skip: Skip) -> Self {
        Self::Skip(skip)
    }
}

impl From<NssError> for Stop {
    fn from(error: NssError) -> Self {
        Self::Nss(error)
    }
}

impl From<NameError> for Stop {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

/// Opens a session: reads the configuration, decides, and provisions.
#[must_use]
pub fn open(request: &Request<'_>) -> Report {
    run(request, if geteuid().is_root() { Purpose::Provide } else { Purpose::Find })
}

/// What [`open`] as root would do and answer, with nothing created or changed.
#[cfg(feature = "cli")]
#[must_use]
pub fn explain(request: &Request<'_>) -> Report {
    run(request, Purpose::Explain)
}

fn run(request: &Request<'_>, purpose: Purpose) -> Report {
    let loaded = config::load(request.arguments);
    let mut outcome =
        decide(request, &loaded).and_then(|developer| developer.provision(&loaded.config, purpose));
    // A screen locker, or root of a user namespace, can mend nothing, and its user need not hear of it.
    if outcome.is_err() && (purpose == Purpose::Find || !root_is_root()) {
        outcome = Err(Stop::Skip(Skip::Unprivileged));
    }
    let problems = match &outcome {
        // But a typo in the word `root` must be found somewhere.
        Err(Stop::Skip(skip)) if *skip != Skip::NoRootConfigured => Vec::new(),
        _ => loaded.problems,
    };
    Report { outcome, problems, on_error: loaded.config.on_error, debug: loaded.config.debug }
}

/// A user for whom policy says yes, and where they get what.
struct Developer<'a> {
    account: Account,
    name: DirName,
    place: Place<'a>,
    root: Root,
}

/// Where the shared root is, and the user's directory in it.
struct Place<'a> {
    root: &'a RootPath,
    /// The directory's path; the root's, as long as there is no name for it.
    directory: String,
    /// Read where they are asked about.
    mounts: OnceCell<Mounts>,
}

impl<'a> Place<'a> {
    fn new(root: &'a RootPath, name: Option<&DirName>) -> Self {
        let directory = name.map_or_else(|| root.to_string(), |name| format!("{root}/{}", name.as_str()));
        Self { root, directory, mounts: OnceCell::new() }
    }

    fn mounts(&self) -> &Mounts {
        self.mounts.get_or_init(|| Mounts::on_the_way_to(&self.directory))
    }

    /// Opens the root and provisions in a process that can be left behind.
    fn run_in_child(&self, provision: &Provision<'_>, timeout: Duration) -> Result<Provided, Trouble> {
        let patience = Patience::Wait(self.mounts());
        ffi::in_child(timeout, || {
            let root = SharedRoot::open(self.root, patience)?;
            Ok(provision.run(&root, patience)?)
        })
        .unwrap_or_else(|error| Err(Trouble::Child(error)))
    }
}

/// The shared root, as far as it may be touched from here. First only the kernel's memory is asked; what is not
/// there is looked up if every mount on the way is local; everything else is left to a child with a timeout.
enum Root {
    /// It is on this machine, and was opened.
    Local(Result<SharedRoot, RootError>),
    /// It may lie on a network, FUSE or autofs mount: whoever touches it may wait without end.
    Remote,
}

impl Root {
    fn open(place: &Place<'_>) -> Self {
        match SharedRoot::open(place.root, Patience::Cached) {
            Err(RootError { cause: RootCause::WouldWait, .. }) => {
                if place.mounts().are_local_up_to(place.root.as_str()) {
                    Self::Local(SharedRoot::open(place.root, Patience::Wait(place.mounts())))
                } else {
                    Self::Remote
                }
            }
            opened => Self::Local(opened),
        }
    }
}

/// Decides, the cheapest tests first. Until it has said yes, nothing is logged and nothing is made.
fn decide<'a>(request: &Request<'_>, loaded: &'a Loaded) -> Result<Developer<'a>, Stop> {
    let config = &loaded.config;
    if !config.services.allow(request.service) {
        return Err(Skip::Service(request.service.into()).into());
    }
    // With a problem, `root` may only be mistyped: a developer is told.
    if config.root.is_none() && loaded.problems.is_empty() {
        return Err(Skip::NoRootConfigured.into());
    }

    let typed = request.user.filter(|user| !user.is_empty()).ok_or(Skip::NoUser)?;
    let account = Account::lookup(typed)?.ok_or_else(|| Skip::UnknownUser(typed.into()))?;
    if let Some(skip) = policy::screen(config, &account) {
        return Err(skip.into());
    }
    // A root that is not there is a reason to ask no further. One that is not in order is a developer's
    // concern alone, so that its fault waits, and that of the name too.
    let name = directory_name(config, &account);
    let place = config.root.as_ref().map(|root| Place::new(root, name.as_ref().ok()));
    let root = place.as_ref().map(Root::open);
    if let (Some(place), Some(Root::Local(Err(RootError { cause: RootCause::Absent, .. })))) = (&place, &root)
    {
        return Err(Skip::RootAbsent(place.root.to_string()).into());
    }
    if let Some(skip) = policy::admit(config, |groups| account.is_in_any(groups))? {
        return Err(skip.into());
    }

    if !loaded.usable {
        return Err(Stop::Configuration);
    }
    let (Some(place), Some(root)) = (place, root) else { return Err(Skip::NoRootConfigured.into()) };
    if place.root.contains_home(&account.home) {
        return Err(Stop::AboveHome(place.root.clone()));
    }
    Ok(Developer { account, name: name?, place, root })
}

/// What the user's directory is called.
fn directory_name(config: &Config, account: &Account) -> Result<DirName, Stop> {
    let host = if config.name.names_host() { short_host_name()? } else { String::new() };
    Ok(DirName::new(&account.name, config.name.expand(&account.name, account.uid, &host))?)
}

impl Developer<'_> {
    /// Finds or makes the directory, and says what to export.
    fn provision(&self, config: &Config, purpose: Purpose) -> Result<Ready, Stop> {
        let Self { account: Account { uid, gid, home, .. }, name, place, root } = self;
        let owner = Owner { uid: *uid, gid: *gid };
        let provision = Provision { name, owner, home, mode: config.mode, purpose };

        let provided = match root {
            Root::Remote => place.run_in_child(&provision, config.timeout),
            Root::Local(Err(error)) => Err((*error).into()),
            Root::Local(Ok(root)) => match provision.run(root, Patience::Cached) {
                // A volume per user may be a remote one.
                Err(CacheDirError::WouldWait) if place.mounts().are_local_up_to(&place.directory) => {
                    provision.run(root, Patience::Wait(place.mounts())).map_err(Trouble::from)
                }
                Err(CacheDirError::WouldWait) => place.run_in_child(&provision, config.timeout),
                provided => provided.map_err(Trouble::from),
            },
        };

        let path = &place.directory;
        match provided {
            Ok(Provided::Missing) if purpose == Purpose::Find => Err(Skip::Unprivileged.into()),
            Ok(provided) => Ok(Ready {
                directory: path.clone(),
                provisioned: provided != Provided::Found,
                assignments: config.exports.iter().map(|export| export.assignment(path)).collect(),
            }),
            Err(trouble) => Err(match trouble {
                Trouble::Root(RootError { cause: RootCause::Absent, .. }) => {
                    Skip::RootAbsent(place.root.to_string()).into()
                }
                Trouble::Root(error) => Stop::Root(place.root.clone(), error),
                Trouble::Directory(error) => {
                    Stop::Directory { root: place.root.clone(), name: name.clone(), uid: *uid, error }
                }
                Trouble::Child(error) => Stop::Remote { path: path.clone(), timeout: config.timeout, error },
            }),
        }
    }
}

/// What kept the file system's part from being done.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Root(RootError),
    Directory(CacheDirError),
    Child(ChildError),
}

impl From<RootError> for Trouble {
    fn from(error: RootError) -> Self {
        Self::Root(error)
    }
}

impl From<CacheDirError> for Trouble {
    fn from(error: CacheDirError) -> Self {
        Self::Directory(error)
    }
}

/// Whether uid 0 is the uid 0 that owns the system. In a user namespace `/` belongs to somebody that it does
/// not know.
fn root_is_root() -> bool {
    stat("/").is_ok_and(|found| found.st_uid == 0)
}

/// The host's name up to the first dot.
pub(crate) fn short_host_name() -> Result<String, Stop> {
    let name = gethostname().map_err(Stop::HostName)?;
    Ok(name.to_string_lossy().split('.').next().unwrap_or_default().into())
}
