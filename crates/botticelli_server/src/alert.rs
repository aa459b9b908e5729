//! Alerts: what is not as it should be is told once when it begins, and once when it ends.
//!
//! The store finds out what is wrong ([`Trouble`]); [`step`] decides what that means for each `[[alerts]]` section; the
//! store writes both down, the open alerts and the posts that tell of them, in one transaction.

use crate::ids::{ActorName, AlertName, NodeId, TaskId};
use crate::post::{Destination, Extras, PostContent};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertRule {
    /// A task failed so many times in a row.
    ConsecutiveFailures,
    /// A task was paused because it failed too often.
    BreakerOpened,
    /// A task is due, and nobody runs it.
    TaskOverdue,
    /// Posts of a task wait for a person.
    PostsNeedReview,
    /// A destination takes no posts.
    DestinationPaused,
    /// A platform does not take the token any more.
    TokenRevoked,
    /// The database does not answer.
    DatabaseUnreachable,
    /// Something that must never be so.
    InvariantBroken,
}

impl AlertRule {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::BreakerOpened => "breaker_opened",
            Self::TaskOverdue => "task_overdue",
            Self::PostsNeedReview => "posts_need_review",
            Self::DestinationPaused => "destination_paused",
            Self::TokenRevoked => "token_revoked",
            Self::DatabaseUnreachable => "database_unreachable",
            Self::InvariantBroken => "invariant_broken",
        }
    }

    /// How bad that is.
    pub fn severity(self) -> Severity {
        match self {
            Self::ConsecutiveFailures | Self::PostsNeedReview => Severity::Warning,
            Self::BreakerOpened | Self::TaskOverdue | Self::DestinationPaused => Severity::Error,
            Self::TokenRevoked | Self::DatabaseUnreachable | Self::InvariantBroken => Severity::Critical,
        }
    }
}

/// How bad something is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should look, in time.
    #[default]
    Warning,
    /// Something does not work.
    Error,
    /// Nothing works, or nothing can be trusted.
    Critical,
}

impl Severity {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// Something that is not as it should be, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub rule: AlertRule,
    /// What has it: a task, a destination, a platform, an invariant.
    pub subject: String,
    /// The actor, where it is a task's.
    pub actor_name: Option<ActorName>,
    /// How much of it: failures in a row, seconds overdue, posts. Thresholds are compared with this.
    pub amount: u64,
    /// The same for a person.
    pub summary: String,
}

/// What a section wants to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertRules {
    /// From so many failures in a row on; `None`: not at all.
    pub consecutive_failures: Option<NonZeroU32>,
    /// See [`AlertRule::BreakerOpened`].
    pub breaker_opened: bool,
    /// Overdue by more than this; `None`: not at all.
    pub task_overdue: Option<Duration>,
    /// See [`AlertRule::PostsNeedReview`].
    pub posts_need_review: bool,
    /// See [`AlertRule::DestinationPaused`].
    pub destination_paused: bool,
    /// See [`AlertRule::TokenRevoked`].
    pub token_revoked: bool,
    /// See [`AlertRule::DatabaseUnreachable`].
    pub database_unreachable: bool,
    /// See [`AlertRule::InvariantBroken`].
    pub invariant_broken: bool,
}

/// Other thresholds for the tasks of one actor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ActorThresholds {
    /// Instead of [`AlertRules::consecutive_failures`].
    pub consecutive_failures: Option<NonZeroU32>,
    /// Instead of [`AlertRules::task_overdue`].
    pub task_overdue: Option<Duration>,
}

/// An `[[alerts]]` section, less its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertPolicy {
    /// Its name.
    pub name: AlertName,
    /// Where it tells.
    pub destination: Destination,
    /// What it tells.
    pub rules: AlertRules,
    /// Other thresholds, by actor.
    pub actors: BTreeMap<ActorName, ActorThresholds>,
    /// Nothing that is less bad.
    pub min_severity: Severity,
    /// What goes on is told again after so long; `None`: it is not.
    pub repeat_after: Option<Duration>,
}

