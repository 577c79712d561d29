//! The loop: batch, pass, backward, clip, step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use heddle_graph::graph::Source;
use heddle_tensor::{
    AdamW, Backend, Ema, Mode, ParamGrads, Parameters, Scalar, Tape, TensorError, Value, backward,
    weighted_sum,
};
use serde::{Deserialize, Serialize};

use super::{
    batches::{Batch, Batches, Maker},
    checkpoint::{self, Learning, Progress},
    frozen,
    settings::{Checkpoint, Settings},
};
use crate::{
    exec::{Artifact, NodeError, Outputs, RunContext},
    model::{ModelGraph, Pass, load_states, save},
    nodes::{
        SeeFrozen,
        eval::{CurvePoint, Metrics},
        towers::no_graph,
    },
};

/// The random stream of drop path and masking.
const PASS_STREAM: u64 = 3;

/// Trains the graph and gives its weights and learning curve.
pub fn train<B: Backend>(
    cx: &RunContext<'_>,
    model: &Arc<ModelGraph>,
    settings: &Settings,
    backend: B,
) -> Result<Outputs, NodeError> {
    let mut learner = Learner::new(cx, model, settings, backend)?;
    let kept = frozen::open(cx, model, settings, &learner.parameters)?;
    let mut maker = Maker::new(cx, model, settings, kept)?;
    frozen::fill(cx, model, settings, &learner.parameters, &mut maker)?;
    let mut at = match cx.fresh {
        true => Progress::default(),
        false => checkpoint::load(cx, learner.learning())?.unwrap_or_default(),
    };
    if at.step > 0 {
        cx.progress.note(format!("goes on after step {} of {}", at.step, settings.steps));
    }
    let batches = Batches::start(maker, settings, at.step);
    let (start, begun) = (Instant::now(), at.step);
    let mut saved = (at.step, Instant::now());
    for step in begun..settings.steps {
        if cx.cancel.is_cancelled() {
            if step > saved.0 {
                checkpoint::save(cx, &learner.learning(), &at)?;
            }
            return Err(NodeError::Cancelled);
        }
        if is_due(settings.checkpoint, step, saved) {
            checkpoint::save(cx, &learner.learning(), &at)?;
            saved = (step, Instant::now());
        }
        let lr = settings.optimizer.lr * settings.schedule.lr_at(step, settings.steps);
        let outcome = learner.step(&batches, step, lr)?;
        at.since.add(&outcome);
        let done = step + 1;
        at.step = done;
        if done % settings.log_every == 0 || done == settings.steps {
            let samples = done * settings.accumulate * settings.batch as u64;
            let point = std::mem::take(&mut at.since).point(done, samples, lr);
            let new = (done - begun) * settings.accumulate * settings.batch as u64;
            let rate = new as f64 / start.elapsed().as_secs_f64();
            cx.progress.set(done, settings.steps, format!("loss {:.3}, {rate:.0} records/s", point.loss));
            at.curve.push(point);
        }
    }
    let mut metrics = Metrics { curve: at.curve, ..Metrics::default() };
    metrics.notes = [&*learner.notes, batches.notes()].concat();
    metrics.notes.iter().for_each(|note| cx.progress.note(note.clone()));
    // Should what follows fail, another run begins anew, which is the same.
    checkpoint::forget(cx)?;
    Ok(Outputs::from([
        ("weights".to_owned(), save(model, &learner.result()?)?.into()),
        ("metrics".to_owned(), metrics.to_bytes()?.into()),
    ]))
}

/// Shows the frozen part of the stage, as it is when training begins.
pub fn see_frozen<B: Backend>(
    cx: &RunContext<'_>,
    model: &Arc<ModelGraph>,
    settings: &Settings,
    backend: B,
    see: &mut SeeFrozen<'_>,
) -> Result<(), NodeError> {
    let (parameters, _) = starting(cx, model, settings, &backend)?;
    frozen::see(cx, model, settings, &parameters, see)
}

/// The parameters that training begins with, and what the reader of the results should know of them.
fn starting<B: Backend>(
    cx: &RunContext<'_>,
    model: &ModelGraph,
    settings: &Settings,
    backend: &B,
) -> Result<(Parameters<B>, Vec<String>), NodeError> {
    let specs = model.parameters().into_iter().map(|parameter| (parameter.name, parameter.spec));
    let mut parameters = Parameters::init(specs, cx.seed, backend)?;
    let notes = load_weights(cx, model, &mut parameters)?;
    parameters.set_trainable(|name| settings.train.matches(name));
    Ok((parameters, notes))
}

