//! The frozen part of a stage: computed once for each record and view, read at every step.

use std::collections::HashMap;

use heddle_graph::{
    digest::Digest,
    graph::{Class, Source},
};
use heddle_tensor::{Backend, HostTensor, Mode, Parameters, Tape, Value, value::ValueKind};
use rayon::prelude::*;

use super::{batches::Maker, settings::Settings};
use crate::{
    exec::{NodeError, RowCount, RunContext},
    model::{Cut, Feed, ModelGraph, Pass},
    nodes::{
        data::Records,
        towers::{Kept, Looks},
    },
};

/// Where a stage's graph is cut.
pub fn cut(model: &ModelGraph, settings: &Settings) -> Cut {
    let wanted: Vec<Source> =
        settings.losses.keys().filter_map(|name| model.output(name).map(|(source, _)| source)).collect();
    let inputs = &model.graph().inputs;
    let feed = |name: &str| match inputs.get(name).map(|input| input.ty.class) {
        Some(Class::Image) if settings.augment.is_none() || settings.views.is_some() => Feed::Same,
        Some(Class::Image) => Feed::Varies("is augmented without end: `views` would bound it"),
        _ => Feed::Varies("is drawn for each step"),
    };
    model.cut(&wanted, &|parameter| settings.train.matches(parameter), &feed)
}

/// Opens what the cache has of the frozen part; none if nothing is worth keeping.
pub fn open<B: Backend>(
    cx: &RunContext<'_>,
    model: &ModelGraph,
    settings: &Settings,
    parameters: &Parameters<B>,
) -> Result<Option<Kept>, NodeError> {
    let cut = cut(model, settings);
    if cut.sources.is_empty() {
        return Ok(None);
    }
    let records = Records::read(cx.input("records")?)?;
    let augment = settings.augment.as_ref().filter(|_| settings.views.is_some());
    let looks = Looks { spec: &records.settings.image, views: augment.map(|augment| (augment, cx.seed)) };
    Kept::open(cx, model, parameters, &cut.sources, &looks, settings.need()).map(Some)
}

/// Computes and keeps what is missing for the batches to come.
pub fn fill<B: Backend>(
    cx: &RunContext<'_>,
    model: &ModelGraph,
    settings: &Settings,
    parameters: &Parameters<B>,
    maker: &mut Maker,
) -> Result<(), NodeError> {
    let Some(mut kept) = maker.kept.take() else { return Ok(()) };
    let views: HashMap<Digest, (usize, u64)> =
        maker.views().into_iter().map(|(place, view)| (maker.key(place, view), (place, view))).collect();
    let mut wanted: Vec<Digest> = views.keys().copied().collect();
    // In the order of the records, so that what is kept lies as it will be computed again.
    wanted.sort_unstable_by_key(|key| views[key]);
    let missing = kept.missing(&wanted)?;
    let sources: Vec<Source> = kept.sources().cloned().collect();
    let pass = Pass { model, parameters, mode: Mode::Eval, seed: 0, tape: Tape::off() };
    kept.start();
    for (done, keys) in missing.chunks(settings.batch).enumerate() {
        cx.check_cancelled()?;
        cx.progress.set((done * settings.batch) as u64, missing.len() as u64, "frozen part");
        let picture = |key: &Digest| maker.picture(views[key].0, views[key].1);
        let pictures: Vec<Vec<f32>> = keys.par_iter().map(picture).collect::<Result<_, NodeError>>()?;
        let images = HostTensor { shape: maker.image_shape(keys.len()), data: pictures.concat() };
        let images = cx.compute.whole_batch(images, settings.batch);
        let image = Value::from_host(parameters.backend(), ValueKind::Image, images, &Tape::off())?;
        let inputs = maker.image_inputs.iter().map(|name| (name.clone(), image.clone())).collect();
        let values = pass.run(&inputs, &sources).map_err(|error| NodeError::Other(error.to_string()))?;
        let values: Vec<HostTensor> = values.iter().map(Value::to_host).collect::<Result<_, _>>()?;
        let keys: Vec<Option<Digest>> = keys.iter().copied().map(Some).collect();
        kept.add(&keys, &values)?;
    }
    kept.flush()?;
    kept.note_used(cx, &wanted)?;
    let (hit, new) = ((wanted.len() - missing.len()) as u64, missing.len() as u64);
    for source in &sources {
        cx.count_rows(&model.source_name(source), RowCount { hit, new });
    }
    maker.kept = Some(kept);
    Ok(())
}
