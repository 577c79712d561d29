//! QLLaMA, InternVL-G and the losses of stage 2 against the official InternVL code, on any backend.

use std::collections::BTreeMap;

use heddle_tensor::{
    Backend, HostTensor, Module, Parameters, Tape, Tokens, Value, backward, backward_with,
    generate::{Decoding, Limits, NextToken, Search, generate},
    modules::{
        AttentionPool, CrossEntropy, Decoder, InternVit, Itc, Itm, Mix, PairScheme, Pairs, Qllama, UnitSum,
        Vision,
    },
    value::ValueKind,
    weighted_sum,
};

use super::{
    Fixture,
    parity::{compare_gradients, vit},
    run, scalar, value,
};

/// The decoder of a fixture's configuration.
pub fn decoder(fixture: &Fixture, config: &str) -> Decoder {
    let number = |field: &str| fixture.config(&format!("{config}.{field}"));
    Decoder {
        vocab: number("vocab_size"),
        width: number("hidden_size"),
        depth: number("num_hidden_layers"),
        heads: number("num_attention_heads"),
        kv_heads: Some(number("num_key_value_heads")),
        mlp_width: number("intermediate_size"),
        eps: fixture.number(&format!("{config}.rms_norm_eps")),
        max_positions: number("max_position_embeddings"),
        ..Decoder::default()
    }
}

/// QLLaMA of a fixture's configuration, as the node that owns all parameters.
pub fn qllama(fixture: &Fixture, prefix: &str) -> Qllama {
    let number = |field: &str| fixture.config(&format!("{prefix}{field}"));
    let vision = Vision {
        width: number("qllama_config.vision_hidden_size"),
        queries: number("num_query_token"),
        every: number("cross_attention_frequency"),
        mix: Mix::Full,
    };
    let decoder = decoder(fixture, &format!("{prefix}qllama_config"));
    Qllama { decoder, vision: Some(vision), projection: None, head: true, text: false }
}

/// The same parameters, called for text alone.
pub fn for_text(qllama: &Qllama) -> Qllama {
    Qllama { vision: None, text: true, ..qllama.clone() }
}

/// The same parameters, called for an image and a text.
pub fn for_both(qllama: &Qllama, mix: Mix) -> Qllama {
    let vision = qllama.vision.clone().map(|vision| Vision { mix, ..vision });
    Qllama { vision, text: true, ..qllama.clone() }
}

fn compare_rows(fixture: &Fixture, name: &str, found: &HostTensor, real: &[bool]) {
    let mut found = found.clone();
    let expected = fixture.tensor(name);
    let width = found.shape[2];
    for (row, real) in real.iter().enumerate() {
        if !real {
            found.data[row * width..][..width].copy_from_slice(&expected.data[row * width..][..width]);
        }
    }
    fixture.compare(name, &found, 1.0);
}

