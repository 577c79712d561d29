//! Modules against the official InternVL code: outputs and gradients, on any backend.

use heddle_tensor::{
    Backend, Element, HostTensor, Module, ParamGrads, Tape, Value, backward, backward_with,
    modules::{AttentionPool, Decoder, InternVit, Itc, Llama, Probe},
    value::ValueKind,
};

use super::{Fixture, Specs, run, scalar, value};

pub fn vit(fixture: &Fixture, config: &str) -> InternVit {
    let number = |field: &str| fixture.config(&format!("{config}{field}"));
    let flag = |field: &str| {
        let path = format!("{config}{field}");
        path.split('.').fold(&fixture.json["config"], |v, key| &v[key]).as_bool().unwrap()
    };
    InternVit {
        width: number("hidden_size"),
        depth: number("num_hidden_layers"),
        heads: number("num_attention_heads"),
        mlp_width: number("intermediate_size"),
        patch: number("patch_size"),
        image_size: [number("image_size"); 2],
        qkv_bias: flag("qkv_bias"),
        qk_norm: flag("qk_normalization"),
        ..InternVit::default()
    }
}

/// InternViT, all hidden states and gradients; gives the worst difference in units of its tolerance.
pub fn check_vit<B: Backend>(backend: &B, name: &str) -> f64 {
    let fixture = Fixture::read(name);
    let vit = vit(&fixture, "");
    let parameters = fixture.parameters(backend, &[("", Module::parameters(&vit))], str::to_owned);
    let tape = Tape::new();
    let pixels = value(backend, ValueKind::Image, fixture.tensor("io.in.pixel_values"), &tape);
    let wants: Vec<String> = (0..=vit.depth).map(|i| format!("hidden.{i}")).collect();
    let mut wants: Vec<&str> = wants.iter().map(String::as_str).collect();
    wants.extend(["tokens", "pooler", "hidden.-1"]);
    let out = run(&vit, &parameters, "", vec![("image", pixels.clone())], &wants, &tape);
    let mut worst = 0.0_f64;
    for i in 0..=vit.depth {
        let found = out[&format!("hidden.{i}")].to_host().unwrap();
        worst = worst.max(fixture.compare(&format!("io.out.hidden_states.{i}"), &found, 1.0));
    }
    assert_eq!(out["tokens"].to_host().unwrap(), out["hidden.-1"].to_host().unwrap());
    worst = worst.max(fixture.compare("io.out.pooler_output", &out["pooler"].to_host().unwrap(), 1.0));

    let probe = value(backend, ValueKind::Sequence, fixture.tensor("io.in.probe"), &Tape::off());
    let inputs = vec![("input", out["tokens"].clone()), ("probe", probe)];
    let loss = run(&Probe, &parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    worst = worst.max(fixture.compare("io.out.probe_loss", &loss.to_host().unwrap(), 1.0));
    let (grads, inputs) = backward_with(scalar(loss), &parameters, &[pixels]).unwrap();
    worst = worst.max(fixture.compare("io.grad.pixel_values", inputs[0].as_ref().unwrap(), 1.0));
    worst.max(compare_gradients(&fixture, &grads, "io.grad.", str::to_owned))
}

/// Compares every gradient that the fixture holds under `prefix` and the name that `key` gives.
pub fn compare_gradients<B: Backend>(
    fixture: &Fixture,
    grads: &ParamGrads<B>,
    prefix: &str,
    key: impl Fn(&str) -> String,
) -> f64 {
    let known = fixture.names();
    let expected = known.iter().filter(|key| key.starts_with(prefix)).count();
    let (mut worst, mut seen) = (0.0_f64, 0);
    for name in grads.names() {
        let key = format!("{prefix}{}", key(name));
        if known.contains(&key) {
            let data = grads.to_host(name).unwrap();
            worst = worst.max(fixture.compare(&key, &HostTensor { shape: vec![data.len()], data }, 1.0));
            seen += 1;
        }
    }
    // Gradients of inputs are compared by the caller.
    assert!(seen > 2 && seen + 1 >= expected, "{prefix}: {seen} of {expected} gradients");
    worst
}

/// The position embedding of another size, seen through the embedding of a black image with no patch bias.
pub fn check_positions<B: Backend>(backend: &B) {
    let fixture = Fixture::read("pos_resize");
    let vit = vit(&fixture, "");
    let mut parameters = fixture.parameters(backend, &[("", without_blocks(&vit))], str::to_owned);
    for size in ["84x84", "42x98"] {
        let pixels = fixture.tensor(&format!("io.in.pixels.{size}"));
        let pixels = value(backend, ValueKind::Image, pixels, &Tape::off());
        let out = run(&vit, &parameters, "", vec![("image", pixels)], &["hidden.0"], &Tape::off());
        let found = out["hidden.0"].to_host().unwrap();
        fixture.compare(&format!("io.out.dynamic.{size}"), &found, 1.0);
    }
    for name in ["embeddings.class_embedding", "embeddings.patch_embedding.bias"] {
        parameters.set(name, vec![B::Elem::of(0.0); vit.width]).unwrap();
    }
    for side in [84, 70, 42] {
        let shape = vec![1, 3, side, side];
        let black = HostTensor { shape, data: vec![0.0; 3 * side * side] };
        let black = value(backend, ValueKind::Image, black, &Tape::off());
        let out = run(&vit, &parameters, "", vec![("image", black)], &["hidden.0"], &Tape::off());
        fixture.compare(&format!("io.out.resized.{side}"), &out["hidden.0"].to_host().unwrap(), 1.0);
    }
}

/// The fixture has the embeddings only.
fn without_blocks(vit: &InternVit) -> Specs {
    let specs = Module::parameters(vit);
    specs.into_iter().filter(|spec| spec.name.starts_with("embeddings.")).collect()
}

/// Attention pooling.
pub fn check_pool<B: Backend>(backend: &B) {
    let fixture = Fixture::read("attn_pool");
    let [dim, heads, out_dim] = ["dim", "num_heads", "out_dim"].map(|field| fixture.config(field));
    let pool = AttentionPool { dim, heads, out_dim, ..AttentionPool::default() };
    let nodes = [("clip_projector.", Module::parameters(&pool))];
    let parameters = fixture.parameters(backend, &nodes, str::to_owned);
    let tape = Tape::new();
    let x = value(backend, ValueKind::Sequence, fixture.tensor("io.in.x"), &tape);
    let inputs = vec![("tokens", x.clone())];
    let pooled = run(&pool, &parameters, "clip_projector.", inputs, &["output"], &tape).remove("output");
    let pooled = pooled.unwrap();
    fixture.compare("io.out.pooled", &pooled.to_host().unwrap(), 1.0);
    let probe = value(backend, ValueKind::Vector, fixture.tensor("io.in.probe"), &Tape::off());
    let inputs = vec![("input", pooled), ("probe", probe)];
    let loss = run(&Probe, &parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    fixture.compare("io.out.probe_loss", &loss.to_host().unwrap(), 1.0);
    let (grads, inputs) = backward_with(scalar(loss), &parameters, &[x]).unwrap();
    fixture.compare("io.grad.x", inputs[0].as_ref().unwrap(), 1.0);
    compare_gradients(&fixture, &grads, "io.grad.", str::to_owned);
}

/// The published key of one of our full names.
fn published(name: &str) -> String {
    match name.split_once('/') {
        Some(("vit", local)) => format!("vision_model.{local}"),
        Some(("pool", local)) => format!("clip_projector.{local}"),
        // The projection is published without the text tower's prefix.
        Some(("text", "text_projection")) => "text_projection".to_owned(),
        Some(("text", local)) => format!("qllama.{local}"),
        _ => name.trim_start_matches("itc/").to_owned(),
    }
}

fn internvl_c_modules(fixture: &Fixture) -> (InternVit, AttentionPool, Llama, Itc) {
    let tower = vit(fixture, "vision_config.");
    let number = |field: &str| fixture.config(field);
    let text = |field: &str| number(&format!("qllama_config.{field}"));
    let out_dim = number("clip_embed_dim");
    let heads = number("attn_pool_num_heads");
    let pool = AttentionPool { dim: tower.width, heads, out_dim, ..AttentionPool::default() };
    let llama = Llama {
        decoder: Decoder {
            vocab: text("vocab_size"),
            width: text("hidden_size"),
            depth: text("num_hidden_layers"),
            heads: text("num_attention_heads"),
            mlp_width: text("intermediate_size"),
            max_positions: text("max_position_embeddings"),
            checkpoint: false,
            ..Decoder::default()
        },
        projection: Some(out_dim),
        ..Llama::default()
    };
    (tower, pool, llama, Itc::default())
}

/// InternVL-C whole: two towers, pooling, contrastive loss, all gradients.
pub fn check_internvl_c<B: Backend>(backend: &B) {
    let fixture = Fixture::read("internvl");
    let (tower, pool, llama, itc) = internvl_c_modules(&fixture);
    let nodes = [
        ("vit/", Module::parameters(&tower)),
        ("pool/", Module::parameters(&pool)),
        ("text/", Module::parameters(&llama)),
        ("itc/", Module::parameters(&itc)),
    ];
    let parameters = fixture.parameters(backend, &nodes, published);
    let tape = Tape::new();
    let encode_text = |tokens: &str, tape: &Tape<B>| {
        let inputs = vec![("text", Value::Text(fixture.tokens(tokens)))];
        run(&llama, &parameters, "text/", inputs, &["eos"], tape).remove("eos").unwrap()
    };
    let pixels = value(backend, ValueKind::Image, fixture.tensor("io.in.pixel_values"), &Tape::off());
    let tokens = run(&tower, &parameters, "vit/", vec![("image", pixels)], &["tokens"], &tape);
    let tokens = tokens["tokens"].clone();
    fixture.compare("io.out.vision_hidden", &tokens.to_host().unwrap(), 1.0);
    let image = run(&pool, &parameters, "pool/", vec![("tokens", tokens)], &["output"], &tape);
    let image = image["output"].clone();
    fixture.compare("io.out.image_embeds_c", &image.to_host().unwrap(), 1.0);

    let text = encode_text("io.in.input_ids", &Tape::off());
    fixture.compare("io.out.text_embeds", &text.to_host().unwrap(), 1.0);
    let inputs = vec![("image", image.clone()), ("text", text)];
    let logits = run(&itc, &parameters, "itc/", inputs, &["logits"], &Tape::off());
    fixture.compare("io.out.logits_per_image_c", &logits["logits"].to_host().unwrap(), 1.0);

    let inputs = vec![("image", image), ("text", encode_text("io.in.clip.input_ids", &tape))];
    let loss = run(&itc, &parameters, "itc/", inputs, &["loss"], &tape).remove("loss").unwrap();
    fixture.compare("io.out.clip_loss_c", &loss.to_host().unwrap(), 1.0);
    let grads = backward(scalar(loss), &parameters).unwrap();
    let padding = &grads.to_host("text/model.embed_tokens.weight").unwrap()[..llama.decoder.width];
    assert!(padding.iter().all(|&x| x == 0.0), "the padding row has a gradient");
    compare_gradients(&fixture, &grads, "io.grad.clip_c.", published);
}
