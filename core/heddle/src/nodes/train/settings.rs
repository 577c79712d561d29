//! The parameters of a training stage.

use heddle_data::{image::Augment, text::CaptionOptions};
use heddle_graph::config::Reader;
use heddle_tensor::{Precision, Schedule};
use indexmap::IndexMap;

use super::patterns::Patterns;
use crate::{
    device::Need,
    nodes::{
        data::{Labels, read_augment, read_captions, read_labels},
        precision,
    },
};

/// What a stage does, as the file sets it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Loss node (or `node.port`) and its weight.
    pub losses: IndexMap<String, f64>,
    /// The parameters that learn.
    pub train: Patterns,
    /// Of the operands of matrix products.
    pub precision: Precision,
    /// The optimiser.
    pub optimizer: AdamW,
    /// The learning rate's course.
    pub schedule: Schedule,
    /// Learning rates of parts of the model.
    pub groups: IndexMap<String, (Patterns, f64)>,
    /// Optimiser steps.
    pub steps: u64,
    /// Records a batch.
    pub batch: usize,
    /// Batches a step.
    pub accumulate: u64,
    /// Largest global gradient norm.
    pub clip: Option<f64>,
    /// Decay of the moving average of the weights, which then is what the stage gives.
    pub ema: Option<f64>,
    /// Column that has to differ between the records of a batch.
    pub distinct: Option<String>,
    /// Which text goes with an image.
    pub text: CaptionOptions,
    /// Column with dialogues, for graphs that read them.
    pub dialogues: String,
    /// The classes of the records, for graphs that read targets.
    pub labels: Option<Labels>,
    /// Image augmentation.
    pub augment: Option<Augment>,
    /// How many augmented views there are of a picture; as many as there are steps without it.
    pub views: Option<u64>,
    /// Bytes of decoded pictures that stay in memory.
    pub keep_images: u64,
    /// Steps a point of the learning curve.
    pub log_every: u64,
    /// When a checkpoint is written.
    pub checkpoint: Checkpoint,
}

/// When a checkpoint is written, besides at Ctrl-C.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    /// After so many steps.
    pub steps: Option<u64>,
    /// After so many minutes.
    pub minutes: f64,
}

/// AdamW.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of both moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay.
    pub weight_decay: f64,
}

impl Settings {
    /// What the stage asks of the device.
    pub fn need(&self) -> Need {
        Need { precision: self.precision, learns: true, batch: self.batch }
    }

    /// Reads the node's table.
    pub fn read(r: &mut Reader<'_>) -> Self {
        let mut losses: IndexMap<String, f64> =
            r.map("loss", "loss nodes of the graph and their weights: `{ itc = 1.0 }`");
        // The order in the file is in no key, so no sum may depend on it.
        losses.sort_keys();
        if losses.is_empty() {
            r.error(
                "loss",
                "a training stage needs at least one loss",
                Some("name a loss node of the graph: `loss = { itc = 1.0 }`"),
            );
        }
        let train: Vec<String> = r
            .field("train", "parameters that learn: `node`, `node.prefix`, globs; everything else is frozen")
            .or(vec!["*".to_owned()]);
        let train = compile(r, "train", &train);
        let optimizer = r.table("optimizer", "how gradients become steps", read_optimizer);
        let schedule = r.table("schedule", "the learning rate's course", read_schedule);
        let mut groups = r.tables("groups", "parts of the model with a learning rate of their own", |r| {
            let patterns: Vec<String> = r.field("match", "parameter patterns, as in `train`").required();
            let patterns = compile(r, "match", &patterns);
            (
                patterns,
                r.field("lr-scale", "factor on the learning rate; those of several groups multiply")
                    .range(0.0..=1e6)
                    .or(1.0),
            )
        });
        groups.sort_keys();
        let augment = r.optional_table("augment", "random changes to training images", read_augment);
        let views: Option<u64> = r
            .field(
                "views",
                "augmented views of a picture, one an epoch and then again from the first, so that what a frozen tower gives for \
                 them is kept; without it every step draws anew",
            )
            .min(1)
            .max(1 << 20)
            .optional();
        if views.is_some() && augment.is_none() && !r.is_documenting() {
            r.error("views", "there is one view of a picture without `augment`", None);
        }
        Self {
            losses,
            train,
            optimizer,
            schedule,
            groups,
            precision: precision::read(r),
            steps: r.field("steps", "optimiser steps").min(1).max(1 << 40).required(),
            batch: r.field("batch", "records a batch").min(1).max(1 << 24).or(64),
            accumulate: r
                .field("accumulate", "batches whose gradients are averaged into one step")
                .min(1)
                .max(1 << 20)
                .or(1),
            clip: r
                .field("clip", "largest global gradient norm; no clipping without it")
                .positive()
                .optional(),
            ema: r
                .field("ema", "decay of a moving average of the weights, which is then what the stage gives")
                .range(0.0..=0.999_999_9)
                .optional(),
            distinct: r
                .field(
                    "distinct",
                    "column whose values differ within a batch, as classes of a contrastive loss should",
                )
                .optional(),
            text: r.table("text", "which text goes with an image", read_captions),
            dialogues: r
                .field("dialogues", "column with dialogues (LLaVA's turns), for graphs that read them")
                .or("conversations".to_owned()),
            labels: read_labels(r),
            augment,
            views,
            keep_images: {
                let mebibytes: u64 = r
                    .field(
                        "keep-images",
                        "MiB of decoded pictures that stay in memory; others are decoded again",
                    )
                    .not_in_key("a picture is the same when it is decoded again")
                    .or(4096);
                mebibytes.saturating_mul(1 << 20)
            },
            log_every: r.field("log-every", "steps a point of the learning curve").min(1).or(50),
            checkpoint: {
                let reason = "a stage ends in the same bits wherever it was stopped";
                let steps = r.field("checkpoint-steps", "steps after which a checkpoint is written");
                let steps = steps.min(1).not_in_key(reason).optional();
                let minutes = r.field("checkpoint-minutes", "minutes after which a checkpoint is written");
                Checkpoint { steps, minutes: minutes.positive().not_in_key(reason).or(2.0) }
            },
        }
    }

