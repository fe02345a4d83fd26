//! How the command speaks: text for people, JSON for programs, exit codes for scripts.

use miette::{IntoDiagnostic, Result};
use serde::Serialize;
use std::panic;
use std::process;
use tracing_subscriber::EnvFilter;

/// It was done, and the answer is no: absent, a process down, an oracle violated.
pub(crate) const FAILED: u8 = 1;
/// It could not be done, or makes no sense.
pub(crate) const INVALID: u8 = 2;

/// From now on the command ends quietly when nobody reads on what it prints, as in `althing status | head -1`, and not with a
/// panic: `println!` has no other way to say so. What a process is killed by elsewhere, SIGPIPE, would kill a replica for a
/// client that hangs up.
pub(crate) fn end_with_the_reader() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            process::exit(0);
        }
        usual(panic);
    }));
}

/// Prints `value` as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value).into_diagnostic()?);
    Ok(())
}

/// Sends the log to standard error: warnings, or more with each `-v`, or what `ALTHING_LOG` says. The
/// embedded broker calls it an error when a client hangs up, so it is heard only when asked for.
pub(crate) fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn,rumqttd=off",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("ALTHING_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
