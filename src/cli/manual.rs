//! The manual: prose by hand, in man(7), and the options from what decides them: the command line's own
//! description, and the table of [keys](crate::config::KEYS).
//!
//! A page is clean by `mandoc -Tlint`, whatever is put into it.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory as _, ValueEnum};

use super::output;
use super::{Arguments, Exit};
use crate::config::{KEYS, Key};

/// The pages of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Page {
    /// Section 8: the tool
    #[value(name = "cargo-targetctl")]
    Tool,
    /// Section 8: the module
    #[value(name = "pam_cargo_target")]
    Module,
    /// Section 5: the file
    #[value(name = "cargo-target.conf")]
    Conf,
}

/// The line of a page's prose that the keys replace.
const KEYS_HERE: &str = ".\\\" KEYS";

/// The column that mandoc wants no line of text to reach, after `groff_man_style(7)`.
const LINE_LENGTH: usize = 80;

/// When the manual was last revised: the date of the topmost release.
const CHANGELOG: &str = include_str!("../../CHANGELOG.md");

pub(super) fn print(page: Page) -> anyhow::Result<Exit> {
    output::plain(render(page).as_bytes())?;
    Ok(Exit::Fine)
}

fn render(page: Page) -> String {
    let (name, section, body) = match page {
        Page::Tool => ("CARGO-TARGETCTL", 8, tool() + include_str!("manual.roff")),
        Page::Module => ("PAM_CARGO_TARGET", 8, include_str!("manual/pam_cargo_target.roff").to_owned()),
        Page::Conf => ("CARGO-TARGET.CONF", 5, include_str!("manual/cargo-target.conf.roff").to_owned()),
    };
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(".TH {name} {section} {} \"pam_cargo_target {version}\"\n", revised());
    filled(&(head + &body.replace(KEYS_HERE, keys().trim_end())))
}

/// `## [VERSION] - DATE`, the first that has one.
fn revised() -> &'static str {
    let headings = CHANGELOG.lines().filter_map(|line| line.strip_prefix("## ["));
    headings.filter_map(|heading| heading.split_once("] - ")).map(|(_, date)| date).next().unwrap_or_default()
}

/// The keys of the file, each with its default.
fn keys() -> String {
    let mut page = String::new();
    for Key { name, default, meaning } in KEYS {
        let _ = write!(page, ".TP\n.B {}\n{}", escaped(name), sentences(meaning));
        let _ = write!(page, "Default: {}", sentences(default));
    }
    page
}

/// The page of the tool, as far as its options.
fn tool() -> String {
    let command = Arguments::command();
    let name = escaped(command.get_name());
    let mut page = format!(".SH NAME\n{name} \\- set up, explain and check pam_cargo_target\n");
    let _ = write!(page, ".SH SYNOPSIS\n.B {name}\n[\\fIGLOBAL OPTIONS\\fR] \\fICOMMAND\\fR ...\n");
    let _ = write!(page, ".SH DESCRIPTION\n{}", sentences(&about(&command)));
    page.push_str(
        "It decides nothing itself: it asks the code that runs at a login.\n.SH \"GLOBAL OPTIONS\"\n",
    );
    page.push_str("They stand before or after the command.\n");
    let (everywhere, own): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().partition(|arg| arg.is_global_set());
    page.extend(everywhere.into_iter().chain(own).map(option));
    let _ = write!(page, ".TP\n{}\nPrint help.\n", bold("-h, --help"));
    let _ = write!(page, ".TP\n{}\nPrint the version.\n", bold("-V, --version"));
    page.push_str(".SH COMMANDS\n");
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let arguments: Vec<&Arg> = subcommand.get_arguments().filter(|arg| !arg.is_global_set()).collect();
        let synopsis: Vec<String> = arguments.iter().map(|arg| usage(arg)).collect();
        let _ = writeln!(page, ".SS {}", escaped(subcommand.get_name()));
        let _ = writeln!(page, ".B {name} {}\n{}", escaped(subcommand.get_name()), synopsis.join("\n"));
        let _ = write!(page, ".PP\n{}", sentences(&about(subcommand)));
        page.extend(arguments.into_iter().map(option));
    }
    page
}

/// The long description, or the short one.
fn about(command: &Command) -> String {
    command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default()
}

