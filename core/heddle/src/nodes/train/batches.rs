//! Batches of a training stage: decoded once, augmented and tokenized ahead of the step that uses them.
//!
//! A batch is a pure function of (seed, step): which records, which augmentation, which text.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use heddle_data::{
    Record, Skipped,
    image::{Augment, ImageSpec, Prepared},
    loader::{
        Batches as Order, DistinctBatches, Pictures, PicturesError, PicturesOptions, Prefetch,
        PrefetchOptions, ShuffledBatches,
    },
    rng,
    text::{CaptionOptions, EncodeOptions, Tokenizer},
};
use heddle_graph::{
    config::TextOf,
    digest::Digest,
    graph::{Class, Source},
};
use heddle_tensor::{Backend, HostTensor, Tape, TensorError, Tokens, Value, value::ValueKind};
use rand::Rng;

use super::settings::Settings;
use crate::{
    exec::{NodeError, RunContext},
    model::ModelGraph,
    nodes::{
        data::{Labels, Records},
        towers::{
            Dialogues, Kept, KeptValue, Look, Looks, encode_options, is_of_dialogues, read_tokenizer,
            row_key, tokens,
        },
    },
};

/// Batches that wait finished for the training step.
const AHEAD: usize = 4;

const AUGMENT_STREAM: u64 = 1;
const CAPTION_STREAM: u64 = 2;
const OTHER_STREAM: u64 = 4;

/// The inputs of one pass, on the host.
pub struct Batch {
    images: Vec<(String, HostTensor)>,
    texts: Vec<(String, Tokens)>,
    targets: Vec<(String, Vec<Option<u32>>)>,
    kept: Vec<KeptValue>,
}

/// Values of the graph's inputs, and of sources that are known.
type Values<B> = (BTreeMap<String, Value<B>>, Vec<(Source, Value<B>)>);

impl Batch {
    /// The values of the graph's inputs, and of its frozen part.
    pub fn values<B: Backend>(self, backend: &B, tape: &Tape<B>) -> Result<Values<B>, TensorError> {
        let mut values = BTreeMap::new();
        for (name, host) in self.images {
            values.insert(name, Value::from_host(backend, ValueKind::Image, host, tape)?);
        }
        values.extend(self.texts.into_iter().map(|(name, tokens)| (name, Value::Text(tokens))));
        values.extend(self.targets.into_iter().map(|(name, targets)| (name, Value::Targets(targets))));
        let given =
            |kept: KeptValue| Ok((kept.source, Value::from_host(backend, kept.kind, kept.values, tape)?));
        let given = self.kept.into_iter().map(given).collect::<Result<_, TensorError>>()?;
        Ok((values, given))
    }
}

/// The running producer.
pub struct Batches {
    prefetch: RefCell<Prefetch<Batch, NodeError>>,
    notes: Vec<String>,
}

impl Batches {
    /// Starts making batches, from an optimiser's step on.
    pub fn start(maker: Maker, settings: &Settings, first: u64) -> Self {
        let steps = settings.steps * settings.accumulate;
        let options = PrefetchOptions { threads: 1, depth: AHEAD };
        let notes = maker.pictures.skipped().iter().map(|skipped| format!("skipped {skipped}")).collect();
        Self {
            prefetch: RefCell::new(Prefetch::new(first * settings.accumulate..steps, options, move |step| {
                maker.batch(step)
            })),
            notes,
        }
    }

    /// The next batch.
    pub fn next(&self) -> Result<Batch, NodeError> {
        let next = self.prefetch.borrow_mut().next();
        next.unwrap_or_else(|| Err(NodeError::Other("the batches ended before the steps did".into())))
    }

