//! What the user typed. Parsing only validates; nothing is looked up here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use heddle_graph::config::{Device, Size};

use super::verify::Percent;
use crate::exec::CacheModes;

/// Declarative experiments for vision-language models.
///
/// An experiment is a TOML file: data, model graphs, training stages, evaluations and reports, wired into one DAG.
/// heddle checks it, says what it will cost, runs it, and keeps every result, so that a change re-computes what it
/// touches and nothing else.
#[derive(Debug, Parser)]
#[command(name = "heddle", version, after_help = EXIT_CODES)]
pub struct Invocation {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the plan has work left, 3 the files are wrong, \
                          4 verification found a difference, 130 interrupted.\n\
                          Standard output carries results only; progress and logs go to standard error.";

/// Options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Folder of the cache and of the run records [default: `.heddle` beside the experiment, or in the current folder].
    #[arg(long, global = true, env = "HEDDLE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// No progress, no notes: results and errors only.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// How log lines are written; what is logged follows HEDDLE_LOG (`info`, `heddle=debug`).
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
    /// Colour in messages.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment; what is in the cache is not run again.
    Run(RunOptions),
    /// Say what would run, why, and what it costs. Exit code 2 if work is left.
    Plan(PlanOptions),
    /// Check files: syntax, types, shapes, gradients; count parameters and multiply-adds, and records that a stage learns from and an
    /// evaluation behind it scores, if the cache has them.
    Check(CheckOptions),
    /// Write the example experiments, the model graphs and the embedded data into a folder.
    Init(InitOptions),
    /// Draw the DAG of an experiment or a model graph.
    Graph(GraphOptions),
    /// List the kinds of nodes, or document one.
    Nodes(NodesOptions),
    /// Print the JSON Schema of a kind of file, for editors.
    Schema(SchemaOptions),
    /// Run a model graph on tensors from a safetensors file; with gradients on request.
    Apply(ApplyOptions),
    /// Write captions for image files with a trained model.
    Caption(CaptionOptions),
    /// Ask a trained model about an image.
    Chat(ChatOptions),
    /// Look at the records of a data set or a node, or write them in another form.
    Data(DataOptions),
    /// Write, build, test and measure data plugins.
    Plugin(PluginOptions),
    /// Write the weights of a run as a folder that other tools read.
    Export(ExportOptions),
    /// Look back at finished runs.
    Runs(RunsOptions),
    /// Compare two runs: configuration, models, metrics, artifacts. Exit code 4 if artifacts differ.
    Diff(DiffOptions),
    /// Bring back the results of a past run from the cache, or compute them again and compare.
    Replay(ReplayOptions),
    /// Compute a part of what the cache keeps of single records again, and compare bits. Exit code 4 if something differs.
    Verify(VerifyOptions),
    /// Say why a node runs or not, field by field of its key.
    Why(WhyOptions),
    /// Look after the cache.
    Cache(CacheOptions),
}

/// Which caches are used, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Caches")]
pub struct CacheArgs {
    /// What is read and written: `local:rw` or `local:r`; `remote:rw`, `remote:r` or `remote:none`. With `local:r`, what the command
    /// makes is not kept [default: local:rw,remote:rw].
    #[arg(long, value_name = "MODES", env = "HEDDLE_CACHE")]
    pub cache: Option<CacheModes>,
    /// A cache that machines share: `file:///shared/heddle`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`
    /// [default: `[cache] remote`].
    #[arg(long, value_name = "URL", env = "HEDDLE_REMOTE")]
    pub remote: Option<String>,
    /// Compare digests at every read of an artifact or of rows, not at the first one only; slower.
    #[arg(long)]
    pub paranoid: bool,
}

/// Which experiment, with which changes.
#[derive(Debug, Args)]
pub struct Target {
    /// The experiment file.
    pub file: String,
    /// Only these nodes and what they need.
    pub nodes: Vec<String>,
    /// Set a value of the file: `-S nodes.stage1.steps=100`, `-S params.width=128`, `-S seed=1`.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Run this node although it is in the cache.
    #[arg(long, value_name = "NODE")]
    pub force: Vec<String>,
    /// If another heddle holds the cache, wait for it.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub caches: CacheArgs,
}

