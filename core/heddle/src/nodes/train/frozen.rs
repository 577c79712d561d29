//! The frozen part of a stage: computed once for each record and view, read at every step.

use std::sync::Arc;

use heddle_data::Skipped;
use heddle_graph::graph::{Class, Source};
use heddle_tensor::{Backend, Parameters};

use super::{batches::Maker, settings::Settings};
use crate::{
    exec::{NodeError, RunContext},
    model::{Cut, Feed, ModelGraph},
    nodes::{
        SeeFrozen,
        data::Records,
        towers::{FrozenPart, Kept, Look, Looks},
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
    let Some(kept) = maker.kept.take() else { return Ok(()) };
    let broken = &mut |_: &Look, reason: Skipped| Err(NodeError::Other(reason.to_string()));
    maker.kept = Some(with_part(cx, model, settings, parameters, maker, kept, |part| part.fill(broken))?);
    Ok(())
}

/// Shows the frozen part of a stage that does not run, if anything of it is worth keeping.
pub fn see<B: Backend>(
    cx: &RunContext<'_>,
    model: &Arc<ModelGraph>,
    settings: &Settings,
    parameters: &Parameters<B>,
    see: &mut SeeFrozen<'_>,
) -> Result<(), NodeError> {
    let Some(kept) = open(cx, model, settings, parameters)? else { return Ok(()) };
    let mut maker = Maker::new(cx, model, settings, Some(kept))?;
    let Some(kept) = maker.kept.take() else { return Ok(()) };
    with_part(cx, model, settings, parameters, &maker, kept, |part| see(&part))
}

fn with_part<B: Backend, T>(
    cx: &RunContext<'_>,
    model: &ModelGraph,
    settings: &Settings,
    parameters: &Parameters<B>,
    maker: &Maker,
    kept: Kept,
    take: impl FnOnce(FrozenPart<'_, B>) -> Result<T, NodeError>,
) -> Result<T, NodeError> {
    let picture = |look: &Look| maker.look_at(look);
    let record = |place: usize| maker.record_key(place);
    let names = kept.sources().map(|source| model.source_name(source)).collect();
    take(FrozenPart {
        model,
        parameters,
        kept,
        names,
        looks: maker.looks(),
        picture: &picture,
        record: &record,
        spec: maker.spec(),
        need: settings.need(),
        cx,
    })
}
