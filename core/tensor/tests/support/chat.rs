//! InternVL-Chat against the official code: ViT and perceptron, and QLLaMA between them.

use heddle_tensor::{
    Backend, HostTensor, Module, Parameters, Tape, Tokens, Value, backward,
    generate::{Decoding, Limits, NextToken, Search, generate},
    modules::{CrossEntropy, InternVit, Llama, Mix, Projector, Qllama},
    value::ValueKind,
};

use super::{
    Fixture,
    generative::{decoder, for_both, qllama},
    parity::{compare_gradients, vit},
    run, scalar, value,
};

/// An id that stands for rows of an image, where the vocabulary has none.
const IMAGE: u32 = 1_000_000;

fn llama(fixture: &Fixture, context: &[(&str, u32)]) -> Llama {
    let context = context.iter().map(|(port, id)| ((*port).to_owned(), *id)).collect();
    Llama { decoder: decoder(fixture, "llm_config"), projection: None, head: true, context }
}

fn projector(fixture: &Fixture, width: usize, norm: bool, skip_class: bool) -> Projector {
    Projector { width, out: fixture.config("llm_config.hidden_size"), norm, skip_class, eps: 1e-5 }
}

fn pixels<B: Backend>(backend: &B, fixture: &Fixture, name: &str) -> Value<B> {
    value(backend, ValueKind::Image, fixture.tensor(name), &Tape::off())
}

/// The loss of the learnt tokens, its gradients, and all scores.
fn check_decoder<B: Backend>(
    fixture: &Fixture,
    parameters: &Parameters<B>,
    (llama, prefix): (&Llama, &str),
    inputs: Vec<(&str, Value<B>)>,
    published: impl Fn(&str) -> String,
    tape: &Tape<B>,
) {
    let out = run(llama, parameters, prefix, inputs, &["logits", "predictions", "targets"], tape);
    fixture.compare("io.out.logits", &out["logits"].to_host().unwrap(), 1.0);
    let inputs = vec![("logits", out["predictions"].clone()), ("targets", out["targets"].clone())];
    let loss = run(&CrossEntropy::default(), parameters, "", inputs, &["loss"], tape).remove("loss").unwrap();
    fixture.compare("io.out.loss", &loss.to_host().unwrap(), 1.0);
    let grads = backward(scalar(loss), parameters).unwrap();
    compare_gradients(fixture, &grads, "io.grad.", published);
}

/// ViT and perceptron: the image's placeholder becomes its rows.
pub fn check_chat_mlp<B: Backend>(backend: &B) {
    let fixture = Fixture::read("chat_mlp");
    let vit = vit(&fixture, "vision_config.");
    let projector = projector(&fixture, vit.width, false, true);
    let llama = llama(&fixture, &[("context.image", IMAGE)]);
    let nodes = [
        ("vit/", Module::parameters(&vit)),
        ("projector/", Module::parameters(&projector)),
        ("llm/", Module::parameters(&llama)),
    ];
    let published = |name: &str| match name.split_once('/') {
        Some(("vit", local)) => format!("model.vision_tower.vision_tower.{local}"),
        Some(("projector", local)) => format!("model.mm_projector.{local}"),
        _ => name.trim_start_matches("llm/").to_owned(),
    };
    let parameters = fixture.parameters(backend, &nodes, published);
    let tape = Tape::new();
    let hidden = hidden(&vit, &fixture);
    let seen = run(
        &vit,
        &parameters,
        "vit/",
        vec![("image", pixels(backend, &fixture, "io.in.images"))],
        &[&hidden],
        &tape,
    );
    let image = run(
        &projector,
        &parameters,
        "projector/",
        vec![("tokens", seen[&hidden].clone())],
        &["output"],
        &tape,
    );
    let image = image["output"].clone();
    fixture.compare("io.out.image_embeds", &image.to_host().unwrap(), 1.0);
    let tokens = expanded(&fixture, 25);
    let whole = Llama { head: true, ..llama.clone() };
    let inputs = vec![("text", Value::Text(tokens.clone())), ("context.image", image.clone())];
    let embedded = run(&whole, &parameters, "llm/", inputs, &["states.0"], &Tape::off());
    fixture.compare("io.out.inputs_embeds", &embedded["states.0"].to_host().unwrap(), 1.0);
    let inputs = vec![("text", Value::Text(tokens)), ("context.image", image)];
    check_decoder(&fixture, &parameters, (&llama, "llm/"), inputs, published, &tape);
}

