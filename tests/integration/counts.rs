//! What a session costs, in figures that do not depend on how fast or how busy a machine is.
//!
//! `benches/README.md` has the table of these figures; here they are counted again and held to the bounds in it. A
//! count that grows past its bound is a step back, or wants a new bound and a reason. What NSS takes of a session is
//! counted with a module in C that asks it the same, and not held against ours.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::c_host;
use crate::pam::{Call, PAM_SUCCESS, Services};
use crate::sandbox::{
    SyslogSocket, User, add_group, checkout, module_path, print_figures, sandboxed, succeeded,
};

/// On the mount of `/`, where the module need not look into the list of mounts.
const ROOT: &str = "/cargo/target";
/// On a mount of its own that is no block device.
const ROOT_IN_MEMORY: &str = "/srv/target";

const PLAN: &str = "/run/plan";

/// The figures of a row of the table: what was measured when it was written, and the bound.
fn row(what: &str) -> (u64, u64) {
    let table = fs::read_to_string(checkout().join("benches/README.md")).unwrap();
    let cells = table.lines().find_map(|line| line.strip_prefix(&format!("| {what} |")));
    let cells = cells.unwrap_or_else(|| panic!("benches/README.md has no row `{what}`"));
    let figures: Vec<u64> =
        cells.split('|').filter_map(|cell| cell.trim().replace(',', "").parse().ok()).collect();
    assert_eq!(figures.len(), 2, "{what}: {cells}");
    (figures[0], figures[1])
}

/// Asserts that a count is within its bound.
fn hold(what: &str, count: u64) {
    let (written, bound) = row(what);
    print_figures(&format!("{what}: {count} (table: {written}, bound: {bound})"));
    assert!(count <= bound, "{what}: {count} is more than the {bound} that benches/README.md bears");
}

/// Asserts that counting would tell: this one, of something careless, is beyond the bound.
fn control(what: &str, count: u64) {
    assert!(count > row(what).1, "{what}: even something careless needs {count} only");
}

/// A machine whose users come last in its account files, and the programs that count.
struct Bench {
    services: Services,
    _log: SyslogSocket,
    measure: PathBuf,
    marker: PathBuf,
    nss: PathBuf,
    openat2: PathBuf,
}

impl Bench {
    fn set_up() -> Self {
        add_group("workspace", 4000);
        User::developer("alice", 2001).add();
        User::new("carol", 2003).add();
        User::developer("doorman", 900).add();
        for root in [ROOT, ROOT_IN_MEMORY] {
            fs::create_dir_all(root).unwrap();
        }
        // As `init` leaves it: comments and one setting.
        let packaged = fs::read_to_string(checkout().join("packaging/cargo-target.conf")).unwrap();
        let conf = packaged.replace("#root = /srv/cargo-target", &format!("root = {ROOT}"));
        fs::write("/etc/security/cargo-target.conf", conf).unwrap();
        let services = Services::new();
        services.write("other", "session required pam_deny.so");
        Self {
            services,
            _log: SyslogSocket::bind(),
            measure: c_host::program("measure"),
            marker: c_host::module("marker"),
            nss: c_host::module("nss"),
            openat2: c_host::module("openat2"),
        }
    }

    /// The program that opens sessions one after the other, with what it is to do in [`PLAN`].
    fn measure(&self, runner: &mut Command, service: &str, plan: &str, sessions: u32) {
        fs::write(PLAN, format!("{service} {plan}\n")).unwrap();
        runner.arg(&self.measure).args(["/run/pam-services", PLAN, "0", &sessions.to_string()]);
        succeeded(&runner.output().unwrap());
    }

