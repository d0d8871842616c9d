//! C programs and modules of `tests/host`, compiled in the sandbox that runs them.

use std::path::PathBuf;
use std::process::Command;

use crate::sandbox::{checkout, succeeded};

/// Compiles a PAM application.
pub(crate) fn program(name: &str) -> PathBuf {
    compile(name, name, &[])
}

/// Compiles a PAM module.
pub(crate) fn module(name: &str) -> PathBuf {
    compile(name, &format!("{name}.so"), &["-shared", "-fPIC"])
}

fn compile(source: &str, made: &str, options: &[&str]) -> PathBuf {
    let made = PathBuf::from("/run").join(made);
    let source = checkout().join("tests/host").join(source).with_extension("c");
    let compiler = Command::new("cc")
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(options)
        .arg("-o")
        .arg(&made)
        .arg(source)
        .args(["-lpam", "-pthread"])
        .output();
    succeeded(&compiler.unwrap());
    made
}
