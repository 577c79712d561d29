//! Text of ids that arrive one by one, up to a stop string.

use super::{Streaming, Tokenizer};

/// Decodes ids as they come, as [`Streaming`] does, until the text has a stop string. Neither that nor what follows it is given;
/// what may become one waits here.
#[derive(Debug)]
pub struct Until<'t> {
    streaming: Streaming<'t>,
    stops: &'t [String],
    /// May become a stop string.
    waiting: String,
    ended: bool,
}

impl<'t> Until<'t> {
    /// A decoder that has seen nothing. Empty stop strings stop nothing.
    pub fn new(tokenizer: &'t Tokenizer, stops: &'t [String]) -> Self {
        Self { streaming: Streaming::new(tokenizer), stops, waiting: String::new(), ended: false }
    }

    /// Takes an id; the text that is certain by now.
    pub fn push(&mut self, id: u32) -> String {
        if self.ended {
            return String::new();
        }
        self.waiting.extend(self.streaming.push(id));
        let stop = stop(&self.waiting, self.stops);
        self.ended = stop.is_some();
        let rest = self.waiting.split_off(stop.unwrap_or_else(|| certain(&self.waiting, self.stops)));
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Whether a stop string came.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is left when no more ids come.
    pub fn finish(self) -> String {
        if self.ended {
            return String::new();
        }
        let mut rest = self.waiting;
        rest.extend(self.streaming.finish());
        rest.truncate(stop(&rest, self.stops).unwrap_or(rest.len()));
        rest
    }
}

/// Where the first stop string begins: the one that is complete first, however the text is cut into tokens.
fn stop(text: &str, stops: &[String]) -> Option<usize> {
    let stops = stops.iter().filter(|stop| !stop.is_empty());
    let found = stops.filter_map(|stop| text.find(stop).map(|start| (start + stop.len(), start)));
    found.min().map(|(_, start)| start)
}

/// How much of a text is in no stop string, whatever follows.
fn certain(text: &str, stops: &[String]) -> usize {
    let begins = |at: &usize| stops.iter().any(|stop| stop.starts_with(&text[*at..]));
    text.char_indices().map(|(at, _)| at).find(begins).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::BpeOptions;

    fn tokenizer() -> Tokenizer {
        let options = BpeOptions { vocab_size: 300, lowercase: false, ..BpeOptions::default() };
        Tokenizer::train_bpe(["a banana and 猫"; 3], &options).unwrap()
    }

    /// What comes after each id, and at the end.
    fn told(tokenizer: &Tokenizer, text: &str, stops: &[String]) -> (Vec<String>, bool) {
        let mut until = Until::new(tokenizer, stops);
        let mut told: Vec<String> =
            tokenizer.ids(text).unwrap().into_iter().map(|id| until.push(id)).collect();
        let ended = until.has_ended();
        told.push(until.finish());
        (told, ended)
    }

    #[test]
    fn a_stop_string_over_several_tokens_ends_the_text_before_it() {
        let (tokenizer, stops) = (tokenizer(), [" USER:".to_owned(), "zz".to_owned()]);
        // A text begins with a space.
        let (told, ended) = told(&tokenizer, "a cat USER: a dog", &stops);
        assert_eq!((told.concat(), ended), (" a cat".to_owned(), true));
        let (told, ended) = self::told(&tokenizer, "a cat US", &stops);
        assert_eq!((told.concat(), ended), (" a cat US".to_owned(), false));
        assert_eq!(self::told(&tokenizer, "a cat", &[String::new()]).0.concat(), " a cat");
    }

    /// Of stop strings in one another, the one that is complete first counts.
    #[test]
    fn the_stop_string_that_is_complete_first_ends_the_text() {
        let (tokenizer, stops) = (tokenizer(), ["b猫a".to_owned(), "猫".to_owned()]);
        assert_eq!(told(&tokenizer, "b猫a", &stops).0.concat(), " b");
    }

    proptest! {
        #[test]
        fn what_is_told_is_the_text_before_the_first_stop(
            text in "[abn 猫]{0,20}",
            stops in prop::collection::vec("[abn猫]{1,3}", 0..3),
        ) {
            let tokenizer = tokenizer();
            let whole = tokenizer.decode(&tokenizer.ids(&text).unwrap()).unwrap();
            let ends = |end: &usize| stops.iter().any(|stop| whole[..*end].ends_with(stop));
            let complete = whole.char_indices().map(|(at, one)| at + one.len_utf8()).find(ends);
            let end = complete.map(|end| {
                let lengths = stops.iter().filter(|stop| whole[..end].ends_with(*stop)).map(String::len);
                end - lengths.max().unwrap()
            });
            let (told, ended) = told(&tokenizer, &text, &stops);
            prop_assert_eq!(told.concat(), &whole[..end.unwrap_or(whole.len())]);
            prop_assert_eq!(ended, end.is_some());
        }
    }
}