fn hidden(vit: &InternVit, fixture: &Fixture) -> String {
    let select = ["mm_vision_select_layer", "select_layer"]
        .into_iter()
        .find_map(|field| fixture.json["config"][field].as_i64())
        .unwrap();
    assert!(select < 0 && vit.depth as i64 + select >= 0);
    format!("hidden.{select}")
}

/// Placeholders of images become as many tokens as an image has rows; the reference does this with embeddings.
fn expanded(fixture: &Fixture, rows: usize) -> Tokens {
    let ids = fixture.integers("io.in.input_ids");
    let [batch, len] = [2, ids.len() / 2];
    let mask: Vec<bool> =
        fixture.integers("io.in.attention_mask").iter().map(|mark| *mark == Some(1)).collect();
    let labels = fixture.integers("io.in.labels");
    let mut tokens = Tokens::new(Vec::new(), 0, 0).unwrap();
    let (mut all, mut real, mut learn) = (Vec::new(), Vec::new(), Vec::new());
    for (place, id) in ids.iter().enumerate() {
        let count = if id.is_none() { rows } else { 1 };
        all.extend(std::iter::repeat_n(id.unwrap_or(IMAGE), count));
        real.extend(std::iter::repeat_n(mask[place], count));
        learn.extend(std::iter::repeat_n(labels[place].is_some(), count));
    }
    (tokens.batch, tokens.len) = (batch, len - 1 + rows);
    (tokens.ids, tokens.mask, tokens.learn) = (all, Some(real), Some(learn));
    tokens.check().unwrap();
    tokens
}

/// QLLaMA's queries, each round's conditioned on its question, beside the image's rows.
pub fn check_chat_qllama<B: Backend>(backend: &B) {
    let fixture = Fixture::read("chat_qllama");
    let vit = vit(&fixture, "internvl_config.vision_config.");
    let qllama = Qllama { head: true, ..qllama(&fixture, "internvl_config.") };
    let mlp1 = projector(&fixture, vit.width, true, true);
    let mlp2 = projector(&fixture, qllama.decoder.width, true, false);
    let id = |name: &str| fixture.integers(&format!("io.in.{name}_context_token_id"))[0].unwrap();
    let llama = llama(&fixture, &[("context.image", id("img")), ("context.query", id("query"))]);
    let nodes = [
        ("vit/", Module::parameters(&vit)),
        ("qllama/", Module::parameters(&qllama)),
        ("mlp1/", Module::parameters(&mlp1)),
        ("mlp2/", Module::parameters(&mlp2)),
        ("llm/", Module::parameters(&llama)),
    ];
    let published = |name: &str| match name.split_once('/') {
        Some(("vit", local)) => format!("internvl.vision_model.{local}"),
        Some(("qllama", "queries")) => "internvl.query_tokens".to_owned(),
        Some(("qllama", local)) => format!("internvl.qllama.{local}"),
        Some(("llm", local)) => format!("language_model.{local}"),
        _ => name.replace('/', "."),
    };
    let parameters = fixture.parameters(backend, &nodes, published);
    let tape = Tape::new();
    let hidden = hidden(&vit, &fixture);
    let image = vec![("image", pixels(backend, &fixture, "io.in.pixel_values"))];
    let seen = run(&vit, &parameters, "vit/", image, &[&hidden, "tokens"], &tape);
    fixture.compare("io.out.vit_features", &seen[&hidden].to_host().unwrap(), 1.0);
    let questions = questions(&fixture);
    let inputs = vec![("vision", seen["tokens"].clone()), ("text", Value::Text(questions))];
    let queries = run(&for_both(&qllama, Mix::Full), &parameters, "qllama/", inputs, &["queries"], &tape);
    fixture.compare("io.out.query_features", &queries["queries"].to_host().unwrap(), 1.0);
    let project = |module: &Projector, prefix: &str, tokens: &Value<B>| {
        run(module, &parameters, prefix, vec![("tokens", tokens.clone())], &["output"], &tape)["output"]
            .clone()
    };
    let patches = project(&mlp1, "mlp1/", &seen[&hidden]);
    fixture.compare("io.out.vit_embeds", &patches.to_host().unwrap(), 1.0);
    let rounds = project(&mlp2, "mlp2/", &queries["queries"]);
    fixture.compare("io.out.query_embeds", &rounds.to_host().unwrap(), 1.0);

    let mut tokens = fixture.masked("io.in.input_ids", "io.in.attention_mask");
    tokens.learn = Some(fixture.learnt("io.in.labels"));
    let inputs = vec![
        ("text", Value::Text(tokens)),
        ("context.image", patches.clone()),
        ("context.query", rounds.clone()),
    ];
    check_decoder(&fixture, &parameters, (&llama, "llm/"), inputs, published, &tape);
    check_answer(&fixture, &parameters, &llama, [patches, first_round(backend, &rounds)]);
}

