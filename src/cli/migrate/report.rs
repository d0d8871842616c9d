//! What `migrate` says: the plan before, the progress meanwhile, and the summary after.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::busy::user_name;
use super::copy::Kept;
use super::settle::Done;
use super::source::Source;
use super::staging::Way;
use super::survey::{Facts, Sample, Share};
use super::{Arguments, Exit, Target, free_space};
use crate::cli::output::{self, Output, SCHEMA, Style};
use crate::ffi;

/// All there is to say about one run.
#[allow(clippy::struct_excessive_bools, reason = "each is a field of the JSON answer")]
pub(super) struct Report {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    user: String,
    dry_run: bool,
    only_owned: bool,
    /// Whether anything was changed.
    pub(super) begun: bool,
    pub(super) resumed: bool,
    pub(super) already: bool,
    pub(super) declined: bool,
    pub(super) stopped: Vec<String>,
    pub(super) root_changes: Vec<String>,
    pub(super) facts: Option<Facts>,
    pub(super) entries: u64,
    way: Option<Way>,
    /// Lines of the plan.
    plan: Vec<(Style, String)>,
    found: Value,
    warnings: Vec<String>,
    /// Of the warnings, those that came up on the way.
    late: Vec<String>,
    pub(super) copied_bytes: Option<u64>,
    pub(super) set_aside: Option<String>,
    /// What changed in the source of a copy, so that the source was kept.
    pub(super) kept: Kept,
    /// How many files `--only-owned` left.
    pub(super) left: Option<u64>,
    pub(super) link: bool,
    done: Value,
    is_done: bool,
}

impl Report {
    pub(super) fn new(arguments: &Arguments) -> Self {
        Self {
            from: None,
            to: None,
            user: arguments.to_user.clone(),
            dry_run: arguments.dry_run,
            only_owned: arguments.only_owned,
            begun: false,
            resumed: false,
            already: false,
            declined: false,
            stopped: Vec::new(),
            root_changes: Vec::new(),
            facts: None,
            entries: 0,
            way: None,
            plan: Vec::new(),
            found: Value::Null,
            warnings: Vec::new(),
            late: Vec::new(),
            copied_bytes: None,
            set_aside: None,
            kept: Kept::default(),
            left: None,
            link: false,
            done: Value::Null,
            is_done: false,
        }
    }