/// QLLaMA alone: text, queries, both.
pub fn check_qllama<B: Backend>(backend: &B) {
    let fixture = Fixture::read("qllama");
    let all = qllama(&fixture, "");
    let key = |name: &str| published(&format!("qllama/{name}"));
    let parameters = fixture.parameters(backend, &[("", Module::parameters(&all))], key);
    let states: Vec<String> = (0..=all.decoder.depth).map(|i| format!("states.{i}")).collect();
    let wants: Vec<&str> = states.iter().map(String::as_str).chain(["logits", "queries", "hidden"]).collect();

    let tokens = fixture.masked("io.in.text.input_ids", "io.in.text.attention_mask");
    let real = tokens.real();
    let text = [&wants[..states.len()], &["logits"]].concat();
    let out = run(&for_text(&all), &parameters, "", vec![("text", Value::Text(tokens))], &text, &Tape::off());
    for (i, port) in states.iter().enumerate() {
        compare_rows(
            &fixture,
            &format!("io.out.text.hidden_states.{i}"),
            &out[port].to_host().unwrap(),
            &real,
        );
    }
    compare_rows(&fixture, "io.out.text.logits", &out["logits"].to_host().unwrap(), &real);

    let seen =
        value(backend, ValueKind::Sequence, fixture.tensor("io.in.vision_hidden_states"), &Tape::off());
    let queries = [&wants[..states.len()], &["queries"]].concat();
    let out = run(&all, &parameters, "", vec![("vision", seen.clone())], &queries, &Tape::off());
    for (i, port) in states.iter().enumerate() {
        fixture.compare(&format!("io.out.query.hidden_states.{i}"), &out[port].to_host().unwrap(), 1.0);
    }
    assert_eq!(out["queries"].to_host().unwrap(), out[states.last().unwrap()].to_host().unwrap());

    // The prompt, and the tokens that the reference decodes one at a time from its cache.
    let prompt = fixture.tokens("io.in.prefill.input_ids");
    let inputs = vec![("vision", seen.clone()), ("text", Value::Text(prompt.clone()))];
    let generative = for_both(&all, Mix::Causal);
    let last = states.last().unwrap().as_str();
    let out = run(&generative, &parameters, "", inputs, &[last, "logits"], &Tape::off());
    fixture.compare("io.out.prefill.last_hidden_state", &out[last].to_host().unwrap(), 1.0);
    let expected =
        rows_of(&fixture.tensor("io.out.prefill.logits"), all.vision.as_ref().unwrap().queries..10);
    fixture.close("io.out.prefill.logits", &expected, &out["logits"].to_host().unwrap(), 1.0);
    let decoded = fixture.tokens("io.in.decode.input_ids");
    let join = |b: usize| [&prompt.ids[b * prompt.len..][..prompt.len], &decoded.ids[b * 3..][..3]].concat();
    let whole = Tokens::new((0..2).flat_map(join).collect(), 2, prompt.len + 3).unwrap();
    let inputs = vec![("vision", seen), ("text", Value::Text(whole))];
    let out = run(&generative, &parameters, "", inputs, &["logits"], &Tape::off());
    let found = rows_of(&out["logits"].to_host().unwrap(), prompt.len..prompt.len + 3);
    fixture.compare("io.out.decode.logits", &found, 1.0);
}

/// Some rows of every sequence.
fn rows_of(x: &HostTensor, rows: std::ops::Range<usize>) -> HostTensor {
    let [batch, len, width] = *x.shape.as_slice() else { panic!("a sequence") };
    let part = |b: usize| &x.data[(b * len + rows.start) * width..(b * len + rows.end) * width];
    HostTensor { shape: vec![batch, rows.len(), width], data: (0..batch).flat_map(part).copied().collect() }
}

/// The published key of one of our full names.
fn published(name: &str) -> String {
    match name.split_once('/') {
        Some(("vit", local)) => format!("vision_model.{local}"),
        Some(("pool", local)) => format!("clip_projector.{local}"),
        Some(("pool2", local)) => format!("clip_projector2.{local}"),
        Some(("qllama", "queries")) => "query_tokens".to_owned(),
        Some(("qllama", "text_projection")) => "text_projection".to_owned(),
        Some(("qllama", local)) => format!("qllama.{local}"),
        Some(("itm", local)) => format!("itm_head.{local}"),
        _ => name.trim_start_matches("itc/").to_owned(),
    }
}

/// InternVL-G whole.
struct InternVlG<B: Backend> {
    fixture: Fixture,
    vit: InternVit,
    pools: [AttentionPool; 2],
    qllama: Qllama,
    itm: Itm,
    parameters: Parameters<B>,
    tape: Tape<B>,
}