fn questions(fixture: &Fixture) -> Tokens {
    let (ids, mask) = ("io.in.question_input_ids", "io.in.question_attention_mask");
    let of =
        |name: &str| fixture.integers(name).into_iter().map(Option::unwrap_or_default).collect::<Vec<u32>>();
    let tokens = Tokens::new(of(ids), 2, of(ids).len() / 2).unwrap();
    Tokens { mask: Some(of(mask).iter().map(|mark| *mark == 1).collect()), ..tokens }
}

fn first_round<B: Backend>(backend: &B, rounds: &Value<B>) -> Value<B> {
    let host = rounds.to_host().unwrap();
    let part = HostTensor {
        shape: vec![1, host.shape[1], host.shape[2]],
        data: host.data[..host.data.len() / 2].to_vec(),
    };
    value(backend, ValueKind::Sequence, part, &Tape::off())
}

/// The greedy answer to a prompt of one round.
fn check_answer<B: Backend>(
    fixture: &Fixture,
    parameters: &Parameters<B>,
    llama: &Llama,
    [patches, rounds]: [Value<B>; 2],
) {
    let prompt = fixture.tokens("io.in.generate.input_ids");
    let inputs = [("text", Value::Text(prompt)), ("context.image", patches), ("context.query", rounds)];
    let inputs: Vec<(String, Value<B>)> =
        inputs.into_iter().map(|(port, value)| (port.to_owned(), value)).collect();
    let start = || Decoding::start(llama, parameters, "llm/", inputs.clone()).unwrap();
    let (mut decoding, first) = start();
    let expected = fixture.integers("io.out.generate.greedy_ids");
    let limits = Limits { min_new: 0, max_new: expected.len(), end: vec![2] };
    let found = generate(first, &mut decoding, &Search::Greedy, &limits, &mut ()).unwrap();
    let found: Vec<Option<u32>> = found[0].tokens.iter().map(|token| Some(*token)).collect();
    assert_eq!(found, expected);
    let (mut decoding, mut scores) = start();
    for token in &expected[..expected.len() - 1] {
        scores.extend(decoding.next(&[0], &[token.unwrap()]).unwrap());
    }
    let found = HostTensor { shape: vec![scores.len(), scores[0].len()], data: scores.concat() };
    fixture.compare("io.out.generate.greedy_logits", &found, 1.0);
}