/// How an experiment is looked at that does not run.
#[derive(Debug, Args)]
pub struct LookArgs {
    /// Set a value of the file: `-S nodes.stage1.steps=100`.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// If another heddle holds the cache, wait for it.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub caches: CacheArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which variants of the experiment.
#[derive(Debug, Args)]
pub struct Variants {
    /// The variant of this name in `[ablations]`; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub ablation: Vec<String>,
    /// Every cell of this sweep in `[sweeps]`; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub sweep: Vec<String>,
    /// The base, every ablation and every cell of every sweep.
    #[arg(long, conflicts_with_all = ["ablation", "sweep"])]
    pub all: bool,
}

impl Variants {
    /// Whether variants are asked for; else the base is meant.
    pub fn any(&self) -> bool {
        self.all || !self.ablation.is_empty() || !self.sweep.is_empty()
    }
}

/// `heddle run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Variants (`--ablation`, `--sweep`, `--all`) run on one cache, one after the other or `--max-parallel` at a time; what they share is \
    computed once. Each has a run record of its own, and the table of all of them is shown at the end; it lies in the folder \
    of the set too, as `sweep.csv`, `table.md` and, for a sweep over numbers, `SWEEP.svg`. The same command again goes on \
    where it stopped: what is finished is in the cache."
)]
pub struct RunOptions {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub variants: Variants,
    /// Go on after a failure with the nodes, and with the variants, that do not need what failed.
    #[arg(long)]
    pub keep_going: bool,
    /// So many variants at a time, which share the threads out among them [default: 1]. Results do not depend on it, and what
    /// several variants need is still computed once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_parallel: Option<u16>,
    /// Of the file's last set of variants, those that are not done, with the changes of `-S` that it had.
    #[arg(long, value_enum, value_name = "WHICH", conflicts_with_all = ["ablation", "sweep", "all", "nodes"])]
    pub retry: Option<Retry>,
    /// A column of the table of variants: a metric's name (`zero_shot/concept/test-id/en/top-1`), parts of it (`top-1`), or
    /// a pattern (`retrieval*R@1`); may be repeated [default: the first ones of every node that differ].
    #[arg(long, value_name = "METRIC")]
    pub metric: Vec<String>,
    /// Print JSON with all metrics.
    #[arg(long)]
    pub json: bool,
    /// Threads for tensor work; results do not depend on it [default: `[run] threads`, else all].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// Which variants of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Retry {
    /// Those that failed, were interrupted or never started.
    Failed,
}

