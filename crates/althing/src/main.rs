//! The `althing` command.

mod commands;
mod output;
mod running;
mod spec_file;

use clap::Parser;
use commands::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::start_log(cli.verbose);
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(output::INVALID)
        }
    }
}
