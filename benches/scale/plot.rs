//! Processor time per sync over the number of instances, as an SVG that needs nothing else.

use std::fmt::Write as _;

use super::sizes::{Measured, micros};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// The plot: sizes on a logarithmic scale, costs from zero.
pub(crate) fn of(all: &[Measured]) -> String {
    let service: Vec<f64> = all.iter().map(|one| micros(one.loaded.cpu.service)).collect();
    let both: Vec<f64> =
        all.iter().map(|one| micros(one.loaded.cpu.service + one.loaded.cpu.database)).collect();
    let highest = both.iter().copied().fold(1.0, f64::max) * 1.2;
    let logs: Vec<f64> = all.iter().map(|one| (one.instances.max(1) as f64).log10()).collect();
    let (first, last) = (logs.first().copied().unwrap_or(0.0), logs.last().copied().unwrap_or(1.0));
    let x = |log: f64| LEFT + (log - first) / (last - first).max(0.1) * (WIDTH - LEFT - RIGHT);
    let y = |cost: f64| HEIGHT - BOTTOM - cost / highest * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">CPU per sync (µs) over the number of instances</text>\n"
    );
    // Writing to a string cannot fail.
    for step in 0..=4 {
        let cost = highest * f64::from(step) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{cost:.0}</text>",
            WIDTH - RIGHT,
            y(cost),
            y(cost),
            LEFT - 8.0,
            y(cost) + 4.0
        );
    }
    for (one, log) in all.iter().zip(&logs) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(*log),
            HEIGHT - BOTTOM + 20.0,
            one.instances
        );
    }
    for (name, color, costs) in [("service", "#3366cc", &service), ("and database", "#cc5533", &both)] {
        let points: Vec<String> =
            logs.iter().zip(costs).map(|(log, cost)| format!("{:.1},{:.1}", x(*log), y(*cost))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        for (log, cost) in logs.iter().zip(costs) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{color}\">{cost:.0}</text>",
                x(*log),
                y(*cost),
                x(*log),
                y(*cost) - 8.0
            );
        }
        let end = costs.last().copied().unwrap_or(0.0);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>",
            WIDTH - RIGHT + 12.0,
            y(end) + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
