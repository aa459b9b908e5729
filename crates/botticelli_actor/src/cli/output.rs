//! What listings print: rows with the field names of the documented JSON, and aligned tables for people.

use botticelli_database::{AuditView, ExecutionView, PostAttemptView, PostView, TaskView, TokenView};
use botticelli_server::outbox::{Exchange, PlatformAnswer};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::io::Write;

/// A row of a table for people.
pub trait Row {
    /// The columns' names.
    const COLUMNS: &'static [&'static str];

    /// A cell for each column.
    fn cells(&self) -> Vec<String>;
}

impl Row for TaskView {
    const COLUMNS: &'static [&'static str] =
        &["TASK", "ACTOR", "ORIGIN", "SCHEDULE", "LAST RUN", "NEXT RUN", "FAILURES", "STATE"];

    fn cells(&self) -> Vec<String> {
        let state = match (self.pause_reason, self.is_paused, self.open_executions) {
            (Some(reason), true, _) => format!("paused ({})", reason.as_str()),
            (None, true, _) => "paused".to_owned(),
            (_, false, 0) => "active".to_owned(),
            (_, false, open) => format!("active ({open} open)"),
        };
        let waiting = match self.waiting_posts {
            0 => String::new(),
            posts => format!("; {} since {}", posts_wait(posts), time_or(self.waiting_since, "-")),
        };
        vec![
            self.task_id.to_string(),
            self.actor_name.to_string(),
            self.origin.as_str().to_owned(),
            self.schedule_text.clone(),
            time_or(self.last_run, "never"),
            time_or(self.next_run, "never"),
            self.consecutive_failures.to_string(),
            state + &waiting,
        ]
    }
}

/// So many, in words.
pub(super) fn posts_wait(posts: u64) -> String {
    if posts == 1 { "1 post waits".to_owned() } else { format!("{posts} posts wait") }
}

impl Row for ExecutionView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "TRIGGER", "SCHEDULED FOR", "STARTED", "COMPLETED", "OUTCOME", "SKILLS", "NODE", "ERROR"];

    fn cells(&self) -> Vec<String> {
        let outcome = match (&self.outcome, &self.skip_reason, self.waiting_until) {
            (Some(outcome), Some(reason), _) if self.occurrences > 1 => {
                format!("{outcome} ({reason}, {} times)", self.occurrences)
            }
            (Some(outcome), Some(reason), _) => format!("{outcome} ({reason})"),
            (Some(outcome), None, _) => outcome.clone(),
            (None, _, Some(_)) => "waiting".to_owned(),
            (None, _, None) => "running".to_owned(),
        };
        let skills = format!("{}/{}/{}", self.skills_succeeded, self.skills_failed, self.skills_skipped);
        vec![
            self.id.to_string(),
            self.trigger.as_str().to_owned(),
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

impl Row for PostView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "TASK", "EXECUTION", "DESTINATION", "STATE", "CREATED", "POSTED", "CONTENT"];

    fn cells(&self) -> Vec<String> {
        let state = match (&self.reason, self.waits_for) {
            (Some(reason), _) => format!("{} ({reason})", self.state.as_str()),
            (None, Some(other)) => format!("{} (after post {other})", self.state.as_str()),
            (None, None) => self.state.as_str().to_owned(),
        };
        vec![
            self.id.to_string(),
            self.task_id.to_string(),
            self.execution_id.to_string(),
            format!("{}:{}", self.platform, self.destination),
            state,
            time_or(Some(self.created_at), "-"),
            time_or(self.posted_at, "-"),
            beginning(&self.content),
        ]
    }
}

impl Row for PostAttemptView {
    const COLUMNS: &'static [&'static str] =
        &["ATTEMPT", "NODE", "SENT", "ENDED", "ANSWERS", "RESULT", "REASON"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.attempt.to_string(),
            self.node.clone(),
            time_or(Some(self.sent_at), "-"),
            time_or(self.ended_at, "-"),
            answers(self),
            self.ended.clone().unwrap_or_else(|| "under way".to_owned()),
            self.reason.clone().unwrap_or_default(),
        ]
    }
}

impl Row for TokenView {
    const COLUMNS: &'static [&'static str] = &["NAME", "SCOPE", "CREATED", "REVOKED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.scope.as_str().to_owned(),
            time_or(Some(self.created_at), "-"),
            time_or(self.revoked_at, "-"),
        ]
    }
}

impl Row for AuditView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "AT", "WHO", "FROM", "ACTION", "TARGET", "NOTE", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        let detail = if self.detail.is_null() { String::new() } else { self.detail.to_string() };
        vec![
            self.id.to_string(),
            time_or(Some(self.at), "-"),
            self.who.clone(),
            self.origin.clone(),
            self.action.clone(),
            self.target.clone().unwrap_or_default(),
            self.note.clone().unwrap_or_default(),
            detail,
        ]
    }
}