impl<B: Backend> InternVlG<B> {
    fn read(backend: &B) -> Self {
        let fixture = Fixture::read("internvl");
        let vit = vit(&fixture, "vision_config.");
        let out_dim = fixture.config("clip_embed_dim");
        let qllama = Qllama { projection: Some(out_dim), ..qllama(&fixture, "") };
        let heads = fixture.config("attn_pool_num_heads");
        let pools = [vit.width, qllama.decoder.width].map(|dim| AttentionPool {
            dim,
            heads,
            out_dim,
            ..AttentionPool::default()
        });
        let itm = Itm { width: Some(qllama.decoder.width) };
        let nodes = [
            ("vit/", Module::parameters(&vit)),
            ("pool/", Module::parameters(&pools[0])),
            ("pool2/", Module::parameters(&pools[1])),
            ("qllama/", Module::parameters(&qllama)),
            ("itm/", Module::parameters(&itm)),
            ("itc/", Module::parameters(&Itc::default())),
        ];
        let parameters = fixture.parameters(backend, &nodes, published);
        Self { fixture, vit, pools, qllama, itm, parameters, tape: Tape::new() }
    }

    fn call(
        &self,
        module: &dyn heddle_tensor::DynModule,
        node: &str,
        inputs: Vec<(&str, Value<B>)>,
        wants: &[&str],
    ) -> BTreeMap<String, Value<B>> {
        run(module, &self.parameters, &format!("{node}/"), inputs, wants, &self.tape)
    }

    fn check(&self, name: &str, found: &Value<B>) {
        self.fixture.compare(name, &found.to_host().unwrap(), 1.0);
    }

    /// InternViT's last hidden state.
    fn seen(&self) -> Value<B> {
        let pixels = self.fixture.tensor("io.in.pixel_values");
        let pixels = value(self.parameters.backend(), ValueKind::Image, pixels, &Tape::off());
        self.call(&self.vit, "vit", vec![("image", pixels)], &["tokens"]).remove("tokens").unwrap()
    }

    fn queries(&self, seen: &Value<B>) -> Value<B> {
        self.call(&self.qllama, "qllama", vec![("vision", seen.clone())], &["queries"])
            .remove("queries")
            .unwrap()
    }

    fn pool(&self, index: usize, tokens: &Value<B>) -> Value<B> {
        let node = ["pool", "pool2"][index];
        let out = self.call(&self.pools[index], node, vec![("tokens", tokens.clone())], &["output"]);
        out["output"].clone()
    }

    fn text(&self, tokens: Tokens) -> Value<B> {
        let text = for_text(&self.qllama);
        self.call(&text, "qllama", vec![("text", Value::Text(tokens))], &["eos"]).remove("eos").unwrap()
    }

    fn itm(&self, queries: Value<B>, targets: Value<B>) -> BTreeMap<String, Value<B>> {
        let inputs = vec![("queries", queries), ("targets", targets)];
        self.call(&self.itm, "itm", inputs, &["loss", "logits"])
    }

    fn matched(&self, pairs: BTreeMap<String, Value<B>>) -> BTreeMap<String, Value<B>> {
        let inputs = vec![("vision", pairs["vision"].clone()), ("text", pairs["text"].clone())];
        let out = self.call(&for_both(&self.qllama, Mix::Full), "qllama", inputs, &["queries"]);
        self.itm(out["queries"].clone(), pairs["targets"].clone())
    }

    fn compare_gradients(&self, loss: Value<B>, prefix: &str) {
        let grads = backward(scalar(loss), &self.parameters).unwrap();
        compare_gradients(&self.fixture, &grads, prefix, published);
    }
}

/// Encodings of mode C and G, with the contrastive loss of mode G.
pub fn check_internvl_g<B: Backend>(backend: &B) {
    let model = InternVlG::read(backend);
    let seen = model.seen();
    let queries = model.queries(&seen);
    model.check("io.out.query_hidden", &queries);
    let pooled = model.pool(1, &queries);
    model.check("io.out.clip_projector2", &pooled);
    let inputs = vec![("a", model.pool(0, &seen)), ("b", pooled)];
    let image = model.call(&UnitSum, "", inputs, &["output"]).remove("output").unwrap();
    model.check("io.out.image_embeds_g", &image);
    let text = model.text(model.fixture.tokens("io.in.input_ids"));
    model.check("io.out.text_embeds", &text);
    let out = model.call(&Itc::default(), "itc", vec![("image", image.clone()), ("text", text)], &["logits"]);
    model.check("io.out.logits_per_image_g", &out["logits"]);

    let text = model.text(model.fixture.tokens("io.in.clip.input_ids"));
    let out = model.call(&Itc::default(), "itc", vec![("image", image), ("text", text)], &["loss"]);
    model.check("io.out.clip_loss_g", &out["loss"]);
    model.compare_gradients(out["loss"].clone(), "io.grad.clip_g.");
}

