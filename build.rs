//! Two linker arguments that a PAM module written in Rust needs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // libpam unloads modules with dlclose, but std's thread-local destructors point into them: a host
    // thread that exits later would run unmapped code. `nodelete` keeps the module where it is.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    if let Some(directory) = static_unwinder() {
        println!("cargo::rustc-link-search=native={}", directory.display());
    }
}

/// A directory whose `libgcc_s.so` is a linker script that names the static unwinder instead.
///
/// Mapping `libgcc_s.so.1` is most of what loading a small Rust cdylib costs. Where the archive is
/// missing the shared library serves, only slower.
fn static_unwinder() -> Option<PathBuf> {
    if env::var("CARGO_CFG_TARGET_ENV").ok()? != "gnu" {
        return None;
    }
    // Where cargo is told of no linker, rustc takes cc, which links for this machine.
    let linker = match env::var_os("RUSTC_LINKER") {
        Some(linker) => linker,
        None if env::var("HOST").ok()? == env::var("TARGET").ok()? => "cc".into(),
        None => return None,
    };
    let answer = Command::new(linker).arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let archive = String::from_utf8(answer.stdout).ok()?;
    // It answers with the bare name when it has no such file.
    if !Path::new(archive.trim()).is_absolute() {
        return None;
    }
    let directory = PathBuf::from(env::var_os("OUT_DIR")?);
    // On arm64 the unwinder calls atomics that are in libgcc.a alone.
    fs::write(directory.join("libgcc_s.so"), "GROUP(-l:libgcc_eh.a -l:libgcc.a)\n").ok()?;
    Some(directory)
}
