//! The `althing` command.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// A large state is many small pages, which the system's allocator spends much of a checkpoint on.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    althing::run(althing::Services::default())
}
