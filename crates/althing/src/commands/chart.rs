//! How the commands draw: what all pictures have in common, as SVG.

use miette::{Result, miette};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::fmt::Display;

pub(super) const SIZE: (u32, u32) = (820, 460);
pub(super) const FONT: &str = "system-ui, 'DejaVu Sans', sans-serif";

/// Dark enough for text on white, and apart for those who see few colours (Okabe and Ito).
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(90, 90, 90),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, X, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>;

/// An empty chart with its title.
pub(super) fn chart<'a, X, Y>(
    area: &Area<'a>,
    title: &str,
    x: X,
    y: Y,
) -> Result<Chart<'a, X::CoordDescType, Y::CoordDescType>>
where
    X: AsRangedCoord,
    Y: AsRangedCoord,
{
    ChartBuilder::on(area)
        .caption(title, (FONT, 18))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)
        .map_err(drawing)
}

/// Draws both axes: what each shows, and how its values are written.
pub(super) fn axes<X, Y>(
    chart: &mut Chart<'_, X, Y>,
    x: (&str, fn(&f64) -> String),
    y: (&str, fn(&f64) -> String),
) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(x.0)
        .y_desc(y.0)
        .x_label_formatter(&x.1)
        .y_label_formatter(&y.1)
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 13))
        .draw()
        .map_err(drawing)
}

pub(super) fn legend<'a, X, Y>(chart: &mut Chart<'a, X, Y>, position: SeriesLabelPosition) -> Result<()>
where
    X: Ranged,
    Y: Ranged,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()
        .map_err(drawing)
}

pub(super) fn thousands(per_second: f64) -> String {
    if per_second >= 1000.0 { format!("{}k", per_second / 1000.0) } else { format!("{per_second}") }
}

pub(super) fn drawing(error: impl Display) -> miette::Report {
    miette!("the plot can't be drawn: {error}")
}
