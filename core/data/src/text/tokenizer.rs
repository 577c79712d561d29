//! Text to token ids and back, through a Hugging Face `tokenizer.json`.
//!
//! Strings enter, a rectangular [`TokenBatch`] leaves. Begin and end tokens, truncation and padding are done
//! here, the same way for every tokenizer, so that a model's batches do not depend on what a file asks for.

use serde::{Deserialize, Serialize};

/// A tokenizer that does not load, train or encode.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The bytes are no usable `tokenizer.json`.
    #[error("not a usable tokenizer.json")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bytes are no SentencePiece model, or one of another sort than is read.
    #[error("not a SentencePiece model that can be read: {0}")]
    SentencePiece(String),
    /// Training failed.
    #[error("the tokenizer cannot be trained")]
    Train(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Encoding or decoding failed.
    #[error("the text cannot be tokenised")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The vocabulary is smaller than bytes and special tokens need.
    #[error("a vocabulary of {asked} is too small: bytes and special tokens take {needed}")]
    VocabularyTooSmall {
        /// Asked for.
        asked: usize,
        /// Needed at least.
        needed: usize,
    },
    /// A special token without text.
    #[error("a token has no text")]
    EmptyToken,
    /// A list of special tokens has one of them twice.
    #[error("the token `{0}` is listed twice")]
    RepeatedToken(String),
    /// `max_length` leaves no room beside the begin and end tokens.
    #[error("max_length {0} leaves no room for text")]
    NoRoom(usize),
}

/// How texts become rows of ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EncodeOptions {
    /// Put before every text as it stands, such as `summarize:`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Longest row, begin and end tokens included.
    pub max_length: usize,
    /// Id before the text.
    pub bos: Option<u32>,
    /// Id after the text; truncation keeps it.
    pub eos: Option<u32>,
}

/// Token ids `[batch, len]`, row by row, padded on the right with 0 to the longest row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    /// The ids, `batch * len` of them.
    pub ids: Vec<u32>,
    /// Number of rows.
    pub batch: usize,
    /// Length of every row.
    pub len: usize,
}

impl TokenBatch {
    /// Pads rows to the longest of them.
    pub fn from_rows(rows: &[Vec<u32>]) -> Self {
        let len = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * len);
        for row in rows {
            ids.extend(row);
            ids.resize(ids.len() + len - row.len(), PAD);
        }
        Self { ids, batch: rows.len(), len }
    }
}

/// The id that fills rows.
pub const PAD: u32 = 0;

/// A loaded or trained tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer(pub(super) tokenizers::Tokenizer);

impl Tokenizer {
    /// Loads a Hugging Face `tokenizer.json`. Padding and truncation that the file asks for are switched off:
    /// [`EncodeOptions`] decides.
    ///
    /// # Errors
    /// [`TokenizerError::Load`].
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(TokenizerError::Load)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(TokenizerError::Load)?;
        Ok(Self(inner))
    }

    /// The `tokenizer.json`; the same bytes for the same tokenizer.
    pub fn to_json(&self) -> Vec<u8> {
        self.0.to_string(false).expect("a tokenizer in memory always serialises").into_bytes()
    }

    /// Number of ids, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// Id of `<s>`.
    pub fn bos(&self) -> Option<u32> {
        self.0.token_to_id("<s>")
    }

    /// Id of `</s>`.
    pub fn eos(&self) -> Option<u32> {
        self.0.token_to_id("</s>")
    }

    /// Id of `<unk>`.
    pub fn unk(&self) -> Option<u32> {
        self.0.token_to_id("<unk>")
    }

    /// Id of `<pad>` or `[PAD]`. Rows are padded with 0 all the same; masks come from positions or id 0.
    pub fn pad(&self) -> Option<u32> {
        self.0.token_to_id("<pad>").or_else(|| self.0.token_to_id("[PAD]"))
    }

    /// Whether an id is a special token's, which has no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// `<s> text </s>` with this tokenizer's ids, no prefix.
    pub fn encode_options(&self, max_length: usize) -> EncodeOptions {
        EncodeOptions { prefix: None, max_length, bos: self.bos(), eos: self.eos() }
    }

    /// Encodes texts as rows of one batch.
    ///
    /// # Errors
    /// [`TokenizerError::NoRoom`] if `max_length` is used up by begin and end tokens, [`TokenizerError::Encode`].
    pub fn encode(&self, texts: &[String], options: &EncodeOptions) -> Result<TokenBatch, TokenizerError> {
        let around = usize::from(options.bos.is_some()) + usize::from(options.eos.is_some());
        let room = options.max_length.saturating_sub(around);
        if room == 0 {
            return Err(TokenizerError::NoRoom(options.max_length));
        }
        let rows: Result<Vec<_>, _> = texts.iter().map(|text| self.row(text, options, room)).collect();
        Ok(TokenBatch::from_rows(&rows?))
    }

    fn row(&self, text: &str, options: &EncodeOptions, room: usize) -> Result<Vec<u32>, TokenizerError> {
        let prefix = options.prefix.as_deref().unwrap_or_default();
        let ids = self.ids(&format!("{prefix}{text}"))?;
        let body = &ids[..ids.len().min(room)];
        Ok(options.bos.into_iter().chain(body.iter().copied()).chain(options.eos).collect())
    }

    /// The ids of a text, with nothing before or after them.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.0.encode_fast(text, false).map_err(TokenizerError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of some ids, special tokens left out.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.0.decode(ids, true).map_err(TokenizerError::Encode)
    }
}

#[cfg(all(test, feature = "emoji"))]
#[path = "tokenizer_tests.rs"]
mod tests;
