//! Which deployment a command is about.

use althing_node::deployment::Deployment;
use clap::Args;
use miette::{IntoDiagnostic, Result, miette};
use std::path::{Path, PathBuf};

/// Where deployments lie unless told otherwise, each in a directory of its own name.
pub(super) const HOME: &str = ".althing";

#[derive(Debug, Args)]
pub(super) struct Place {
    /// The deployment's directory, if there are several under .althing or it lies elsewhere
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    /// The deployment named, or the only one there is.
    pub(super) fn deployment(&self) -> Result<Deployment> {
        let directory = match &self.dir {
            Some(directory) => directory.clone(),
            None => the_only_one()?,
        };
        Deployment::load(&directory).into_diagnostic()
    }
}

fn the_only_one() -> Result<PathBuf> {
    let entries = std::fs::read_dir(HOME).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_deployment(path)).collect();
    found.sort();
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => Err(miette!(
            help = "start one with `althing up SPEC` or `althing serve kv`, or name one with --dir DIR",
            "there is no deployment under {HOME}"
        )),
        several => {
            let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(miette!(
                help = "name one with --dir DIR",
                "there are several deployments: {}",
                names.join(", ")
            ))
        }
    }
}

/// Whether a deployment lies in `directory`.
pub(super) fn is_deployment(directory: &Path) -> bool {
    directory.join("deployment.json").exists()
}
