//! Percentile curves: how long the fastest part of all calls took, up to the slowest of a hundred thousand.

use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;

use crate::load::Failure;

const SIZE: (u32, u32) = (900, 480);
/// How many nines the axis shows.
const NINES: f64 = 4.0;
const COLORS: [RGBColor; 5] = [
    RGBColor(42, 157, 143),
    RGBColor(38, 102, 168),
    RGBColor(200, 60, 60),
    RGBColor(120, 120, 120),
    RGBColor(20, 20, 20),
];

/// Draws a curve for each.
pub(crate) fn draw(path: &Path, title: &str, curves: &[(String, &Histogram<u64>)]) -> Result<(), Failure> {
    let micros = |latencies: &Histogram<u64>, nines: f64| {
        latencies.value_at_quantile(1.0 - 0.1_f64.powf(nines)).max(1) as f64 / 1e3
    };
    let lowest = curves.iter().map(|(_, latencies)| micros(latencies, 0.0)).fold(f64::MAX, f64::min);
    let highest = curves.iter().map(|(_, latencies)| micros(latencies, NINES)).fold(0.0, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..NINES, (lowest / 1.5..highest * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .x_labels(5)
        .x_label_formatter(&|nines| format!("{} %", ((1.0 - 0.1_f64.powf(*nines)) * 1e4).round() / 1e2))
        .y_desc("latency")
        .y_label_formatter(&|micros| {
            if *micros < 1e3 { format!("{micros} µs") } else { format!("{} ms", micros / 1e3) }
        })
        .draw()?;
    for ((name, latencies), color) in curves.iter().zip(COLORS) {
        let points =
            (0..=200).map(|step| f64::from(step) / 200.0 * NINES).map(|nines| (nines, micros(latencies, nines)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE).draw()?;
    Ok(root.present()?)
}
