//! How names and paths are shown that come from directory services, configurations and other users: somebody
//! reads them in a terminal, and pastes a remedy into a root shell.

use std::fmt::{self, Display, Formatter, Write as _};

/// Text in which nothing can forge a line, steer a terminal, or pass for other text: control characters, and
/// those that reorder or hide what stands beside them, are escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_unprintable(character) {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Control characters, and what reorders or hides text.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A word that a shell takes for this text, whatever is in it.
pub(crate) struct ShellWord<'a>(pub(crate) &'a str);

impl Display for ShellWord<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | ',');
        if self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "'{}'", self.0.replace('\'', r"'\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_can_steer_a_terminal() {
        for (text, shown) in [
            ("a\x1b[2Jb\u{9b}1m\u{202e}c\r\n", r"a\u{1b}[2Jb\u{9b}1m\u{202e}c\u{d}\u{a}"),
            ("a\u{2028}b\u{200f}\u{feff}\u{61c}", r"a\u{2028}b\u{200f}\u{feff}\u{61c}"),
            ("Zoë/ß 木 \\ {} %s", "Zoë/ß 木 \\ {} %s"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
    }

    #[test]
    fn advice_can_be_pasted_into_a_root_shell() {
        for (path, word) in [
            ("/srv/a-b_c.d+e@f,g", "/srv/a-b_c.d+e@f,g"),
            ("/srv/a b", "'/srv/a b'"),
            ("/srv/$(reboot)", "'/srv/$(reboot)'"),
            ("/srv/it's;x", r"'/srv/it'\''s;x'"),
            ("/srv/DOM\\jo", "'/srv/DOM\\jo'"),
            ("/srv/größe", "'/srv/größe'"),
        ] {
            assert_eq!(ShellWord(path).to_string(), word);
        }
    }
}