/// `heddle plan`.
#[derive(Debug, Args)]
pub struct PlanOptions {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub variants: Variants,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `heddle check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Experiment and model graph files.
    #[arg(required = true)]
    pub files: Vec<String>,
    /// Set a value in every file: `-S params.depth=12`.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `heddle init`.
#[derive(Debug, Args)]
pub struct InitOptions {
    /// The folder; it is made if it does not exist. Files that exist are left alone.
    pub dir: PathBuf,
}

/// `heddle graph`.
#[derive(Debug, Args)]
#[command(after_help = "The caches are asked for `--plan` alone.")]
pub struct GraphOptions {
    /// An experiment or a model graph.
    pub file: String,
    /// Set a value of the file.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The language of the drawing.
    #[arg(long, value_enum, default_value_t = DrawFormat::Mermaid)]
    pub format: DrawFormat,
    /// Draw the model graph of this node, in colours: frozen blue, partly frozen violet, computed at every step orange; with what
    /// is kept of each record and why the rest is not.
    #[arg(long, value_name = "NODE")]
    pub cut: Option<String>,
    /// Colour the nodes of an experiment: in the cache green, to be run red.
    #[arg(long, conflicts_with = "cut")]
    pub plan: bool,
    #[command(flatten)]
    pub caches: CacheArgs,
}

/// Language of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DrawFormat {
    /// Mermaid, as Markdown viewers draw it.
    Mermaid,
    /// Graphviz.
    Dot,
    /// A picture for browsers.
    Svg,
}

/// `heddle nodes`.
#[derive(Debug, Args)]
pub struct NodesOptions {
    /// A kind, e.g. `model.internvit`; without it all kinds are listed.
    pub kind: Option<String>,
}

/// `heddle schema`.
#[derive(Debug, Args)]
pub struct SchemaOptions {
    /// Which kind of file.
    #[arg(value_enum, default_value_t = SchemaOf::Experiment)]
    pub of: SchemaOf,
}

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Experiment files.
    Experiment,
    /// Model graph files.
    Model,
}

/// `heddle apply`.
#[derive(Debug, Args)]
#[command(after_help = "Example: heddle apply graphs/internvl-c.toml --weights model.safetensors \\\n  \
    --inputs batch.safetensors --input image=pixel_values --input caption=input_ids \\\n  \
    --output image_embeds --output vit.hidden.1 --grad itc --out out.safetensors")]
pub struct ApplyOptions {
    /// A model graph file.
    pub graph: String,
    /// Set a value of the graph: `-S params.width=64`, `-S nodes.vit.published=\"\"`.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Weights under their published names. Tensors that the graph does not know are ignored.
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// Input tensors: images f32 `[B,3,H,W]`, token ids i64 `[B,T]` (id 0 is padding).
    #[arg(long, value_name = "FILE")]
    pub inputs: PathBuf,
    /// Where the graph's input stands in the file, if not under its own name. A text's mask (0 where padded; without one,
    /// id 0 is) and labels (negative where a token is not learnt; without them, all are) are `INPUT.mask` and
    /// `INPUT.labels`.
    #[arg(long = "input", value_name = "INPUT=TENSOR")]
    pub input: Vec<String>,
    /// What to write: a name of the graph's `outputs`, or `node.port`, optionally under another name
    /// [default: all of the graph's `outputs`].
    #[arg(long = "output", value_name = "OUTPUT[=TENSOR]")]
    pub output: Vec<String>,
    /// Also write the gradient of this scalar (`itc`, `probe.loss`), or of the sum of several (`itm,itc,itg`), for every
    /// weight, as `grad.NAME`, and for every image or vector input, as `grad.input.NAME`.
    #[arg(long, value_name = "LOSS", value_delimiter = ',')]
    pub grad: Vec<String>,
    /// Where to write the result.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Element type of the computation; f64 is slow and meant for checking.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Where to compute: cpu, cuda:N or auto.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    pub device: Device,
    /// Threads; results do not depend on it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// Number type of `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Single precision, the kernels that runs use.
    F32,
    /// Double precision on the processor, composed of plain operations.
    F64,
    /// As a GPU's tensor cores round single precision; GPU only.
    Tf32,
    /// 16 bits; a GPU, or without gradients a processor with `avx512_bf16`.
    Bf16,
    /// 16 bits with more digits and less range; GPU only.
    F16,
}

/// A device as `[run] device` names it.
fn device(text: &str) -> Result<Device, String> {
    Device::named(text).ok_or_else(|| "one of `cpu`, `cuda`, `cuda:N`, `auto`".to_owned())
}

/// An experiment whose trained model is used.
#[derive(Debug, Args)]
pub struct FinishedRun {
    /// The experiment file.
    pub file: String,
    /// Set a value of the file: `-S nodes.captions.beams=5`, `-S seed=1`.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Threads; what is written does not depend on it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// If another heddle holds the cache, wait for it.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub caches: CacheArgs,
}

/// `heddle caption`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: heddle caption experiments/three-stages.toml cat.png dog.jpg -S nodes.captions.beams=5\n\n\
    The model, its prompt and how it writes are those of an `eval.caption` node of the experiment; its weights come from \
    the cache, so run the experiment first."
)]
pub struct CaptionOptions {
    #[command(flatten)]
    pub run: FinishedRun,
    /// Image files.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// The `eval.caption` node whose model writes; needed if there are several.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// `heddle chat`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: heddle chat experiments/three-stages.toml --node answers --image scene.png --prompt \"Is there a cat?\"\n\n\
    Without `--prompt` questions are read line by line. The model and how it answers are those of an `eval.questions` node \
    of the experiment; its weights come from the cache, so run the experiment first."
)]
pub struct ChatOptions {
    #[command(flatten)]
    pub run: FinishedRun,
    /// The image that is asked about.
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// A question; several are asked one after the other, in one dialogue.
    #[arg(long, value_name = "QUESTION")]
    pub prompt: Vec<String>,
    /// The `eval.questions` node whose model answers; needed if there are several.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
}