    /// Notes what was found, and what follows from it.
    pub(super) fn survey(
        &mut self,
        source: &Source,
        target: &Target,
        facts: &Facts,
        way: Way,
        inside: Vec<String>,
    ) -> anyhow::Result<()> {
        self.entries = facts.entries();
        self.way = Some(way);
        let mut say = |text: String| self.plan.push((Style::Plain, text));
        say(format!(
            "{}, {}, {}; {} on the disk",
            counted(facts.files, "file", "files"),
            counted(facts.directories, "directory", "directories"),
            counted(facts.symlinks, "symbolic link", "symbolic links"),
            size(facts.bytes)
        ));
        let owners: Vec<String> = facts
            .owners
            .iter()
            .map(|(uid, share)| format!("{} {} ({})", user_name(*uid), share.entries, size(share.bytes)))
            .collect();
        say(format!("owners: {}", owners.join(", ")));
        if let Some(((seconds, _), uid)) = facts.newest {
            say(format!("last built by {}, {}", user_name(uid), date(seconds)));
        }
        if !source.stays.is_empty() {
            say(format!("stays where it is: {}", source.stays.join(", ")));
        }
        let free = free_space(target)?;
        say(match way {
            Way::Rename | Way::RenameEach => "how: renamed, then made the user's where it is".into(),
            Way::RenameOwn => format!("how: the files of {} are renamed; what is others' stays", target.user),
            Way::Copy => format!(
                "how: copied, since it is on another file system: {} needed, {} free; the old one is removed last",
                size(facts.bytes),
                size(free)
            ),
        });
        let quota = ffi::quota_left(&target.directory, target.owner.uid);
        let is_charged = |(uid, _): &(&u32, &Share)| way == Way::Copy || **uid != target.owner.uid;
        let charged = facts.owners.iter().filter(is_charged).map(|(_, share)| share.bytes).sum();
        if let Some(left) = quota.filter(|left| *left < charged && way != Way::RenameOwn) {
            self.warnings.push(format!(
                "{} more will count against {}'s disk quota, which has {} left: nothing more can be built there until it \
                 is raised",
                size(charged),
                target.user,
                size(left)
            ));
        }
        let mut number = |what: &str, count: u64| {
            if count > 0 {
                say(format!("{what}: {count}"));
            }
        };
        number("lose the write permission of group or others", facts.writable);
        number("directories that lose their set-group-ID bit", facts.set_gid_directories);
        number("outputs of build scripts that are rewritten, since they name the old path", facts.outputs);
        number("names of files that have others outside the tree: these are copied", facts.linked_outside);
        let mut examples = |what: &str, sample: &Sample| {
            if sample.count > 0 {
                let more = if sample.count > sample.paths.len() as u64 { ", ..." } else { "" };
                say(format!("{what}: {} ({}{more})", sample.count, sample.paths.join(", ")));
            }
        };
        examples("lose their set-user-ID or set-group-ID bit", &facts.set_id);
        examples("directories that lose their ACL, as does what is in them", &facts.acls);
        examples("absolute symbolic links, which stay as they are", &facts.absolute_symlinks);
        examples("symbolic links that lead out of the tree, which stay as they are", &facts.leaving_symlinks);
        let is_others = |(uid, share): &(&u32, &Share)| **uid != target.owner.uid && share.files > 0;
        let others: Vec<String> =
            facts.owners.iter().filter(is_others).map(|(uid, _)| user_name(*uid)).collect();
        if !others.is_empty() && !self.only_owned {
            self.warnings.push(format!(
                "what {} built will run as {} from now on, build scripts and proc-macros included",
                others.join(", "),
                target.user
            ));
        }
        if self.only_owned {
            self.warnings.push(format!(
                "{} of which something is others' will be built again",
                counted(facts.others_units.len() as u64, "unit", "units")
            ));
        }
        if source.there.as_ref().is_some_and(|found| found.is_mount_point) {
            self.warnings.push(format!("{} is a mount point: it is emptied, and stays", source.path));
        }
        for process in inside {
            self.warnings.push(format!("{process}: it can still read there, and write nothing"));
        }
        self.found = json!({
            "files": facts.files, "directories": facts.directories, "symlinks": facts.symlinks, "bytes": facts.bytes,
            "owners": facts.owners.iter().map(|(uid, share)| json!({
                "uid": uid, "user": user_name(*uid), "entries": share.entries, "bytes": share.bytes,
            })).collect::<Vec<_>>(),
            "writable_by_others": facts.writable, "set_id": sample(&facts.set_id),
            "set_gid_directories": facts.set_gid_directories, "acls": sample(&facts.acls),
            "linked_outside": facts.linked_outside,
            "absolute_symlinks": sample(&facts.absolute_symlinks),
            "leaving_symlinks": sample(&facts.leaving_symlinks), "outputs_naming_the_old_path": facts.outputs,
            "free_bytes": free, "quota_left_bytes": quota, "stays": source.stays,
        });
        Ok(())
    }

    /// Shows what will be done.
    pub(super) fn tell_plan(&self, target: &Target, output: &mut Output) -> anyhow::Result<()> {
        let from = self.from.as_deref().unwrap_or_default();
        output.styled(Style::Heading, format!("{from} becomes {}'s {}", target.user, target.path))?;
        for (style, line) in &self.plan {
            output.styled(*style, format!("    {line}"))?;
        }
        for change in &self.root_changes {
            output.line(format!("    before: {change}"))?;
        }
        output.line("    stays to be done by cargo: the first edit of each workspace crate redoes its code generation")?;
        for warning in &self.warnings {
            output.tagged(Style::Warning, "note:", warning)?;
        }
        Ok(())
    }

    /// Notes what was done to the tree.
    pub(super) fn done(&mut self, done: &Done) {
        let number = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        self.entries = number(&done.entries);
        self.done = json!({
            "entries": number(&done.entries), "given": number(&done.given), "modes": number(&done.modes),
            "acls": number(&done.acls),
            "copied_for_links_outside": number(&done.linked_outside),
            "copied_for_writers": number(&done.written_to),
        });
        let written_to = number(&done.written_to);
        if written_to > 0 {
            self.warn(format!(
                "{} copied, since somebody may have had {} open for writing: what they write now is in no file of {}'s",
                counted(written_to, "file was", "files were"),
                if written_to == 1 { "it" } else { "them" },
                self.user
            ));
        }
    }

