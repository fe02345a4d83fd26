use crate::output;
use crate::spec_file::SpecFile;
use althing_components::Plan;
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Show an application before and after it is re-wired for replication
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing plan examples/greenhouse.yaml\n  \
    althing plan examples/greenhouse.yaml --svg greenhouse.svg")]
pub(crate) struct ShowPlan {
    /// The spec file
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    /// Also draw it, as an SVG picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ShowPlan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let plan = Plan::of(&SpecFile::read(&self.spec)?.application()?);
        if let Some(path) = &self.svg {
            std::fs::write(path, plan.svg())
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot write {}", path.display()))?;
        }
        if self.json {
            output::print_json(&plan)?;
        } else {
            print!("{}", plan.text());
        }
        Ok(ExitCode::SUCCESS)
    }
}
