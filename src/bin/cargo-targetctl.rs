//! The administrator's tool; all of it is in `pam_cargo_target::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pam_cargo_target::cli::main()
}
