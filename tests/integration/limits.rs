//! Resource limits that a stack may have set before the module: the session opens all the same.
//!
//! How little is too little is for libpam to say: the measure is a session of `pam_permit` alone, under the
//! same limit. Where that opens, a session with the module opens, whatever the module is to do in it; it may
//! do nothing. A careless module is held to the same, and is found out.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::mount::{MsFlags, mount};
use pam_cargo_target::cache_dir::TAG;

use crate::c_host;
use crate::sandbox::{
    SyslogSocket, User, module_path, mount_deep_down, print_figures, sandboxed, succeeded, text_of,
};

const ROOT: &str = "/srv/cargo-target";
const DIRECTORY: &str = "/srv/cargo-target/alice";

/// What the module makes sure of at its entry (`src/module.rs`), in bytes.
const WORKING_SET: u64 = 256 * 1024;

/// What the host program prints of a session that has the variable, and of one that has not.
const EXPORTED: &str = "open 0\nCARGO_TARGET_DIR=/srv/cargo-target/alice\nclose 0\nend 0\n";
const NOTHING: &str = "open 0\nclose 0\nend 0\n";

/// Nothing but `pam_permit`: what libpam itself can do.
const PERMIT: Scene = Scene { service: "permit", ..FIRST_LOGIN };

/// A session, and what the module has to do in it.
#[derive(Clone, Copy, Debug)]
struct Scene {
    service: &'static str,
    user: &'static str,
    /// The mode of a directory that is there; 0 for none.
    found: u32,
}

const FIRST_LOGIN: Scene = Scene { service: "module", user: "alice", found: 0 };

/// The ways through the module that differ in what they need: the last three log, the very last a lot.
const SCENES: [Scene; 6] = [
    FIRST_LOGIN,
    Scene { found: 0o700, ..FIRST_LOGIN },
    Scene { user: "dave", ..FIRST_LOGIN },
    Scene { user: "dave", service: "debug", ..FIRST_LOGIN },
    Scene { found: 0o770, ..FIRST_LOGIN },
    Scene { service: "faulty", ..FIRST_LOGIN },
];

/// What came of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    /// It opened, with the variable.
    Exported,
    /// It opened, without.
    Nothing,
    /// libpam, or a module, did not open it.
    Refused,
    /// The process died, or said what it should not.
    Bad(String),
}

impl Came {
    fn opened(&self) -> bool {
        matches!(self, Self::Exported | Self::Nothing)
    }
}

/// A member, another user, a root, and a host program with its services.
struct Host {
    program: PathBuf,
    /// It is there, and read.
    _log: SyslogSocket,
}

impl Host {
    const SERVICES: &str = "/run/pam-services";

    fn new() -> Self {
        User::developer("alice", 2001).add();
        User::new("dave", 2004).add();
        fs::create_dir(Self::SERVICES).unwrap();
        let host = Self { program: c_host::program("session"), _log: SyslogSocket::bind() };
        let module = module_path().display().to_string();
        Self::write("permit", "pam_permit.so");
        Self::write("module", &format!("{module} root={ROOT}"));
        Self::write("debug", &format!("{module} root={ROOT} debug"));
        Self::write("faulty", &format!("{module} root={ROOT} conf=/run/faulty.conf"));
        fs::write("/run/faulty.conf", "debug\ncolour = red, and many more words\n".repeat(20)).unwrap();
        host
    }

    /// Writes a service of one module.
    fn write(service: &str, module: &str) {
        fs::write(format!("{}/{service}", Self::SERVICES), format!("session required {module}\n")).unwrap();
    }

    /// One session, with these options of the host program.
    fn session(&self, scene: &Scene, options: &[&str]) -> Output {
        self.command(scene, options).output().unwrap()
    }

    fn command(&self, scene: &Scene, options: &[&str]) -> Command {
        let _ = fs::remove_dir_all(ROOT);
        fs::create_dir(ROOT).unwrap();
        fs::set_permissions(ROOT, fs::Permissions::from_mode(0o755)).unwrap();
        if scene.found != 0 {
            fs::create_dir(DIRECTORY).unwrap();
            std::os::unix::fs::chown(DIRECTORY, Some(2001), Some(2001)).unwrap();
            fs::set_permissions(DIRECTORY, fs::Permissions::from_mode(scene.found)).unwrap();
        }
        let mut command = Command::new(&self.program);
        command.args(options).args([Self::SERVICES, scene.service, scene.user]);
        command
    }

    fn came(&self, scene: &Scene, options: &[&str]) -> Came {
        judge(&self.session(scene, options))
    }

