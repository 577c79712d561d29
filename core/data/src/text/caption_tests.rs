use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::rng;

fn record(columns: Value) -> Record {
    let Value::Object(columns) = columns else { unreachable!() };
    Record::new("k".into(), [0; 32], BTreeMap::new(), columns)
}

fn cat() -> Record {
    record(json!({
        "en": "cat", "it": "gatto", "group": "Animals & Nature", "subgroup": "animal-mammal",
        "keywords": { "en": ["cat", "pet", "kitten"], "it": [] },
    }))
}

fn count(options: &CaptionOptions, wanted: impl Fn(&str) -> bool) -> usize {
    (0..1000).filter(|i| wanted(&options.sample(&cat(), &mut rng(1, &[*i])).unwrap())).count()
}

#[test]
fn names_use_every_template_of_every_language() {
    let options = CaptionOptions::names(["en", "it"]);
    for caption in
        ["cat", "an emoji of cat", "a picture of cat", "gatto", "un'immagine di gatto", "emoji: gatto"]
    {
        assert!((120..220).contains(&count(&options, |found| found == caption)), "{caption}");
    }
}

#[test]
fn several_captions_make_one_text() {
    let options = CaptionOptions { several: Some(3), ..CaptionOptions::names(["en"]) };
    let single = CaptionOptions::names(["en"]);
    let text = options.sample(&cat(), &mut rng(1, &[0])).unwrap();
    let parts: Vec<&str> = text.split("; ").collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0], single.sample(&cat(), &mut rng(1, &[0])).unwrap());
    assert!(parts.iter().all(|part| part.ends_with("cat")), "{text}");
}

#[test]
fn the_emoji_mix_has_the_shares_it_says() {
    let options = CaptionOptions::emoji(["en"]);
    // Keywords never repeat the name.
    assert!((170..250).contains(&count(&options, |c| c.starts_with("cat, ") && !c.contains(", cat"))));
    assert!((30..75).contains(&count(&options, |c| c == "pet" || c == "kitten")));
    assert!((25..70).contains(&count(&options, |c| c == "animal mammal")));
    assert!((25..70).contains(&count(&options, |c| c == "animals and nature, animal mammal: cat")));
}

#[test]
fn without_keywords_or_labels_a_name_remains() {
    let options = CaptionOptions::emoji(["it"]);
    assert_eq!(count(&options, |c| c.contains("gatto")), 1000);
}

#[test]
fn own_templates_paths_and_lists() {
    let record = record(json!({ "captions": { "en": ["one", "two"] } }));
    let templates = [("en".to_owned(), vec!["<{}>".to_owned()])].into_iter().collect();
    let options = CaptionOptions { templates, ..CaptionOptions::names(["captions.en"]) };
    let all: std::collections::BTreeSet<_> =
        (0..50).map(|i| options.sample(&record, &mut rng(1, &[i])).unwrap()).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["<one>", "<two>"]);
}

#[test]
fn a_record_without_text_is_an_error() {
    let error = CaptionOptions::names(["fr"]).sample(&cat(), &mut rng(1, &[])).unwrap_err();
    assert_eq!(error.to_string(), "record `k` has no text in any of the columns fr");
}