    /// The learning rate's factor for a parameter: the product of the groups that match.
    pub fn lr_scale(&self, name: &str) -> f64 {
        let matching = self.groups.values().filter(|(patterns, _)| patterns.matches(name));
        matching.map(|(_, scale)| scale).product()
    }
}

fn compile(r: &mut Reader<'_>, field: &'static str, patterns: &[String]) -> Patterns {
    Patterns::new(patterns).unwrap_or_else(|error| {
        r.error(field, format!("not a pattern: {error}"), None);
        // Everything is trained then, so that no further mistake follows from this one.
        Patterns::new(&["*".to_owned()]).expect("`*` is a pattern")
    })
}

fn read_optimizer(r: &mut Reader<'_>) -> AdamW {
    r.choice("kind", "the optimiser", &[("adamw", (), "Adam with decoupled weight decay")]).or("adamw");
    let betas: Vec<f64> = r.field("betas", "decay of the first and second moment").or(vec![0.9, 0.98]);
    if betas.len() != 2 || betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
        r.error(
            "betas",
            "two numbers from 0 to below 1 are needed",
            Some("for example `betas = [0.9, 0.98]`"),
        );
    }
    AdamW {
        lr: r.field("lr", "peak learning rate").positive().or(1e-3),
        betas: [betas.first().copied().unwrap_or(0.9), betas.get(1).copied().unwrap_or(0.98)],
        eps: r.field("eps", "added to the root of the second moment").positive().or(1e-8),
        weight_decay: r
            .field("weight-decay", "decoupled decay; vectors and biases do not decay")
            .range(0.0..=1e3)
            .or(0.0),
    }
}

fn read_schedule(r: &mut Reader<'_>) -> Schedule {
    r.variant(
        "kind",
        "the course after the warm-up",
        Some("constant"),
        &[
            ("constant", "the peak rate throughout", |r| Schedule::Constant { warmup_steps: read_warmup(r) }),
            ("cosine", "half a cosine down to `floor`", |r| Schedule::Cosine {
                warmup_steps: read_warmup(r),
                floor: r.field("floor", "where it ends, as a share of the peak").range(0.0..=1.0).or(0.0),
            }),
            ("poly", "(1 - progress)^power", |r| Schedule::Poly {
                warmup_steps: read_warmup(r),
                power: r.field("power", "the exponent; 1 falls linearly").positive().or(1.0),
            }),
        ],
    )
}

fn read_warmup(r: &mut Reader<'_>) -> u64 {
    r.field("warmup", "steps of linear warm-up").or(0)
}