    /// Says what was done, and what to tell the team.
    pub(super) fn finished(
        &mut self,
        target: &Target,
        took: Duration,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        self.is_done = true;
        let from = self.from.clone().unwrap_or_default();
        let to = &target.path;
        output.styled(Style::Good, format!("{to} is ready ({}).", seconds(took)))?;
        if self.entries > 0 && !output.is_json {
            let copied =
                self.copied_bytes.map_or_else(String::new, |bytes| format!(", {} copied", size(bytes)));
            output.line(format!("    {}{copied}", counted(self.entries, "entry", "entries")))?;
        }
        if self.link {
            output.line(format!("    {from} is a symbolic link to it"))?;
        }
        if let Some(left) = self.left {
            output.line(format!(
                "    {} of others, or of units that others share, stayed in {from}",
                counted(left, "file", "files")
            ))?;
        }
        if let Some(aside) = &self.set_aside {
            output.line(format!("    what {} had is kept in {aside}", target.user))?;
        }
        if self.kept.count > 0 {
            let more = if self.kept.count > self.kept.paths.len() as u64 { ", ..." } else { "" };
            self.warn(format!(
                "{from} stays as it is, root's, since something there is not what was copied: {}{more}; look at it, \
                 then remove {from}",
                self.kept.paths.join(", ")
            ));
        }
        for warning in &self.late {
            output.tagged(Style::Warning, "note:", warning)?;
        }
        output.styled(Style::Heading, "Next:")?;
        output
            .line("    take out whatever set the old CARGO_TARGET_DIR, or it wins: cargo-targetctl doctor")?;
        output.styled(Style::Heading, "Tell the team:")?;
        output
            .line(format!("    {}'s next login builds in {to}, and finds everything fresh", target.user))?;
        output.line("    everybody else's next login starts with an empty directory of their own")?;
        output.line("    whoever is logged in keeps the old CARGO_TARGET_DIR until then")?;
        Ok(())
    }

    /// In JSON mode, all of it.
    pub(super) fn print(&self, exit: Exit, output: &Output) -> anyhow::Result<()> {
        if !output.is_json {
            return Ok(());
        }
        let warnings = [self.warnings.as_slice(), &self.late].concat();
        Ok(output::json(&json!({
            "schema": SCHEMA, "command": "migrate", "from": self.from, "to": self.to, "user": self.user,
            "dry_run": self.dry_run, "only_owned": self.only_owned, "resumed": self.resumed,
            "already_migrated": self.already, "root_changes": self.root_changes, "found": self.found,
            "way": self.way.map(Way::word), "warnings": warnings, "done": self.is_done, "did": self.done,
            "copied_bytes": self.copied_bytes, "link_left": self.link, "files_left": self.left,
            "set_aside": self.set_aside, "source_kept_for": self.kept.paths,
            "source_changes": self.kept.count, "stopped": self.stopped, "exit": exit as u8,
        }))?)
    }

    /// Notes what came up on the way, for the end.
    pub(super) fn warn(&mut self, warning: String) {
        self.late.push(warning);
    }
}

fn sample(sample: &Sample) -> Value {
    json!({ "count": sample.count, "examples": sample.paths })
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10) / 1024;
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units.get(unit).copied().unwrap_or_default())
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// Year, month and day of a moment, in UTC (Howard Hinnant's algorithm for days since 1970).
fn civil(seconds: i64) -> (i64, i64, i64) {
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn date(seconds: i64) -> String {
    let (year, month, day) = civil(seconds);
    let minutes = seconds.rem_euclid(86_400) / 60;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// A moment as a part of a name.
pub(super) fn date_for_names(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(0);
    let (year, month, day) = civil(seconds);
    let of_day = seconds.rem_euclid(86_400);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// A bar on stderr, where that is a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    // indicatif takes the width of a rate for its decimals, of which it shows four where none is given.
    pub(super) fn of_entries(entries: u64) -> Self {
        Self::new(entries, "{bar:30} {human_pos}/{human_len} entries, {per_sec:0}, {eta} left")
    }

    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self::new(
            bytes,
            "{bar:30} {binary_bytes}/{binary_total_bytes} copied, {msg} files, {binary_bytes_per_sec}, {eta} left",
        )
    }

    fn new(length: u64, template: &str) -> Self {
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So many more entries.
    pub(super) fn done(&self, entries: u64) {
        self.0.inc(entries);
    }

    /// So many more files, and so many bytes in all.
    pub(super) fn copied(&self, files: &AtomicU64, bytes: u64) {
        if !self.0.is_hidden() {
            self.0.set_message(files.load(Ordering::Relaxed).to_string());
            self.0.set_position(bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_dates_are_for_people() {
        assert_eq!(size(0), "0.0 KiB");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3_704_000_000), "3.4 GiB");
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(-1), "1969-12-31 23:59 UTC");
        assert_eq!(date_for_names(Duration::from_secs(1_795_000_000)), "20261118-110640");
    }
}
