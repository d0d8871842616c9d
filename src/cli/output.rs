//! What the tool prints: text for people, JSON for programs, and questions.
//!
//! Names and paths may come from anybody, so everything is escaped here, on its way to the terminal.

use std::env;
use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::Value;

use super::{Color, Globals, UsageError};
use crate::quoting::{Escaped, is_unprintable};

/// The number of the JSON format: a field once published keeps its name and its meaning.
pub(super) const SCHEMA: u32 = 1;

/// How a piece of text is shown where colours are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Heading,
    Good,
    Quiet,
    Warning,
    Bad,
}

impl Style {
    fn start(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Quiet => "\x1b[2m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// A cell of a table.
pub(super) struct Cell(pub(super) Style, pub(super) String);

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self(Style::Plain, text.into())
    }
}

/// Where answers go.
pub(super) struct Output {
    color: bool,
    /// Whether the answer is JSON, and nothing else may be printed.
    pub(super) is_json: bool,
    /// Whether to say more.
    pub(super) verbose: bool,
}

impl Output {
    pub(super) fn new(globals: &Globals) -> Self {
        let color = match globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                io::stdout().is_terminal()
                    && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self { color, is_json: globals.json, verbose: globals.verbose }
    }

    /// One line of text; in JSON mode nothing.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.styled(Style::Plain, text)
    }

    /// One line in a style.
    pub(super) fn styled(&mut self, style: Style, text: impl AsRef<str>) -> io::Result<()> {
        if self.is_json {
            return Ok(());
        }
        plain(format!("{}\n", self.painted(style, &escaped(text.as_ref()))).as_bytes())
    }

    /// A word in a style, then text.
    pub(super) fn tagged(&mut self, style: Style, word: &str, text: impl AsRef<str>) -> io::Result<()> {
        if self.is_json {
            return Ok(());
        }
        let line = format!("{} {}\n", self.painted(style, &escaped(word)), escaped(text.as_ref()));
        plain(line.as_bytes())
    }

    /// Columns as wide as their widest cell, two blanks apart.
    pub(super) fn table(&mut self, headings: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
        if self.is_json {
            return Ok(());
        }
        let headings = headings.iter().map(|heading| Cell(Style::Heading, (*heading).into())).collect();
        let rows: Vec<Vec<(Style, String)>> = std::iter::once(&headings)
            .chain(rows)
            .map(|row: &Vec<Cell>| row.iter().map(|Cell(style, text)| (*style, escaped(text))).collect())
            .collect();
        let mut widths: Vec<usize> = Vec::new();
        for row in &rows {
            for (column, (_, text)) in row.iter().enumerate() {
                let width = text.chars().count();
                match widths.get_mut(column) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        for row in &rows {
            let mut line = String::new();
            for (column, (style, text)) in row.iter().enumerate() {
                line.push_str(&self.painted(*style, text));
                if column + 1 < row.len() {
                    let width = widths.get(column).copied().unwrap_or(0) + 2;
                    line.push_str(&" ".repeat(width.saturating_sub(text.chars().count())));
                }
            }
            plain(format!("{}\n", line.trim_end()).as_bytes())?;
        }
        Ok(())
    }

    /// Asks whether to go on. Where nobody can answer, that is an error, and `yes` answers beforehand.
    pub(super) fn ask(&mut self, yes: bool, question: &str) -> anyhow::Result<bool> {
        if yes {
            return Ok(true);
        }
        if self.is_json || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            let sentence = "nothing was changed: there is no terminal to ask at; --yes answers beforehand";
            return Err(UsageError(sentence.into()).into());
        }
        plain(format!("{question} [y/N] ").as_bytes())?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn painted(&self, style: Style, text: &str) -> String {
        match style.start() {
            start if self.color && !start.is_empty() => format!("{start}{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// A JSON answer.
pub(super) fn json(value: &Value) -> io::Result<()> {
    let mut text = String::new();
    for character in serde_json::to_string_pretty(value)?.chars() {
        // What is left of these stands within strings.
        if is_unprintable(character) && character != '\n' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(character);
        }
    }
    text.push('\n');
    plain(text.as_bytes())
}

/// Bytes to stdout, at once: a closed pipe shows here.
pub(super) fn plain(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// A sentence to stderr.
pub(super) fn complain(sentence: &str) {
    complain_at_length(&format!("cargo-targetctl: {}\n", escaped(sentence)));
}

/// Text of several lines to stderr.
pub(super) fn complain_at_length(text: &str) {
    let lines: Vec<String> = text.split('\n').map(escaped).collect();
    let _ = io::stderr().write_all(lines.join("\n").as_bytes());
}

/// What a terminal is shown of a name, a path or a message.
pub(super) fn escaped(text: &str) -> String {
    Escaped(text).to_string()
}