impl AlertPolicy {
    /// Whether the trouble is to be told.
    pub fn wants(&self, trouble: &Trouble) -> bool {
        let rules = &self.rules;
        let of_actor = trouble.actor_name.as_ref().and_then(|actor| self.actors.get(actor));
        let is_wanted = match trouble.rule {
            AlertRule::ConsecutiveFailures => of_actor
                .and_then(|actor| actor.consecutive_failures)
                .or(rules.consecutive_failures)
                .is_some_and(|limit| trouble.amount >= u64::from(limit.get())),
            AlertRule::TaskOverdue => of_actor
                .and_then(|actor| actor.task_overdue)
                .or(rules.task_overdue)
                .is_some_and(|limit| trouble.amount > limit.as_secs()),
            AlertRule::BreakerOpened => rules.breaker_opened,
            AlertRule::PostsNeedReview => rules.posts_need_review,
            AlertRule::DestinationPaused => rules.destination_paused,
            AlertRule::TokenRevoked => rules.token_revoked,
            AlertRule::DatabaseUnreachable => rules.database_unreachable,
            AlertRule::InvariantBroken => rules.invariant_broken,
        };
        // What the alert itself can't deliver is not told through it.
        let is_its_own = trouble.subject == self.task_id().as_str()
            || (trouble.rule == AlertRule::DestinationPaused
                && trouble.subject == self.destination.to_string());
        is_wanted && !is_its_own && trouble.rule.severity() >= self.min_severity
    }

    /// Nothing is overdue for this section before this.
    pub fn shortest_overdue(&self) -> Option<Duration> {
        self.actors.values().filter_map(|actor| actor.task_overdue).chain(self.rules.task_overdue).min()
    }

    /// In whose name its posts stand in the outbox. No task has this name: configurations refuse it.
    pub fn task_id(&self) -> TaskId {
        TaskId::new(format!("{TASK_PREFIX}{}", self.name))
            .unwrap_or_else(|_| unreachable!("short and printable"))
    }
}

/// How the names begin under which alerts stand in the outbox.
pub const TASK_PREFIX: &str = "alert:";
/// So long a section's name may be, in bytes.
pub const LONGEST_NAME: usize = 100;

/// What the store needs to know to find out what begins and what ends.
#[derive(Debug, Clone)]
pub struct AlertWatch {
    /// Who asks. One node at a time watches.
    pub node: NodeId,
    /// The sections.
    pub policies: Vec<AlertPolicy>,
    /// What the node has found out by itself, such as an invariant that does not hold.
    pub found: Vec<Trouble>,
    /// Since when the node serves: what became overdue before was nobody's to run.
    pub serving_since: DateTime<Utc>,
}

/// An alert that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAlert {
    /// Its number.
    pub id: i64,
    /// The section.
    pub alert: AlertName,
    /// What it is about.
    pub rule: AlertRule,
    /// What has the trouble.
    pub subject: String,
    /// When it was told last.
    pub last_sent_at: DateTime<Utc>,
}

/// What [`step`] decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertStep {
    /// By the section's place.
    pub begin: Vec<(usize, Trouble)>,
    /// Numbers of alerts, and what they are about now.
    pub repeat: Vec<(usize, i64, Trouble)>,
    /// Numbers of alerts; the place of their section, if it is still there.
    pub end: Vec<(Option<usize>, i64)>,
}

/// What begins, goes on for long enough to be told again, and ends.
pub fn step(watch: &AlertWatch, troubles: &[Trouble], open: &[OpenAlert], now: DateTime<Utc>) -> AlertStep {
    let mut gone: HashMap<(&str, AlertRule, &str), &OpenAlert> = open
        .iter()
        .map(|alert| ((alert.alert.as_str(), alert.rule, alert.subject.as_str()), alert))
        .collect();
    let mut step = AlertStep::default();
    for (place, policy) in watch.policies.iter().enumerate() {
        for trouble in troubles.iter().filter(|trouble| policy.wants(trouble)) {
            let key = (policy.name.as_str(), trouble.rule, trouble.subject.as_str());
            match gone.remove(&key) {
                None if is_settled(policy, trouble, watch.serving_since, now) => {
                    step.begin.push((place, trouble.clone()));
                }
                None => {}
                Some(alert) if is_to_be_repeated(policy, alert, now) => {
                    step.repeat.push((place, alert.id, trouble.clone()));
                }
                Some(_) => {}
            }
        }
    }
    let place = |alert: &OpenAlert| watch.policies.iter().position(|policy| policy.name == alert.alert);
    step.end = gone.values().map(|alert| (place(alert), alert.id)).collect();
    step.end.sort_by_key(|(_, id)| *id);
    step
}

/// What was due while nobody served is being caught up: it is overdue only when that takes too long as well.
fn is_settled(policy: &AlertPolicy, trouble: &Trouble, since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let served = u64::try_from((now - since).num_seconds()).unwrap_or(0);
    trouble.rule != AlertRule::TaskOverdue
        || policy.wants(&Trouble { amount: trouble.amount.min(served), ..trouble.clone() })
}