/// What a user types for an argument: `-y, --yes`, `--root PATH`, `USER...`.
fn spelling(arg: &Arg) -> String {
    let names =
        [arg.get_short().map(|name| format!("-{name}")), arg.get_long().map(|name| format!("--{name}"))];
    let names: Vec<String> = names.into_iter().flatten().collect();
    let values: Vec<&str> = arg.get_value_names().unwrap_or_default().iter().map(AsRef::as_ref).collect();
    let value = if matches!(arg.get_action(), ArgAction::SetTrue) { String::new() } else { values.join(" ") };
    match (names.is_empty(), value.is_empty()) {
        (false, true) => bold(&names.join(", ")),
        (false, false) => format!("{} {}", bold(&names.join(", ")), italic(&value)),
        (true, _) => italic(&value),
    }
}

fn usage(arg: &Arg) -> String {
    let dots = if matches!(arg.get_action(), ArgAction::Append) { " ..." } else { "" };
    if arg.is_required_set() {
        format!("{}{dots}", spelling(arg))
    } else {
        format!("[{}{dots}]", spelling(arg))
    }
}

fn option(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut entry = format!(".TP\n{}\n{}", spelling(arg), sentences(&help));
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return entry;
    }
    let values = arg.get_possible_values();
    let values: Vec<String> = values.iter().map(|value| bold(value.get_name())).collect();
    if !values.is_empty() {
        let _ = writeln!(entry, "One of {}.", values.join(", "));
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| bold(&value.to_string_lossy())).collect();
    if !defaults.is_empty() {
        let _ = writeln!(entry, "Default: {}.", defaults.join(" "));
    }
    entry
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escaped(text))
}

/// Paragraphs of text in which `code` stands in backquotes; a stop after each.
fn sentences(text: &str) -> String {
    let paragraph = |text: &str| {
        let text = text.trim_end_matches('.');
        let pieces = text.split('`').enumerate();
        let set = |(index, piece)| if index % 2 == 0 { escaped(piece) } else { bold(piece) };
        pieces.map(set).collect::<String>() + ".\n"
    };
    text.split("\n\n").map(paragraph).collect::<Vec<_>>().join(".PP\n")
}

/// Text in which roff sees nothing but text.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

/// The page with no line of text too long, as roff fills lines anyway.
fn filled(page: &str) -> String {
    let mut filled = String::new();
    for line in page.lines() {
        let mut column = 0;
        let is_text = !line.starts_with(['.', '\'']);
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            // A line that started with a dot would be a request.
            let breaks = is_text && column + 1 + word.len() > LINE_LENGTH && !word.starts_with(['.', '\'']);
            if column > 0 {
                filled.push(if breaks { '\n' } else { ' ' });
            }
            column = if breaks { word.len() } else { column + usize::from(column > 0) + word.len() };
            filled.push_str(word);
        }
        filled.push('\n');
    }
    filled
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    const CONF: &str = include_str!("../../packaging/cargo-target.conf");
    const README: &str = include_str!("../../README.md");

    #[test]
    fn readme_describes_every_key_as_the_manual_does() {
        for Key { name, default, meaning } in KEYS {
            let row = format!("| `{name}` | {default} | {meaning} |");
            assert!(README.lines().any(|line| line == row), "README.md lacks this row:\n{row}");
        }
    }

    #[test]
    fn shipped_conf_shows_every_key_with_its_default() {
        for Key { name, default, .. } in KEYS {
            let value = default.trim_matches('`');
            let shown =
                if value.len() < default.len() { format!("#{name} = {value}") } else { format!("#{name}") };
            let is_shown =
                |line: &str| line == shown || value == default && line.starts_with(&format!("{shown} = "));
            assert!(CONF.lines().any(is_shown), "packaging/cargo-target.conf does not show {shown}");
        }
    }

    #[test]
    fn manual_is_of_the_topmost_release() {
        let heading = format!("## [{}] - {}", env!("CARGO_PKG_VERSION"), revised());
        assert!(CHANGELOG.lines().any(|line| line == heading), "CHANGELOG.md lacks: {heading}");
        assert_eq!(revised().len(), "2026-01-01".len());
    }

    #[test]
    fn long_lines_are_broken_where_roff_sees_no_difference() {
        let word = "x".repeat(30);
        assert_eq!(filled(&format!("{word} {word} {word} .PP\n")), format!("{word} {word}\n{word} .PP\n"));
        let request = format!(".B {word} {word} {word}\n");
        assert_eq!(filled(&request), request);
        assert_eq!(escaped("-a\\'"), "\\-a\\e\\(aq");
        assert_eq!(sentences("see `-x`\n\nthen."), "see \\fB\\-x\\fR.\n.PP\nthen.\n");
    }
}
