//! A sweep over a number as a drawing: a metric over the number, a line for every combination of the other values.

use indexmap::IndexMap;
use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};
use serde_json::Value as Json;

use super::{
    super::exit::Failure,
    table::{Cells, Row},
};
use crate::exec::{CellKind, short_keys};

/// Points of one line: the metric's values for every value of the axis, several if seeds differ.
type Line = Vec<(f64, Vec<f64>)>;

/// What a drawing shows.
struct Drawing {
    x: String,
    y: String,
    lines: IndexMap<String, Line>,
}

/// The drawings of a set: file name and SVG, one for every sweep with a numeric axis.
pub fn of(cells: &Cells) -> Result<Vec<(String, String)>, Failure> {
    let mut sweeps: IndexMap<&str, Vec<&Row>> = IndexMap::new();
    for row in cells.rows.iter().filter(|row| row.kind == CellKind::Sweep) {
        sweeps.entry(&row.name).or_default().push(row);
    }
    let mut files = Vec::new();
    for (name, rows) in sweeps {
        let Some(drawing) = drawing(cells, &rows) else { continue };
        let svg = svg(name, &drawing)
            .map_err(|error| Failure::Other(format!("drawing the sweep `{name}`: {error}")))?;
        // The name is a TOML key, and may be no file name.
        let safe: String =
            name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        files.push((format!("{safe}.svg"), svg));
    }
    Ok(files)
}

/// Which axis, and the points on it. The axis is the first number that has several values; the seed only if there is no other.
fn drawing(cells: &Cells, rows: &[&Row]) -> Option<Drawing> {
    let numbers = |place: usize| -> Option<Vec<f64>> {
        rows.iter().map(|row| row.values[place].as_ref().and_then(Json::as_f64)).collect()
    };
    let swept = |place: &usize| rows.iter().all(|row| row.overrides.contains_key(&cells.keys[*place]));
    let is_axis = |place: &usize| {
        let values = numbers(*place).filter(|_| swept(place));
        values.is_some_and(|values| values.iter().any(|value| *value != values[0]))
    };
    let seed = |place: &usize| cells.keys[*place] == "seed";
    // In the order of the sweep: the columns of the table may have another.
    let own = rows.first()?.overrides.keys();
    let own = own.filter_map(|key| cells.keys.iter().position(|known| known == key));
    let axes: Vec<usize> = own.filter(is_axis).collect();
    let axis = *axes.iter().find(|place| !seed(place)).or(axes.first())?;
    let metric = cells.shown.iter().find(|name| rows.iter().any(|row| row.metrics.contains_key(*name)))?;
    let names = short_keys(&cells.keys);
    let others: Vec<usize> = (0..cells.keys.len())
        .filter(|place| *place != axis && !seed(place) && swept(place))
        .filter(|place| rows.iter().any(|row| row.values[*place] != rows[0].values[*place]))
        .collect();
    let mut lines: IndexMap<String, Line> = IndexMap::new();
    for row in rows {
        let (Some(x), Some(y)) = (row.values[axis].as_ref().and_then(Json::as_f64), row.metrics.get(metric))
        else {
            continue;
        };
        let value = |place: &usize| row.values[*place].as_ref().map(Json::to_string).unwrap_or_default();
        let label: Vec<String> =
            others.iter().map(|place| format!("{}={}", names[*place], value(place))).collect();
        let line = lines.entry(label.join(" ")).or_default();
        match line.iter_mut().find(|(known, _)| *known == x) {
            Some((_, values)) => values.push(*y),
            None => line.push((x, vec![*y])),
        }
    }
    lines.values_mut().for_each(|line| line.sort_by(|a, b| a.0.total_cmp(&b.0)));
    (!lines.is_empty()).then(|| Drawing { x: cells.keys[axis].clone(), y: metric.clone(), lines })
}

/// From this ratio of the largest to the smallest value on, the axis counts powers.
const LOGARITHMIC: f64 = 20.0;

fn svg(name: &str, drawing: &Drawing) -> Result<String, Box<dyn std::error::Error>> {
    let xs = || drawing.lines.values().flatten().map(|(x, _)| *x);
    let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    let mut text = String::new();
    if low > 0.0 && high / low >= LOGARITHMIC {
        draw(&mut text, name, drawing, (low / 1.2..high * 1.2).log_scale())?;
    } else {
        let margin = if high > low { (high - low) * 0.05 } else { 1.0 };
        draw(&mut text, name, drawing, low - margin..high + margin)?;
    }
    Ok(text)
}

fn draw<X>(
    text: &mut String,
    name: &str,
    drawing: &Drawing,
    across: X,
) -> Result<(), Box<dyn std::error::Error>>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let ys = || drawing.lines.values().flatten().flat_map(|(_, ys)| ys.iter().copied());
    let (low, high) = (ys().fold(f64::INFINITY, f64::min), ys().fold(f64::NEG_INFINITY, f64::max));
    let margin = if high > low { (high - low) * 0.08 } else { 1.0 };
    let root = SVGBackend::with_string(text, (720, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption(name, ("sans-serif", 16))
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(across, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .x_desc(&drawing.x)
        .y_desc(&drawing.y)
        .x_label_formatter(&|x| number(*x))
        .light_line_style(WHITE)
        .draw()?;
    for (index, (label, line)) in drawing.lines.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let mean = |(x, ys): &(f64, Vec<f64>)| (*x, ys.iter().sum::<f64>() / ys.len() as f64);
        let drawn = chart.draw_series(LineSeries::new(line.iter().map(mean), color.stroke_width(2)))?;
        if !label.is_empty() {
            drawn
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        }
        let points = line.iter().flat_map(|(x, ys)| ys.iter().map(move |y| (*x, *y)));
        chart.draw_series(points.map(|point| Circle::new(point, 3, color.filled())))?;
    }
    if drawing.lines.keys().any(|label| !label.is_empty()) {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    root.present()?;
    Ok(())
}

/// A label of the axis: plain where that is short.
fn number(value: f64) -> String {
    if value == 0.0 || (1e-2..1e5).contains(&value.abs()) {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.0e}")
    }
}
