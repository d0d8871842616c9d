//! What `check` says of a login is what the login then gets: 400 machines, users and configurations that
//! nobody chose, each asked first and then logged in for real, through libpam.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::Value;

use crate::pam::{Call, PAM_SESSION_ERR, PAM_SUCCESS, Services};
use crate::sandbox::{SyslogSocket, TOOL, module_path, print_figures, sandboxed};

const CASES: u32 = 400;
const ROOT: &str = "/srv/cargo-target";
const CONF: &str = "/etc/security/cargo-target.conf";
const OTHER_CONF: &str = "/etc/security/other.conf";

/// One machine with one user who logs in.
#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    uid: u32,
    primary_is_workspace: bool,
    shell: &'static str,
    home: &'static str,
    groups: Vec<&'static str>,
    service: &'static str,
    /// Settings, and whether each stands on the pam.d line.
    settings: Vec<(&'static str, bool)>,
    /// The word by which the line names another file for those that do not.
    conf: &'static str,
    root: &'static str,
    /// Whether it lies on a file system that may be a remote one.
    is_remote: bool,
    staging: &'static str,
    directory: &'static str,
}

/// Mostly the first, which is what a developer has; otherwise any of the others.
fn mostly(usual: &'static str, others: &'static [&'static str]) -> BoxedStrategy<&'static str> {
    prop_oneof![6 => Just(usual), 1 => select(others)].boxed()
}

fn setting(values: &'static [&'static str]) -> BoxedStrategy<Option<(&'static str, bool)>> {
    prop_oneof![5 => Just(None), 1 => (select(values), any::<bool>()).prop_map(Some)].boxed()
}

fn case() -> impl Strategy<Value = Case> {
    let uid = prop_oneof![4 => Just(2001), 1 => select(&[0, 1, 999, 1000, 65534, u32::MAX - 1][..])];
    let user = (
        mostly("dev", &["ci-7", "debug", ".dot", "Upper", "a=b", "zoë", "release"]),
        uid,
        prop_oneof![3 => Just(false), 1 => Just(true)],
        mostly("/bin/bash", &["", "/usr/sbin/nologin", "/bin/false", "/opt/nologin", "/bin/falsetto"]),
        mostly(
            "/home/dev",
            &[
                "/srv/cargo-target",
                "/srv/cargo-target/dev",
                "/",
                "/srv/link",
                "/srv/link/dev",
                "/srv/link/..",
            ],
        ),
        prop_oneof![
            2 => Just(vec!["workspace"]),
            1 => proptest::sample::subsequence(vec!["workspace", "contractors", "makers"], 0..=3),
        ],
    );
    let settings = (
        setting(&["group=makers", "group=4000", "group=nosuch", "group=workspace,makers", "group=a:b"]),
        setting(&["skip=ci-*", "skip=d*v", "skip=@contractors", "skip=@nosuch", "skip=@", "skip=zoë"]),
        setting(&["min_uid=500", "min_uid=1001", "min_uid=3000", "min_uid=many"]),
        setting(&["name=%U", "name=dev-%u", "name=%u@%h", "name=static", "name=.%u", "name=%x"]),
        setting(&["export=CARGO_TARGET_DIR:target", "export=SCCACHE_DIR:sccache", "export=PATH"]),
        setting(&[
            "services=sshd",
            "services=!sshd",
            "services=su,cron",
            "services=",
            "mode=0750",
            "mode=0777",
        ]),
        setting(&["rot=/srv/other", "on_error=fail", "root=relative", "root=/srv/none", "debug"]),
        any::<Index>(),
    );
    let places = (
        mostly("ok", &["absent", "group-writable", "sticky", "foreign", "symlink", "file", "not configured"]),
        prop_oneof![4 => Just(false), 1 => Just(true)],
        mostly(
            "",
            &[
                "conf=/etc/security/other.conf",
                "conf = /etc/security/other.conf",
                "conf=/none",
                "conf",
                "conf =",
            ],
        ),
        mostly("absent", &["ok", "open", "foreign", "file"]),
        select(
            &["absent", "ok", "absent", "ok", "untagged", "foreign", "writable", "symlink", "file", "fifo"][..],
        ),
    );
    (user, mostly("sshd", &["su", "cron"]), settings, places).prop_map(
        |((name, uid, primary_is_workspace, shell, home, groups), service, settings, places)| {
            let (group, skip, min_uid, template, export, other, more, at) = settings;
            let mut settings: Vec<_> =
                [group, skip, min_uid, template, export, other, more].into_iter().flatten().collect();
            let (root, is_remote, conf, staging, directory) = places;
            if root != "not configured" {
                settings.insert(at.index(settings.len() + 1), ("root=/srv/cargo-target", at.index(2) == 0));
            }
            Case {
                name,
                uid,
                primary_is_workspace,
                shell,
                home,
                groups,
                service,
                settings,
                conf,
                root,
                is_remote,
                staging,
                directory,
            }
        },
    )
}

/// What came of a case: of `check`, or of a login.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    decision: String,
    variables: Vec<String>,
    /// Whether the directory is, or was, made.
    makes: bool,
    /// The sentence about a refusal.
    reason: Option<String>,
}