    /// What the reader of the results should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Makes the batch of any step.
pub struct Maker {
    seed: u64,
    order: Box<dyn Order>,
    pictures: Pictures,
    /// Digest of each place's picture, if anything is kept of it or views are drawn.
    digests: Vec<[u8; 32]>,
    spec: ImageSpec,
    augment: Option<Augment>,
    views: Option<u64>,
    /// Batches there will be.
    steps: u64,
    batch: usize,
    captions: CaptionOptions,
    tokenizer: Option<Tokenizer>,
    /// Of questions, if they have one of their own.
    questions: Option<Tokenizer>,
    /// The graph's inputs that are images.
    image_inputs: Vec<String>,
    /// Whether the part of the graph that is not frozen reads images itself.
    reads_images: bool,
    /// What is known of the frozen part.
    pub kept: Option<Kept>,
    text_inputs: Vec<TextInput>,
    /// The graph's inputs that are classes, and where those come from.
    target_inputs: Vec<String>,
    labels: Option<Labels>,
    /// With the column that they are in.
    dialogues: Option<(Dialogues, String)>,
    model: Arc<ModelGraph>,
}

/// A text that the graph reads.
struct TextInput {
    name: String,
    options: EncodeOptions,
    /// Whether each record gets the text of another one.
    of_other: bool,
}

/// Up to so many draws, it is looked up which views they show.
const LOOKED_UP: u64 = 50_000_000;

impl Maker {
    /// Decodes the pictures, but for those of which everything is kept.
    pub fn new(
        cx: &RunContext<'_>,
        model: &Arc<ModelGraph>,
        settings: &Settings,
        kept: Option<Kept>,
    ) -> Result<Self, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let shards = cx.library.shards(&records.manifest)?;
        let spec = records.settings.image.clone();
        let (manifest, max_bad) = (records.manifest, records.settings.max_bad);
        let inputs = &model.graph().inputs;
        let of_class = |class| {
            inputs.iter().filter(move |(_, input)| input.ty.class == class).map(|(name, _)| name.clone())
        };
        let image_inputs: Vec<String> = of_class(Class::Image).collect();
        let reads_images = reads_images(model, settings, kept.as_ref());
        let is_known = |record: &Record| match (&kept, record.image()) {
            (Some(kept), Some(part)) if !reads_images => kept.contains(&row_key(&part.digest, 0)),
            _ => false,
        };
        let pictures = match image_inputs.is_empty() {
            false => {
                let load = PicturesOptions {
                    max_bad,
                    memory: settings.keep_images,
                    is_known: &is_known,
                    going: &|| !cx.cancel.is_cancelled(),
                };
                Pictures::load(manifest, shards, spec.clone(), &load).map_err(NodeError::data)?
            }
            true => Pictures::unseen(manifest, shards, spec.clone()),
        };
        cx.check_cancelled()?;
        let tokenizer = cx.optional("tokenizer").map(read_tokenizer).transpose()?;
        let order: Box<dyn Order> = match &settings.distinct {
            Some(column) => Box::new(
                DistinctBatches::by_column(pictures.records(), column, settings.batch, cx.seed)
                    .map_err(NodeError::data)?,
            ),
            None => Box::new(
                ShuffledBatches::new(pictures.len(), settings.batch, cx.seed).map_err(NodeError::data)?,
            ),
        };
        let dialogues = match &tokenizer {
            Some(tokenizer) => Dialogues::of(model, tokenizer)?,
            None => None,
        };
        let captions = of_class(Class::Text).filter(|name| !is_of_dialogues(model, name));
        let texts = captions.filter_map(|name| {
            let options = encode_options(model, &name, tokenizer.as_ref()?);
            let of_other = inputs[&name].of == TextOf::Other;
            Some(TextInput { name, options, of_other })
        });
        let text_inputs = texts.collect();
        let target_inputs: Vec<String> = of_class(Class::Targets).collect();
        if let Some(labels) = settings.labels.as_ref().filter(|_| !target_inputs.is_empty()) {
            labels.require(pictures.records())?;
        }
        let digest = |record: Result<Record, _>| {
            record.map(|record| record.image().map(|part| part.digest).unwrap_or_default())
        };
        let digests = match kept.is_some() || settings.views.is_some() {
            true => pictures.records().map(digest).collect::<Result<_, _>>()?,
            false => Vec::new(),
        };
        Ok(Self {
            seed: cx.seed,
            order,
            image_inputs,
            reads_images,
            kept,
            text_inputs,
            target_inputs,
            labels: settings.labels.clone(),
            pictures,
            digests,
            spec,
            augment: settings.augment.clone(),
            views: settings.views,
            steps: settings.steps * settings.accumulate,
            batch: settings.batch,
            dialogues: dialogues.map(|dialogues| (dialogues, settings.dialogues.clone())),
            model: model.clone(),
            captions: settings.text.clone(),
            questions: cx.optional("questions").map(read_tokenizer).transpose()?,
            tokenizer,
        })
    }

