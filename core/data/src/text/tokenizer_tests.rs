use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::{
    select::Join,
    text::{BpeOptions, caption::spoken},
};

const LANGUAGES: [&str; 5] = ["en", "zh", "ja", "ar", "it"];

fn concepts() -> Vec<Map<String, Value>> {
    let table = crate::emoji::find("concepts.jsonl").unwrap().bytes().unwrap();
    let join = Join::from_jsonl("cp", &table).unwrap();
    let mut rows: Vec<_> = join.rows().cloned().collect();
    rows.sort_by_key(|row| row["order"].as_u64());
    rows
}

/// Names, keywords and labels of the concepts that are trained on.
fn corpus() -> Vec<String> {
    let (mut texts, mut labels) = (Vec::new(), BTreeSet::new());
    for row in concepts().iter().filter(|row| row["novel"] == false) {
        for language in LANGUAGES {
            texts.push(row["captions"][language].as_str().unwrap().to_owned());
            let keywords = row["keywords"][language].as_array().unwrap();
            texts.extend(keywords.iter().map(|word| word.as_str().unwrap().to_owned()));
        }
        labels.extend(["group", "subgroup"].map(|label| spoken(row[label].as_str().unwrap())));
    }
    texts.extend(labels);
    texts
}

fn small() -> Tokenizer {
    let options = BpeOptions { vocab_size: 300, ..BpeOptions::default() };
    Tokenizer::train_bpe(["a cat", "a dog and a cat", "the cat"], &options).unwrap()
}

#[test]
fn names_take_the_published_number_of_tokens() {
    let tokenizer = Tokenizer::train_bpe(corpus(), &BpeOptions::default()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 4096);
    let bare = EncodeOptions { prefix: None, max_length: 64, bos: None, eos: None };
    for (language, expected) in LANGUAGES.into_iter().zip([4.1, 4.0, 4.3, 4.3, 4.3]) {
        let rows = concepts();
        let count = |row: &Map<String, Value>| {
            let name = row["captions"][language].as_str().unwrap().to_owned();
            tokenizer.encode(&[name], &bare).unwrap().len
        };
        let mean = rows.iter().map(count).sum::<usize>() as f64 / rows.len() as f64;
        assert!((mean - expected).abs() < 0.15, "{language}: {mean}");
    }
}

#[test]
fn training_is_deterministic_whatever_the_order_and_the_threads() {
    let (mut texts, options) = (corpus(), BpeOptions { vocab_size: 1024, ..BpeOptions::default() });
    let first = Tokenizer::train_bpe(&texts, &options).unwrap().to_json();
    texts.reverse();
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| Tokenizer::train_bpe(&texts, &options).unwrap().to_json());
        assert!(first == again, "{threads} threads");
    }
    // Hash seeds differ from process to process; the bytes must not.
    insta::assert_snapshot!(crate::digest::to_hex(&crate::digest::of(&first)));
}

#[test]
fn rows_begin_end_and_are_padded_on_the_right() {
    let tokenizer = small();
    assert_eq!((tokenizer.pad(), tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1), Some(2)));
    let batch = tokenizer.encode(&["a cat".into(), "a".into()], &tokenizer.encode_options(16)).unwrap();
    assert_eq!((batch.batch, batch.ids.len()), (2, 2 * batch.len));
    let rows: Vec<&[u32]> = batch.ids.chunks(batch.len).collect();
    assert!(rows.iter().all(|row| row[0] == 1));
    assert_eq!(rows[0].last(), Some(&2));
    assert_eq!(&rows[1][2..4], &[2, 0]);
}

#[test]
fn truncation_keeps_the_end_token_and_a_prefix_comes_first() {
    let tokenizer = small();
    let options = EncodeOptions { prefix: Some("the ".into()), ..tokenizer.encode_options(4) };
    let batch = tokenizer.encode(&["dog and a cat and a dog".into()], &options).unwrap();
    assert_eq!((batch.len, batch.ids[0], batch.ids[3]), (4, 1, 2));
    let whole = tokenizer.encode(&["dog".into()], &EncodeOptions { max_length: 40, ..options }).unwrap();
    assert_eq!(tokenizer.decode(&whole.ids).unwrap().trim(), "the dog");
    assert!(matches!(
        tokenizer.encode(&["x".into()], &tokenizer.encode_options(2)),
        Err(TokenizerError::NoRoom(2))
    ));
}

#[test]
fn json_round_trips_and_noise_is_refused() {
    let tokenizer = small();
    let again = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
    assert_eq!(again.to_json(), tokenizer.to_json());
    let texts = ["猫 and قطة".to_owned()];
    let options = tokenizer.encode_options(99);
    assert_eq!(again.encode(&texts, &options).unwrap(), tokenizer.encode(&texts, &options).unwrap());
    for noise in [&b""[..], b"{}", b"{\"model\":{}}", b"\xff"] {
        assert!(matches!(Tokenizer::from_json(noise), Err(TokenizerError::Load(_))));
    }
}

#[test]
fn a_tiny_vocabulary_is_refused() {
    let options = BpeOptions { vocab_size: 100, ..BpeOptions::default() };
    let error = Tokenizer::train_bpe(["x"], &options).unwrap_err();
    assert!(matches!(error, TokenizerError::VocabularyTooSmall { asked: 100, needed: 259 }));
}

#[test]
fn an_empty_batch_is_empty() {
    let batch = small().encode(&[], &small().encode_options(8)).unwrap();
    assert_eq!(batch, TokenBatch { ids: vec![], batch: 0, len: 0 });
}

proptest! {
    #[test]
    fn any_text_survives_a_round_trip(text in "[a-z0-9 ぁ-ん一-十ا-ي]{0,20}") {
        let tokenizer = small();
        let batch = tokenizer.encode(std::slice::from_ref(&text), &tokenizer.encode_options(400)).unwrap();
        let decoded = tokenizer.decode(&batch.ids).unwrap();
        prop_assert_eq!(decoded.trim(), text.trim());
    }
}
