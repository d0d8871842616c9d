//! The module under memory checkers, and the fuzzers.
//!
//! valgrind runs the module as it is packaged; `AddressSanitizer` a build of its own. Both run the host of
//! `tests/host` through sessions of every kind, and both must report the module of `tests/host/litter.c` that
//! does what they look for.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::host::{EVERY_KIND, PANIC, Ran, SERVED, Stage, another_build};
use crate::sandbox::{SyslogSocket, checkout, module_path, print_figures, sandboxed, text_of};

/// What a checker's process answers when it has found something.
const FOUND: i32 = 99;

const VALGRIND: [&str; 6] = [
    "valgrind",
    "--quiet",
    "--error-exitcode=99",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,indirect,possible",
    "--log-file=/tmp/host/valgrind.%p",
];

/// Sessions that parse, refuse and print more than the usual ones.
const HOSTILE: [&str; 4] = ["bytes:alice", "binary:alice", "huge:alice", "words:alice"];

fn hostile_services(stage: &Stage, module: &Path) {
    let file = |name: &str, content: &[u8]| fs::write(format!("/etc/security/{name}.conf"), content).unwrap();
    let bytes: Vec<u8> = (1..=255).cycle().take(4096).collect();
    file("bytes", &bytes);
    file("binary", b"root = /srv/cargo-target\n\0\0\0");
    let rules: Vec<String> = (0..6000).map(|number| format!("*{number}*x")).collect();
    file("huge", format!("root = /srv/cargo-target\nskip = {}\n", rules.join(",")).as_bytes());
    for name in ["bytes", "binary", "huge"] {
        stage.service(name, module, &format!("conf=/etc/security/{name}.conf"));
    }
    let words =
        "= == =x x= root= name=%% name=% group=, mode=0 export=: export=A:/ services=!! %u \u{e9} \u{1b}[2J";
    stage.service("words", module, words);
}

/// What valgrind wrote of every process.
fn valgrinds_words() -> String {
    let logs = fs::read_dir("/tmp/host").unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.to_string_lossy().contains("/valgrind."));
    logs.map(|path| fs::read_to_string(path).unwrap()).collect()
}

sandboxed! {
    /// Memcheck on the packaged module: no invalid access, nothing uninitialised, no leak.
    fn valgrind_finds_nothing() {
        let module = module_path();
        let stage = Stage::set_up(&module, &[]);
        hostile_services(&stage, &module);
        stage.remote(&module);
        let _log = SyslogSocket::bind();

        for (what, words) in [("leak", "are definitely lost"), ("read-freed", "Invalid read of size 1")] {
            stage.litter(what);
            let ran = Ran::of(Stage::command(&VALGRIND, "main", 1, &["litter:alice"]));
            assert_eq!(ran.status.code(), Some(FOUND), "{what}: {ran:?}");
            assert!(valgrinds_words().contains(words), "{what}: {}", valgrinds_words());
        }
        // It does not know openat2(2), says so, and answers ENOSYS: as a kernel before Linux 5.6 does.
        for (mode, turns, sessions) in [
            ("main", 20, &EVERY_KIND[..]),
            ("thread", 20, &EVERY_KIND[..]),
            ("main", 4, &HOSTILE[..]),
            ("thread", 4, &["remote:alice"][..]),
        ] {
            let ran = Ran::of(Stage::command(&VALGRIND, mode, turns, sessions));
            assert!(ran.status.success(), "{mode}: {ran:?}\n{}", valgrinds_words());
            assert_eq!(ran.succeeded, turns, "{mode}: {ran:?}");
        }
    }
}

