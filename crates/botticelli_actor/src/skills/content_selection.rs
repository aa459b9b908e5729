//! Chooses items from a knowledge source.

use super::seeded;
use crate::config::Fault;
use crate::config::within::Within;
use crate::draft::{Delivery, Draft, Entry, Item};
use crate::names::unknown;
use crate::skill::{ActorContext, Skill, SkillError, Step};
use async_trait::async_trait;
use botticelli_server::outcome::SkipReason;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;

/// Chooses items from a knowledge source, and makes an entry of the draft of each.
///
/// Left out are items that this task posted before, items that expired, and items scheduled for later. "Now" is the
/// nominal time of the run, and ties go to the smaller key: every attempt on every node chooses alike.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentSelection {
    /// The `name` of the knowledge source. May be left out when the actor has only one.
    source: Option<String>,
    /// Which items come first.
    #[serde(default)]
    strategy: Strategy,
    /// At most so many items.
    #[serde(default = "one")]
    limit: Within<1, 1000>,
    /// Whether items that this task posted before may be chosen again. Those that it did not post come first.
    #[serde(default)]
    repeat: bool,
    /// When nothing is left: end the run as skipped, or as failed.
    #[serde(default)]
    on_empty: OnEmpty,
    /// The field with an item's time, for `latest`, `oldest` and `weighted`. Default: `created_at`; and if no item has
    /// that, items count as newer the later they stand in the source.
    time_field: Option<String>,
    /// The field with an item's score, for `top_scored`.
    #[serde(default = "score")]
    score_field: String,
    /// The field with an item's priority, for `weighted`.
    #[serde(default = "priority")]
    priority_field: String,
    /// From this time on an item is not chosen.
    #[serde(default = "expires_at")]
    expires_field: String,
    /// Before this time an item is not chosen. Default: `scheduled_for`, else `publish_at`.
    scheduled_field: Option<String>,
    /// For `weighted`: how much priority counts. Default 1.
    priority_weight: Option<Weight>,
    /// For `weighted`: how much freshness counts. Default 1.
    freshness_weight: Option<Weight>,
    /// For `weighted`: after so many hours an item is half as fresh. Default 24.
    freshness_half_life_hours: Option<Within<1, 87_600>>,
}

/// Which items come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    /// The newest.
    #[default]
    Latest,
    /// The oldest.
    Oldest,
    /// Those with the highest score.
    TopScored,
    /// Any, drawn anew for each occurrence.
    Random,
    /// Those with the highest sum of weighted priority and weighted freshness.
    Weighted,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnEmpty {
    #[default]
    Skip,
    Fail,
}

/// How much something counts: 0 or more.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(try_from = "f64")]
#[schemars(with = "f64")]
struct Weight(f64);

impl TryFrom<f64> for Weight {
    type Error = String;
    fn try_from(weight: f64) -> Result<Self, String> {
        let allowed = weight.is_finite() && weight >= 0.0;
        allowed.then_some(Self(weight)).ok_or_else(|| format!("{weight} is no weight (allowed: 0 and more)"))
    }
}

fn one() -> Within<1, 1000> {
    Within::of::<1>()
}

fn score() -> String {
    "score".to_owned()
}

fn priority() -> String {
    "priority".to_owned()
}

fn expires_at() -> String {
    "expires_at".to_owned()
}

#[async_trait]
impl Skill for ContentSelection {
    fn check(&self, knowledge: &[&str]) -> Vec<Fault> {
        let source = match (&self.source, knowledge) {
            (None, [_]) => None,
            (None, []) => Some(Fault::new("source", "source: the actor has no knowledge to choose from")),
            (None, _) => {
                let fault =
                    Fault::new("source", "source is missing: the actor has several knowledge sources");
                Some(fault.hint(format!("one of: {}", knowledge.join(", "))))
            }
            (Some(source), _) => (!knowledge.contains(&source.as_str())).then(|| {
                let (message, hint) = unknown("knowledge source", source, knowledge.iter().copied());
                Fault::new("source", format!("source: {message}")).hint(hint)
            }),
        };
        let only_weighted = [
            ("priority_weight", self.priority_weight.is_some()),
            ("freshness_weight", self.freshness_weight.is_some()),
            ("freshness_half_life_hours", self.freshness_half_life_hours.is_some()),
        ];
        let unread = only_weighted.into_iter().filter(|(_, set)| *set && self.strategy != Strategy::Weighted);
        let unread = unread
            .map(|(key, _)| Fault::new(key, format!("{key} is only read with strategy = \"weighted\"")));
        source.into_iter().chain(unread).collect()
    }

