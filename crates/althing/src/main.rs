//! The `althing` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    althing::run(althing::Services::default())
}
