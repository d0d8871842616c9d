//! A path in a command that a log line gives as the remedy: somebody may paste it into a root shell, and names
//! come from directory services and configurations.

use std::fmt::{self, Display, Formatter};

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
