//! Learning curves as SVG.

use plotters::prelude::*;

use crate::{exec::NodeError, nodes::eval::Metrics};

/// One line a stage: loss over optimiser steps. An empty drawing if no stage has a curve.
pub fn svg(stages: &[(String, Metrics)]) -> Result<String, NodeError> {
    let mut text = String::new();
    draw(&mut text, stages)
        .map_err(|error| NodeError::Other(format!("drawing the learning curve: {error}")))?;
    Ok(text)
}

fn draw(text: &mut String, stages: &[(String, Metrics)]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, (720, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let points = stages.iter().flat_map(|(_, metrics)| &metrics.curve);
    let steps = points.clone().map(|point| point.step).max().unwrap_or(1);
    let top = points.clone().map(|point| point.loss).filter(|loss| loss.is_finite()).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0..steps, 0.0..(top * 1.05).max(1e-9))?;
    chart.configure_mesh().x_desc("step").y_desc("loss").light_line_style(WHITE).draw()?;
    for (index, (name, metrics)) in stages.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let line =
            metrics.curve.iter().filter(|point| point.loss.is_finite()).map(|point| (point.step, point.loss));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    if !stages.is_empty() {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    root.present()?;
    Ok(())
}