fn is_to_be_repeated(policy: &AlertPolicy, alert: &OpenAlert, now: DateTime<Utc>) -> bool {
    let after = policy.repeat_after.and_then(|after| TimeDelta::from_std(after).ok());
    after.is_some_and(|after| now - alert.last_sent_at >= after)
}

/// What an alert tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// It has begun.
    Started,
    /// It goes on.
    Repeated,
    /// It is over.
    Ended,
    /// Somebody wants to see whether alerts arrive.
    Test,
}

impl Notice {
    /// The word used in tables, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Repeated => "repeated",
            Self::Ended => "ended",
            Self::Test => "test",
        }
    }
}

/// One thing that is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertEvent {
    /// What is told.
    pub notice: Notice,
    /// The section that tells it.
    pub alert: AlertName,
    /// The same from the beginning to the end of one trouble.
    pub incident: String,
    /// What it is about; null in a test.
    pub rule: Option<AlertRule>,
    /// How bad it is.
    pub severity: Severity,
    /// What has the trouble: a task, a destination, a platform, an invariant; empty: the server.
    pub subject: String,
    /// The actor, where it is a task's.
    pub actor_name: Option<ActorName>,
    /// The same for a person.
    pub summary: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// By which name platforms find the event in [`PostContent::extras`].
pub const EXTRA: &str = "alert";
/// A text for people fits into one message of every platform.
const LONGEST_SUMMARY: usize = 1_000;

impl AlertEvent {
    /// The post that tells it.
    pub fn content(&self) -> PostContent {
        let extras = Extras::from([(EXTRA.to_owned(), serde_json::json!(self))]);
        PostContent { text: self.text(), extras }
    }

    /// For a person, in one message.
    pub fn text(&self) -> String {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let head = match self.notice {
            Notice::Started => format!("ALERT ({})", self.severity.as_str()),
            Notice::Repeated => format!("STILL ({})", self.severity.as_str()),
            Notice::Ended => "OVER".to_owned(),
            Notice::Test => "TEST".to_owned(),
        };
        let times = match self.ended_at {
            Some(ended) => format!("from {} to {}", time(self.started_at), time(ended)),
            None => format!("since {}", time(self.started_at)),
        };
        format!("{head} {}\n{times} [{}]", shortened(&self.summary, LONGEST_SUMMARY), self.alert)
    }
}