    /// How pictures are seen.
    pub fn spec(&self) -> &ImageSpec {
        &self.spec
    }

    /// The key of a view's rows.
    fn key(&self, place: usize, view: u64) -> Digest {
        row_key(&self.digests[place], view)
    }

    /// The view that a step shows: one an epoch.
    fn view(&self, step: u64) -> u64 {
        match self.views {
            Some(views) => (step * self.batch as u64 / self.pictures.len().max(1) as u64) % views,
            None => 0,
        }
    }

    /// Everything that the batches show, each key once.
    pub fn looks(&self) -> Vec<Look> {
        let mut seen = HashSet::new();
        let looks = self.views().into_iter();
        let looks = looks.map(|(place, view)| Look { key: self.key(place, view), place, view });
        looks.filter(|look| seen.insert(look.key)).collect()
    }

    /// Place and view of everything that the batches show.
    fn views(&self) -> BTreeSet<(usize, u64)> {
        if self.steps.saturating_mul(self.batch as u64) > LOOKED_UP {
            let views = self.views.unwrap_or(1).min(1 + self.steps.saturating_sub(1) * self.batch as u64);
            return (0..self.pictures.len())
                .flat_map(|place| (0..views).map(move |view| (place, view)))
                .collect();
        }
        let of = |step: u64| {
            let view = self.view(step);
            self.order.batch(step).into_iter().map(move |place| (place as usize, view))
        };
        (0..self.steps).flat_map(of).collect()
    }

    /// Sizes of so many images.
    fn image_shape(&self, count: usize) -> Vec<usize> {
        let [height, width] = self.spec.size.map(|side| side as usize);
        vec![count, 3, height, width]
    }

    /// The key of the record at a place among the pictures.
    pub fn record_key(&self, place: usize) -> Result<String, NodeError> {
        Ok(self.pictures.record(place)?.key)
    }

    /// What is looked at, or why its picture no longer decodes.
    pub fn look_at(&self, look: &Look) -> Result<Result<Vec<f32>, Skipped>, NodeError> {
        match self.pictures.picture(look.place) {
            Ok(picture) => Ok(Ok(self.view_of(&picture, look.place, look.view))),
            Err(PicturesError::Changed(skipped)) => Ok(Err(skipped)),
            Err(error) => Err(NodeError::data(error)),
        }
    }

    /// A view of a picture.
    fn view_of(&self, picture: &Prepared, place: usize, view: u64) -> Vec<f32> {
        match (&self.augment, self.views) {
            (Some(augment), Some(_)) => {
                let mut rng = Looks::random(self.seed, &self.digests[place], view);
                picture.augmented(augment, &self.spec, &mut rng)
            }
            _ => picture.tensor(&self.spec),
        }
    }

    fn batch(&self, step: u64) -> Result<Batch, NodeError> {
        let rows: Vec<usize> = self.order.batch(step).into_iter().map(|index| index as usize).collect();
        let read = self.image_inputs.iter().filter(|_| self.reads_images);
        let images = read.map(|name| Ok((name.clone(), self.images(step, &rows)?)));
        let texts =
            self.text_inputs.iter().map(|input| Ok((input.name.clone(), self.texts(step, &rows, input)?)));
        let images = images.collect::<Result<_, NodeError>>()?;
        let mut texts = texts.collect::<Result<Vec<_>, NodeError>>()?;
        texts.extend(self.conversations(&rows)?);
        let kept = match &self.kept {
            Some(kept) => {
                let key = |row: &usize| Some(self.key(*row, self.view(step)));
                kept.batch(&rows.iter().map(key).collect::<Vec<_>>())?
            }
            None => Vec::new(),
        };
        let targets = match self.target_inputs.is_empty() {
            true => Vec::new(),
            false => {
                let classes = self.classes(&rows)?;
                self.target_inputs.iter().map(|name| (name.clone(), classes.clone())).collect()
            }
        };
        Ok(Batch { images, texts, targets, kept })
    }