impl Case {
    fn set_up(&self, passwd: &str, group: &str) {
        let Self { name, uid, shell, home, .. } = self;
        let primary = if self.primary_is_workspace { 4000 } else { 7000 };
        fs::write("/etc/passwd", format!("{passwd}{name}:x:{uid}:{primary}::{home}:{shell}\n")).unwrap();
        let mut groups = group.to_owned();
        for (known, gid) in [("workspace", 4000), ("contractors", 4001), ("makers", 4002)] {
            let member = if self.groups.contains(&known) { name } else { "" };
            writeln!(groups, "{known}:x:{gid}:{member}").unwrap();
        }
        fs::write("/etc/group", groups).unwrap();

        let mut file = String::new();
        let mut line = "session required pam_cargo_target.so".to_owned();
        for (setting, on_line) in &self.settings {
            if *on_line {
                write!(line, " [{setting}]").unwrap();
            } else {
                writeln!(file, "{setting}").unwrap();
            }
        }
        if !self.conf.is_empty() {
            write!(line, " [{}]", self.conf).unwrap();
        }
        // The default file is not to be read where the line names another.
        let (named, empty) = if self.conf.is_empty() { (CONF, OTHER_CONF) } else { (OTHER_CONF, CONF) };
        fs::write(named, file).unwrap();
        fs::write(empty, "skip = *\n").unwrap();
        fs::write(Path::new("/etc/pam.d").join(self.service), format!("{line}\n")).unwrap();

        self.set_up_root();
    }

