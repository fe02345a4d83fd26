use crate::output;
use crate::spec_file::{ProblemReport, SpecFile};
use althing_components::{Plan, SitePlan, Spec};
use clap::Args;
use miette::Result;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a spec file, and change nothing
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  althing check examples/greenhouse.yaml\n\n\
    Every problem is shown at its place, with the remedy.")]
pub(crate) struct Check {
    /// The spec file
    #[arg(value_name = "SPEC", required_unless_present = "schema")]
    spec: Option<PathBuf>,
    /// Print the JSON Schema of the spec file instead, for editors
    #[arg(long, conflicts_with = "spec")]
    schema: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Checked {
    valid: bool,
    problems: Vec<ProblemReport>,
}

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Some(path) = self.spec else {
            output::print_json(&Spec::json_schema())?;
            return Ok(ExitCode::SUCCESS);
        };
        let file = SpecFile::read(&path)?;
        if self.json {
            let valid = file.parsed.is_ok();
            output::print_json(&Checked { valid, problems: file.problems() })?;
            return Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(output::INVALID) });
        }
        let shown = path.display();
        match file.spec()? {
            Spec::Application(application) => println!(
                "{shown} is valid: {} component(s), {} wire(s), {} process(es) when it runs",
                application.components().len(),
                application.wires().len(),
                Plan::of(&application).processes().len()
            ),
            Spec::Sites(system) => println!(
                "{shown} is valid: {} sites, {} servers",
                system.sites().len(),
                SitePlan::of(&system).server_count()
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}
