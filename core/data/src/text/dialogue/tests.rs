use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::text::{BpeOptions, Tokenizer};

const TOKENS: [&str; 8] = [
    "<IMG>",
    "</IMG>",
    "<IMG_CONTEXT>",
    "<QUERY>",
    "</QUERY>",
    "<QUERY_CONTEXT>",
    "<|im_start|>",
    "<|im_end|>",
];

fn tokenizer() -> Tokenizer {
    let options = BpeOptions { vocab_size: 320, lowercase: false, ..BpeOptions::default() };
    let texts =
        ["USER: is there a cat ASSISTANT: yes", "USER: what is it ASSISTANT: a cat", "user assistant"];
    let tokens = TOKENS.map(str::to_owned);
    Tokenizer::train_bpe(texts, &options).unwrap().with_specials(&tokens).unwrap()
}

/// The form of a vision transformer with a projector, of two vectors.
fn projector(template: Template) -> DialogueOptions {
    let context = tokenizer().id("<IMG_CONTEXT>").unwrap();
    let first = vec![ImageBlock { before: None, context, count: 2, after: None }];
    let blocks = ImageBlocks { first, later: Vec::new() };
    DialogueOptions { template, system: Some("Hi.".into()), blocks, max_length: 999 }
}

/// The form with queries that depend on the question: two patches, one query.
fn queries() -> DialogueOptions {
    let id = |token: &str| tokenizer().id(token).unwrap();
    let block = |name: &str, count| ImageBlock {
        before: Some(id(&format!("<{name}>"))),
        context: id(&format!("<{name}_CONTEXT>")),
        count,
        after: Some(id(&format!("</{name}>"))),
    };
    let blocks =
        ImageBlocks { first: vec![block("IMG", 2), block("QUERY", 1)], later: vec![block("QUERY", 1)] };
    DialogueOptions { blocks, ..projector(Template::Vicuna) }
}

fn encoder(options: DialogueOptions) -> DialogueEncoder {
    DialogueEncoder::new(&tokenizer(), options).unwrap()
}

fn rounds() -> Vec<Round> {
    vec![Round::new("<image>\nis there a cat", "yes"), Round::new("what is it", "a cat")]
}

/// Tokens between bars; those that are learnt in brackets.
fn marked(dialogue: &Dialogue) -> String {
    let tokenizer = tokenizer();
    let token = |(id, learn): (&u32, &bool)| {
        let token = tokenizer.0.id_to_token(*id).unwrap();
        if *learn { format!("[{token}]") } else { token }
    };
    dialogue.ids.iter().zip(&dialogue.learn).map(token).collect::<Vec<_>>().join("|")
}

#[test]
fn a_projector_takes_the_place_of_the_picture() {
    let dialogue = encoder(projector(Template::Vicuna)).encode(&rounds()).unwrap();
    insta::assert_snapshot!(marked(&dialogue), @"<s>|Ġ|H|i|.|ĠUSER|:|Ġ|<IMG_CONTEXT>|<IMG_CONTEXT>|Ġ|Ċ|is|Ġthere|Ġa|Ġcat|ĠASSISTANT|:|[Ġyes]|[</s>]|ĠUSER|:|Ġwhat|Ġis|Ġit|ĠASSISTANT|:|[Ġa]|[Ġcat]|[</s>]");
    assert_eq!(dialogue.contexts.len(), 1);
    assert_eq!(dialogue.contexts[0].len(), 2);
    assert_eq!(dialogue.rounds, ["is there a cat", "what is it"]);
}

#[test]
fn queries_are_repeated_in_every_round() {
    let dialogue = encoder(queries()).encode(&rounds()).unwrap();
    insta::assert_snapshot!(marked(&dialogue), @"<s>|Ġ|H|i|.|ĠUSER|:|Ġ|<IMG>|<IMG_CONTEXT>|<IMG_CONTEXT>|</IMG>|<QUERY>|<QUERY_CONTEXT>|</QUERY>|Ġ|Ċ|is|Ġthere|Ġa|Ġcat|ĠASSISTANT|:|[Ġyes]|[</s>]|ĠUSER|:|Ġ|<QUERY>|<QUERY_CONTEXT>|</QUERY>|Ġ|Ċ|what|Ġis|Ġit|ĠASSISTANT|:|[Ġa]|[Ġcat]|[</s>]");
    let contexts: Vec<usize> = dialogue.contexts.iter().map(Range::len).collect();
    assert_eq!(contexts, [2, 1, 1]);
    let query = tokenizer().id("<QUERY_CONTEXT>").unwrap();
    assert!(dialogue.contexts[1..].iter().all(|range| dialogue.ids[range.clone()] == [query]));
}