    async fn run(&self, mut draft: Draft, context: &ActorContext) -> Result<Step, SkillError> {
        let source = self.source(context)?;
        let items = context.knowledge.items(&source, context).await?;
        let used: HashSet<String> =
            context.history.used_keys(&context.task_id, &source).await?.into_iter().collect();
        let chosen: HashSet<&str> =
            draft.entries.iter().filter(|e| e.item.source == source).map(|e| e.item.key.as_str()).collect();

        let mut left_out = LeftOut::default();
        let in_time: Vec<&Item> = items
            .iter()
            .filter(|item| !chosen.contains(item.key.as_str()))
            .filter(|item| left_out.by_time(self, item, context.scheduled_for))
            .collect();
        let (posted, fresh): (Vec<&Item>, Vec<&Item>) =
            in_time.into_iter().partition(|item| used.contains(&item.key));
        let mut candidates = self.ranked(fresh, &source, context)?;
        if self.repeat {
            candidates.extend(self.ranked(posted, &source, context)?);
        } else {
            left_out.posted = posted.len();
        }

        let summary =
            format!("{} of {} items of {source:?} are left{left_out}", candidates.len(), items.len());
        if candidates.is_empty() {
            return match self.on_empty {
                OnEmpty::Skip => Ok(Step::Stop { reason: SkipReason::NothingToPost, note: summary }),
                OnEmpty::Fail => Err(SkillError::Unrecoverable(format!("nothing to post: {summary}"))),
            };
        }
        let mut notes = vec![summary];
        for (item, why) in candidates.into_iter().take(self.limit.get() as usize) {
            notes.push(format!("chose {:?}{why}", item.key));
            let deliveries = context.destinations.iter().cloned().map(Delivery::to).collect();
            let again = used.contains(&item.key);
            draft.entries.push(Entry { item: item.clone(), extras: Default::default(), deliveries, again });
        }
        Ok(Step::Continue { draft, notes })
    }
}

impl ContentSelection {
    fn source(&self, context: &ActorContext) -> Result<String, SkillError> {
        match (&self.source, context.knowledge.names().as_slice()) {
            (Some(source), _) => Ok(source.clone()),
            (None, [only]) => Ok(only.clone()),
            (None, names) => Err(SkillError::Unrecoverable(format!(
                "`source` is missing, and the actor has {} knowledge sources",
                names.len()
            ))),
        }
    }

    fn time_field(&self) -> &str {
        self.time_field.as_deref().unwrap_or("created_at")
    }

    /// Best first, each with what made it so.
    fn ranked<'a>(
        &self,
        items: Vec<&'a Item>,
        source: &str,
        context: &ActorContext,
    ) -> Result<Vec<(&'a Item, String)>, SkillError> {
        // Items without the value come last; if none has it, the setting is wrong.
        let rank = |name: &str, value: &dyn Fn(&Item) -> Option<f64>| {
            let mut ranked: Vec<_> = items.iter().map(|item| (value(item), *item)).collect();
            if !items.is_empty() && ranked.iter().all(|(value, _)| value.is_none()) {
                return Err(SkillError::Unrecoverable(format!(
                    "no item of {source:?} has a usable field {name:?}, which the strategy {:?} goes by",
                    self.strategy.name()
                )));
            }
            ranked.sort_by(|(left, left_item), (right, right_item)| {
                let number = |value: &Option<f64>| value.unwrap_or(f64::NEG_INFINITY);
                number(right).total_cmp(&number(left)).then_with(|| left_item.key.cmp(&right_item.key))
            });
            let why = |value: Option<f64>| value.map_or_else(|| format!(" (no {name})"), |_| String::new());
            Ok(ranked.into_iter().map(|(value, item)| (item, why(value))).collect())
        };
        let time = |item: &Item| Some(item.time(self.time_field()).ok()??.timestamp_micros() as f64);
        let without_times =
            self.time_field.is_none() && items.iter().all(|item| item.time(self.time_field()) == Ok(None));
        let as_they_stand = " (no created_at: as they stand in the source)";
        match self.strategy {
            Strategy::Latest if without_times => {
                Ok(items.into_iter().rev().map(|item| (item, as_they_stand.to_owned())).collect())
            }
            Strategy::Oldest if without_times => {
                Ok(items.into_iter().map(|item| (item, as_they_stand.to_owned())).collect())
            }
            Strategy::Latest => rank(self.time_field(), &time),
            Strategy::Oldest => rank(self.time_field(), &|item| Some(-time(item)?)),
            Strategy::TopScored => rank(&self.score_field, &|item| item.number(&self.score_field)),
            Strategy::Random => {
                let mut drawn = items;
                let occurrence = context.scheduled_for.to_rfc3339();
                drawn.sort_by_cached_key(|item| {
                    (seeded(&[context.task_id.as_str(), &occurrence, source, &item.key]), item.key.clone())
                });
                Ok(drawn.into_iter().map(|item| (item, String::new())).collect())
            }
            Strategy::Weighted => Ok(self.weighted(items, context.scheduled_for)),
        }
    }

    /// `priority_weight · priority / highest priority + freshness_weight · 0.5 ^ (age / half-life)`.
    ///
    /// The first fraction is 0 for an item without a priority or with one below 0; the second power is 1 for an item
    /// that is new, and 0 for one without a time.
    fn weighted<'a>(&self, items: Vec<&'a Item>, now: DateTime<Utc>) -> Vec<(&'a Item, String)> {
        let weight = |weight: Option<Weight>| weight.map_or(1.0, |weight| weight.0);
        let half_life = self.freshness_half_life_hours.map_or(24.0, |hours| hours.get() as f64);
        let priority = |item: &Item| item.number(&self.priority_field).unwrap_or(0.0).max(0.0);
        let highest = items.iter().map(|item| priority(item)).fold(0.0, f64::max);
        let value = |item: &Item| {
            let priority = if highest > 0.0 { priority(item) / highest } else { 0.0 };
            let freshness = item.time(self.time_field()).ok().flatten().map_or(0.0, |time| {
                let age = (now - time).num_seconds().max(0) as f64 / 3600.0;
                0.5f64.powf(age / half_life)
            });
            weight(self.priority_weight) * priority + weight(self.freshness_weight) * freshness
        };
        let mut ranked: Vec<_> = items.into_iter().map(|item| (value(item), item)).collect();
        ranked.sort_by(|(left, left_item), (right, right_item)| {
            right.total_cmp(left).then_with(|| left_item.key.cmp(&right_item.key))
        });
        ranked.into_iter().map(|(value, item)| (item, format!(" (weight {value:.3})"))).collect()
    }
}