/// What the platform was asked, and the kind of its answers.
fn answers(attempt: &PostAttemptView) -> String {
    let answer = |exchange: &Exchange| {
        let answer = exchange.answer.map_or("no answer", PlatformAnswer::as_str);
        let details = [
            exchange.status.map(|status| format!("HTTP {status}")),
            exchange.code.map(|code| format!("code {code}")),
            exchange.message_id.as_ref().map(|id| format!("message {id}")),
        ];
        let details: Vec<_> = details.into_iter().flatten().collect();
        let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
        format!("{}: {answer}{details}", exchange.asked.as_str())
    };
    match &attempt.exchanges {
        Some(exchanges) if !exchanges.is_empty() => {
            exchanges.iter().map(answer).collect::<Vec<_>>().join(", ")
        }
        Some(_) if attempt.ended.is_some() => "nothing was asked".to_owned(),
        Some(_) | None => "-".to_owned(),
    }
}

/// To the second, or `nothing`.
pub fn time_or(time: Option<DateTime<Utc>>, nothing: &str) -> String {
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
    use botticelli_database::Origin;
    use botticelli_server::ids::{ActorName, ExecutionId, PostId, TaskId};
    use botticelli_server::ledger::Trigger;
    use botticelli_server::outbox::PostState;
    use botticelli_server::post::Receipt;
    use botticelli_server::schedule::{IntervalSchedule, ScheduleType};
    use botticelli_server::task::{Breaker, PauseReason};
    use serde_json::{Value, json};

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn task() -> TaskView {
        TaskView {
            task_id: TaskId::new("daily_poster").unwrap(),
            actor_name: ActorName::new("daily").unwrap(),
            origin: Origin::File,
            schedule: ScheduleType::Interval(IntervalSchedule::new(60).unwrap()),
            schedule_text: "every minute".into(),
            last_run: None,
            last_outcome: None,
            last_completed_at: None,
            next_run: Some(time("2026-01-02T03:04:05Z")),
            consecutive_failures: 5,
            is_paused: true,
            pause_reason: Some(PauseReason::Breaker),
            pause_note: None,
            breaker: Breaker::Open,
            open_executions: 0,
            waiting_posts: 0,
            waiting_since: None,
            waiting_reason: None,
            updated_at: time("2026-01-01T00:00:00Z"),
        }
    }

    fn execution() -> ExecutionView {
        ExecutionView {
            id: ExecutionId(7),
            task_id: TaskId::new("daily_poster").unwrap(),
            actor_name: ActorName::new("daily").unwrap(),
            trigger: Trigger::Schedule,
            scheduled_for: Some(time("2026-01-02T03:04:05Z")),
            scheduled_until: None,
            occurrences: 1,
            started_at: Some(time("2026-01-02T03:04:05.001Z")),
            completed_at: Some(time("2026-01-02T03:04:06Z")),
            outcome: Some("failed".into()),
            skip_reason: None,
            success: Some(false),
            error_message: Some("no table \"facts\"".into()),
            attempt: 3,
            node: Some("host-1".into()),
            waiting_until: None,
            skills_succeeded: 1,
            skills_failed: 1,
            skills_skipped: 2,
            metadata: json!({}),
        }
    }

    fn post(content: &str) -> PostView {
        PostView {
            id: PostId(12),
            task_id: TaskId::new("welcome").unwrap(),
            execution_id: ExecutionId(7),
            platform: "console".into(),
            destination: "stdout".into(),
            part: 0,
            first_part: 0,
            key: "k".into(),
            content: content.into(),
            extras: Default::default(),
            state: PostState::NeedsReview,
            reason: Some("nobody can tell".into()),
            deliver_at: None,
            follow_up_at: None,
            attempts: 1,
            node: None,
            receipt: None,
            marked_posted: false,
            waits_for: None,
            uncertain_since: None,
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
        let short = TaskView {
            task_id: TaskId::new("a").unwrap(),
            is_paused: false,
            pause_reason: None,
            consecutive_failures: 0,
            origin: Origin::Api,
            ..task()
        };
        assert_eq!(
            table(&[task(), short]),
            "\
TASK          ACTOR  ORIGIN  SCHEDULE      LAST RUN  NEXT RUN              FAILURES  STATE
daily_poster  daily  file    every minute  never     2026-01-02T03:04:05Z  5         paused (breaker)
a             daily  api     every minute  never     2026-01-02T03:04:05Z  0         active
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
            table::<PostView>(&[]),
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
    fn every_field_is_documented() {
        let at = time("2026-01-02T03:04:05Z");
        let receipt = Receipt {
            message_id: "1".into(),
            posted_at: at,
            link: Some("l".into()),
            recovered: false,
            to_follow: vec!["thread".into()],
            missing: vec!["crosspost: no".into()],
        };
        let attempt = PostAttemptView {
            attempt: 1,
            node: "host-1".into(),
            sent_at: at,
            ended_at: None,
            ended: None,
            reason: None,
            exchanges: None,
        };
        let extras = PostView { extras: [("discord".to_owned(), json!({}))].into(), ..post("") };
        let rows = [
            serde_json::to_value(task()),
            serde_json::to_value(execution()),
            serde_json::to_value(extras),
            serde_json::to_value(receipt),
            serde_json::to_value(attempt),
        ];
        let page = include_str!("../../../../docs/configuration.md");
        for row in rows {
            for field in row.unwrap().as_object().unwrap().keys() {
                assert!(page.contains(&format!("`{field}`")), "{field}");
            }
        }
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