/// `AddressSanitizer` on a build of its own: no invalid access, no leak, in a panic neither.
#[test]
fn address_sanitizer_finds_nothing() {
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let flags = |cargo: &mut Command| {
        // The option is one of nightly's; a stable compiler has it too, and takes it when told so.
        cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address").args(["--target", &triple]);
    };
    let module = another_build("asan", flags, &triple);
    crate::sandbox::run("integration::sanitizers::address_sanitizer_finds_nothing", || {
        let instrumented = fs::read(&module).unwrap();
        assert!(
            instrumented.windows(18).any(|bytes| bytes == b"__asan_report_load"),
            "the build is not instrumented"
        );
        let stage = Stage::set_up(&module, &["-fsanitize=address"]);
        hostile_services(&stage, &module);
        stage.remote(&module);
        let log = SyslogSocket::bind();
        let command = |mode: &str, turns: u32, sessions: &[&str]| {
            let mut host = Stage::command(&[], mode, turns, sessions);
            host.env(
                "ASAN_OPTIONS",
                "exitcode=99:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
            );
            host
        };

        for what in ["leak", "read-freed"] {
            stage.litter(what);
            let ran = Ran::of(command("main", 1, &["litter:alice"]));
            assert_eq!(ran.status.code(), Some(FOUND), "{what}: {ran:?}");
            assert!(
                ran.printed.contains("AddressSanitizer") || ran.printed.contains("LeakSanitizer"),
                "{what}: {ran:?}"
            );
        }

        let turns = 100;
        for mode in ["main", "thread", "crowd", "fork"] {
            let ran = Ran::of(command(mode, turns, &EVERY_KIND));
            assert!(ran.status.success() && ran.printed.is_empty(), "{mode}: {ran:?}");
            assert_eq!(ran.succeeded, turns, "{mode}: {ran:?}");
            assert!(mode == "crowd" || ran.exported == turns / 10 * SERVED, "{mode}: {ran:?}");
        }
        let ran = Ran::of(command("crowd", turns, &["remote:alice"]));
        assert!(ran.status.success() && ran.printed.is_empty() && ran.succeeded == turns, "{ran:?}");
        let ran = Ran::of(command("main", 8, &HOSTILE));
        assert!(ran.status.success() && ran.printed.is_empty() && ran.succeeded == 8, "{ran:?}");
        log.drain();
        let mut panicking = command("thread", 4, &["ready:alice"]);
        panicking.env(PANIC, "1");
        let ran = Ran::of(panicking);
        assert!(ran.status.success() && ran.printed.is_empty() && ran.exported == 0, "{ran:?}");
        assert_eq!(log.drain_module().len(), 8);
    });
}

/// How long each fuzz target runs in `make soak`, in seconds, unless `PAM_CARGO_TARGET_FUZZ_SECONDS` says.
const FUZZ_SECONDS: &str = "120";

/// Coverage-guided fuzzing of the grammar and of directory names, against the promises that `tests/properties.rs`
/// holds with inputs of its own making. What is found is written to `fuzz/artifacts`.
#[test]
#[ignore = "long: make soak"]
fn soak_fuzzers_find_nothing() {
    let cargo = || {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Sanitizers are nightly's; a stable compiler has them too, and takes the option when told so.
        cargo.arg("fuzz").current_dir(checkout()).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS");
        cargo
    };
    assert!(
        cargo().arg("--version").output().unwrap().status.success(),
        "cargo-fuzz is not installed; run: cargo install cargo-fuzz (and have a C++ compiler: apt-get install g++)"
    );
    let target_dir = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("fuzz");
    let seconds = env::var("PAM_CARGO_TARGET_FUZZ_SECONDS").unwrap_or_else(|_| FUZZ_SECONDS.to_owned());
    for target in ["configuration", "directory_name"] {
        let corpus = target_dir.join("corpus").join(target);
        fs::create_dir_all(&corpus).unwrap();
        let output = cargo()
            .args(["run", target])
            .arg(corpus)
            .arg(format!("fuzz/seeds/{target}"))
            .args(["--", &format!("-max_total_time={seconds}"), "-max_len=1024"])
            .arg(format!("-dict=fuzz/{target}.dict"))
            .env("CARGO_TARGET_DIR", &target_dir)
            .output()
            .unwrap();
        let words = text_of(&output);
        assert!(output.status.success(), "{target}:\n{words}");
        let done =
            words.lines().find(|line| line.starts_with("Done ")).expect("libFuzzer says how much it did");
        print_figures(&format!("fuzz target {target}: {done}, nothing found"));
    }
}