    fn set_up_root(&self) {
        let _ = umount(ROOT);
        let _ = fs::remove_file(ROOT);
        let _ = fs::remove_dir_all(ROOT);
        let _ = fs::remove_dir_all("/srv/elsewhere");
        let make = |path: &Path, mode, uid| {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            chown(path, Some(uid), None).unwrap();
        };
        let root = Path::new(ROOT);
        match self.root {
            "absent" => return,
            "group-writable" => make(root, 0o775, 0),
            "sticky" => make(root, 0o1777, 0),
            "foreign" => make(root, 0o755, 2500),
            "symlink" => {
                make(Path::new("/srv/elsewhere"), 0o755, 0);
                symlink("elsewhere", root).unwrap();
            }
            "file" => return fs::write(root, "").unwrap(),
            _ => make(root, 0o755, 0),
        }
        let staging = root.join(".staging");
        match self.staging {
            "ok" => make(&staging, 0o700, 0),
            "open" => make(&staging, 0o755, 0),
            "foreign" => make(&staging, 0o700, 2500),
            "file" => fs::write(&staging, "").unwrap(),
            _ => {}
        }
        // Of the names that a template could make, the usual one.
        let directory = root.join(self.name);
        match self.directory {
            "ok" => {
                make(&directory, 0o700, self.uid);
                fs::write(directory.join("CACHEDIR.TAG"), "there").unwrap();
            }
            "untagged" => make(&directory, 0o755, self.uid),
            "foreign" => make(&directory, 0o700, 2500),
            "writable" => make(&directory, 0o775, self.uid),
            "symlink" => symlink("/srv", &directory).unwrap(),
            "file" => fs::write(&directory, "").unwrap(),
            "fifo" => nix::unistd::mkfifo(&directory, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            _ => {}
        }
        if self.is_remote && self.root != "symlink" {
            // An overlay is as remote as what lies below it, which nobody asks: it goes the way of a network's.
            let layers = Path::new("/tmp/layers");
            let _ = fs::remove_dir_all(layers);
            for layer in ["upper", "work"] {
                fs::create_dir_all(layers.join(layer)).unwrap();
            }
            let root = fs::metadata(ROOT).unwrap();
            fs::set_permissions(layers.join("upper"), root.permissions()).unwrap();
            chown(layers.join("upper"), Some(root.uid()), None).unwrap();
            let options = format!("lowerdir={ROOT},upperdir=/tmp/layers/upper,workdir=/tmp/layers/work");
            mount(Some("overlay"), ROOT, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        }
    }

    fn ask(&self) -> Answer {
        let output = Command::new(TOOL)
            .args(["check", "--json", "--service", self.service, "--", self.name])
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let user = &answer["users"][0];
        let text = |key: &str| user[key].as_str().unwrap_or_default().to_owned();
        let decision = text("decision");
        let exit = if decision == "refuse" { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(exit), "{answer}");
        let variables = user["variables"].as_array().unwrap().iter();
        let mut variables: Vec<String> =
            variables.map(|variable| variable.as_str().unwrap().to_owned()).collect();
        variables.sort();
        Answer {
            makes: decision == "provision" && text("state") == "missing",
            reason: (decision == "refuse").then(|| text("reason")),
            decision,
            variables,
        }
    }

    fn log_in(&self, log: &SyslogSocket) -> Answer {
        log.drain();
        let before = entries();
        let services = Services::at("/etc/pam.d");
        let mut transaction = services.start(self.service, Some(self.name.as_bytes()));
        let code = transaction.call(Call::OpenSession);
        let variables = transaction.environment();
        let logged = log.drain_module().join("\n");
        let refusal =
            logged.lines().find_map(|line| line.split_once(&format!("nothing done for {}: ", self.name)));
        let reason = refusal.map(|(_, reason)| reason.to_owned());
        let fails = self.settings.iter().any(|(setting, _)| *setting == "on_error=fail");
        if reason.is_some() {
            assert_eq!(code, if fails { PAM_SESSION_ERR } else { PAM_SUCCESS }, "{logged}");
        }
        let decision = match (variables.is_empty(), &reason) {
            (false, None) => "provision",
            (true, None) => "skip",
            (true, Some(_)) => "refuse",
            (false, Some(_)) => panic!("refused, and yet {variables:?}"),
        };
        let made: Vec<String> = entries().into_iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(!made.is_empty(), logged.contains("provisioned"), "{made:?} {logged}");
        Answer { decision: decision.into(), variables, makes: !made.is_empty(), reason }
    }
}

/// What is in the root, hidden names aside.
fn entries() -> Vec<String> {
    let names = fs::read_dir(ROOT).into_iter().flatten();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

sandboxed! {
    fn check_and_a_login_agree() {
        fs::copy(module_path(), crate::install::installed_module()).unwrap();
        let log = SyslogSocket::bind();
        symlink("cargo-target", "/srv/link").unwrap();
        let (passwd, group) =
            (fs::read_to_string("/etc/passwd").unwrap(), fs::read_to_string("/etc/group").unwrap());
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        // The same cases each time: what fails here fails everywhere.
        let mut runner = TestRunner::new_with_rng(config.clone(), TestRng::deterministic_rng(config.rng_algorithm));
        let counts = std::cell::RefCell::new(BTreeMap::<String, u32>::new());
        runner.run(&case(), |case| {
            case.set_up(&passwd, &group);
            let said = case.ask();
            let mut got = case.log_in(&log);
            // A login names the faults of a configuration; check lists them beside its answer.
            if said.reason.as_deref() == Some("the configuration is not usable") {
                got.reason = got.reason.map(|_| "the configuration is not usable".into());
            }
            prop_assert_eq!(&said, &got);
            *counts.borrow_mut().entry(said.decision + if said.makes { " and make" } else { "" }).or_default() += 1;
            Ok(())
        }).unwrap();

        let counts = counts.into_inner();
        print_figures(&format!("check and a login agreed in {CASES} of {CASES} cases: {counts:?}"));
        // Each kind of answer came up often enough to mean something.
        for kind in ["provision", "provision and make", "skip", "refuse"] {
            assert!(counts.get(kind).is_some_and(|count| *count >= 8), "{kind}: {counts:?}");
        }
    }
}