/// At most so many characters.
pub fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_900_000_000, 0).expect("a time")
    }

    fn policy(rules: AlertRules) -> AlertPolicy {
        AlertPolicy {
            name: AlertName::new("ops").expect("a name"),
            destination: Destination { platform: "alert_webhook".into(), target: "ops".into() },
            rules,
            actors: BTreeMap::new(),
            min_severity: Severity::Warning,
            repeat_after: None,
        }
    }

    fn failures(amount: u64) -> Trouble {
        Trouble {
            rule: AlertRule::ConsecutiveFailures,
            subject: "daily".into(),
            actor_name: ActorName::new("poster").ok(),
            amount,
            summary: "it fails".into(),
        }
    }

    fn overdue(amount: u64) -> Trouble {
        Trouble { rule: AlertRule::TaskOverdue, ..failures(amount) }
    }

    fn watch(policy: AlertPolicy, serving: i64) -> AlertWatch {
        AlertWatch {
            node: NodeId::new("node").expect("a name"),
            policies: vec![policy],
            found: Vec::new(),
            serving_since: now() - TimeDelta::seconds(serving),
        }
    }

    fn open(rule: AlertRule, sent_ago: i64) -> OpenAlert {
        OpenAlert {
            id: 7,
            alert: AlertName::new("ops").expect("a name"),
            rule,
            subject: "daily".into(),
            last_sent_at: now() - TimeDelta::seconds(sent_ago),
        }
    }

    fn three() -> AlertRules {
        AlertRules { consecutive_failures: NonZeroU32::new(3), ..AlertRules::default() }
    }

    #[test]
    fn it_begins_at_the_threshold_and_ends_below_it_and_says_nothing_in_between() {
        let watch = watch(policy(three()), 1_000);
        assert_eq!(step(&watch, &[failures(2)], &[], now()), AlertStep::default());
        assert_eq!(step(&watch, &[failures(3)], &[], now()).begin, [(0, failures(3))]);
        let open = [open(AlertRule::ConsecutiveFailures, 1_000_000)];
        assert_eq!(step(&watch, &[failures(9)], &open, now()), AlertStep::default());
        assert_eq!(step(&watch, &[failures(2)], &open, now()).end, [(Some(0), 7)]);
        assert_eq!(step(&watch, &[], &open, now()).end, [(Some(0), 7)]);
    }

    #[test]
    fn an_actor_may_have_thresholds_of_its_own() {
        let mut policy = policy(AlertRules { task_overdue: Some(Duration::from_secs(60)), ..three() });
        let own = ActorThresholds {
            consecutive_failures: NonZeroU32::new(1),
            task_overdue: Some(Duration::from_secs(600)),
        };
        policy.actors.insert(ActorName::new("poster").expect("a name"), own);
        assert!(policy.wants(&failures(1)) && !policy.wants(&overdue(600)) && policy.wants(&overdue(601)));
        let other = |trouble: Trouble| Trouble { actor_name: ActorName::new("other").ok(), ..trouble };
        assert!(!policy.wants(&other(failures(2))) && policy.wants(&other(overdue(61))));
        assert_eq!(policy.shortest_overdue(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_less_bad_than_wanted_is_not_told_and_ends_when_that_is_changed() {
        let mut policy = policy(AlertRules { breaker_opened: true, ..three() });
        policy.min_severity = Severity::Error;
        let breaker = Trouble { rule: AlertRule::BreakerOpened, ..failures(5) };
        assert!(policy.wants(&breaker) && !policy.wants(&failures(5)));
        let step = step(&watch(policy, 0), &[failures(5)], &[open(AlertRule::ConsecutiveFailures, 0)], now());
        assert_eq!(step.end, [(Some(0), 7)]);
    }

    #[test]
    fn what_goes_on_is_told_again_only_where_that_is_wanted_and_not_too_often() {
        let mut policy = policy(three());
        policy.repeat_after = Some(Duration::from_secs(3_600));
        let watch = watch(policy, 10_000);
        let after = |seconds| {
            step(&watch, &[failures(4)], &[open(AlertRule::ConsecutiveFailures, seconds)], now()).repeat
        };
        assert_eq!(after(3_599), []);
        assert_eq!(after(3_600), [(0, 7, failures(4))]);
    }

    #[test]
    fn what_was_due_while_nobody_served_is_overdue_only_when_it_is_not_caught_up() {
        let rules = AlertRules { task_overdue: Some(Duration::from_secs(60)), ..AlertRules::default() };
        let begins =
            |serving| step(&watch(policy(rules.clone()), serving), &[overdue(5_000)], &[], now()).begin;
        assert!(begins(60).is_empty());
        assert_eq!(begins(61).len(), 1);
        let goes_on = [open(AlertRule::TaskOverdue, 0)];
        let step = step(&watch(policy(rules), 0), &[overdue(5_000)], &goes_on, now());
        assert_eq!(step, AlertStep::default(), "what was told before a restart has not ended by it");
    }

    #[test]
    fn what_an_alert_can_not_deliver_is_not_told_through_itself() {
        let rules = AlertRules { destination_paused: true, posts_need_review: true, ..AlertRules::default() };
        let policy = policy(rules);
        let paused = |subject: &str| Trouble {
            rule: AlertRule::DestinationPaused,
            subject: subject.into(),
            ..failures(1)
        };
        assert!(!policy.wants(&paused("alert_webhook:ops")) && policy.wants(&paused("discord:1")));
        let review = |subject: &str| Trouble { rule: AlertRule::PostsNeedReview, ..paused(subject) };
        assert!(!policy.wants(&review("alert:ops")) && policy.wants(&review("alert:other")));
    }

    #[test]
    fn alerts_of_a_section_that_is_gone_end_and_nobody_is_told() {
        let mut watch = watch(policy(three()), 0);
        watch.policies.clear();
        let step = step(&watch, &[failures(4)], &[open(AlertRule::ConsecutiveFailures, 0)], now());
        assert_eq!(step.end, [(None, 7)]);
    }

    #[test]
    fn a_text_fits_into_one_message_whatever_the_error_says() {
        let event = AlertEvent {
            notice: Notice::Ended,
            alert: AlertName::new("o".repeat(LONGEST_NAME)).expect("a name"),
            incident: "i".into(),
            rule: Some(AlertRule::BreakerOpened),
            severity: Severity::Error,
            subject: "daily".into(),
            actor_name: None,
            summary: "ö".repeat(100_000),
            started_at: now(),
            ended_at: Some(now()),
        };
        assert!(event.text().chars().count() < 2_000);
        let extra = event.content().extras.remove(EXTRA).expect("the event");
        assert_eq!(serde_json::from_value::<AlertEvent>(extra).expect("an event"), event);
    }
}
