//! What listings print: rows with the field names of the documented JSON, and aligned tables for people.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use std::io::Write;

/// A task, as `tasks list` and `tasks show` print it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskRow {
    /// Its name.
    pub task_id: String,
    /// Its actor.
    pub actor_name: String,
    /// Its schedule, as in the configuration.
    pub schedule: Value,
    /// Its schedule in words.
    pub schedule_text: String,
    /// When its last attempt started.
    pub last_run: Option<DateTime<Utc>>,
    /// The nominal time of its next occurrence; null: never again.
    pub next_run: Option<DateTime<Utc>>,
    /// Failed executions in a row.
    pub consecutive_failures: u32,
    /// Whether its occurrences are left alone.
    pub is_paused: bool,
    /// Why: `operator`, `breaker` or `definition`.
    pub pause_reason: Option<String>,
    /// `closed`, `open` or `half_open`.
    pub breaker: String,
    /// The row's last change.
    pub updated_at: DateTime<Utc>,
}

/// An execution, as `tasks history` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutionRow {
    /// Its number.
    pub id: i64,
    /// Its task.
    pub task_id: String,
    /// Its actor.
    pub actor_name: String,
    /// What started it: `schedule`, `probe`, `manual` or `event`.
    pub trigger: String,
    /// The nominal time, if the schedule started it.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// When its first attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// `succeeded`, `failed`, `skipped` or `cancelled`; null while it is open.
    pub outcome: Option<String>,
    /// Why it was skipped.
    pub skip_reason: Option<String>,
    /// Whether it succeeded; null where nothing was tried to the end.
    pub success: Option<bool>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// Skills that ended well.
    pub skills_succeeded: u32,
    /// Skills that failed.
    pub skills_failed: u32,
    /// Skills that were disabled or not reached.
    pub skills_skipped: u32,
    /// Attempts so far.
    pub attempt: u32,
    /// The node of the last attempt.
    pub node: Option<String>,
    /// What else is known: each skill's word.
    pub metadata: Value,
}

/// A post, as `posts list` and `posts show` print it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PostRow {
    /// Its number.
    pub id: i64,
    /// The task that made it.
    pub task_id: String,
    /// The execution that made it.
    pub execution_id: i64,
    /// The platform.
    pub platform: String,
    /// The place on it.
    pub destination: String,
    /// `pending`, `deferred`, `sending`, `posted`, `failed`, `needs_review` or `skipped`.
    pub state: String,
    /// Why it is not posted.
    pub reason: Option<String>,
    /// The text.
    pub content: String,
    /// What the platform answered.
    pub receipt: Option<Value>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When the platform says that it was posted.
    pub posted_at: Option<DateTime<Utc>>,
}

/// A row of a table for people.
pub trait Row {
    /// The columns' names.
    const COLUMNS: &'static [&'static str];

    /// A cell for each column.
    fn cells(&self) -> Vec<String>;
}

impl Row for TaskRow {
    const COLUMNS: &'static [&'static str] =
        &["TASK", "ACTOR", "SCHEDULE", "LAST RUN", "NEXT RUN", "FAILURES", "STATE"];

    fn cells(&self) -> Vec<String> {
        let state = match (&self.pause_reason, self.is_paused) {
            (Some(reason), true) => format!("paused ({reason})"),
            (None, true) => "paused".to_owned(),
            (_, false) => "active".to_owned(),
        };
        vec![
            self.task_id.clone(),
            self.actor_name.clone(),
            self.schedule_text.clone(),
            time_or(self.last_run, "never"),
            time_or(self.next_run, "never"),
            self.consecutive_failures.to_string(),
            state,
        ]
    }
}