    /// The system calls of a module in the session of a process that takes the fewest: a mount that somebody makes at the
    /// same moment keeps the kernel from looking a name up in memory. The first, which has more to do, does not count.
    fn calls(&self, module: &str, plan: &str) -> Vec<String> {
        let marker = self.marker.display();
        let stack =
            format!("required {marker} begin\nsession required {module}\nsession required {marker} end");
        self.services.write("counted", &format!("session required pam_permit.so\nsession {stack}"));
        let mut strace = Command::new("strace");
        strace.args(["--output=/run/trace"]);
        self.measure(&mut strace, "counted", plan, 3);
        let trace = fs::read_to_string("/run/trace").unwrap();
        let sessions = trace.split(r#"write(-1, "begin""#).skip(2);
        let calls =
            sessions.map(|session| session.split(r#"write(-1, "end""#).next().unwrap().lines().skip(1));
        calls.min_by_key(|calls| calls.clone().count()).unwrap().map(str::to_owned).collect()
    }

    /// How many system calls a session makes beside those of NSS.
    fn own_calls(&self, line: &str, plan: &str, nss: &str) -> u64 {
        let ours = self.calls(&format!("{} {line}", module_path().display()), plan);
        let nss = self.calls(&format!("{} {nss}", self.nss.display()), plan);
        assert!(nss.len() > 5, "{nss:#?}");
        println!("{}", ours.join("\n"));
        (ours.len() - nss.len()) as u64
    }

    /// How many instructions a session takes that is not the first of its process.
    fn instructions(&self, module: &str, plan: &str) -> u64 {
        self.services.write("counted", &format!("session required pam_permit.so\nsession required {module}"));
        let [few, many] = [10, 60].map(|sessions| {
            let mut valgrind = Command::new("valgrind");
            valgrind
                .args(["--tool=callgrind", "--callgrind-out-file=/run/callgrind"])
                .env("LD_PRELOAD", &self.openat2);
            self.measure(&mut valgrind, "counted", plan, sessions);
            let profile = fs::read_to_string("/run/callgrind").unwrap();
            let summary = profile.lines().find_map(|line| line.strip_prefix("summary: ")).unwrap();
            summary.trim().parse::<u64>().unwrap()
        });
        (many - few) / 50
    }

    fn own_instructions(&self, module: &Path) -> u64 {
        let ours = self.instructions(&module.display().to_string(), "alice");
        ours - self.instructions(&self.nss.display().to_string(), "alice")
    }
}

/// Gives alice a directory as the module leaves it.
fn make_cache(root: &str) {
    let path = Path::new(root).join("alice");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let tag = path.join("CACHEDIR.TAG");
    fs::write(&tag, pam_cargo_target::cache_dir::TAG).unwrap();
    for made in [path, tag] {
        chown(&made, Some(2001), Some(2001)).unwrap();
    }
}

/// The same code built without care, as `cargo test` builds it.
fn unoptimised_module() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("libpam_cargo_target.so");
    assert!(path.is_file(), "{} is not there", path.display());
    path
}

fn readelf(option: &str, file: &Path) -> String {
    succeeded(&Command::new("readelf").args([option, "--wide"]).arg(file).output().unwrap())
}

/// The libraries that a shared object wants loaded before it.
fn needed(file: &Path) -> BTreeSet<String> {
    let name =
        |line: &str| Some(line.split_once("(NEEDED)")?.1.split_once('[')?.1.strip_suffix(']')?.to_owned());
    readelf("--dynamic", file).lines().filter_map(name).collect()
}

fn relocations(file: &Path) -> u64 {
    readelf("--relocs", file).lines().filter(|line| line.contains(" R_")).count() as u64
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// How many kB of the file a process has changed after a session, by its own copies of the pages: the memory that the
/// module costs each process. (`Private_Dirty` would count what of a new file is not written to its disk yet.)
fn copied(module: &Path, services: &Services) -> u64 {
    services.write("counted", &format!("session required {}", module.display()));
    let mut transaction = services.start("counted", Some(b"alice"));
    assert_eq!(transaction.call(Call::OpenSession), PAM_SUCCESS);
    assert_eq!(transaction.environment(), [format!("CARGO_TARGET_DIR={ROOT}/alice")]);
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_ours = false;
    let mut sum = 0;
    for line in maps.lines() {
        match line.split_once(':') {
            Some(("Anonymous", size)) if is_ours => {
                sum += size.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap();
            }
            // A mapping starts with its addresses.
            _ if line.split(' ').next().is_some_and(|word| word.contains('-')) => {
                is_ours = line.ends_with(module.to_str().unwrap());
            }
            _ => {}
        }
    }
    sum
}

sandboxed! {
    fn a_session_makes_few_system_calls() {
        let bench = Bench::set_up();
        for root in [ROOT, ROOT_IN_MEMORY] {
            make_cache(root);
        }
        let exists = "system calls, directory exists";
        hold(exists, bench.own_calls("", "alice", ""));
        control(exists, bench.own_calls("debug", "alice", ""));
        hold("system calls, directory exists on a mount without a block device",
            bench.own_calls(&format!("root={ROOT_IN_MEMORY}"), "alice", ""));
        hold("system calls, provisioning", bench.own_calls("", &format!("alice {ROOT}/alice"), ""));
        hold("system calls, refusing a non-member", bench.own_calls("", "carol", "all"));
        hold("system calls, refusing a system uid", bench.own_calls("", "doorman", "user"));
    }

    fn a_session_takes_few_instructions() {
        let bench = Bench::set_up();
        make_cache(ROOT);
        let what = "instructions, directory exists";
        hold(what, bench.own_instructions(&module_path()));
        control(what, bench.own_instructions(&unoptimised_module()));
    }

    fn the_module_is_quickly_loaded() {
        let bench = Bench::set_up();
        make_cache(ROOT);
        let (module, careless) = (module_path(), unoptimised_module());

        hold("size of the file, bytes", size(&module));
        control("size of the file, bytes", size(&careless));
        hold("dynamic relocations", relocations(&module));
        control("dynamic relocations", relocations(&careless));
        hold("private memory of a process that loaded it, kB", copied(&module, &bench.services));
        control("private memory of a process that loaded it, kB", copied(&careless, &bench.services));

        // Without libgcc_s, that is: build.rs has found the static unwinder.
        let expected = ["libc.so.6", "libpam.so.0"].map(str::to_owned);
        let mut found = needed(&module);
        found.retain(|name| !name.starts_with("ld-linux"));
        assert_eq!(found, BTreeSet::from(expected));
        assert!(needed(&std::env::current_exe().unwrap()).len() > 1, "readelf tells of no library");
    }
}