/// `heddle plugin`.
#[derive(Debug, Args)]
pub struct PluginOptions {
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// `heddle data`.
#[derive(Debug, Args)]
pub struct DataOptions {
    /// What to do with the records.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What to do with records.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Say how many records there are, of which sources, with which columns; show the first, and what was skipped and why.
    Show(DataShow),
    /// Write records with their pictures in a form that other tools read.
    Export(DataExport),
}

/// Which records.
#[derive(Debug, Args)]
pub struct DataSource {
    /// An experiment and its node (`FILE.toml NODE` or `NODE.PORT`; what it needs is run first), or data: tar shards, parquet,
    /// CSV, TSV, JSON lines, COCO or LLaVA JSON (a path or pattern), or a folder.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The node, if the source is an experiment.
    pub node: Option<String>,
    /// Folder of the pictures that a table or annotation file names [default: the file's own].
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<String>,
    /// Set a value of the experiment: `-S nodes.pairs.limit=100`. Data without an experiment is the node `source`.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// If another heddle holds the cache, wait for it.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub caches: CacheArgs,
}

/// `heddle data show`.
#[derive(Debug, Args)]
pub struct DataShow {
    #[command(flatten)]
    pub of: DataSource,
    /// Show this many records [default: 3].
    #[arg(short = 'n', long, value_name = "N")]
    pub rows: Option<usize>,
    /// Print the records as JSON lines, and nothing else; all of them, unless `-n` is given.
    #[arg(long)]
    pub json: bool,
}

/// `heddle data export`.
#[derive(Debug, Args)]
pub struct DataExport {
    #[command(flatten)]
    pub of: DataSource,
    /// The folder to write; it must not exist, or be empty.
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// What to write.
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Records of a shard or parquet file [default: 10000]; for webdataset, img2dataset, parquet, clip-*.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_size: Option<u64>,
    /// Column with the class's name [default: class]; for class-folders, clip-classification.
    #[arg(long, value_name = "COLUMN")]
    pub class: Option<String>,
    /// A prompt with `{c}` for the class's name, as often as there are [default: `a photo of a {c}.`]; for
    /// clip-classification.
    #[arg(long, value_name = "TEXT")]
    pub template: Vec<String>,
    /// Write captions of this language only; for coco.
    #[arg(long, value_name = "TAG")]
    pub language: Option<String>,
    /// Name of the split: of webdataset's shards [default: data], of clip-benchmark's folder [default: test].
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
}

/// A form that other tools read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Tar shards of pictures, JSON and text.
    Webdataset,
    /// Tar shards with a parquet file each, as img2dataset writes them.
    Img2dataset,
    /// Parquet files with the pictures in a column.
    Parquet,
    /// `captions.json` and a folder of pictures.
    Coco,
    /// `conversations.json` and a folder of pictures.
    Llava,
    /// A folder for each class (torchvision's ImageFolder).
    ClassFolders,
    /// Images and masks in two folders (ADE20K).
    Masks,
    /// `records.csv` and a folder of pictures.
    Csv,
    /// `records.tsv` and a folder of pictures.
    Tsv,
    /// `records.jsonl` and a folder of pictures.
    Jsonl,
    /// clip-benchmark's layout for zero-shot classification.
    ClipClassification,
    /// clip-benchmark's layout for retrieval.
    ClipRetrieval,
}

/// What to do with a plugin.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a new plugin: a complete filter with its cases, to be changed. Nothing is overwritten.
    New(PluginNew),
    /// Build a plugin with its language's own tool, look the result over and write it as NAME.wasm.
    Build(PluginBuild),
    /// Look over a plugin as a node would: imports, interface version, limits, description, schema; say what it is.
    Check(PluginCheck),
    /// Hold a plugin against a file of records and what they should give. Exit code 1 if one gives something else.
    Test(PluginTest),
    /// Measure a plugin on made-up records: compilation, start, time for a record, memory.
    Bench(PluginBench),
}

/// `heddle plugin new`.
#[derive(Debug, Args)]
pub struct PluginNew {
    /// The folder; it is made if it does not exist. Its name is the plugin's.
    pub dir: PathBuf,
    /// What the plugin is written in.
    #[arg(long, value_enum)]
    pub language: PluginLanguage,
}