impl Row for ExecutionRow {
    const COLUMNS: &'static [&'static str] =
        &["ID", "TRIGGER", "SCHEDULED FOR", "STARTED", "COMPLETED", "OUTCOME", "SKILLS", "NODE", "ERROR"];

    fn cells(&self) -> Vec<String> {
        let outcome = match (&self.outcome, &self.skip_reason) {
            (Some(outcome), Some(reason)) => format!("{outcome} ({reason})"),
            (Some(outcome), None) => outcome.clone(),
            (None, _) => "open".to_owned(),
        };
        let skills = format!("{}/{}/{}", self.skills_succeeded, self.skills_failed, self.skills_skipped);
        vec![
            self.id.to_string(),
            self.trigger.clone(),
            time_or(self.scheduled_for, "-"),
            time_or(self.started_at, "-"),
            time_or(self.completed_at, "-"),
            outcome,
            skills,
            self.node.clone().unwrap_or_else(|| "-".to_owned()),
            self.error_message.clone().unwrap_or_default(),
        ]
    }
}

impl Row for PostRow {
    const COLUMNS: &'static [&'static str] =
        &["ID", "TASK", "EXECUTION", "DESTINATION", "STATE", "CREATED", "POSTED", "CONTENT"];

    fn cells(&self) -> Vec<String> {
        let state = match &self.reason {
            Some(reason) => format!("{} ({reason})", self.state),
            None => self.state.clone(),
        };
        vec![
            self.id.to_string(),
            self.task_id.clone(),
            self.execution_id.to_string(),
            format!("{}:{}", self.platform, self.destination),
            state,
            time_or(Some(self.created_at), "-"),
            time_or(self.posted_at, "-"),
            beginning(&self.content),
        ]
    }
}