/// Matching, contrastive and generative loss on one pass of the image.
pub fn check_stage2<B: Backend>(backend: &B) {
    let model = InternVlG::read(backend);
    let fixture = &model.fixture;
    // An empty caption is begin and end; with the prefix `summarize:` there are three tokens more.
    let texts = |name: &str, frame: usize| {
        let part = |what: &str| format!("io.in.stage2.{name}{what}");
        Tokens { frame, ..fixture.masked(&part("input_ids"), &part("attention_mask")) }
    };
    let seen = model.seen();

    let inputs = vec![
        ("vision", seen.clone()),
        ("text", Value::Text(texts("positive_", 2))),
        ("negative", Value::Text(texts("negative_", 2))),
    ];
    let pairs = model.call(&Pairs { scheme: PairScheme::Half }, "", inputs, &["vision", "text", "targets"]);
    let itm = model.matched(pairs);
    model.check("io.out.stage2.itm_logits", &itm["logits"]);
    model.check("io.out.stage2.loss_itm", &itm["loss"]);

    let pooled = model.pool(1, &model.queries(&seen));
    model.check("io.out.stage2.query_embeds_itc", &pooled);
    let summaries = texts("summarize_", 5);
    // As the reference does it: image and text in one sequence that keeps them apart.
    let inputs = vec![("vision", seen.clone()), ("text", Value::Text(summaries.clone()))];
    let both = model.call(&for_both(&model.qllama, Mix::Separate), "qllama", inputs, &["queries", "eos"]);
    model.check("io.out.stage2.query_embeds_itc", &model.pool(1, &both["queries"]));
    let text = model.text(summaries.clone());
    let inputs = vec![("image", model.pool(1, &both["queries"])), ("text", both["eos"].clone())];
    model.check(
        "io.out.stage2.loss_itc",
        &model.call(
            &Itc::default(),
            "itc",
            [inputs, vec![("counts", Value::Text(summaries.clone()))]].concat(),
            &["loss"],
        )["loss"],
    );
    let inputs = vec![("image", pooled), ("text", text), ("counts", Value::Text(summaries))];
    let itc = model.call(&Itc::default(), "itc", inputs, &["loss"]);
    model.check("io.out.stage2.loss_itc", &itc["loss"]);

    let mut prompt = texts("", 0);
    prompt.learn = Some(fixture.learnt("io.in.stage2.labels"));
    let inputs = vec![("vision", seen), ("text", Value::Text(prompt.clone()))];
    let wants = ["logits", "predictions", "targets"];
    let out = model.call(&for_both(&model.qllama, Mix::Causal), "qllama", inputs, &wants);
    compare_rows(fixture, "io.out.stage2.itg_logits", &out["logits"].to_host().unwrap(), &prompt.real());
    let inputs = vec![("logits", out["predictions"].clone()), ("targets", out["targets"].clone())];
    let itg = model.call(&CrossEntropy::default(), "", inputs, &["loss"]);
    model.check("io.out.stage2.loss_itg", &itg["loss"]);

    let losses = [itm, itc, itg].map(|mut out| (1.0, scalar(out.remove("loss").unwrap())));
    let loss = Value::Scalar(weighted_sum(backend, &losses).unwrap());
    model.check("io.out.stage2.loss", &loss);
    model.compare_gradients(loss, "io.grad.stage2.");
}