/// A language that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PluginLanguage {
    /// Small and fast; cargo builds it.
    Rust,
    /// Smallest; clang and wasi-libc build it.
    C,
    /// CPython in a component; componentize-py builds it.
    Python,
    /// JavaScript: QuickJS in a component; jco builds it.
    Js,
}

/// `heddle plugin build`.
#[derive(Debug, Args)]
pub struct PluginBuild {
    /// The plugin's folder; its files say the language.
    pub dir: PathBuf,
    /// Where to write the plugin [default: NAME.wasm in DIR, where NAME is what the plugin calls itself].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `heddle plugin check`.
#[derive(Debug, Args)]
pub struct PluginCheck {
    /// A WebAssembly component, or a core module with a component-type section; `embedded:plugins/NAME.wasm` is one of
    /// the examples.
    pub file: String,
    /// Let imports of WASI lead nowhere, as `wasi = "stub"` does.
    #[arg(long)]
    pub stub_wasi: bool,
}

/// `heddle plugin test`.
#[derive(Debug, Args)]
#[command(after_help = "A line of the file is `{\"config\": {...}}` for the lines behind it, or \
    `{\"record\": {\"captions\": [\"a cat\"]}, \"expect\": \"keep\"}`. A filter gives `keep` or the reason, a score a number, \
    a transform its columns, a dedup its hashes, a fold its result on this record.")]
pub struct PluginTest {
    /// The plugin.
    pub file: String,
    /// Records and what they should give, one JSON object a line.
    pub cases: String,
    /// Let imports of WASI lead nowhere, as `wasi = "stub"` does.
    #[arg(long)]
    pub stub_wasi: bool,
}

/// `heddle plugin bench`.
#[derive(Debug, Args)]
pub struct PluginBench {
    /// The plugin.
    pub file: String,
    /// Records; they are the same in every run.
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub records: u32,
    /// Records of a batch.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// The plugin's config.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub config: String,
    /// Let imports of WASI lead nowhere, as `wasi = "stub"` does.
    #[arg(long)]
    pub stub_wasi: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `heddle export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    /// A run (its id, the start of it, or `latest`), or an experiment file whose weights are in the cache.
    pub run: String,
    /// The folder to write; it must not exist, or be empty.
    pub dir: PathBuf,
    /// What to write.
    #[arg(long, value_enum)]
    pub format: WeightsFormat,
    /// The node whose weights are meant, if there are several.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Most bytes of tensors in a file; a larger tensor has a file of its own.
    #[arg(long, value_name = "BYTES", default_value_t = 5_000_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_size: u64,
    /// Set a value of the experiment: `-S nodes.stage1.steps=100`.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// If another heddle holds the cache, wait for it.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub caches: CacheArgs,
}

/// A form of weights that other tools read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightsFormat {
    /// `config.json` and `model.safetensors`, or shards of it with their index.
    Huggingface,
}

/// `heddle runs`.
#[derive(Debug, Args)]
pub struct RunsOptions {
    #[command(subcommand)]
    pub command: RunsCommand,
}

/// What to do with run records.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List the runs, newest last.
    Ls(RunsLs),
    /// Show one run.
    Show {
        /// Its id, the start of it, or `latest`.
        #[arg(default_value = "latest")]
        id: String,
        /// Print the whole record as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `heddle runs ls`.
#[derive(Debug, Args)]
pub struct RunsLs {
    /// `time`, or a metric: its name (`zero_shot/concept/test-id/en/top-1`), parts of it (`top-1`), or a pattern
    /// (`retrieval*R@1`). The largest is first, of a loss the smallest; runs without the metric are last.
    #[arg(long, value_name = "METRIC|time", default_value = "time")]
    pub sort_by: String,
    /// Show this metric too; may be repeated.
    #[arg(long, value_name = "METRIC")]
    pub metric: Vec<String>,
    /// Print CSV.
    #[arg(long, conflicts_with_all = ["md", "json"])]
    pub csv: bool,
    /// Print Markdown.
    #[arg(long, conflicts_with = "json")]
    pub md: bool,
    /// Print JSON with all metrics.
    #[arg(long)]
    pub json: bool,
}

/// `heddle diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: heddle diff 20260301-1412 latest\n\nNodes are compared by name. The first node in the order of the DAG \
    whose artifacts differ is where the runs part: with equal inputs the difference is its own."
)]
pub struct DiffOptions {
    /// A run: its id, the start of it, or `latest`.
    pub a: String,
    /// Another run.
    pub b: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `heddle replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without `--recompute` nothing is computed: the run's folder of artifacts is written anew from the cache, and its \
    report is shown. With it, the experiment runs again as the run's record keeps it, in an empty cache of its own, and every \
    artifact is compared; exit code 4 if one differs. Neither the local cache nor a remote is asked then. Data that the experiment \
    reads has to be where it was."
)]
pub struct ReplayOptions {
    /// The run: its id, the start of it, or `latest`.
    pub run: String,
    /// Compute everything again and compare digests.
    #[arg(long)]
    pub recompute: bool,
    /// Threads for computing again; results do not depend on it.
    #[arg(long, requires = "recompute", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// If another heddle holds the cache, wait for it.
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub caches: CacheArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `heddle verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: heddle verify experiments/three-stages.toml --sample 1%\n\nRows are what frozen parts of models give for \
    single records (`heddle graph --cut`). Rows are drawn at random among those that the cache has and the nodes need; the models are \
    loaded and compute them anew. `heddle cache verify` compares checksums of everything instead, and computes nothing."
)]
pub struct VerifyOptions {
    /// The experiment file.
    pub file: String,
    /// Only the rows of these nodes; default: of all.
    pub nodes: Vec<String>,
    /// How many of the kept rows, in per cent; at least one of each node.
    #[arg(long, value_name = "PERCENT", default_value = "1%")]
    pub sample: Percent,
    /// Draws the same rows as another time.
    #[arg(long)]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub look: LookArgs,
}