/// Whether a checkpoint is due before a step, after one at a step and time.
fn is_due(when: Checkpoint, step: u64, (last, time): (u64, Instant)) -> bool {
    let minutes = time.elapsed().as_secs_f64() / 60.0;
    step > last && (when.steps.is_some_and(|steps| step - last >= steps) || minutes >= when.minutes)
}

/// The model while it learns.
struct Learner<'a, B: Backend> {
    model: &'a ModelGraph,
    settings: &'a Settings,
    parameters: Parameters<B>,
    optimizer: AdamW<B>,
    ema: Option<Ema<B>>,
    losses: Vec<(String, f64, Source)>,
    seed: u64,
    /// What the reader of the results should know of the weights.
    notes: Vec<String>,
}

/// Loads all weights to start from, those of single parameters last. Notes which parameters of a node that takes weights
/// start from the seed.
fn load_weights<B: Backend>(
    cx: &RunContext<'_>,
    model: &ModelGraph,
    parameters: &mut Parameters<B>,
) -> Result<Vec<String>, NodeError> {
    let mut all: Vec<&Artifact> = cx.all("weights").iter().collect();
    all.sort_by_key(|weights| weights.label.as_ref().map_or(0, |label| label.matches('.').count()));
    let whole = all.iter().any(|weights| weights.label.is_none());
    let (mut loaded, mut takers) = (BTreeSet::new(), BTreeSet::new());
    for weights in all {
        let from = format!("the artifact of `{}`", weights.from);
        let (label, part) = (weights.label.as_deref(), weights.part.as_deref());
        let report = load_states(model, parameters, &weights.bytes, &from, label, part)
            .map_err(|error| NodeError::Other(error.to_string()))?;
        loaded.extend(report.loaded);
        takers.extend(label.map(|label| label.split_once('.').map_or(label, |(node, _)| node).to_owned()));
    }
    let of_a_taker =
        |name: &String| whole || name.split_once('/').is_some_and(|(node, _)| takers.contains(node));
    let names = model.parameters().into_iter().map(|parameter| parameter.name);
    let new: Vec<String> = names.filter(|name| of_a_taker(name) && !loaded.contains(name)).collect();
    let note = |first: &String| format!("{} tensors start from the seed, such as `{first}`", new.len());
    Ok(new.first().map(note).into_iter().collect())
}

/// What one batch gives: its losses by name, their weighted sum, the gradients of that.
type Passed<B> = (Vec<(String, f64)>, f64, ParamGrads<B>);

/// What one step gives.
struct StepOutcome {
    losses: Vec<(String, f64)>,
    loss: f64,
    gradient_norm: f64,
}

impl<'a, B: Backend> Learner<'a, B> {
    fn new(
        cx: &RunContext<'_>,
        model: &'a ModelGraph,
        settings: &'a Settings,
        backend: B,
    ) -> Result<Self, NodeError> {
        let (parameters, notes) = starting(cx, model, settings, &backend)?;
        let losses = settings.losses.iter().map(|(name, weight)| {
            let (source, _) = model.output(name).ok_or_else(no_graph)?;
            Ok((name.clone(), *weight, source))
        });
        let options = &settings.optimizer;
        Ok(Self {
            model,
            settings,
            optimizer: AdamW::new(options.betas, options.eps, options.weight_decay),
            ema: settings.ema.map(|decay| Ema::new(decay, &parameters)).transpose()?,
            losses: losses.collect::<Result<_, NodeError>>()?,
            seed: cx.seed,
            parameters,
            notes,
        })
    }