fn time_or(time: Option<DateTime<Utc>>, nothing: &str) -> String {
    time.map_or_else(|| nothing.to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Enough of a text to recognise it.
fn beginning(text: &str) -> String {
    const CHARS: usize = 60;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Prints `value` as JSON, for people and programs.
///
/// # Errors
/// When `out` can't be written.
pub fn write_json(value: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(value)?;
    Ok(writeln!(out, "{}", inert(&json))?)
}

/// The same JSON, with what a terminal would obey as an escape. JSON itself escapes only control characters of ASCII.
fn inert(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if (c.is_control() && !c.is_ascii()) || c == '\u{7f}' || is_direction(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Prints rows as an aligned table.
///
/// # Errors
/// When `out` can't be written.
pub fn write_table<R: Row>(rows: &[R], out: &mut impl Write) -> anyhow::Result<()> {
    let header = R::COLUMNS.iter().map(|column| (*column).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows.iter().map(|row| row.cells().iter().map(|cell| visible(cell)).collect()))
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..R::COLUMNS.len()).map(width).collect();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}

/// The text on one line, with everything that a terminal would obey written as an escape: content comes from outside.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_direction(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Characters that make text run the other way, and so show something else than what is there.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn task() -> TaskRow {
        TaskRow {
            task_id: "daily_poster".into(),
            actor_name: "daily".into(),
            schedule: json!({ "type": "Interval", "seconds": 60 }),
            schedule_text: "every minute".into(),
            last_run: None,
            next_run: Some(time("2026-01-02T03:04:05Z")),
            consecutive_failures: 5,
            is_paused: true,
            pause_reason: Some("breaker".into()),
            breaker: "open".into(),
            updated_at: time("2026-01-01T00:00:00Z"),
        }
    }

    fn execution() -> ExecutionRow {
        ExecutionRow {
            id: 7,
            task_id: "daily_poster".into(),
            actor_name: "daily".into(),
            trigger: "schedule".into(),
            scheduled_for: Some(time("2026-01-02T03:04:05Z")),
            started_at: Some(time("2026-01-02T03:04:05.001Z")),
            completed_at: Some(time("2026-01-02T03:04:06Z")),
            outcome: Some("failed".into()),
            skip_reason: None,
            success: Some(false),
            error_message: Some("no table \"facts\"".into()),
            skills_succeeded: 1,
            skills_failed: 1,
            skills_skipped: 2,
            attempt: 3,
            node: Some("host-1".into()),
            metadata: Value::Null,
        }
    }

    fn post(content: &str) -> PostRow {
        PostRow {
            id: 12,
            task_id: "welcome".into(),
            execution_id: 7,
            platform: "console".into(),
            destination: "stdout".into(),
            state: "needs_review".into(),
            reason: Some("nobody can tell".into()),
            content: content.into(),
            receipt: None,
            created_at: time("2026-01-02T03:04:05Z"),
            posted_at: None,
        }
    }

    fn table<R: Row>(rows: &[R]) -> String {
        let mut out = Vec::new();
        write_table(rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_are_aligned() {
        let short = TaskRow {
            task_id: "a".into(),
            is_paused: false,
            pause_reason: None,
            consecutive_failures: 0,
            ..task()
        };
        assert_eq!(
            table(&[task(), short]),
            "\
TASK          ACTOR  SCHEDULE      LAST RUN  NEXT RUN              FAILURES  STATE
daily_poster  daily  every minute  never     2026-01-02T03:04:05Z  5         paused (breaker)
a             daily  every minute  never     2026-01-02T03:04:05Z  0         active
"
        );
        assert_eq!(
            table(&[execution()]),
            "\
ID  TRIGGER   SCHEDULED FOR         STARTED               COMPLETED             OUTCOME  SKILLS  NODE    ERROR
7   schedule  2026-01-02T03:04:05Z  2026-01-02T03:04:05Z  2026-01-02T03:04:06Z  failed   1/1/2   host-1  no table \"facts\"
"
        );
    }

    #[test]
    fn an_empty_list_still_has_its_header() {
        assert_eq!(
            table::<PostRow>(&[]),
            "ID  TASK  EXECUTION  DESTINATION  STATE  CREATED  POSTED  CONTENT\n"
        );
    }

    #[test]
    fn content_can_not_command_the_terminal() {
        let shown = table(&[post("red \u{1b}[31m\nnew line \u{9b}2J \u{202e}txt")]);
        assert!(shown.contains(r"red \u{1b}[31m\nnew line \u{9b}2J \u{202e}txt"), "{shown}");
        assert_eq!(shown.lines().count(), 2);
    }

    #[test]
    fn json_can_not_command_the_terminal_and_stays_the_same_json() {
        let row = post("\u{1b}[31m \u{9b}2J \u{7f} \u{202e}txt");
        let mut out = Vec::new();
        write_json(&row, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || is_direction(c)), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["content"], row.content);
    }

    #[test]
    fn long_content_is_cut_in_tables_only() {
        let long = "ä".repeat(100);
        assert!(table(&[post(&long)]).trim_end().ends_with(&format!("{}…", "ä".repeat(60))));
        assert_eq!(serde_json::to_value(post(&long)).unwrap()["content"], long);
    }

    #[test]
    fn json_has_the_documented_fields() {
        let keys = |value: Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let task = serde_json::to_value(task()).unwrap();
        for field in
            ["task_id", "actor_name", "schedule", "last_run", "next_run", "consecutive_failures", "is_paused"]
        {
            assert!(task.get(field).is_some(), "{field}");
        }
        assert_eq!(task["next_run"], "2026-01-02T03:04:05Z");
        let execution = keys(serde_json::to_value(execution()).unwrap());
        for field in [
            "id",
            "task_id",
            "trigger",
            "scheduled_for",
            "started_at",
            "completed_at",
            "outcome",
            "success",
            "error_message",
            "skills_succeeded",
            "skills_failed",
            "skills_skipped",
            "node",
        ] {
            assert!(execution.iter().any(|key| key == field), "{field}");
        }
        let post = keys(serde_json::to_value(post("")).unwrap());
        for field in [
            "id",
            "task_id",
            "execution_id",
            "platform",
            "destination",
            "state",
            "content",
            "receipt",
            "created_at",
            "posted_at",
        ] {
            assert!(post.iter().any(|key| key == field), "{field}");
        }
    }
}
