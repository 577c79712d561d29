//! Strings that come from plugins, made safe to show.

use std::fmt::Write;

/// The most characters of a message that are kept.
const MESSAGE: usize = 4096;

/// The string without anything that a terminal would act on: control characters (escapes, C1), line and paragraph
/// separators and characters that turn the direction of the text are written as `\u{1b}`; what is beyond 4,096
/// characters is cut.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MESSAGE));
    for (count, character) in text.chars().enumerate() {
        if count == MESSAGE {
            shown.push('…');
            break;
        }
        match character {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push(' '),
            c if c.is_control() || turns_text(c) => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Bidirectional overrides and isolates, separators and invisible marks.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_and_overrides_are_written_out() {
        assert_eq!(
            printable("a\u{1b}[31mred\u{9b}x\u{202e}y\r\nz"),
            "a\\u{1b}[31mred\\u{9b}x\\u{202e}y\\u{d}\\nz"
        );
        assert_eq!(printable("猫 قط"), "猫 قط");
        assert_eq!(printable(&"a".repeat(9000)).chars().count(), MESSAGE + 1);
    }

    proptest! {
        #[test]
        fn nothing_that_is_left_is_a_control_character(text in any::<String>()) {
            prop_assert!(printable(&text).chars().all(|c| !c.is_control() && !turns_text(c)));
        }
    }
}