    /// Asserts that a session opens in every scene if it does with `pam_permit` alone; and what of it exports.
    /// Then the limit is lifted, and the next session is right.
    #[track_caller]
    fn assert_no_worse_than_libpam(&self, options: &[&str]) -> Came {
        let alone = self.came(&PERMIT, options);
        let mut first = None;
        for scene in &SCENES {
            let came = self.came(scene, options);
            let what = format!("{scene:?}, {options:?}");
            if alone.opened() {
                assert!(came.opened(), "{what}: {came:?}");
            }
            if came == Came::Exported {
                assert_private(&what);
            }
            if scene.user == "alice" && scene.found != 0o770 {
                let again = self.program_only(scene);
                assert_eq!(text_of(&again), EXPORTED, "{what}, then without");
                assert_private(&what);
            }
            first.get_or_insert(came);
        }
        first.unwrap()
    }

    /// Another session on what the last one left.
    fn program_only(&self, scene: &Scene) -> Output {
        Command::new(&self.program).args([Self::SERVICES, scene.service, scene.user]).output().unwrap()
    }

    /// The smallest number of a range for which a session goes as wanted, if it does at all.
    fn least(
        &self,
        scene: &Scene,
        option: &str,
        mut values: impl Iterator<Item = u64>,
        wanted: impl Fn(&Came) -> bool,
    ) -> Option<u64> {
        values.find(|value| wanted(&self.came(scene, &[&format!("{option}{value}")])))
    }
}

fn judge(output: &Output) -> Came {
    let printed = text_of(output);
    match printed.as_str() {
        EXPORTED => Came::Exported,
        NOTHING => Came::Nothing,
        _ if output.status.success() && output.stderr.is_empty() && !printed.starts_with("open 0") => {
            Came::Refused
        }
        _ => Came::Bad(format!("{}: {printed}", output.status)),
    }
}

fn steps(range: RangeInclusive<u64>, step: usize) -> impl Iterator<Item = u64> {
    range.step_by(step)
}

#[track_caller]
fn assert_private(what: &str) {
    let found = fs::symlink_metadata(DIRECTORY).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode()), (2001, 2001, 0o040_700), "{what}");
}

