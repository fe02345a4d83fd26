//! Pictures of a benchmark, as SVG.

use super::report::Row;
use super::statistics::number;
use super::table;
use crate::commands::chart::{COLOURS, FONT, SIZE, axes, chart, drawing, legend, thousands};
use miette::Result;
use plotters::prelude::*;
use std::collections::BTreeMap;

/// Throughput against latency, a curve for each contender: the median as a line with a mark for each
/// load, the 99th percentile as a thin line above it.
pub(super) fn throughput_against_latency(title: &str, rows: &[Row]) -> Result<String> {
    let curves = curves(rows);
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let most = all().map(|point| point.throughput).fold(1.0, f64::max);
    let lowest = all().map(|point| point.p50_ms).fold(f64::INFINITY, f64::min);
    let highest = all().map(|point| point.p99_ms).fold(0.001, f64::max);
    let latencies = (lowest.min(highest) * 0.7..highest * 1.5).log_scale();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let mut chart = chart(&area, title, 0.0..most * 1.08, latencies)?;
        axes(
            &mut chart,
            ("completed operations a second", |per_second| thousands(*per_second)),
            ("latency in ms (logarithmic): median, and 99th percentile (thin)", |ms| format!("{ms}")),
        )?;
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let p50 = curve.points.iter().map(|point| (point.throughput, point.p50_ms));
            let p99 = curve.points.iter().map(|point| (point.throughput, point.p99_ms));
            chart.draw_series(LineSeries::new(p99, colour.mix(0.55))).map_err(drawing)?;
            chart
                .draw_series(LineSeries::new(p50.clone(), colour.stroke_width(2)))
                .map_err(drawing)?
                .label(curve.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart.draw_series(p50.map(|point| Circle::new(point, 3, colour.filled()))).map_err(drawing)?;
            let labels = curve.points.iter().map(|point| {
                let style = (FONT, 11).into_font().color(colour);
                EmptyElement::at((point.throughput, point.p50_ms))
                    + Text::new(point.load.clone(), (6, 4), style)
            });
            chart.draw_series(labels).map_err(drawing)?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperMiddle)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// The course of each contender's last round: operations completed over time, and when faults came.
pub(super) fn course(title: &str, rows: &[Row]) -> Result<String> {
    let rounds: Vec<_> = rows.iter().filter_map(|row| Some((row, row.rounds.last()?))).collect();
    let steps = rounds.iter().map(|(_, round)| round.completed_per_100_ms.len()).max().unwrap_or(1);
    let per_second = |completed: &u64| number(*completed) * 10.0;
    let most =
        rounds.iter().flat_map(|(_, round)| &round.completed_per_100_ms).map(per_second).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let mut chart = chart(&area, title, 0.0..steps as f64 / 10.0, 0.0..most * 1.1)?;
        axes(
            &mut chart,
            ("seconds of the measured time", |seconds| format!("{seconds}")),
            ("completed operations a second, in tenths of a second", |per_second| thousands(*per_second)),
        )?;
        for ((row, round), colour) in rounds.iter().zip(COLOURS.iter().cycle()) {
            let points = round.completed_per_100_ms.iter().enumerate();
            let points = points.map(|(step, completed)| (step as f64 / 10.0, per_second(completed)));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))
                .map_err(drawing)?
                .label(format!("{}, {}", row.contender.name, table::load(&row.load)))
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            for seen in &round.injected {
                let at = seen.at_ms as f64 / 1000.0;
                chart
                    .draw_series(LineSeries::new([(at, 0.0), (at, most * 1.1)], RED.mix(0.6)))
                    .map_err(drawing)?;
                let label =
                    Text::new(seen.fault.to_string(), (at, most * 1.07), (FONT, 12).into_font().color(&RED));
                chart.draw_series([label]).map_err(drawing)?;
            }
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

struct Curve<'a> {
    name: &'a str,
    points: Vec<Point>,
}

struct Point {
    throughput: f64,
    p50_ms: f64,
    p99_ms: f64,
    load: String,
}

/// A curve for each contender, in their order, its points in the order of the loads.
fn curves(rows: &[Row]) -> Vec<Curve<'_>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for row in rows.iter().filter(|row| row.operations > 0) {
        let name = row.contender.name.as_str();
        let place = *places.entry(name).or_insert_with(|| {
            curves.push(Curve { name, points: Vec::new() });
            curves.len() - 1
        });
        curves[place].points.push(Point {
            throughput: row.operations_per_second.median,
            p50_ms: row.latency_p50_us.median / 1000.0,
            p99_ms: row.latency_p99_us.median / 1000.0,
            load: table::load(&row.load),
        });
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::report::tests::report;
    use crate::commands::bench::suite::all_settings;

    #[test]
    fn curves_and_courses_are_drawn_for_whatever_was_measured() {
        for settings in all_settings() {
            let report = report(settings);
            for svg in [
                throughput_against_latency("<a & b>", &report.rows).expect("it can be drawn"),
                course("<a & b>", &report.rows).expect("it can be drawn"),
            ] {
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
                assert!(svg.contains("&lt;a &amp; b&gt;") && !svg.contains("NaN"), "{svg}");
                assert!(report.rows.iter().all(|row| svg.contains(&row.contender.name)));
            }
            let faults: Vec<_> = report.settings.injections.iter().map(ToString::to_string).collect();
            let svg = course("course", &report.rows).expect("it can be drawn");
            assert!(faults.iter().all(|fault| svg.contains(fault)), "{svg}");
        }
    }

    #[test]
    fn a_curve_has_its_points_in_the_order_of_the_loads() {
        let report = report(all_settings().remove(0));
        let curves = curves(&report.rows);
        let loads =
            |curve: &Curve<'_>| curve.points.iter().map(|point| point.load.clone()).collect::<Vec<_>>();
        assert_eq!(curves.iter().map(|curve| curve.name).collect::<Vec<_>>(), ["unreplicated", "pbft"]);
        assert_eq!(loads(&curves[1]), ["1 cl.", "16 cl.", "64 cl.", "256 cl."]);
        assert_eq!((curves[0].points[0].p50_ms, curves[1].points[0].throughput), (0.1, 400.0));
    }
}
