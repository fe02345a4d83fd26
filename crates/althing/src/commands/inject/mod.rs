mod process;
mod sites;

use super::place::Place;
use clap::{Args, Subcommand};
use miette::{Result, miette};
use process::ProcessFault;
use sites::{LinkKind, SiteKind};
use std::process::ExitCode;

/// Make a running replica, a link between sites or a whole site faulty, on purpose
#[derive(Debug, Args)]
#[command(
    subcommand_precedence_over_arg = true,
    after_help = "Examples:\n  althing inject thermostat-2 lie\n  althing inject thermostat-0 crash\n  \
    althing inject thermostat-1 delay 300\n  althing inject thermostat-3 flood signatures\n  \
    althing inject thermostat-2 corrupt disk\n  althing inject thermostat-2 heal\n  \
    althing inject vik-0 silent-forwarder\n\n  \
    althing inject link reykjavik vik cut\n  althing inject link vik all slow 200 --mbps 0.5\n  \
    althing inject site vik crash\n  althing inject site vik lie\n  althing inject site vik mend\n\n\
    `up` starts a crashed replica again by itself. A deployment takes faults only if it was made with\n\
    `up --allow-injection`; a crash needs no permission."
)]
pub(crate) struct Inject {
    #[command(flatten)]
    place: Place,
    /// The process, as `status` names it
    #[arg(value_name = "REPLICA")]
    process: Option<String>,
    #[command(subcommand)]
    fault: Kind,
}

#[derive(Debug, Clone, Subcommand)]
enum Kind {
    #[command(flatten)]
    Process(ProcessFault),
    /// What one site sends to another fails
    Link {
        /// The site that sends, or `all`
        from: String,
        /// The site that receives, or `all`
        to: String,
        #[command(subcommand)]
        fault: LinkKind,
    },
    /// A whole site fails
    Site {
        /// The site
        name: String,
        #[command(subcommand)]
        fault: SiteKind,
    },
}

impl Inject {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let deployment = self.place.deployment()?;
        match (self.fault, self.process) {
            (Kind::Process(fault), Some(process)) => fault.inject(&deployment, &process)?,
            (Kind::Process(_), None) => {
                let known = process::names(&deployment);
                return Err(miette!("name the process that is to be faulty: one of {known}"));
            }
            (_, Some(process)) => {
                return Err(miette!(
                    help = "take it out",
                    "`{process}` has no place before `link` or `site`"
                ));
            }
            (Kind::Link { from, to, fault }, None) => sites::inject_link(&deployment, &from, &to, fault)?,
            (Kind::Site { name, fault }, None) => return sites::inject_site(&deployment, &name, fault),
        }
        Ok(ExitCode::SUCCESS)
    }
}
