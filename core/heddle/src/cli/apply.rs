//! `heddle apply`: a model graph on tensors from a file, with gradients on request.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use heddle_graph::{
    config::Device,
    graph::{Class, Source},
};
use heddle_tensor::{
    Backend, CpuF64, HostTensor, Mode, Parameters, Tape, Tokens, Value, backward_with,
    parameter::{WeightsFile, to_safetensors},
    value::ValueKind,
    weighted_sum,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{
    args::{ApplyOptions, Precision},
    exit::{Exit, Failure},
    output,
};
use crate::{
    device::{self, Need, on_backend},
    model::{ModelGraph, Pass, load_published},
    project,
};

/// Tensors to write: shape and elements by name.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Runs the command.
pub fn run(options: &ApplyOptions) -> Result<Exit, Failure> {
    let model = project::load_model(&options.graph, &options.set)?;
    if options.precision == Precision::F64 && matches!(options.device, Device::Cuda(_)) {
        return Err(Failure::Other("f64 is computed on the processor: leave out `--device`".into()));
    }
    let pool =
        device::pool(options.threads.map(usize::from)).map_err(|error| Failure::Other(error.to_string()))?;
    let tensors = pool.install(|| match need(options) {
        None => apply(options, &model, CpuF64::default()),
        Some(need) => {
            let opened = device::choose(options.device).open(need)?;
            on_backend!(opened, |backend| apply(options, &model, backend))
        }
    })?;
    let count = tensors.len();
    std::fs::write(&options.out, to_safetensors(&tensors, &BTreeMap::new()))
        .map_err(Failure::io(format!("writing {}", options.out.display())))?;
    output::result(&format!("wrote {count} tensors to {}", options.out.display()));
    Ok(Exit::Done)
}

/// What is asked of the device; nothing for the reference in double precision.
fn need(options: &ApplyOptions) -> Option<Need> {
    let precision = match options.precision {
        Precision::F64 => return None,
        Precision::F32 => heddle_tensor::Precision::F32,
        Precision::Tf32 => heddle_tensor::Precision::Tf32,
        Precision::Bf16 => heddle_tensor::Precision::Bf16,
        Precision::F16 => heddle_tensor::Precision::F16,
    };
    Some(Need { precision, learns: !options.grad.is_empty(), batch: 0 })
}

fn apply<B: Backend>(options: &ApplyOptions, model: &ModelGraph, backend: B) -> Result<Tensors, Failure> {
    let outputs = outputs(options, model)?;
    let losses = options.grad.iter().map(|name| find(model, name, Some(Class::Loss)));
    let losses: Vec<Source> = losses.collect::<Result<_, _>>()?;
    let mut wanted: Vec<Source> = outputs.iter().map(|(_, source)| source.clone()).collect();
    wanted.extend(losses.iter().cloned());

    let parameters = parameters(options, model, &wanted, &backend)?;
    // Inputs are recorded only for the gradient, and only as far as the graph needs them.
    let tape = if !losses.is_empty() { Tape::new() } else { Tape::off() };
    let inputs = read_inputs(options, model, &wanted, &backend, &tape)?;
    let pass = Pass { model, parameters: &parameters, mode: Mode::Eval, seed: 0, tape };
    let mut values = pass.run(&inputs, &wanted)?;

    let mut tensors = Tensors::new();
    let tensor_error = |error| Failure::Node(crate::exec::NodeError::Tensor(error));
    if !losses.is_empty() {
        let scalar = |value| match value {
            Value::Scalar(loss) => Ok((1.0, loss)),
            _ => Err(Failure::Other("the loss is not a scalar".into())),
        };
        let losses =
            values.split_off(outputs.len()).into_iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
        let loss = weighted_sum(parameters.backend(), &losses).map_err(tensor_error)?;
        let (names, given): (Vec<&String>, Vec<Value<B>>) =
            inputs.iter().map(|(name, value)| (name, value.clone())).unzip();
        let (gradients, of_inputs) = backward_with(loss, &parameters, &given).map_err(tensor_error)?;
        for parameter in model.parameters() {
            if gradients.get(&parameter.name).is_some() {
                let gradient = gradients.to_host(&parameter.name).map_err(tensor_error)?;
                tensors.insert(format!("grad.{}", parameter.published), (parameter.spec.shape, gradient));
            }
        }
        for (name, gradient) in names.into_iter().zip(of_inputs) {
            if let Some(gradient) = gradient {
                tensors.insert(format!("grad.input.{name}"), (gradient.shape, gradient.data));
            }
        }
    }
    for ((name, _), value) in outputs.into_iter().zip(values) {
        let host = value.to_host().map_err(tensor_error)?;
        tensors.insert(name, (host.shape, host.data));
    }
    Ok(tensors)
}

/// Names and sources of what is written.
fn outputs(options: &ApplyOptions, model: &ModelGraph) -> Result<Vec<(String, Source)>, Failure> {
    if options.output.is_empty() {
        let all: Vec<(String, Source)> =
            model.graph().outputs.iter().map(|(name, source)| (name.clone(), source.clone())).collect();
        if all.is_empty() && options.grad.is_empty() {
            return Err(Failure::Other(
                "the graph names no `outputs`; choose some with --output node.port".into(),
            ));
        }
        return Ok(all);
    }
    let parse = |text: &String| {
        let (what, name) = text.split_once('=').unwrap_or((text, text));
        Ok((name.to_owned(), find(model, what, None)?))
    };
    options.output.iter().map(parse).collect()
}

fn find(model: &ModelGraph, name: &str, class: Option<Class>) -> Result<Source, Failure> {
    match model.output(name) {
        Some((source, ty)) if class.is_none_or(|class| ty.class == class) => Ok(source),
        Some((_, ty)) => {
            Err(Failure::Other(format!("`{name}` is {ty}, not a {}", class.map_or("value", Class::name))))
        }
        None => {
            let nodes = model.graph().ids().map(|id| model.graph().node(id).name.as_str());
            let known: Vec<&str> = model.graph().outputs.keys().map(String::as_str).chain(nodes).collect();
            Err(Failure::Other(format!(
                "there is no output `{name}`; there are {}, and their ports",
                known.join(", ")
            )))
        }
    }
}

/// The weights of the nodes that are needed.
fn parameters<B: Backend>(
    options: &ApplyOptions,
    model: &ModelGraph,
    wanted: &[Source],
    backend: &B,
) -> Result<Parameters<B>, Failure> {
    let ids: Vec<_> = wanted
        .iter()
        .filter_map(|source| match source {
            Source::Node { id, .. } => Some(*id),
            Source::Input(_) => None,
        })
        .collect();
    let needed = model.graph().upstream(&ids);
    let needed = model.used_by_all(&needed);
    let specs = needed.iter().map(|parameter| (parameter.name.clone(), parameter.spec.clone()));
    let mut parameters = Parameters::init(specs, 0, backend).map_err(crate::exec::NodeError::from)?;
    let file = open(&options.weights)?;
    let from = options.weights.display().to_string();
    load_published(model, &needed, &mut parameters, file.bytes(), &from)?;
    Ok(parameters)
}

fn open(path: &Path) -> Result<WeightsFile, Failure> {
    WeightsFile::open(path).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

/// The graph's inputs that are needed, from the file.
fn read_inputs<B: Backend>(
    options: &ApplyOptions,
    model: &ModelGraph,
    wanted: &[Source],
    backend: &B,
    tape: &Tape<B>,
) -> Result<BTreeMap<String, Value<B>>, Failure> {
    let file = open(&options.inputs)?;
    let from = options.inputs.display();
    let tensors =
        SafeTensors::deserialize(file.bytes()).map_err(|error| Failure::Other(format!("{from}: {error}")))?;
    let names = input_names(options, model)?;
    let needed = needed_inputs(model, wanted);
    let mut inputs = BTreeMap::new();
    for (name, input) in model.graph().inputs.iter().filter(|(name, _)| needed.contains(*name)) {
        let key = names.get(name).unwrap_or(name);
        let view = tensors.tensor(key).map_err(|_| {
            let candidates = match candidates(&tensors, input.ty.class, model).join(", ") {
                names if names.is_empty() => format!("none fits {}", input.ty),
                names => format!("it may be one of {names}"),
            };
            Failure::Other(format!(
                "{from} has no tensor `{key}` for the graph's input `{name}`; name one with --input {name}=TENSOR: {candidates}"
            ))
        })?;
        let mut value = read_value(&view, input.ty.class, backend, tape)
            .map_err(|reason| Failure::Other(format!("{from}: `{key}` for input `{name}`: {reason}")))?;
        if let Value::Text(tokens) = &mut value {
            tokens.frame = input.blank.unwrap_or(0);
            read_marks(&tensors, &names, name, tokens)
                .map_err(|reason| Failure::Other(format!("{from}: {reason}")))?;
        }
        inputs.insert(name.clone(), value);
    }
    Ok(inputs)
}

/// A few tensors of a file that could be an input of this class and are no weights.
fn candidates<'a>(tensors: &'a SafeTensors<'_>, class: Class, model: &ModelGraph) -> Vec<&'a str> {
    let weights: BTreeSet<String> =
        model.parameters().into_iter().map(|parameter| parameter.published).collect();
    let fits = |view: &TensorView<'_>| match (class, view.shape().len(), view.dtype()) {
        (Class::Text, 2, Dtype::I64 | Dtype::I32 | Dtype::U32) => true,
        (Class::Targets, _, Dtype::I64 | Dtype::I32 | Dtype::U32) => true,
        (Class::Image | Class::Map, 4, Dtype::F32 | Dtype::F64) => {
            class == Class::Map || view.shape()[1] == 3
        }
        (Class::Sequence, 3, Dtype::F32 | Dtype::F64) | (Class::Vector, 2, Dtype::F32 | Dtype::F64) => true,
        _ => false,
    };
    let fitting =
        |name: &&str| !weights.contains(*name) && tensors.tensor(name).is_ok_and(|view| fits(&view));
    let mut names: Vec<&str> = tensors.names().into_iter().filter(fitting).collect();
    names.sort_unstable();
    names.truncate(5);
    names
}

/// What a text may have beside its ids, as `--input INPUT.mask=TENSOR`.
const MARKS: [&str; 2] = ["mask", "labels"];

/// Reads the mask and the labels of a text, where the command line names them.
fn read_marks(
    tensors: &SafeTensors<'_>,
    names: &BTreeMap<String, String>,
    input: &str,
    tokens: &mut Tokens,
) -> Result<(), String> {
    for mark in MARKS {
        let Some(key) = names.get(&format!("{input}.{mark}")) else { continue };
        let view =
            tensors.tensor(key).map_err(|_| format!("there is no tensor `{key}` for `{input}.{mark}`"))?;
        let wrong = |reason: String| format!("`{key}` for `{input}.{mark}`: {reason}");
        let numbers = signed(&view).map_err(wrong)?;
        match mark {
            "mask" => tokens.mask = Some(numbers.iter().map(|number| *number != 0).collect()),
            _ => tokens.learn = Some(numbers.iter().map(|number| *number >= 0).collect()),
        }
        tokens.check().map_err(|error| wrong(error.to_string()))?;
    }
    Ok(())
}

/// `--input INPUT=TENSOR` by input, `INPUT.mask` and `INPUT.labels` among them.
fn input_names(options: &ApplyOptions, model: &ModelGraph) -> Result<BTreeMap<String, String>, Failure> {
    let parse = |text: &String| {
        let (input, tensor) = text
            .split_once('=')
            .ok_or_else(|| Failure::Other(format!("`--input {text}`: expected INPUT=TENSOR")))?;
        let (of, mark) = input.split_once('.').map_or((input, None), |(of, mark)| (of, Some(mark)));
        if mark.is_some_and(|mark| !MARKS.contains(&mark)) {
            return Err(Failure::Other(format!("`--input {text}`: a text has {}", MARKS.join(" and "))));
        }
        if !model.graph().inputs.contains_key(of) {
            let known: Vec<&str> = model.graph().inputs.keys().map(String::as_str).collect();
            return Err(Failure::Other(format!(
                "the graph has no input `{of}`; it has {}",
                known.join(", ")
            )));
        }
        Ok((input.to_owned(), tensor.to_owned()))
    };
    options.input.iter().map(parse).collect()
}

fn needed_inputs(model: &ModelGraph, wanted: &[Source]) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    let mut ids = Vec::new();
    for source in wanted {
        match source {
            Source::Input(name) => drop(needed.insert(name.clone())),
            Source::Node { id, .. } => ids.push(*id),
        }
    }
    for id in model.graph().upstream(&ids) {
        for edge in model.graph().node(id).edges.values().flatten() {
            if let Source::Input(name) = &edge.from {
                needed.insert(name.clone());
            }
        }
    }
    needed
}

