//! The suite: what the project holds itself to, measured, and written down as a page of the book.

mod commit;
mod goal;
mod page;
mod scenario;

use super::measure;
use super::plot;
use super::report::Report;
use crate::running::block_on;
use commit::commit_of;
use miette::{IntoDiagnostic, Result, WrapErr};
use page::Page;
use scenario::{Pace, Picture, Scenario};
use serde::Serialize;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The page's name below the directory of the suite.
const PAGE: &str = "benchmarks.md";
/// Where its plots and its JSON lie, next to it.
const ATTACHMENTS: &str = "benchmarks";

/// A scenario that was measured.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    scenario: Scenario,
    report: Report,
}

/// Measures everything, and writes page, plots and JSON into `directory`.
pub(super) fn run(directory: &Path, quick: bool, home: &TempDir) -> Result<()> {
    // Before minutes have passed.
    let attachments = directory.join(ATTACHMENTS);
    fs::create_dir_all(&attachments)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} can't be made", attachments.display()))?;
    let pace = if quick { Pace::quick() } else { Pace::full() };
    let mut measured = Vec::new();
    for scenario in scenario::closed_loops(&pace) {
        measured.push(measure_one(scenario, home)?);
    }
    // What is offered in open loops follows from what the group can do here.
    let capacity = measured.first().map_or(0.0, |first| scenario::capacity(&first.report));
    for scenario in scenario::open_loops(&pace, capacity) {
        measured.push(measure_one(scenario, home)?);
    }
    let page = Page { commit: commit_of(directory), is_quick: quick, pace, measured };
    for measured in &page.measured {
        if let Some(svg) = draw(measured)? {
            write(&directory.join(measured.scenario.picture_file()), &svg)?;
        }
    }
    write(&attachments.join("results.json"), &page.json()?)?;
    write(&directory.join(PAGE), &page.markdown())?;
    eprintln!("written: {}", directory.join(PAGE).display());
    Ok(())
}

fn measure_one(scenario: Scenario, home: &TempDir) -> Result<Measured> {
    eprintln!("\n{}", scenario.title);
    scenario.settings.check()?;
    let report = block_on(measure(scenario.settings.clone(), home))?;
    Ok(Measured { scenario, report })
}

fn draw(measured: &Measured) -> Result<Option<String>> {
    let (title, rows) = (measured.scenario.title, &measured.report.rows);
    Ok(match measured.scenario.picture {
        Picture::None => None,
        Picture::Curve => Some(plot::throughput_against_latency(title, rows)?),
        Picture::Course => Some(plot::course(title, rows)?),
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).into_diagnostic().wrap_err_with(|| format!("{} can't be written", path.display()))
}

/// The settings of all scenarios.
#[cfg(test)]
pub(super) fn all_settings() -> Vec<super::Settings> {
    let paces = [Pace::quick(), Pace::full()];
    let scenarios = paces.iter().flat_map(|pace| {
        scenario::closed_loops(pace).into_iter().chain(scenario::open_loops(pace, 12_345.6))
    });
    scenarios.map(|scenario| scenario.settings).collect()
}
