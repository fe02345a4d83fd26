//! Althing keeps a system working, correctly, while some of its machines crash, lie or are taken
//! over.
//!
//! This crate is the door for those who build on it: implement [`Service`] and run it in a replica
//! group ([`run`]), or implement [`Component`] and wire it in a spec file ([`run_component`]). The
//! `althing` command is its binary.

mod commands;
mod component;
mod output;
mod running;
mod spec_file;

pub use component::run_component;

pub use althing_components::{Component, ComponentContext, ComponentError, OutputEvent};
pub use althing_node::Services;
pub use althing_replica::{
    Context, Emission, InstallError, LateResult, MAX_PAGE_BYTES, MAX_PAGES, Outcome, Page, Pages, Service,
};
pub use althing_types::{ClientId, Instant, ReplicaId, RequestNumber, Seq, View};

pub use althing_components as components;
pub use althing_crypto as crypto;
pub use althing_node as node;
pub use althing_protocol as protocol;
pub use althing_replica as replica;
pub use althing_services as services;
pub use althing_sim as sim;
pub use althing_types as types;

use clap::Parser;
use std::process::ExitCode;

/// The whole of the `althing` command, in a program that brings its own services along: each is there
/// under its name for `serve`, beside those that Althing ships. To be called from `main`, and returned.
#[must_use]
pub fn run(services: Services) -> ExitCode {
    output::end_with_the_reader();
    let cli = commands::Cli::parse();
    output::start_log(cli.verbose);
    match cli.command.run(services) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(output::INVALID)
        }
    }
}
