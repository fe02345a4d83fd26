//! Pictures of a comparison, as SVG.

use super::Compared;
use crate::commands::chart::{COLOURS, FONT, SIZE, axes, chart, drawing, legend, thousands};
use miette::Result;
use plotters::prelude::*;

/// Throughput against latency: a curve for each protocol, a mark for each number of clients.
pub(super) fn of(title: &str, runs: &[&Compared]) -> Result<String> {
    let point = |run: &Compared| {
        let latency = run.report.latency?;
        Some((run.report.operations_per_s, latency.median_us / 1000.0, run.config.clients))
    };
    let points: Vec<_> = runs.iter().filter_map(|run| point(run)).collect();
    let most = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let lowest = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let highest = points.iter().map(|point| point.1).fold(0.001, f64::max);
    let mut protocols: Vec<_> = runs.iter().map(|run| run.config.protocol).collect();
    protocols.dedup();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let latencies = (lowest.min(highest) * 0.7..highest * 1.5).log_scale();
        let mut chart = chart(&area, title, 0.0..most * 1.08, latencies)?;
        axes(
            &mut chart,
            ("completed operations a second", |per_second| thousands(*per_second)),
            ("median latency in ms (logarithmic)", |ms| format!("{ms}")),
        )?;
        for (protocol, colour) in protocols.iter().zip(COLOURS.iter().cycle()) {
            let of_it = runs.iter().filter(|run| run.config.protocol == *protocol);
            let points: Vec<_> = of_it.filter_map(|run| point(run)).collect();
            let line = points.iter().map(|(x, y, _)| (*x, *y));
            chart
                .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))
                .map_err(drawing)?
                .label(protocol.name())
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart.draw_series(line.map(|point| Circle::new(point, 3, colour.filled()))).map_err(drawing)?;
            let labels = points.iter().map(|(x, y, clients)| {
                let style = (FONT, 11).into_font().color(colour);
                EmptyElement::at((*x, *y)) + Text::new(format!("{clients} cl."), (6, 4), style)
            });
            chart.draw_series(labels).map_err(drawing)?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperMiddle)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}
