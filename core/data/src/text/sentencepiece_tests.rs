use serde_json::Value;

use super::*;

const LLAMA: &[u8] = include_bytes!("../../tests/fixtures/sentencepiece/llama.model");
const PLAIN: &[u8] = include_bytes!("../../tests/fixtures/sentencepiece/plain.model");
/// What Python's sentencepiece says, from `make.py` beside it.
const EXPECTED: &str = include_str!("../../tests/fixtures/sentencepiece/expected.json");

fn expected(model: &str) -> Vec<(String, Vec<u32>, String)> {
    let all: Value = serde_json::from_str(EXPECTED).unwrap();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let ids =
        |one: &Value| one["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    all[model]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(one, "text"), ids(one), text(one, "decoded")))
        .collect()
}

#[test]
fn ids_and_texts_are_those_of_sentencepiece() {
    for (name, model) in [("llama", LLAMA), ("plain", PLAIN)] {
        let tokenizer = Tokenizer::from_sentencepiece(model).unwrap();
        assert_eq!((tokenizer.unk(), tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1), Some(2)));
        for (text, ids, decoded) in expected(name) {
            assert_eq!(tokenizer.ids(&text).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), decoded, "{name}: {text:?}");
        }
        // What is kept is a tokenizer.json.
        let again = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
        assert_eq!(again.to_json(), tokenizer.to_json());
    }
}

#[test]
fn merges_are_ordered_by_score_and_then_by_ids() {
    let model = synthetic(&[
        ("a", 0.0),
        ("b", 0.0),
        ("ab", 0.0),
        ("aab", 0.0),
        ("aa", 0.0),
        ("z", -1.0),
        ("zz", 3.0),
    ]);
    let merges: Vec<String> = model.merges().iter().map(|pair| pair.join(" ")).collect();
    assert_eq!(merges, ["z z", "a a", "a b", "a ab", "aa b"]);
}

/// A BPE model with byte fallback and these pieces behind the three specials and the bytes.
fn synthetic(pieces: &[(&str, f32)]) -> Model {
    let piece =
        |text: &str, score, kind: PieceKind| Piece { text: text.into(), score, kind: Some(kind as i32) };
    let mut all = vec![
        piece("<unk>", 0.0, PieceKind::Unknown),
        piece("<s>", 0.0, PieceKind::Control),
        piece("</s>", 0.0, PieceKind::Control),
    ];
    all.extend((0..=255).map(|byte| piece(&format!("<0x{byte:02X}>"), 0.0, PieceKind::Byte)));
    all.extend(pieces.iter().map(|(text, score)| piece(text, *score, PieceKind::Normal)));
    Model {
        pieces: all,
        trainer: Some(Trainer { model_type: Some(BPE), byte_fallback: true, ..Trainer::default() }),
        normalizer: Some(Normalizer {
            name: "identity".into(),
            remove_extra_whitespaces: Some(false),
            ..Normalizer::default()
        }),
    }
}

/// The two published examples: LLaMA's pieces and those that Chinese-Alpaca added, all of score 0, under their ids.
#[test]
fn published_examples_of_texts() {
    const AT: [(u32, &str); 13] = [
        (19138, "▁summar"),
        (675, "ize"),
        (29901, ":"),
        (29874, "a"),
        (15373, "▁photo"),
        (310, "▁of"),
        (263, "▁a"),
        (2654, "▁red"),
        (282, "▁p"),
        (5863, "anda"),
        (33823, "一张"),
        (40351, "熊猫"),
        (36580, "的照片"),
    ];
    // What leads to the pieces, under ids that no text below asks for.
    const BETWEEN: [&str; 28] = [
        "▁", "s", "u", "m", "r", "i", "z", "e", "p", "h", "o", "t", "f", "d", "n", "一", "张", "熊", "猫",
        "的", "照", "片", "▁s", "um", "▁sum", "mar", "ho", "to",
    ];
    const MORE: [&str; 9] = ["an", "da", "iz", "▁r", "ed", "hoto", "ar", "照片", "▁o"];
    let mut texts: Vec<String> = (259..40352).map(|id| format!("unused {id}")).collect();
    for (place, text) in BETWEEN.iter().chain(&MORE).enumerate() {
        texts[1000 + place] = (*text).to_owned();
    }
    for (id, text) in AT {
        texts[id as usize - 259] = text.to_owned();
    }
    // A piece of LLaMA's has the score of its place; an added one has none.
    let score = |place: usize| if place + 259 < 32000 { -(place as f32) } else { 0.0 };
    let pieces: Vec<(&str, f32)> =
        texts.iter().enumerate().map(|(place, text)| (text.as_str(), score(place))).collect();
    let tokenizer = Tokenizer::from_sentencepiece(&synthetic(&pieces).encode_to_vec()).unwrap();
    for (text, ids) in [
        (
            "summarize:a photo of a red panda",
            &[19138, 675, 29901, 29874, 15373, 310, 263, 2654, 282, 5863][..],
        ),
        ("summarize:一张熊猫的照片", &[19138, 675, 29901, 33823, 40351, 36580]),
    ] {
        assert_eq!(tokenizer.ids(text).unwrap(), ids, "{text}");
        assert_eq!(tokenizer.decode(ids).unwrap(), text);
    }
}

#[test]
fn other_models_are_refused() {
    let told = |change: fn(&mut Model)| {
        let mut model = synthetic(&[("a", 0.0)]);
        change(&mut model);
        Tokenizer::from_sentencepiece(&model.encode_to_vec()).unwrap_err().to_string()
    };
    let all = [
        told(|model| model.pieces.clear()),
        told(|model| model.trainer = None),
        told(|model| model.trainer.as_mut().unwrap().whitespace_as_suffix = true),
        told(|model| {
            model.normalizer =
                Some(Normalizer { name: "nmt_nfkc".into(), charsmap: vec![1], ..Normalizer::default() });
        }),
        told(|model| model.normalizer = None),
        told(|model| model.pieces[259].text = "a".repeat(600)),
        told(|model| model.pieces.push(Piece { text: "a".into(), ..Piece::default() })),
        Tokenizer::from_sentencepiece(b"{\"version\"").unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    not a SentencePiece model that can be read: it has no pieces
    not a SentencePiece model that can be read: its model type is not BPE
    not a SentencePiece model that can be read: its pieces have spaces at their ends, and only those at the beginning are read
    not a SentencePiece model that can be read: it changes letters by `nmt_nfkc`; only `identity` is read
    not a SentencePiece model that can be read: it takes extra spaces out of texts; only models that keep them, as LLaMA's does, are read
    not a SentencePiece model that can be read: a piece has 600 letters, 512 are allowed
    not a SentencePiece model that can be read: `a` is piece 259 and piece 260
    not a SentencePiece model that can be read: it does not read: failed to decode Protobuf message: buffer underflow
    ");
}