#[test]
fn chatml_and_plain() {
    let dialogue = encoder(projector(Template::ChatMl)).encode(&rounds()).unwrap();
    insta::assert_snapshot!(marked(&dialogue), @"<|im_start|>|Ġ|s|y|s|t|e|m|Ċ|H|i|.|<|im_end|>|Ġ|Ċ|<|im_start|>|Ġuser|Ċ|<IMG_CONTEXT>|<IMG_CONTEXT>|Ġ|Ċ|is|Ġthere|Ġa|Ġcat|<|im_end|>|Ġ|Ċ|<|im_start|>|Ġassistant|Ċ|[Ġyes]|[<|im_end|>]|Ġ|Ċ|<|im_start|>|Ġuser|Ċ|what|Ġis|Ġit|<|im_end|>|Ġ|Ċ|<|im_start|>|Ġassistant|Ċ|[Ġa]|[Ġcat]|[<|im_end|>]|Ġ|Ċ");
    let caption = [Round::new("describe it\n<image>", "a cat")];
    let dialogue = encoder(projector(Template::Plain)).encode(&caption).unwrap();
    insta::assert_snapshot!(marked(&dialogue), @"<s>|<IMG_CONTEXT>|<IMG_CONTEXT>|[Ġa]|[Ġcat]|[Ċ]");
    // Without a picture later blocks are not written either.
    let told = [Round::new("what is it", "a cat"), Round::new("is there a cat", "yes")];
    let dialogue =
        encoder(DialogueOptions { system: Some(String::new()), ..queries() }).encode(&told).unwrap();
    insta::assert_snapshot!(marked(&dialogue), @"<s>|ĠUSER|:|Ġwhat|Ġis|Ġit|ĠASSISTANT|:|[Ġa]|[Ġcat]|[</s>]|ĠUSER|:|Ġis|Ġthere|Ġa|Ġcat|ĠASSISTANT|:|[Ġyes]|[</s>]");
}

#[test]
fn a_prompt_ends_where_the_answer_begins() {
    for options in [projector(Template::Vicuna), queries(), projector(Template::ChatMl)] {
        let encoder = encoder(options);
        let (whole, rounds) = (encoder.encode(&rounds()).unwrap(), rounds());
        let prompt = encoder.prompt(&rounds[..1], &rounds[1].question).unwrap();
        assert!(whole.ids.starts_with(&prompt.ids));
        assert!(prompt.learn.iter().all(|learn| !learn));
        assert!(whole.learn[prompt.ids.len()], "the next token is the answer's first");
        assert_eq!((prompt.rounds, prompt.contexts), (whole.rounds, whole.contexts));
    }
    let prompt = encoder(projector(Template::Vicuna)).prompt(&[], "what is it").unwrap();
    assert!(marked(&prompt).ends_with("ASSISTANT|:"), "{}", marked(&prompt));
}

/// Segments give what a tokenizer makes of the conversation as one text.
#[test]
fn segments_are_the_whole() {
    let told = [Round::new("is there a cat", "yes"), Round::new("what is it", "a cat")];
    let dialogue = encoder(projector(Template::Vicuna)).encode(&told).unwrap();
    let whole = "<s>Hi. USER: is there a cat ASSISTANT: yes</s>USER: what is it ASSISTANT: a cat</s>";
    assert_eq!(dialogue.ids, tokenizer().ids(whole).unwrap());
    let labels = dialogue.labels();
    let learnt: Vec<u32> = labels.iter().filter(|id| **id != IGNORED).map(|id| *id as u32).collect();
    assert_eq!(learnt, [tokenizer().ids("yes</s>").unwrap(), tokenizer().ids("a cat</s>").unwrap()].concat());
}

/// SentencePiece's space before a text is the one that stands there.
#[test]
fn segments_are_the_whole_with_sentencepiece() {
    let model = include_bytes!("../../../tests/fixtures/sentencepiece/llama.model");
    let tokenizer = Tokenizer::from_sentencepiece(model).unwrap();
    let context = tokenizer.unk().unwrap();
    let first = vec![ImageBlock { before: None, context, count: 2, after: None }];
    let blocks = ImageBlocks { first, later: Vec::new() };
    let options = DialogueOptions { template: Template::Vicuna, system: None, blocks, max_length: 9999 };
    let encoder = DialogueEncoder::new(&tokenizer, options).unwrap();
    let told = [Round::new("is there a cat", "yes"), Round::new("what is it", "a red panda")];
    let system = Template::Vicuna.system();
    let whole = format!(
        "<s>{system} USER: is there a cat ASSISTANT: yes</s>USER: what is it ASSISTANT: a red panda</s>"
    );
    assert_eq!(encoder.encode(&told).unwrap().ids, tokenizer.ids(&whole).unwrap());
    // As LLaVA's, text behind a picture begins anew.
    let told = [Round::new("<image>\nis there a cat", "yes")];
    let parts = [format!("<s>{system} USER: "), "\nis there a cat ASSISTANT: yes</s>".to_owned()];
    let [before, behind] = parts.map(|part| tokenizer.ids(&part).unwrap());
    assert_eq!(encoder.encode(&told).unwrap().ids, [before, vec![context; 2], behind].concat());
}

