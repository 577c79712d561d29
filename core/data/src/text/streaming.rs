//! Text of ids that arrive one by one.
//!
//! A letter may be several tokens (bytes of one UTF-8 sequence), so that a token alone has no text. Bytes wait here until they
//! are whole letters; what has been given is never taken back.

use tokenizers::DecoderWrapper;

use super::Tokenizer;

/// Decodes ids as they come. All texts together are what [`Tokenizer::decode`] gives of all ids; bytes that are no UTF-8 become
/// U+FFFD, as many as [`String::from_utf8_lossy`] makes of them.
#[derive(Debug)]
pub struct Streaming<'t> {
    tokenizer: &'t Tokenizer,
    form: Form,
    /// Bytes that are no whole letter yet.
    bytes: Vec<u8>,
    begun: bool,
}

/// How tokens write bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A letter for every byte, as GPT-2 has them.
    ByteLevel,
    /// `▁` for a space, `<0xE7>` for a byte: SentencePiece.
    Pieces,
}

impl<'t> Streaming<'t> {
    /// A decoder that has seen nothing.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        let form = match tokenizer.0.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => Form::ByteLevel,
            _ => Form::Pieces,
        };
        Self { tokenizer, form, bytes: Vec::new(), begun: false }
    }

    /// Takes an id; the text that is complete by now, if there is any. Special tokens and ids that nothing has give none.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.tokenizer.is_special(id) {
            return None;
        }
        let token = self.tokenizer.0.id_to_token(id)?;
        let mut bytes = self.form.bytes(&token);
        if !self.begun {
            self.begun = true;
            if bytes.first() == Some(&b' ') && self.drops_first_space(id, &bytes) {
                bytes.remove(0);
            }
        }
        self.bytes.append(&mut bytes);
        Some(self.whole_letters()).filter(|text| !text.is_empty())
    }

    /// What is left when no more ids come: the bytes of a letter that never became whole.
    pub fn finish(self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes).into_owned()).filter(|text| !text.is_empty())
    }

    /// Whether the tokenizer leaves out the space that it puts before every text.
    fn drops_first_space(&self, id: u32, bytes: &[u8]) -> bool {
        self.tokenizer.decode(&[id]).is_ok_and(|text| text.as_bytes() == &bytes[1..])
    }

    fn whole_letters(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.bytes.clear();
                    return text;
                }
                Err(error) => {
                    let (whole, rest) = self.bytes.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(broken) = error.error_len() else {
                        self.bytes = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.bytes = rest[broken..].to_vec();
                }
            }
        }
    }
}

impl Form {
    fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            // A token that is no spelt bytes was added as it is.
            Self::ByteLevel => token
                .chars()
                .map(byte_of)
                .collect::<Option<Vec<u8>>>()
                .unwrap_or_else(|| token.as_bytes().to_vec()),
            Self::Pieces => match byte_piece(token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }
}

/// The byte of a piece such as `<0xE7>`.
fn byte_piece(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// The byte that GPT-2 writes as a letter: printable ones as themselves, the others, in order, as the letters from 256 on.
fn byte_of(letter: char) -> Option<u8> {
    let is_plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(letter) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(|_| is_plain(code)),
        code => {
            let hidden = (0..=0xff_u32).filter(|byte| !is_plain(*byte)).nth((code - 0x100) as usize)?;
            u8::try_from(hidden).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::BpeOptions;

    fn byte_level() -> Tokenizer {
        let options = BpeOptions { vocab_size: 280, lowercase: false, ..BpeOptions::default() };
        Tokenizer::train_bpe(["a cat and 猫"; 3], &options).unwrap().with_specials(&["<IMG>".into()]).unwrap()
    }

    fn pieces() -> Tokenizer {
        Tokenizer::from_sentencepiece(include_bytes!("../../tests/fixtures/sentencepiece/llama.model"))
            .unwrap()
    }

    fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = Streaming::new(tokenizer);
        let mut texts: Vec<String> = ids.iter().filter_map(|id| stream.push(*id)).collect();
        texts.extend(stream.finish());
        texts
    }

    #[test]
    fn letters_come_whole() {
        let tokenizer = pieces();
        let bytes = |text: &str| -> Vec<u32> {
            text.bytes().map(|byte| tokenizer.id(&format!("<0x{byte:02X}>")).unwrap()).collect()
        };
        let ids =
            [tokenizer.ids("the").unwrap(), bytes("é🐼"), vec![2], tokenizer.ids("cat").unwrap()].concat();
        assert_eq!(streamed(&tokenizer, &ids), ["the", "é", "🐼", " cat"]);
        // Bytes that never become a letter hold nothing up for longer than they must.
        let broken = [&bytes("é")[..1], &bytes("x")].concat();
        assert_eq!(streamed(&tokenizer, &broken), ["\u{fffd}x"]);
        assert_eq!(streamed(&tokenizer, &bytes("猫")[..2]), ["\u{fffd}"]);
        assert_eq!(streamed(&tokenizer, &[1, 2, 9_999_999]), [""; 0]);
    }

    proptest! {
        #[test]
        fn streams_give_the_decoded_text(text in "[a-z A-Z0-9éß猫🐼ب\n\t]{0,30}") {
            for tokenizer in [byte_level(), pieces()] {
                let mut ids = tokenizer.ids(&text).unwrap();
                ids.insert(ids.len() / 2, 2);
                let whole = tokenizer.decode(&ids).unwrap();
                prop_assert_eq!(streamed(&tokenizer, &ids).concat(), whole);
            }
        }
    }
}
