//! Batches of a training stage: decoded once, augmented and tokenized ahead of the step that uses them.
//!
//! A batch is a pure function of (seed, step): which records, which augmentation, which text.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use heddle_data::{
    image::{Augment, ImageSpec},
    loader::{Batches as Order, DistinctBatches, Pictures, Prefetch, PrefetchOptions, ShuffledBatches},
    rng,
    text::{CaptionOptions, EncodeOptions, Tokenizer},
};
use heddle_graph::{config::TextOf, graph::Class};
use heddle_tensor::{Backend, HostTensor, Tape, TensorError, Tokens, Value, value::ValueKind};
use rand::Rng;

use super::settings::Settings;
use crate::{
    exec::{NodeError, RunContext},
    model::ModelGraph,
    nodes::{
        data::Records,
        towers::{Dialogues, encode_options, is_of_dialogues, read_tokenizer, tokens},
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
}

impl Batch {
    /// The values of the graph's inputs.
    pub fn values<B: Backend>(
        self,
        backend: &B,
        tape: &Tape<B>,
    ) -> Result<BTreeMap<String, Value<B>>, TensorError> {
        let mut values = BTreeMap::new();
        for (name, host) in self.images {
            values.insert(name, Value::from_host(backend, ValueKind::Image, host, tape)?);
        }
        values.extend(self.texts.into_iter().map(|(name, tokens)| (name, Value::Text(tokens))));
        Ok(values)
    }
}

/// The running producer.
pub struct Batches {
    prefetch: RefCell<Prefetch<Batch, NodeError>>,
    notes: Vec<String>,
}

impl Batches {
    /// Decodes the images and starts making batches.
    pub fn start(
        cx: &RunContext<'_>,
        model: &Arc<ModelGraph>,
        settings: &Settings,
    ) -> Result<Self, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let shards = cx.library.shards(&records.manifest)?;
        let spec = records.settings.image.clone();
        let (manifest, max_bad) = (records.manifest, records.settings.max_bad);
        let inputs = &model.graph().inputs;
        let pictures = match inputs.values().any(|input| input.ty.class == Class::Image) {
            true => {
                let mut going = |_: usize| !cx.cancel.is_cancelled();
                Pictures::load(manifest, shards, spec.clone(), max_bad, settings.keep_images, &mut going)
                    .map_err(NodeError::data)?
            }
            false => Pictures::unseen(manifest, shards, spec.clone()),
        };
        cx.check_cancelled()?;
        let notes = pictures.skipped().iter().map(|skipped| format!("skipped {skipped}")).collect();
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
        let of_class = |class| {
            inputs.iter().filter(move |(_, input)| input.ty.class == class).map(|(name, _)| name.clone())
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
        let maker = Maker {
            seed: cx.seed,
            order,
            image_inputs: of_class(Class::Image).collect(),
            text_inputs: texts.collect(),
            pictures,
            spec,
            augment: settings.augment.clone(),
            dialogues: dialogues.map(|dialogues| (dialogues, settings.dialogues.clone())),
            model: model.clone(),
            captions: settings.text.clone(),
            tokenizer,
        };
        let steps = settings.steps * settings.accumulate;
        let options = PrefetchOptions { threads: 1, depth: AHEAD };
        Ok(Self {
            prefetch: RefCell::new(Prefetch::new(0..steps, options, move |step| maker.batch(step))),
            notes,
        })
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
struct Maker {
    seed: u64,
    order: Box<dyn Order>,
    pictures: Pictures,
    spec: ImageSpec,
    augment: Option<Augment>,
    captions: CaptionOptions,
    tokenizer: Option<Tokenizer>,
    image_inputs: Vec<String>,
    text_inputs: Vec<TextInput>,
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

impl Maker {
    fn batch(&self, step: u64) -> Result<Batch, NodeError> {
        let rows: Vec<usize> = self.order.batch(step).into_iter().map(|index| index as usize).collect();
        let images = self.image_inputs.iter().map(|name| Ok((name.clone(), self.images(step, &rows)?)));
        let texts =
            self.text_inputs.iter().map(|input| Ok((input.name.clone(), self.texts(step, &rows, input)?)));
        let images = images.collect::<Result<_, NodeError>>()?;
        let mut texts = texts.collect::<Result<Vec<_>, NodeError>>()?;
        texts.extend(self.conversations(&rows)?);
        Ok(Batch { images, texts })
    }

    /// The inputs that hold dialogues.
    fn conversations(&self, rows: &[usize]) -> Result<Vec<(String, Tokens)>, NodeError> {
        let (Some((dialogues, column)), Some(tokenizer)) = (&self.dialogues, &self.tokenizer) else {
            return Ok(Vec::new());
        };
        let read = |row: &usize| dialogues.read(&self.pictures.record(*row)?, column);
        let all: Vec<_> = rows.iter().map(read).collect::<Result<_, NodeError>>()?;
        dialogues.texts(&self.model, tokenizer, &all)
    }

    fn images(&self, step: u64, rows: &[usize]) -> Result<HostTensor, NodeError> {
        let [height, width] = self.spec.size.map(|side| side as usize);
        let one = |(place, row): (usize, &usize)| {
            let picture = self.pictures.picture(*row).map_err(NodeError::data)?;
            Ok(match &self.augment {
                Some(augment) => {
                    let mut rng = rng(self.seed, &[AUGMENT_STREAM, step, place as u64]);
                    picture.augmented(augment, &self.spec, &mut rng)
                }
                None => picture.tensor(&self.spec),
            })
        };
        let pictures: Vec<Vec<f32>> = rows.iter().enumerate().map(one).collect::<Result<_, NodeError>>()?;
        Ok(HostTensor { shape: vec![rows.len(), 3, height, width], data: pictures.concat() })
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