fn read_value<B: Backend>(
    view: &TensorView<'_>,
    class: Class,
    backend: &B,
    tape: &Tape<B>,
) -> Result<Value<B>, String> {
    let shape = view.shape().to_vec();
    if class == Class::Text {
        let [batch, len] = *shape else { return Err(format!("token ids are [B, T], not {shape:?}")) };
        let tokens = Tokens::new(integers(view)?, batch, len);
        return tokens.map(Value::Text).map_err(|error| error.to_string());
    }
    if class == Class::Targets {
        return Ok(Value::Targets(signed(view)?.into_iter().map(|id| u32::try_from(id).ok()).collect()));
    }
    let kind = match class {
        Class::Image => ValueKind::Image,
        Class::Sequence => ValueKind::Sequence,
        Class::Map => ValueKind::Map,
        _ => ValueKind::Vector,
    };
    let data = floats(view)?;
    Value::from_host(backend, kind, HostTensor { shape, data }, tape).map_err(|error| error.to_string())
}

fn floats(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => {
            Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        Dtype::F64 => Ok(bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
            .collect()),
        other => Err(format!("expected F32 or F64, found {other:?}")),
    }
}

fn integers(view: &TensorView<'_>) -> Result<Vec<u32>, String> {
    signed(view)?
        .into_iter()
        .map(|id| u32::try_from(id).map_err(|_| format!("{id} is no token id")))
        .collect()
}

fn signed(view: &TensorView<'_>) -> Result<Vec<i64>, String> {
    let bytes = view.data();
    Ok(match view.dtype() {
        Dtype::I64 => bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect(),
        Dtype::I32 => {
            bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect()
        }
        Dtype::U32 => {
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect()
        }
        other => return Err(format!("expected I64, I32 or U32, found {other:?}")),
    })
}
