//! Words and scripts of a text.

/// A script without spaces between words: Han, Kana, Thai and their like. Each of its letters counts as a word.
pub fn is_dense(c: char) -> bool {
    matches!(u32::from(c), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

/// The number of words: runs of letters and digits between spaces and marks, and every letter of a script without spaces.
pub fn count(text: &str) -> usize {
    let (mut words, mut inside) = (0, false);
    for c in text.chars() {
        if is_dense(c) {
            words += 1;
            inside = false;
        } else if c.is_alphanumeric() || (inside && matches!(c, '\'' | '’' | '-')) {
            words += usize::from(!inside);
            inside = true;
        } else {
            inside = false;
        }
    }
    words
}

/// The words in lower case.
pub fn split(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut inside = false;
    for c in text.chars() {
        if is_dense(c) {
            words.push(c.to_string());
            inside = false;
        } else if c.is_alphanumeric() || (inside && matches!(c, '\'' | '’' | '-')) {
            if !inside {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
            inside = true;
        } else {
            inside = false;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_every_script() {
        for (text, words) in [
            ("", 0),
            ("a dog's tail", 3),
            ("well-known", 1),
            ("红苹果", 3),
            ("りんご", 3),
            ("تفاحة حمراء", 2),
            ("...!", 0),
        ] {
            assert_eq!((count(text), split(text).len()), (words, words), "{text}");
        }
    }
}
