//! Keeps a task from posting too often.

use super::planning::plan;
use crate::config::within::Within;
use crate::config::{Fault, KeyPath};
use crate::draft::Draft;
use crate::skill::{ActorContext, Skill, SkillError, Step};
use async_trait::async_trait;
use botticelli_server::limits::WhenOver;
use schemars::JsonSchema;
use serde::Deserialize;

/// Keeps the task from posting too often to a destination. What is posted counts, and what is on its way; it is
/// checked again at delivery.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimiting {
    /// At most so many messages in any 24 hours.
    max_posts_per_day: Option<Within<1, 10_000>>,
    /// At least so many minutes between two messages.
    min_interval_minutes: Option<Within<1, 525_600>>,
    /// What happens to a message over a limit: it waits for the first time that is allowed, or is left out.
    #[serde(default)]
    when_over: WhenOver,
}

#[async_trait]
impl Skill for RateLimiting {
    fn check(&self, _knowledge: &[&str]) -> Vec<Fault> {
        let limits_something = self.max_posts_per_day.is_some() || self.min_interval_minutes.is_some();
        let message = "max_posts_per_day and min_interval_minutes are missing: nothing is limited";
        Vec::from_iter((!limits_something).then(|| Fault::new(KeyPath::default(), message)))
    }

    async fn run(&self, draft: Draft, context: &ActorContext) -> Result<Step, SkillError> {
        plan(draft, context, |limits, _| {
            limits.max_posts_per_day = self.max_posts_per_day.map(Within::count);
            limits.min_interval_minutes = self.min_interval_minutes.map(Within::count);
            limits.when_over = self.when_over;
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use botticelli_server::outcome::SkipReason;
    use chrono::{DateTime, Utc};

    async fn times(world: &World, settings: &str, entries: usize) -> Vec<Option<DateTime<Utc>>> {
        let draft = world.run("rate_limiting", settings, world.draft(&vec!["text"; entries])).await.unwrap();
        draft.entries.iter().map(|entry| entry.deliveries[0].not_before).collect()
    }

    #[tokio::test]
    async fn entries_of_one_run_keep_their_distance() {
        let world = World::new(); // 2026-03-01T12:00
        let at = |text| Some(time(text));
        assert_eq!(
            times(&world, "min_interval_minutes = 30", 3).await,
            [None, at("2026-03-01T12:30:00Z"), at("2026-03-01T13:00:00Z")]
        );
        assert_eq!(times(&world, "max_posts_per_day = 1", 2).await, [None, at("2026-03-02T12:00:00Z")]);
    }

    #[tokio::test]
    async fn what_was_posted_and_what_is_on_its_way_counts() {
        let mut world = World::new();
        world.post_times = vec![time("2026-03-01T11:50:00Z"), time("2026-03-01T12:20:00Z")];
        let deferred = Some(time("2026-03-01T12:40:00Z"));
        assert_eq!(times(&world, "min_interval_minutes = 20", 1).await, [deferred]);
    }

    #[tokio::test]
    async fn over_the_limit_a_post_is_left_out_where_the_actor_says_so() {
        let mut world = World::new();
        let settings = "max_posts_per_day = 2\nwhen_over = 'skip'";
        assert_eq!(times(&world, settings, 3).await, [None, None]);
        world.post_times = vec![time("2026-03-01T11:00:00Z"), time("2026-03-01T11:50:00Z")];
        let step = world.step("rate_limiting", settings, world.draft(&["text"])).await.unwrap();
        let note = "left out \"0\" for console:stdout: over the limit".to_owned();
        assert_eq!(step, Step::Stop { reason: SkipReason::RateLimited, note });
    }

    #[tokio::test]
    async fn the_limits_travel_with_the_post() {
        let world = World::new();
        let draft = world
            .run("rate_limiting", "max_posts_per_day = 2\nwhen_over = 'skip'", world.draft(&["text"]))
            .await
            .unwrap();
        let limits = serde_json::to_value(&draft.entries[0].deliveries[0].limits).unwrap();
        assert_eq!(limits, serde_json::json!({"max_posts_per_day": 2, "when_over": "skip"}));
    }

    #[test]
    fn a_skill_that_limits_nothing_is_refused_at_load() {
        let faults = skill("rate_limiting", "").check(&[]);
        let message = "max_posts_per_day and min_interval_minutes are missing: nothing is limited";
        assert_eq!(faults, [Fault::new(KeyPath::default(), message)]);
    }
}