sandboxed! {
    /// `pam_limits` can allow a user's files no more than some kilobytes, and a write beyond raises SIGXFSZ,
    /// whose default ends the login.
    fn a_limit_on_file_sizes_costs_the_tag_and_nothing_else() {
        let host = Host::new();
        let tag = Path::new(DIRECTORY).join("CACHEDIR.TAG");
        for (limit, tagged) in [(0, false), (1, false), (176, false), (177, true), (1024, true)] {
            let what = format!("--limit=fsize={limit}");
            assert_eq!(host.came(&FIRST_LOGIN, &[&what]), Came::Exported, "{what}");
            assert_private(&what);
            assert_eq!(tag.exists(), tagged, "{what}");
            let next = Command::new(&host.program).args([&what, Host::SERVICES, "module", "alice"]).output();
            assert_eq!(text_of(&next.unwrap()), EXPORTED, "{what}, next login");
            assert_eq!(tag.exists(), tagged, "{what}, next login");
            assert_eq!(text_of(&host.program_only(&FIRST_LOGIN)), EXPORTED, "after {what}");
            assert_eq!(fs::read_to_string(&tag).unwrap(), TAG);
        }
    }

    /// The module has three descriptors open at once at most, and libpam has one of its own before.
    fn few_descriptors_stop_no_login() {
        let host = Host::new();
        for limit in 0..16 {
            let came = host.assert_no_worse_than_libpam(&[&format!("--limit=nofile={limit}")]);
            assert!(limit < 8 || came == Came::Exported, "{limit}: {came:?}");
        }
    }

    fn little_memory_stops_no_login() {
        let host = Host::new();
        for limit in ["as", "data"] {
            for size in steps(0..=6 << 20, 256 << 10) {
                host.assert_no_worse_than_libpam(&[&format!("--limit={limit}={size}")]);
            }
            let enough = format!("--limit={limit}={}", 64 << 20);
            assert_eq!(host.came(&FIRST_LOGIN, &[&enough]), Came::Exported, "{enough}");
        }
        // Where libpam needs more, and where the module does, in small steps.
        for thread in ["--thread=0", "--thread=65536"] {
            for left in steps(0..=2048, 128).chain(steps(4096..=512 << 10, 32 << 10)) {
                host.assert_no_worse_than_libpam(&[thread, &format!("--left={left}")]);
            }
            assert_eq!(host.came(&FIRST_LOGIN, &[thread, "--left=1048576"]), Came::Exported, "{thread}");
        }
    }

    /// A configuration of 64 KiB takes megabytes when parsed, which a limit may not leave.
    fn a_large_configuration_under_a_limit_stops_no_login() {
        let host = Host::new();
        let settings = [
            ("of faults", "x\n".repeat(32_700)),
            ("of names", format!("skip = {}", "user,".repeat(12_000))),
            ("of exports", "export = CARGO_TARGET_DIR\n".repeat(2_400)),
        ];
        let service = format!("{} root={ROOT} conf=/run/large.conf", module_path().display());
        Host::write("large", &service);
        let scene = Scene { service: "large", ..FIRST_LOGIN };
        for (what, settings) in settings {
            fs::write("/run/large.conf", settings).unwrap();
            for limit in ["as", "data"] {
                for size in steps(0..=12 << 20, 128 << 10) {
                    let option = format!("--limit={limit}={size}");
                    let came = host.came(&scene, &[&option]);
                    assert!(came.opened(), "{what}, {option}: {came:?}");
                }
            }
            assert!(host.came(&scene, &[]).opened(), "{what}");
        }
    }

    /// The list of mounts is as long as users make it.
    fn mounts_of_others_under_a_limit_stop_no_login() {
        let host = Host::new();
        mount_deep_down(1, 1536);
        for size in steps(0..=12 << 20, 256 << 10) {
            let option = format!("--limit=as={size}");
            if host.came(&PERMIT, &[&option]).opened() {
                let came = host.came(&FIRST_LOGIN, &[&option]);
                assert!(came.opened(), "{option}: {came:?}");
            }
        }
        assert_eq!(host.came(&FIRST_LOGIN, &[]), Came::Exported);
    }

    /// Threads of 64 KiB, as some servers have them, and of less.
    fn small_stacks_stop_no_login() {
        let host = Host::new();
        for size in steps(16 << 10..=64 << 10, 4 << 10) {
            let came = host.assert_no_worse_than_libpam(&[&format!("--thread={size}")]);
            assert!(size < 48 << 10 || came == Came::Exported, "{size}: {came:?}");
        }
        for size in [0, 16 << 10, 64 << 10] {
            let came = host.assert_no_worse_than_libpam(&[&format!("--limit=stack={size}")]);
            assert_eq!(came, Came::Exported, "{size}");
        }
    }

    fn no_processes_and_no_locked_memory_stop_no_login() {
        let host = Host::new();
        for limit in ["--limit=nproc=0", "--limit=memlock=0"] {
            assert_eq!(host.assert_no_worse_than_libpam(&[limit]), Came::Exported, "{limit}");
        }
    }

    /// Below a mount that is not known for local, the module starts a process.
    fn limits_on_a_remote_root_stop_no_login() {
        let nothing = None::<&str>;
        mount(Some("proc"), "/srv", Some("proc"), MsFlags::empty(), nothing).unwrap();
        mount(Some("remote"), "/srv", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
        let host = Host::new();
        for limit in ["nproc=0", "memlock=0", "stack=0", "fsize=0"] {
            let came = host.assert_no_worse_than_libpam(&[&format!("--limit={limit}")]);
            assert_eq!(came, Came::Exported, "{limit}");
        }
        for option in ["--limit=as=", "--limit=data=", "--left="] {
            for size in steps(0..=6 << 20, 512 << 10) {
                host.assert_no_worse_than_libpam(&[&format!("{option}{size}")]);
            }
        }
        for limit in 0..16 {
            host.assert_no_worse_than_libpam(&[&format!("--limit=nofile={limit}")]);
        }
    }

    /// The limits as administrators set them, by the module that stands before ours in most stacks.
    fn limits_of_pam_limits_stop_no_login() {
        let host = Host::new();
        let stack = format!("pam_limits.so conf=/run/limits.conf\nsession required {} root={ROOT}", module_path().display());
        Host::write("limited", &stack);
        let scene = Scene { service: "limited", ..FIRST_LOGIN };
        for (limit, came) in [
            ("fsize 0", Came::Exported), ("nofile 8", Came::Exported), ("nofile 5", Came::Nothing),
            ("nproc 0", Came::Exported), ("stack 8", Came::Exported), ("memlock 0", Came::Exported),
            ("data 1024", Came::Exported), ("data 64", Came::Nothing), ("as 2048", Came::Nothing),
            ("cpu 1", Came::Exported), ("core 0", Came::Exported),
        ] {
            fs::write("/run/limits.conf", format!("alice - {limit}\n")).unwrap();
            assert_eq!(host.came(&scene, &[]), came, "{limit}");
        }
    }

    /// A module that minds no limit does not open what `pam_permit` opens, under each of them.
    fn a_careless_module_is_found_out() {
        let host = Host::new();
        Host::write("careless", &format!("{} root={ROOT}", c_host::module("careless").display()));
        let scene = Scene { service: "careless", ..FIRST_LOGIN };
        assert_eq!(host.came(&scene, &[]), Came::Exported);
        for (limit, opens) in [
            ("--limit=fsize=0", false), ("--left=2048", false),
            ("--thread=40960", false), ("--limit=nproc=0", true),
        ] {
            assert!(host.came(&PERMIT, &[limit]).opened(), "{limit}");
            let came = host.came(&scene, &[limit]);
            assert_eq!(came.opened(), opens, "{limit}: {came:?}");
        }
    }

    /// What a session takes is well below what the module makes sure of at its entry.
    fn a_session_takes_less_memory_than_it_asks_for() {
        let host = Host::new();
        let (marker, peak) = (c_host::module("marker"), c_host::module("peak"));
        let mut most = 0;
        for scene in SCENES {
            let service = fs::read_to_string(format!("{}/{}", Host::SERVICES, scene.service)).unwrap();
            let marker = marker.display();
            Host::write("measured", &format!("{marker} begin\n{service}session required {marker} end"));
            let mut command = host.command(&Scene { service: "measured", ..scene }, &[]);
            let output = command.env("LD_PRELOAD", &peak).env("PEAK_BUT", WORKING_SET.to_string()).output().unwrap();
            succeeded(&output);
            let said = String::from_utf8(output.stderr).unwrap();
            let peak: u64 = said.trim().strip_prefix("peak ").unwrap().parse().unwrap();
            most = most.max(peak);
        }
        print_figures(&format!("a session takes {most} bytes of memory at most, and makes sure of {WORKING_SET}"));
        // The buffer for a group's entry is all but the whole of it.
        assert!((65_536..WORKING_SET / 4 * 3).contains(&most), "{most}");
    }

    /// The figures below which nothing is promised, for SECURITY.md.
    #[ignore = "long: make soak"]
    fn soak_what_little_is_enough() {
        let host = Host::new();
        let show = |value: Option<u64>| value.map_or("none".into(), |value| value.to_string());
        let opens = Came::opened;
        let exports = |came: &Came| *came == Came::Exported;
        let little = || steps(0..=8192, 16);
        let died = |came: &Came| matches!(came, Came::Bad(_));

        print_figures(&format!(
            "bytes of memory left: libpam alone opens from {}, with the module from {}, which exports from {}; \
             with the module it died first at {}, last below {}",
            show(host.least(&PERMIT, "--left=", little(), opens)),
            show(host.least(&FIRST_LOGIN, "--left=", little(), opens)),
            show(host.least(&FIRST_LOGIN, "--left=", steps(200_000..=600_000, 256), exports)),
            show(host.least(&FIRST_LOGIN, "--left=", little(), died)),
            show(little().filter(|left| died(&host.came(&FIRST_LOGIN, &[&format!("--left={left}")]))).last().map(|last| last + 16)),
        ));
        for option in ["--thread=", "--limit=nofile=", "--limit=as=", "--limit=data="] {
            let values = || match option {
                "--thread=" => steps(16_384..=131_072, 4096),
                "--limit=nofile=" => steps(0..=32, 1),
                _ => steps(0..=16 << 20, 16 << 10),
            };
            print_figures(&format!(
                "{option}: libpam alone opens from {}, with the module from {}, which exports from {}",
                show(host.least(&PERMIT, option, values(), opens)),
                show(host.least(&FIRST_LOGIN, option, values(), opens)),
                show(host.least(&FIRST_LOGIN, option, values(), exports)),
            ));
        }
        let from_the_start = |scene: &Scene, wanted: fn(&Came) -> bool| {
            steps(2 << 20..=32 << 20, 64 << 10).find(|size| {
                let mut command = host.command(scene, &[]);
                let program = command.get_program().to_owned();
                let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
                command = Command::new("prlimit");
                wanted(&judge(&command.arg(format!("--as={size}")).arg(program).args(arguments).output().unwrap()))
            })
        };
        print_figures(&format!(
            "an address space limited before the program starts: libpam alone opens from {}, with the module from {}",
            show(from_the_start(&PERMIT, Came::opened)),
            show(from_the_start(&FIRST_LOGIN, Came::opened)),
        ));
    }
}