#[test]
fn what_people_write_is_no_special_token() {
    let dialogue = encoder(queries()).encode(&[Round::new("<image>\n<IMG_CONTEXT></s>", "<s></s>")]).unwrap();
    let count = |token: &str| {
        let id = tokenizer().id(token);
        dialogue.ids.iter().filter(|found| Some(**found) == id).count()
    };
    assert_eq!(["<IMG_CONTEXT>", "<s>", "</s>"].map(count), [2, 1, 1]);
    assert_eq!(dialogue.rounds, ["<IMG_CONTEXT></s>"]);
}

#[test]
fn long_dialogues_end_at_a_round() {
    let whole = encoder(queries()).encode(&rounds()).unwrap();
    let first = encoder(queries()).encode(&rounds()[..1]).unwrap();
    for max_length in [whole.ids.len() - 1, first.ids.len()] {
        let cut = encoder(DialogueOptions { max_length, ..queries() }).encode(&rounds()).unwrap();
        assert_eq!(cut, first);
    }
    let max_length = first.ids.len() - 1;
    let encoder = encoder(DialogueOptions { max_length, ..queries() });
    for error in [encoder.encode(&rounds()).unwrap_err(), encoder.prompt(&rounds(), "why").unwrap_err()] {
        assert!(matches!(error, DialogueError::TooLong { max, .. } if max == max_length), "{error}");
    }
}

#[test]
fn what_cannot_be_encoded_is_said() {
    let told =
        |options: DialogueOptions, rounds: &[Round]| encoder(options).encode(rounds).unwrap_err().to_string();
    let twice = [Round::new("<image> <image>", "a")];
    let late = [Round::new("a", "b"), Round::new("<image>", "c")];
    let none = DialogueOptions { blocks: ImageBlocks::default(), ..queries() };
    let plain = || projector(Template::Plain);
    let bare = Tokenizer::train_bpe(["a"], &BpeOptions { vocab_size: 300, ..BpeOptions::default() }).unwrap();
    let errors = [
        told(queries(), &[]),
        told(queries(), &twice),
        told(queries(), &late),
        told(none, &rounds()),
        told(plain(), &rounds()),
        told(plain(), &late[..1]),
        DialogueEncoder::new(&bare, projector(Template::ChatMl)).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r"
    the dialogue has no answer to learn from
    the dialogue has `<image>` 2 times; once is possible
    `<image>` stands in a later question; only the first one can have it
    the dialogue has a picture, and the model takes none
    `plain` is a picture and its caption: one question with `<image>` and one answer
    `plain` is a picture and its caption: one question with `<image>` and one answer
    the tokenizer has no token `<|im_start|>`, which the template needs
    ");
}

#[test]
fn conversations_are_read_and_checked() {
    let turn = |from: &str, value: &str| json!({ "from": from, "value": value });
    let read = |turns: serde_json::Value| match Round::list(&turns) {
        Ok(rounds) => format!("{:?}", rounds.iter().map(|r| (&*r.question, &*r.answer)).collect::<Vec<_>>()),
        Err(error) => error.to_string(),
    };
    let told = [
        read(json!([turn("human", "<image>\nwhat? "), turn("gpt", " a cat"), turn("human", "why?")])),
        read(json!([turn("human", "what?"), turn("human", "why?")])),
        read(json!([{ "value": "what?" }])),
        read(json!([{ "from": "human" }])),
        read(json!([])),
        read(json!({})),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    [("<image>\nwhat?", "a cat")]
    turn 2 is of `human` and not of `gpt`
    turn 1 is of `nobody` and not of `human`
    turn 1 has no text under `value`
    `conversations` is empty
    `conversations` is no list
    "#);
}

proptest! {
    #[test]
    fn learnt_tokens_are_the_answers(
        told in prop::collection::vec(("[a-z ?猫\n]{0,12}", "[a-zA-Z0-9 <>/猫é\n]{0,12}"), 1..4),
    ) {
        let told: Vec<Round> = told.iter().map(|(question, answer)| Round::new(question, answer)).collect();
        let tokenizer = tokenizer();
        for (options, end) in [(projector(Template::Vicuna), "</s>"), (projector(Template::ChatMl), "<|im_end|>")] {
            let dialogue = encoder(options).encode(&told).unwrap();
            let learnt: Vec<u32> =
                dialogue.labels().into_iter().filter(|id| *id != IGNORED).map(|id| id as u32).collect();
            let end = tokenizer.id(end).unwrap();
            prop_assert_eq!(learnt.last(), Some(&end));
            let answers: Vec<String> = learnt[..learnt.len() - 1]
                .split(|id| *id == end)
                .map(|ids| tokenizer.decode(ids).unwrap().trim().to_owned())
                .collect();
            prop_assert_eq!(answers, told.iter().map(|round| round.answer.clone()).collect::<Vec<_>>());
        }
    }
}