/// Greedy and beam-searched captions, and the same bits from cached and uncached decoding.
pub fn check_generate<B: Backend>(backend: &B) {
    let model = InternVlG::read(backend);
    let fixture = &model.fixture;
    let seen = fixture.tensor("io.out.vision_hidden");
    let of_images = |images: usize| {
        let [_, len, width] = *seen.shape.as_slice() else { panic!("a sequence") };
        let host =
            HostTensor { shape: vec![images, len, width], data: seen.data[..images * len * width].to_vec() };
        value(backend, ValueKind::Sequence, host, &Tape::off())
    };
    let prompt = fixture.tokens("io.in.generate.prompt_ids");
    let module = for_both(&model.qllama, Mix::Causal);
    let start = |images: usize| {
        let text = prompt.select(&vec![0; images]);
        let inputs = vec![("vision".to_owned(), of_images(images)), ("text".to_owned(), Value::Text(text))];
        Decoding::start(&module, &model.parameters, "qllama/", inputs).unwrap()
    };
    let check = |name: &str, images: usize, search: Search, limits: Limits| {
        let (mut decoding, first) = start(images);
        let found = generate(first, &mut decoding, &search, &limits, &mut ()).unwrap();
        let tokens: Vec<Option<u32>> =
            found.iter().flat_map(|text| &text.tokens).map(|token| Some(*token)).collect();
        assert_eq!(
            tokens,
            fixture
                .integers(&format!("io.out.generate.{name}_ids{}", if images > 1 { "_batch2" } else { "" })),
            "{name}"
        );
        found[0].score
    };
    let limits = |min_new, max_new, end: u32| Limits { min_new, max_new, end: vec![end] };
    let end = |name: &str| fixture.integers(&format!("io.in.generate.{name}_eos_id"))[0].unwrap();
    let beam = |beams, length_penalty| Search::Beam { beams, length_penalty };
    let scored = |name: &str, found: f64| {
        let found = HostTensor { shape: vec![1], data: vec![found as f32] };
        fixture.compare(&format!("io.out.generate.{name}_score"), &found, 1.0);
    };
    check("greedy", 1, Search::Greedy, limits(0, 12, 2));
    check("greedy", 2, Search::Greedy, limits(0, 8, 2));
    check("greedy_eos", 1, Search::Greedy, limits(0, 12, end("greedy")));
    check("greedy_eos_min8", 1, Search::Greedy, limits(8, 12, end("greedy")));
    scored("beam5", check("beam5", 1, beam(5, 1.0), limits(4, 10, 2)));
    let penalty = f64::from(fixture.tensor("io.in.generate.beam_eos_length_penalty").data[0]);
    scored("beam5_eos", check("beam5_eos", 1, beam(5, penalty), limits(4, 10, end("beam"))));
    scored("beam3_eos_lp2", check("beam3_eos_lp2", 1, beam(3, 2.0), limits(2, 10, end("beam"))));

    // The scores of each greedy step, and of the same tokens read at once.
    let (mut decoding, first) = start(1);
    let tokens = fixture.integers("io.out.generate.greedy_ids");
    let mut scores = first;
    for token in &tokens[..11] {
        let next = decoding.next(&[0], &[token.unwrap()]).unwrap();
        scores.extend(next);
    }
    let width = scores[0].len();
    let cached = HostTensor { shape: vec![12, width], data: scores.concat() };
    fixture.compare("io.out.generate.greedy_logits", &cached, 1.0);
    let read: Vec<u32> = tokens[..11].iter().map(|token| token.unwrap()).collect();
    let whole = Tokens::new([&*prompt.ids, &*read].concat(), 1, prompt.len + 11).unwrap();
    let inputs = vec![("vision", of_images(1)), ("text", Value::Text(whole))];
    let out = run(&module, &model.parameters, "qllama/", inputs, &["logits"], &Tape::off());
    let uncached = rows_of(&out["logits"].to_host().unwrap(), prompt.len - 1..prompt.len + 11);
    let differ = cached.data.iter().zip(&uncached.data).filter(|(a, b)| a != b).count();
    assert_eq!(
        differ,
        0,
        "scores that differ between cached and uncached decoding, of {}",
        cached.data.len()
    );
}

