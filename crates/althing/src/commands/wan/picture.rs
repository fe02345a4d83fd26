//! Figures, as SVG.

use super::figures::{Figure, Quantity, Run, Sweep, redundant_bounds};
use crate::commands::chart::{COLOURS, FONT, SIZE, axes, chart, drawing, legend, thousands};
use althing_sim::wan::WanReport;
use miette::Result;
use plotters::prelude::*;

/// What a figure has to do with `reports`, one for each run.
pub(super) fn of(figure: Figure, runs: &[Run], reports: &[WanReport]) -> Result<String> {
    let curves = curves(figure, runs, reports);
    let all = || curves.iter().flat_map(|(_, points)| points);
    let furthest = all().map(|point| point.0).fold(1.0, f64::max);
    let highest = all().map(|point| point.1).fold(1.0, f64::max);
    let y: (&str, fn(&f64) -> String) = match figure.quantity() {
        Quantity::Throughput | Quantity::ThroughputOverTime => {
            ("updates a second", |per_second| thousands(*per_second))
        }
        Quantity::Latency => ("mean latency of an update in ms", |ms| format!("{ms}")),
    };
    let is_over_time = figure.quantity() == Quantity::ThroughputOverTime;
    let x = if is_over_time { "seconds" } else { "clients" };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let mut chart = chart(&area, &figure.title(), 0.0..furthest * 1.04, 0.0..highest * 1.1)?;
        axes(&mut chart, (x, |value| format!("{value}")), y)?;
        for ((name, points), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
                .map_err(drawing)?
                .label(*name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            if !is_over_time {
                let marks = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
                chart.draw_series(marks).map_err(drawing)?;
            }
        }
        for (name, bound) in bounds(figure, runs) {
            let line = LineSeries::new([(0.0, bound), (furthest, bound)], BLACK.mix(0.4));
            chart.draw_series(line).map_err(drawing)?;
            let style = (FONT, 11).into_font().color(&BLACK.mix(0.7));
            let label = Text::new(format!("bound of {name}"), (furthest * 0.8, bound), style);
            chart.draw_series([label]).map_err(drawing)?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// The bounds that the paper draws beside the throughput of optimised protocols.
fn bounds(figure: Figure, runs: &[Run]) -> Vec<(String, f64)> {
    let is_apt =
        matches!(figure.sweep(), Sweep::Optimised { .. }) && figure.quantity() == Quantity::Throughput;
    let run = runs.iter().find(|run| is_apt && run.sweep == figure.sweep());
    run.map(|run| redundant_bounds(&run.config).to_vec()).unwrap_or_default()
}

type Curve = (&'static str, Vec<(f64, f64)>);

/// A curve for each system, its points by the number of clients.
fn curves(figure: Figure, runs: &[Run], reports: &[WanReport]) -> Vec<Curve> {
    if figure.quantity() == Quantity::ThroughputOverTime {
        let apt = runs.iter().zip(reports).filter(|(run, _)| run.sweep == figure.sweep());
        let shown = apt.filter(|(run, _)| run.name.starts_with("BFT/BFT"));
        return shown.map(|(run, report)| (run.name, over_time(report))).collect();
    }
    let mut curves: Vec<Curve> = Vec::new();
    let mut of_figure: Vec<_> =
        runs.iter().zip(reports).filter(|(run, _)| run.sweep == figure.sweep()).collect();
    of_figure.sort_by_key(|(run, _)| (run.config.system, run.config.clients));
    for (run, report) in of_figure {
        let value = match figure.quantity() {
            Quantity::Throughput => Some(report.updates_per_s),
            Quantity::Latency => report.latency.map(|latency| latency.mean_ms),
            Quantity::ThroughputOverTime => None,
        };
        let Some(value) = value else { continue };
        let point = (run.config.clients as f64, value);
        match curves.iter_mut().find(|(name, _)| *name == run.name) {
            Some((_, points)) => points.push(point),
            None => curves.push((run.name, vec![point])),
        }
    }
    curves
}

/// What was answered a second, over the half of a second until then.
fn over_time(report: &WanReport) -> Vec<(f64, f64)> {
    let windows = report.answered_per_100_ms.windows(5).enumerate();
    windows
        .map(|(start, window)| ((start + 5) as f64 / 10.0, window.iter().sum::<u64>() as f64 * 2.0))
        .collect()
}