/// `heddle why`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: heddle why stage1 experiments/quickstart.toml -S nodes.stage1.steps=500\n\nThe node's key is compared with \
    the nearest one that it had before, or with that of a run (`--vs`); all fields that differ are named, the first node \
    upstream that differs, and how many records its frozen part has seen before. Nothing runs."
)]
pub struct WhyOptions {
    /// The node.
    pub node: String,
    /// The experiment file.
    pub file: String,
    /// Compare with this run: its id, the start of it, or `latest`.
    #[arg(long, value_name = "RUN")]
    pub vs: Option<String>,
    /// Say what became of this record instead: which node left it out, or which of its rows are in the cache.
    #[arg(long, value_name = "KEY", conflicts_with = "vs")]
    pub record: Option<String>,
    #[command(flatten)]
    pub look: LookArgs,
}

/// `heddle cache`.
#[derive(Debug, Args)]
pub struct CacheOptions {
    #[command(subcommand)]
    pub command: CacheCommand,
    /// If another heddle holds the cache, wait for it.
    #[arg(long, global = true)]
    pub wait: bool,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// How much it holds, and which runs are pinned.
    Du {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read everything and compare checksums. Exit code 4 if something is damaged.
    Verify,
    /// Remove everything.
    Clear,
    /// Remove what nothing names any more; with a size, also what is cheapest to compute again for its bytes.
    Gc {
        /// Most bytes of artifacts and rows that stay: `10GB`, `512MiB`, or plainly bytes. What a pinned run used stays in any case.
        #[arg(long, value_name = "SIZE")]
        max_size: Option<Size>,
        /// Say what would go, and remove nothing.
        #[arg(long)]
        dry: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keep what a run used, whatever `gc` removes.
    Pin {
        /// The run: its id, the start of it, or `last`.
        run: String,
    },
    /// Let `gc` remove what a run used.
    Unpin {
        /// The pinned run: its id, or the start of it.
        run: String,
    },
    /// Write what a run used (artifacts, traces, rows of frozen parts) into one file, for another cache.
    Export {
        /// The run: its id, the start of it, or `last`.
        run: String,
        /// The file to write; it must not exist.
        file: PathBuf,
    },
    /// Read what another cache has exported. Every byte is checked first; a damaged file leaves nothing behind.
    ///
    /// The checks tell that the bytes are those that were exported, not that they are what the nodes compute: import files of people
    /// whom you trust.
    Import {
        /// The file.
        file: PathBuf,
    },
}