    fn step(&mut self, batches: &Batches, step: u64, lr: f64) -> Result<StepOutcome, NodeError> {
        let mut gradients: Option<ParamGrads<B>> = None;
        let mut outcome = StepOutcome { losses: Vec::new(), loss: 0.0, gradient_norm: 0.0 };
        let count = self.settings.accumulate;
        for part in 0..count {
            let (losses, loss, grads) = self.pass(batches.next()?, step * count + part)?;
            outcome.add(&losses, loss, count);
            match &mut gradients {
                None => gradients = Some(grads),
                Some(sum) => sum.accumulate(grads)?,
            }
        }
        let mut gradients = gradients.ok_or(TensorError::NoGradient)?;
        if count > 1 {
            gradients.scale(1.0 / count as f64)?;
        }
        outcome.gradient_norm = match self.settings.clip {
            Some(limit) => gradients.clip(limit)?,
            None => gradients.norm()?,
        };
        if !outcome.loss.is_finite() || !outcome.gradient_norm.is_finite() {
            return Err(NodeError::Other(format!(
                "the loss or its gradient is not finite at step {step} (loss {}); a smaller learning rate, a longer \
                 warm-up or `clip` may help",
                outcome.loss
            )));
        }
        let settings = self.settings;
        self.optimizer.step_scaled(&mut self.parameters, &gradients, lr, |name| settings.lr_scale(name))?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.parameters)?;
        }
        Ok(outcome)
    }

    /// Forward and backward of one batch.
    fn pass(&self, batch: Batch, draw: u64) -> Result<Passed<B>, NodeError> {
        let tape = Tape::new();
        let seed = rand::RngCore::next_u64(&mut heddle_data::rng(self.seed, &[PASS_STREAM, draw]));
        let pass = Pass { model: self.model, parameters: &self.parameters, mode: Mode::Train, seed, tape };
        let (inputs, given) = batch.values(self.parameters.backend(), &Tape::off())?;
        let wanted: Vec<Source> = self.losses.iter().map(|(_, _, source)| source.clone()).collect();
        let values =
            pass.run_from(&inputs, &given, &wanted).map_err(|error| NodeError::Other(error.to_string()))?;
        let mut weighted: Vec<(f64, Scalar<B>)> = Vec::new();
        let mut losses = Vec::new();
        for ((name, weight, _), value) in self.losses.iter().zip(values) {
            losses.push((name.clone(), number(&value)?));
            let Value::Scalar(loss) = value else {
                return Err(NodeError::Other(format!("`{name}` is not a loss")));
            };
            weighted.push((*weight, loss));
        }
        let loss = weighted_sum(self.parameters.backend(), &weighted)?;
        let total = number(&Value::Scalar(loss.clone()))?;
        Ok((losses, total, backward(loss, &self.parameters)?))
    }

    /// What a checkpoint holds.
    fn learning(&mut self) -> Learning<'_, B> {
        Learning { parameters: &mut self.parameters, optimizer: &mut self.optimizer, ema: self.ema.as_mut() }
    }

    /// The weights that the stage gives.
    fn result(&self) -> Result<Parameters<B>, TensorError> {
        match &self.ema {
            Some(ema) => ema.apply(&self.parameters),
            None => Ok(self.parameters.clone()),
        }
    }
}

fn number<B: Backend>(value: &Value<B>) -> Result<f64, TensorError> {
    Ok(value.to_host()?.data.first().copied().map_or(f64::NAN, f64::from))
}

impl StepOutcome {
    /// Adds one of `count` batches.
    fn add(&mut self, losses: &[(String, f64)], loss: f64, count: u64) {
        self.loss += loss / count as f64;
        if self.losses.is_empty() {
            self.losses = losses.iter().map(|(name, _)| (name.clone(), 0.0)).collect();
        }
        for ((_, sum), (_, value)) in self.losses.iter_mut().zip(losses) {
            *sum += value / count as f64;
        }
    }
}

/// Sums since the last point of the curve.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sums {
    steps: u64,
    loss: f64,
    gradient_norm: f64,
    losses: BTreeMap<String, f64>,
}

impl Sums {
    fn add(&mut self, outcome: &StepOutcome) {
        self.steps += 1;
        self.loss += outcome.loss;
        self.gradient_norm += outcome.gradient_norm;
        for (name, value) in &outcome.losses {
            *self.losses.entry(name.clone()).or_default() += value;
        }
    }

    fn point(self, step: u64, samples: u64, lr: f64) -> CurvePoint {
        let mean = |sum: f64| sum / self.steps.max(1) as f64;
        CurvePoint {
            step,
            samples,
            loss: mean(self.loss),
            losses: self.losses.iter().map(|(name, sum)| (name.clone(), mean(*sum))).collect(),
            lr,
            gradient_norm: mean(self.gradient_norm),
        }
    }
}
