use crate::output;
use crate::spec_file::SpecFile;
use althing_components::{Plan, SitePlan, Spec};
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::path::PathBuf;
use std::process::ExitCode;

/// Show an application before and after it is re-wired for replication, or who runs a system of sites
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing plan examples/greenhouse.yaml\n  \
    althing plan examples/greenhouse.yaml --svg greenhouse.svg\n  \
    althing plan examples/five-sites.yaml")]
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
        match SpecFile::read(&self.spec)?.spec()? {
            Spec::Application(application) => self.show(&Plan::of(&application)),
            Spec::Sites(system) => self.show_sites(&SitePlan::of(&system)),
        }
    }

    fn show(&self, plan: &Plan) -> Result<ExitCode> {
        if let Some(path) = &self.svg {
            std::fs::write(path, plan.svg())
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot write {}", path.display()))?;
        }
        if self.json {
            output::print_json(plan)?;
        } else {
            print!("{}", plan.text());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show_sites(&self, plan: &SitePlan) -> Result<ExitCode> {
        if self.svg.is_some() {
            return Err(miette!(help = "leave --svg away", "there is no picture of a system of sites"));
        }
        if self.json {
            output::print_json(plan)?;
        } else {
            print!("{}", plan.text());
        }
        Ok(ExitCode::SUCCESS)
    }
}