/// Retrieval fine-tuning: every true and one false text an image; positives by identity, for both poolings.
pub fn check_retrieval<B: Backend>(backend: &B) {
    let model = InternVlG::read(backend);
    let fixture = &model.fixture;
    let texts = |name: &str| {
        let part = |what: &str| format!("io.in.stage2.{name}{what}");
        Value::Text(fixture.masked(&part("input_ids"), &part("attention_mask")))
    };
    let seen = model.seen();
    let inputs =
        vec![("vision", seen.clone()), ("text", texts("positive_")), ("negative", texts("negative_"))];
    let pairs = model.call(&Pairs { scheme: PairScheme::Both }, "", inputs, &["vision", "text", "targets"]);
    let itm = model.matched(pairs);
    model.check("io.out.retrieval_ft.loss_itm", &itm["loss"]);
    let Value::Text(summaries) = texts("summarize_") else { unreachable!() };
    let text = model.text(summaries);
    let identity = Value::Targets(fixture.integers("io.in.retrieval_ft.image_ids"));
    let itc = [model.pool(1, &model.queries(&seen)), model.pool(0, &seen)].map(|image| {
        let inputs = vec![("image", image), ("text", text.clone()), ("identity", identity.clone())];
        (1.0, scalar(model.call(&Itc::default(), "itc", inputs, &["loss"]).remove("loss").unwrap()))
    });
    let itc = weighted_sum(backend, &itc).unwrap();
    model.check("io.out.retrieval_ft.loss_itc", &Value::Scalar(itc.clone()));
    let loss = weighted_sum(backend, &[(1.0, scalar(itm["loss"].clone())), (1.0, itc)]).unwrap();
    model.check("io.out.retrieval_ft.loss", &Value::Scalar(loss.clone()));
    model.compare_gradients(Value::Scalar(loss), "io.grad.retrieval_ft.");
}

/// Losses on given tensors.
pub fn check_losses<B: Backend>(backend: &B) {
    let fixture = Fixture::read("losses");
    let nodes = [("itc/", Module::parameters(&Itc::default()))];
    let key = |_: &str| "io.in.logit_scale".to_owned();
    let parameters = fixture.parameters(backend, &nodes, key);
    let tape = Tape::new();
    let read = |name: &str, kind| value(backend, kind, fixture.tensor(&format!("io.in.{name}")), &tape);
    let (image, text) = (read("image_features", ValueKind::Vector), read("text_features", ValueKind::Vector));
    let itc = |itc: &Itc, image: &Value<B>, more: Vec<(&str, Value<B>)>| {
        let inputs = [vec![("image", image.clone()), ("text", text.clone())], more].concat();
        run(itc, &parameters, "itc/", inputs, &["loss", "logits"], &tape)
    };
    let check = |out: &BTreeMap<String, Value<B>>, case: &str, grads: &[(&str, &Value<B>)]| {
        let loss = out["loss"].clone();
        fixture.compare(&format!("io.out.{case}"), &loss.to_host().unwrap(), 1.0);
        let of: Vec<Value<B>> = grads.iter().map(|(_, of)| (*of).clone()).collect();
        let (parameters, found) = backward_with(scalar(loss), &parameters, &of).unwrap();
        for ((name, of), found) in grads.iter().zip(found) {
            let name = format!("io.grad.{name}");
            let expected = along_the_sphere(&of.to_host().unwrap(), fixture.tensor(&name));
            fixture.close(&name, &expected, &found.unwrap(), 1.0);
        }
        parameters
    };

    let plain = Itc::default();
    let of = [("clip.image_features", &image), ("clip.text_features", &text)];
    let grads = check(&itc(&plain, &image, vec![]), "clip.loss", &of);
    let scale = HostTensor { shape: vec![], data: grads.to_host("itc/logit_scale").unwrap() };
    fixture.compare("io.grad.clip.logit_scale", &scale, 1.0);
    check(&itc(&Itc { label_smoothing: 0.1, ..plain }, &image, vec![]), "clip.loss_smooth0.1", &[]);

    let ignored = fixture.integers("io.in.ignored_rows");
    let counts = (0..8).map(|row| (!ignored.contains(&Some(row))).then_some(0)).collect();
    let out = itc(&plain, &image, vec![("counts", Value::Targets(counts))]);
    let of = [("clip_ignore.image_features", &image), ("clip_ignore.text_features", &text)];
    check(&out, "clip_ignore.loss", &of);

    let identity = Value::Targets(fixture.integers("io.in.image_ids"));
    let out = itc(&plain, &image, vec![("identity", identity)]);
    check(&out, "soft.loss", &[("soft.image_features", &image)]);

    let queries = read("query_features", ValueKind::Sequence);
    let out = itc(&plain, &queries, vec![]);
    fixture.compare("io.out.blip2_itc.sim_i2t", &out["logits"].to_host().unwrap(), 1.0);
    let of = [("blip2_itc.query_features", &queries), ("blip2_itc.text_features", &text)];
    check(&out, "blip2_itc.loss", &of);

    let vision = HostTensor { shape: vec![8, 1, 1], data: vec![0.0; 8] };
    let vision = value(backend, ValueKind::Sequence, vision, &Tape::off());
    let texts = Value::Text(Tokens::new((1..9).collect(), 8, 1).unwrap());
    let inputs = vec![("vision", vision), ("text", texts), ("similarity", out["logits"].clone())];
    let out = run(&Pairs { scheme: PairScheme::Hard }, &parameters, "", inputs, &["text_odds"], &Tape::off());
    fixture.compare("io.out.blip2_itm.neg_weights_text_per_image", &out["text_odds"].to_host().unwrap(), 1.0);

    let scores = read("itm_logits_per_query", ValueKind::Sequence);
    let targets = Value::Targets(fixture.integers("io.in.itm_labels"));
    let inputs = vec![("queries", scores.clone()), ("targets", targets)];
    let out = run(&Itm { width: None }, &parameters, "", inputs, &["loss"], &tape);
    check(&out, "itm.loss", &[("itm.logits_per_query", &scores)]);

    check_language_model(&fixture, backend, &parameters);
}

