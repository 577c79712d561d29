//! Special tokens that an experiment adds to a vocabulary, such as `<IMG>`.
//!
//! A token takes the next free id behind the vocabulary, is matched in the text before anything else is done to it, is
//! never split, and is left out of decoded text.

use std::collections::HashSet;

use tokenizers::AddedToken;

use super::{Tokenizer, TokenizerError};

impl Tokenizer {
    /// Adds special tokens behind the vocabulary, in this order. A token that the vocabulary has already keeps its id and
    /// is special from then on.
    ///
    /// # Errors
    /// [`TokenizerError::EmptyToken`], [`TokenizerError::RepeatedToken`].
    pub fn with_specials(mut self, tokens: &[String]) -> Result<Self, TokenizerError> {
        let mut seen = HashSet::new();
        for token in tokens {
            if token.is_empty() {
                return Err(TokenizerError::EmptyToken);
            }
            if !seen.insert(token) {
                return Err(TokenizerError::RepeatedToken(token.clone()));
            }
        }
        let tokens: Vec<_> = tokens.iter().map(|token| AddedToken::from(token.clone(), true)).collect();
        self.0.add_special_tokens(&tokens);
        Ok(self)
    }

    /// Id of a token by its exact text, special or not.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{BpeOptions, EncodeOptions};

    const BARE: EncodeOptions = EncodeOptions { prefix: None, max_length: 64, bos: None, eos: None };

    fn with(tokens: &[&str]) -> Result<Tokenizer, TokenizerError> {
        let options = BpeOptions { vocab_size: 270, ..BpeOptions::default() };
        let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
        Tokenizer::train_bpe(["a cat and a dog"; 3], &options).unwrap().with_specials(&tokens)
    }

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode(&[text.to_owned()], &BARE).unwrap().ids
    }

    #[test]
    fn tokens_follow_the_vocabulary_and_are_never_split() {
        let plain = with(&[]).unwrap();
        let size = plain.vocab_size() as u32;
        let tokenizer = with(&["<IMG>", "</IMG>", "<s>"]).unwrap();
        let found = ["<IMG>", "</IMG>", "<s>", "<img>"].map(|token| tokenizer.id(token));
        assert_eq!(found, [Some(size), Some(size + 1), Some(1), None]);
        assert_eq!(tokenizer.vocab_size() as u32, size + 2);
        // The text is lower-cased, the tokens in it are not.
        let expected = [ids(&plain, "a"), vec![size, size + 1], ids(&plain, "Cat")].concat();
        assert_eq!(ids(&tokenizer, "a<IMG></IMG>Cat"), expected);
        assert_eq!(tokenizer.decode(&expected).unwrap(), " a cat");
        let again = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
        assert_eq!((again.to_json(), again.id("<IMG>")), (tokenizer.to_json(), Some(size)));
    }

    #[test]
    fn an_ordinary_piece_keeps_its_id() {
        let plain = with(&[]).unwrap();
        let tokenizer = with(&["cat", "new"]).unwrap();
        assert_eq!(tokenizer.id("a"), plain.id("a"));
        let size = plain.vocab_size() as u32;
        let tokenizer = plain.clone().with_specials(&["a".into(), "new".into()]).unwrap();
        assert_eq!((tokenizer.id("a"), tokenizer.id("new")), (plain.id("a"), Some(size)));
    }

    #[test]
    fn repeated_and_empty_tokens_are_refused() {
        let told = |tokens: &[&str]| with(tokens).unwrap_err().to_string();
        assert_eq!(told(&["<A>", "<B>", "<A>"]), "the token `<A>` is listed twice");
        assert_eq!(told(&[""]), "a token has no text");
    }
}