impl Strategy {
    fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Oldest => "oldest",
            Self::TopScored => "top_scored",
            Self::Random => "random",
            Self::Weighted => "weighted",
        }
    }
}

/// How many items were not considered, and why.
#[derive(Default)]
struct LeftOut {
    posted: usize,
    expired: usize,
    later: usize,
    unreadable: Vec<String>,
}

impl LeftOut {
    /// Whether `item` is neither expired nor scheduled for later. One whose time can't be read is left out: it might
    /// be either.
    fn by_time(&mut self, settings: &ContentSelection, item: &Item, now: DateTime<Utc>) -> bool {
        let scheduled = match &settings.scheduled_field {
            Some(field) => item.time(field),
            None => item
                .time("scheduled_for")
                .and_then(|time| time.map_or_else(|| item.time("publish_at"), |t| Ok(Some(t)))),
        };
        match (scheduled, item.time(&settings.expires_field)) {
            (Err(value), _) | (_, Err(value)) => {
                self.unreadable.push(format!("{:?} ({value})", item.key));
                false
            }
            (Ok(Some(from)), _) if from > now => {
                self.later += 1;
                false
            }
            (_, Ok(Some(until))) if until <= now => {
                self.expired += 1;
                false
            }
            (Ok(_), Ok(_)) => true,
        }
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (count, what) in
            [(self.posted, "posted before"), (self.expired, "expired"), (self.later, "scheduled for later")]
        {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if let Some(first) = self.unreadable.first() {
            write!(f, ", {} with an unreadable time, the first is {first}", self.unreadable.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    async fn keys(world: &World, settings: &str) -> Vec<String> {
        let draft = world.run("content_selection", settings, Draft::default()).await.unwrap();
        draft.entries.into_iter().map(|entry| entry.item.key).collect()
    }

    fn dated() -> World {
        World::new().items(json!([
            {"id": "b", "created_at": "2026-03-01", "score": 5, "priority": 1},
            {"id": "a", "created_at": "2026-03-01T00:00:00Z", "score": "7.5", "priority": 2},
            {"id": "d", "created_at": "2026-02-27 10:00:00", "score": 7.5, "priority": 10},
            {"id": "c", "score": 1},
        ]))
    }

    #[tokio::test]
    async fn each_strategy_has_its_order_and_ties_go_to_the_smaller_key() {
        let world = dated();
        assert_eq!(keys(&world, "limit = 9").await, ["a", "b", "d", "c"]);
        assert_eq!(keys(&world, "strategy = 'oldest'\nlimit = 9").await, ["d", "a", "b", "c"]);
        assert_eq!(keys(&world, "strategy = 'top_scored'\nlimit = 9").await, ["a", "d", "b", "c"]);
        // At 2026-03-01T12:00: a is half a day old (0.707), d two days and two hours (0.236).
        assert_eq!(keys(&world, "strategy = 'weighted'\nlimit = 9").await, ["d", "a", "b", "c"]);
        assert_eq!(
            keys(&world, "strategy = 'weighted'\npriority_weight = 0.1\nlimit = 9").await,
            ["a", "b", "d", "c"]
        );
        assert_eq!(
            keys(&world, "strategy = 'weighted'\nfreshness_half_life_hours = 1000\nlimit = 2").await,
            ["d", "a"]
        );
        assert_eq!(keys(&world, "").await, ["a"]);
    }

    #[tokio::test]
    async fn a_random_choice_is_the_same_for_the_same_occurrence_and_another_for_the_next() {
        let items: Vec<_> = (0..50).map(|id| json!({"id": id})).collect();
        let mut world = World::new().items(json!(items));
        let settings = "strategy = 'random'\nlimit = 50";
        let first = keys(&world, settings).await;
        assert_eq!(first, keys(&world, settings).await);
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 50);
        world.scheduled_for = time("2026-03-02T12:00:00Z");
        assert_ne!(first, keys(&world, settings).await);
    }

    #[tokio::test]
    async fn what_was_posted_expired_or_is_scheduled_for_later_is_left_out() {
        let world = World::new().used(&["posted"]).items(json!([
            {"id": "posted"},
            {"id": "expired", "expires_at": "2026-03-01T12:00:00Z"},
            {"id": "later", "scheduled_for": "2026-03-01T12:00:01Z"},
            {"id": "later2", "publish_at": "2027-01-01"},
            {"id": "unreadable", "expires_at": "soon"},
            {"id": "good", "expires_at": "2026-03-02", "publish_at": "2026-03-01"},
        ]));
        let notes =
            world.notes("content_selection", "strategy = 'random'\nlimit = 9", Draft::default()).await;
        assert_eq!(
            notes,
            [
                "1 of 6 items of \"facts\" are left, 1 posted before, 1 expired, 2 scheduled for later, 1 with an unreadable time, the first is \"unreadable\" (\"soon\")",
                "chose \"good\""
            ]
        );
    }

    #[tokio::test]
    async fn with_repeat_what_was_posted_comes_last() {
        let world =
            World::new().used(&["a"]).items(json!([{"id": "a", "score": 9}, {"id": "b", "score": 1}]));
        assert_eq!(keys(&world, "strategy = 'top_scored'\nrepeat = true\nlimit = 2").await, ["b", "a"]);
    }

    #[tokio::test]
    async fn nothing_left_ends_the_run_as_told() {
        let world = World::new().used(&["a"]).items(json!([{"id": "a"}]));
        let step = world.step("content_selection", "", Draft::default()).await.unwrap();
        let note = "0 of 1 items of \"facts\" are left, 1 posted before".to_owned();
        assert_eq!(step, Step::Stop { reason: SkipReason::NothingToPost, note });
        let error = world.step("content_selection", "on_empty = 'fail'", Draft::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "nothing to post: 0 of 1 items of \"facts\" are left, 1 posted before");
    }

    #[tokio::test]
    async fn a_strategy_without_its_field_is_an_error() {
        let world = World::new().items(json!([{"id": "a", "created_at": "long ago"}]));
        let error = world.step("content_selection", "", Draft::default()).await.unwrap_err();
        let text =
            "no item of \"facts\" has a usable field \"created_at\", which the strategy \"latest\" goes by";
        assert_eq!(error, SkillError::Unrecoverable(text.to_owned()));
    }

    #[tokio::test]
    async fn items_without_times_count_as_newer_the_later_they_stand() {
        let world = World::new().items(json!([{"id": "b"}, {"id": "a"}]));
        assert_eq!(keys(&world, "").await, ["a"]);
        assert_eq!(keys(&world, "strategy = 'oldest'").await, ["b"]);
        let error =
            world.step("content_selection", "time_field = 'date'", Draft::default()).await.unwrap_err();
        assert!(error.to_string().contains("no item of \"facts\" has a usable field \"date\""), "{error}");
    }

    #[tokio::test]
    async fn a_second_selection_adds_to_the_first() {
        let world = dated();
        let first = world.run("content_selection", "", Draft::default()).await.unwrap();
        let both = world.run("content_selection", "", first).await.unwrap();
        assert_eq!(both.entries.iter().map(|e| e.item.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_source_that_is_missing_or_unknown_is_refused_at_load() {
        let check = |settings: &str, knowledge: &[&str]| {
            let Fault { message, hint, .. } = skill("content_selection", settings).check(knowledge).remove(0);
            (message, hint.unwrap_or_default())
        };
        assert_eq!(check("", &[]).0, "source: the actor has no knowledge to choose from");
        assert_eq!(check("", &["a", "b"]).1, "one of: a, b");
        let (message, hint) = check("source = 'fact'", &["facts"]);
        assert_eq!(message, "source: unknown knowledge source \"fact\"");
        assert_eq!(hint, "did you mean \"facts\"? (known: facts)");
        let unread = check("priority_weight = 2.0", &["facts"]).0;
        assert_eq!(unread, "priority_weight is only read with strategy = \"weighted\"");
    }
}
