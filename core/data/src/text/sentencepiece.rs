//! Reads SentencePiece's `.model`, as LLaMA 1 and 2, Vicuna and Chinese-Alpaca have it.
//!
//! The bytes of a protocol buffer enter, a [`Tokenizer`] leaves, by way of the `tokenizer.json` that `transformers` makes of such a
//! model (`LlamaConverter` with `legacy = True`): merges follow from the pieces' scores, in the order that LLaMA's published
//! `tokenizer.json` has. Where pieces have one score, as those have that Chinese-Alpaca added to LLaMA's, SentencePiece takes the
//! leftmost pair, and a list of merges cannot say that: there the pair with the lower ids comes first.

use std::collections::HashMap;

use prost::Message;
use serde_json::{Value, json};

use super::{Tokenizer, TokenizerError};

/// What is read of `sentencepiece_model.proto`.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(float, tag = "2")]
    score: f32,
    #[prost(enumeration = "PieceKind", optional, tag = "3", default = "Normal")]
    kind: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum PieceKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// Absent fields have the defaults of the format.
#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3", default = "1")]
    model_type: Option<i32>,
    #[prost(bool, tag = "24")]
    whitespace_as_suffix: bool,
    #[prost(bool, tag = "35")]
    byte_fallback: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Normalizer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    charsmap: Vec<u8>,
    #[prost(bool, optional, tag = "3", default = "true")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4", default = "true")]
    remove_extra_whitespaces: Option<bool>,
}

/// `TrainerSpec.ModelType` of byte-pair encoding.
const BPE: i32 = 2;

/// The longest piece, in letters; SentencePiece's own limit is 16 unless it is told otherwise.
const LONGEST: usize = 512;

impl Tokenizer {
    /// Reads a SentencePiece model that is BPE and does not change letters.
    ///
    /// # Errors
    /// [`TokenizerError::SentencePiece`] says what it is instead; [`TokenizerError::Load`].
    pub fn from_sentencepiece(model: &[u8]) -> Result<Self, TokenizerError> {
        let model = Model::decode(model)
            .map_err(|error| TokenizerError::SentencePiece(format!("it does not read: {error}")))?;
        if let Some(wrong) = model.wrong() {
            return Err(TokenizerError::SentencePiece(wrong));
        }
        Self::from_json(model.tokenizer_json().to_string().as_bytes())
    }
}

impl Model {
    /// What keeps it from being read, as a sentence.
    fn wrong(&self) -> Option<String> {
        let trainer = self.trainer.clone().unwrap_or_default();
        let normalizer = self.normalizer.clone().unwrap_or_default();
        let long = self.pieces.iter().find(|piece| piece.text.chars().count() > LONGEST);
        let mut seen = HashMap::new();
        let again = self.pieces.iter().zip(0..).find_map(|(piece, id)| {
            seen.insert(piece.text.as_str(), id).map(|first: u32| (piece.text.as_str(), first, id))
        });
        if self.pieces.is_empty() {
            Some("it has no pieces".to_owned())
        } else if trainer.model_type() != BPE {
            Some("its model type is not BPE".to_owned())
        } else if trainer.whitespace_as_suffix {
            Some("its pieces have spaces at their ends, and only those at the beginning are read".to_owned())
        } else if !normalizer.charsmap.is_empty() {
            Some(format!("it changes letters by `{}`; only `identity` is read", normalizer.name))
        } else if normalizer.remove_extra_whitespaces() {
            Some(
                "it takes extra spaces out of texts; only models that keep them, as LLaMA's does, are read"
                    .to_owned(),
            )
        } else if let Some(piece) = long {
            Some(format!("a piece has {} letters, {LONGEST} are allowed", piece.text.chars().count()))
        } else {
            again.map(|(text, first, id)| format!("`{text}` is piece {first} and piece {id}"))
        }
    }

    fn tokenizer_json(&self) -> Value {
        let vocab: serde_json::Map<String, Value> =
            self.pieces.iter().zip(0_u32..).map(|(piece, id)| (piece.text.clone(), id.into())).collect();
        let unknown = self.pieces.iter().find(|piece| piece.kind() == PieceKind::Unknown);
        json!({
            "version": "1.0",
            "added_tokens": self.added_tokens(),
            "normalizer": { "type": "Sequence", "normalizers": self.normalizers() },
            "pre_tokenizer": null,
            "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": self.decoders() },
            "model": {
                "type": "BPE",
                "unk_token": unknown.map(|piece| piece.text.as_str()),
                "fuse_unk": true,
                "byte_fallback": self.trainer.as_ref().is_some_and(|trainer| trainer.byte_fallback),
                "vocab": vocab,
                "merges": self.merges(),
            },
        })
    }

    /// Pieces that are found in the text as they stand; those without text of their own are special.
    fn added_tokens(&self) -> Vec<Value> {
        let added = |(piece, id): (&Piece, u32)| {
            let special = match piece.kind() {
                PieceKind::Unknown | PieceKind::Control => true,
                PieceKind::UserDefined => false,
                PieceKind::Normal | PieceKind::Unused | PieceKind::Byte => return None,
            };
            Some(json!({
                "id": id, "content": piece.text, "special": special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }))
        };
        self.pieces.iter().zip(0..).filter_map(added).collect()
    }

    fn adds_space(&self) -> bool {
        self.normalizer.as_ref().is_none_or(Normalizer::add_dummy_prefix)
    }

    fn normalizers(&self) -> Vec<Value> {
        let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        let before = self.adds_space().then(|| json!({ "type": "Prepend", "prepend": "▁" }));
        before.into_iter().chain([spaces]).collect()
    }

    fn decoders(&self) -> Vec<Value> {
        let mut steps = vec![
            json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if self.adds_space() {
            steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        steps
    }

    /// Every way to make a piece of two others, best first: by the piece's score, then by the ids of the two.
    fn merges(&self) -> Vec<[&str; 2]> {
        let ids: HashMap<&str, u32> =
            self.pieces.iter().zip(0..).map(|(piece, id)| (piece.text.as_str(), id)).collect();
        let mut merges: Vec<(f32, [u32; 2], [&str; 2])> = Vec::new();
        for piece in self.pieces.iter().filter(|piece| piece.kind() == PieceKind::Normal) {
            let cuts = piece.text.char_indices().skip(1).map(|(at, _)| piece.text.split_at(at));
            merges.extend(cuts.filter_map(|(left, right)| {
                Some((piece.score, [*ids.get(left)?, *ids.get(right)?], [left, right]))
            }));
        }
        merges.sort_unstable_by(|(a, one, _), (b, other, _)| b.total_cmp(a).then(one.cmp(other)));
        merges.into_iter().map(|(_, _, pair)| pair).collect()
    }
}

#[cfg(test)]
#[path = "sentencepiece_tests.rs"]
mod tests;