    fn classes(&self, rows: &[usize]) -> Result<Vec<Option<u32>>, NodeError> {
        let none = || NodeError::Other("the model graph reads classes, and there are no `labels`".to_owned());
        let labels = self.labels.as_ref().ok_or_else(none)?;
        rows.iter().map(|row| labels.class(&self.pictures.record(*row)?)).collect()
    }

    /// The inputs that hold dialogues.
    fn conversations(&self, rows: &[usize]) -> Result<Vec<(String, Tokens)>, NodeError> {
        let (Some((dialogues, column)), Some(tokenizer)) = (&self.dialogues, &self.tokenizer) else {
            return Ok(Vec::new());
        };
        let read = |row: &usize| dialogues.read(&self.pictures.record(*row)?, column);
        let all: Vec<_> = rows.iter().map(read).collect::<Result<_, NodeError>>()?;
        dialogues.texts(&self.model, self.questions.as_ref().unwrap_or(tokenizer), &all)
    }

    fn images(&self, step: u64, rows: &[usize]) -> Result<HostTensor, NodeError> {
        let one = |(place, row): (usize, &usize)| match (&self.augment, self.views) {
            (Some(augment), None) => {
                let picture = self.pictures.picture(*row).map_err(NodeError::data)?;
                let mut rng = rng(self.seed, &[AUGMENT_STREAM, step, place as u64]);
                Ok(picture.augmented(augment, &self.spec, &mut rng))
            }
            _ => {
                let picture = self.pictures.picture(*row).map_err(NodeError::data)?;
                Ok(self.view_of(&picture, *row, self.view(step)))
            }
        };
        let pictures: Vec<Vec<f32>> = rows.iter().enumerate().map(one).collect::<Result<_, NodeError>>()?;
        Ok(HostTensor { shape: self.image_shape(rows.len()), data: pictures.concat() })
    }

    /// Every input gets the same caption of a record.
    fn texts(&self, step: u64, rows: &[usize], input: &TextInput) -> Result<Tokens, NodeError> {
        let tokenizer =
            self.tokenizer.as_ref().ok_or_else(|| NodeError::Other("no tokenizer is connected".into()))?;
        let one = |(place, row): (usize, &usize)| {
            let mut rng = rng(self.seed, &[CAPTION_STREAM, step, place as u64]);
            self.captions.sample(&self.pictures.record(*row)?, &mut rng).map_err(NodeError::data)
        };
        let mut texts: Vec<String> = rows.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        if input.of_other {
            texts = self.of_others(step, &texts)?;
        }
        tokens(tokenizer, &texts, &input.options)
    }

    /// For each record the text of another one of the batch.
    fn of_others(&self, step: u64, texts: &[String]) -> Result<Vec<String>, NodeError> {
        if texts.len() < 2 {
            return Err(NodeError::Other("the text of another record needs a batch of at least 2".into()));
        }
        let other = |place: usize| {
            let mut rng = rng(self.seed, &[OTHER_STREAM, step, place as u64]);
            let drawn = rng.gen_range(0..texts.len() as u32 - 1) as usize;
            texts[if drawn < place { drawn } else { drawn + 1 }].clone()
        };
        Ok((0..texts.len()).map(other).collect())
    }
}

/// Whether the part of the graph that is not kept reads images.
fn reads_images(model: &ModelGraph, settings: &Settings, kept: Option<&Kept>) -> bool {
    let Some(kept) = kept else { return true };
    let losses = settings.losses.keys().filter_map(|name| model.output(name));
    let wanted: Vec<Source> = losses.map(|(source, _)| source).collect();
    let given: Vec<Source> = kept.sources().cloned().collect();
    let inputs = &model.graph().inputs;
    model.inputs_beside(&given, &wanted).iter().any(|name| inputs[name].ty.class == Class::Image)
}