/// The part of a gradient that does not change the length of unit vectors: the reference differentiates behind the
/// normalisation, heddle's losses contain it. What is no unit vector keeps its gradient.
fn along_the_sphere(x: &HostTensor, gradient: HostTensor) -> HostTensor {
    let width = *x.shape.last().unwrap();
    let mut data = gradient.data;
    for (x, g) in x.data.chunks(width).zip(data.chunks_mut(width)) {
        let [length, along] = [x.iter().zip(x), x.iter().zip(&*g)]
            .map(|pairs| pairs.map(|(a, b)| f64::from(a * b)).sum::<f64>());
        if (length - 1.0).abs() < 1e-5 {
            g.iter_mut().zip(x).for_each(|(g, x)| *g -= along as f32 * x);
        }
    }
    HostTensor { data, ..gradient }
}

/// The shifted cross-entropy: row `t` predicts token `t + 1`.
fn check_language_model<B: Backend>(fixture: &Fixture, backend: &B, parameters: &Parameters<B>) {
    let tape = Tape::new();
    let logits = fixture.tensor("io.in.lm_logits");
    let [batch, len, vocab] = *logits.shape.as_slice() else { panic!("[B, T, V]") };
    let labels = fixture.integers("io.in.lm_labels");
    let shifted = |row: usize| if (row + 1).is_multiple_of(len) { None } else { labels[row + 1] };
    let targets = Value::Targets((0..batch * len).map(shifted).collect());
    let logits = HostTensor { shape: vec![batch * len, vocab], data: logits.data };
    let logits = value(backend, ValueKind::Logits, logits, &tape);
    let inputs = vec![("logits", logits.clone()), ("targets", targets)];
    let loss =
        run(&CrossEntropy::default(), parameters, "", inputs, &["loss"], &tape).remove("loss").unwrap();
    fixture.compare("io.out.itg.loss", &loss.to_host().unwrap(), 1.0);
    let (_, found) = backward_with(scalar(loss), parameters, &[logits]).unwrap();
    fixture.compare("io.grad.itg.logits", found[0].as_ref().unwrap(), 1.0);
}
