//! Trains a byte-level BPE tokenizer.
//!
//! Texts enter, a [`Tokenizer`] leaves. Words are sorted before they are counted, so neither the order of texts,
//! nor threads, nor a hash map's seed shows in the result.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use tokenizers::{
    AddedToken, TokenizerImpl,
    models::bpe::{BPE, BpeTrainer},
    normalizers::utils::Lowercase,
    pre_tokenizers::byte_level::ByteLevel,
    processors::template::TemplateProcessing,
};

use super::{Tokenizer, TokenizerError};

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BpeOptions {
    /// Number of ids, special tokens and the 256 bytes included; fewer if the texts give no more merges.
    pub vocab_size: usize,
    /// Lower-case the text before anything else.
    pub lowercase: bool,
    /// Tokens that take the first ids. Padding must come first: rows are padded with id 0.
    pub specials: Vec<String>,
}

impl Default for BpeOptions {
    /// 4,096 ids, lower case, `<pad>`, `<s>`, `</s>` as ids 0, 1, 2.
    fn default() -> Self {
        Self { vocab_size: 4096, lowercase: true, specials: ["<pad>", "<s>", "</s>"].map(Into::into).into() }
    }
}

impl Tokenizer {
    /// Trains byte-level BPE on texts; every string encodes without an unknown token.
    ///
    /// # Errors
    /// [`TokenizerError::VocabularyTooSmall`], [`TokenizerError::Train`].
    pub fn train_bpe<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
        options: &BpeOptions,
    ) -> Result<Self, TokenizerError> {
        let needed = 256 + options.specials.len();
        if options.vocab_size < needed {
            return Err(TokenizerError::VocabularyTooSmall { asked: options.vocab_size, needed });
        }
        let mut texts: Vec<String> = texts.into_iter().map(|text| text.as_ref().to_owned()).collect();
        texts.sort_unstable();
        let mut inner = untrained(options)?;
        inner.train(&mut trainer(options), texts.into_iter()).map_err(TokenizerError::Train)?;
        Ok(Self(inner.into()))
    }
}

type Untrained = TokenizerImpl<BPE, Lowercase, ByteLevel, TemplateProcessing, ByteLevel>;

fn untrained(options: &BpeOptions) -> Result<Untrained, TokenizerError> {
    let mut inner = Untrained::new(BPE::default());
    inner.with_normalizer(options.lowercase.then_some(Lowercase));
    inner.with_pre_tokenizer(Some(ByteLevel::default()));
    inner.with_decoder(Some(ByteLevel::default()));
    inner.with_post_processor(template(options)?);
    Ok(inner)
}

/// `<s> text </s>` for other readers of the file; heddle adds these tokens itself.
fn template(options: &BpeOptions) -> Result<Option<TemplateProcessing>, TokenizerError> {
    let id = |name: &str| options.specials.iter().position(|special| special == name).map(|id| id as u32);
    let (Some(begin), Some(end)) = (id("<s>"), id("</s>")) else { return Ok(None) };
    let mut builder = TemplateProcessing::builder();
    builder.try_single("<s> $0 </s>").map_err(|error| TokenizerError::Train(error.into()))?;
    builder.special_tokens(vec![("<s>", begin), ("</s>", end)]);
    builder.build().map(Some).map_err(|error| TokenizerError::Train(error.into()))
}

fn trainer(options: &BpeOptions) -> BpeTrainer {
    let special = |name: &String| AddedToken::from(name.clone(), true);
    BpeTrainer::builder()
        .vocab_size(options.vocab_size)
        .special_tokens(options.specials.iter().map(special).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .show_progress(false)
        .build()
}
