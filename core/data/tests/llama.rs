//! The tokenizers on LLaMA's own vocabulary, which is not part of this repository: `scripts/llama-tokenizer.sh` fetches it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::PathBuf};

use heddle_data::text::{Streaming, Tokenizer};
use serde_json::Value;

fn merges(tokenizer: &Tokenizer) -> Value {
    let json: Value = serde_json::from_slice(&tokenizer.to_json()).unwrap();
    json["model"]["merges"].clone()
}

#[test]
#[ignore = "needs LLaMA's vocabulary: scripts/llama-tokenizer.sh"]
fn ids_and_texts_are_those_of_python() {
    let folder = PathBuf::from(std::env::var_os("HEDDLE_LLAMA").unwrap());
    let bytes = |name: &str| fs::read(folder.join(name)).unwrap();
    let expected: Vec<Value> = serde_json::from_slice(&bytes("expected.json")).unwrap();
    assert!(expected.len() > 50);
    let json = Tokenizer::from_json(&bytes("tokenizer.json")).unwrap();
    let model = Tokenizer::from_sentencepiece(&bytes("tokenizer.model")).unwrap();
    assert_eq!((json.vocab_size(), model.vocab_size()), (32_000, 32_000));
    assert!(merges(&json) == merges(&model), "merges made of scores are the published ones");
    let example = [19138, 675, 29901, 29874, 15373, 310, 263, 2654, 282, 5863];
    for (name, tokenizer) in [("tokenizers", &json), ("sentencepiece", &model)] {
        assert_eq!(tokenizer.ids("summarize:a photo of a red panda").unwrap(), example);
        let mut differ = Vec::new();
        for row in &expected {
            let text = row["text"].as_str().unwrap();
            let wanted: Vec<u32> =
                row[name].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            let ids = tokenizer.ids(text).unwrap();
            let decoded = tokenizer.decode(&ids).unwrap();
            let mut stream = Streaming::new(tokenizer);
            let mut streamed: String = ids.iter().filter_map(|id| stream.push(*id)).collect();
            streamed.extend(stream.finish());
            if ids != wanted || decoded != row[format!("{name}-decoded")] || streamed != decoded {
                differ.push(format!("{text:?}: {ids:?} {decoded:?} {streamed:?}, not {wanted:?}"));
            }
        }
        assert!(differ.is_empty(), "{name}: {}\n{}", differ.len(), differ.join("\n"));
    }
}
