//! Keeps posts to certain hours.

use super::planning::plan;
use crate::draft::Draft;
use crate::skill::{ActorContext, Skill, SkillError, Step};
use async_trait::async_trait;
use botticelli_server::limits::{LocalTime, Window, WindowDays, Zone};
use schemars::JsonSchema;
use serde::Deserialize;

/// Keeps posts to certain hours. A post outside them waits, until a time that every node comes to alike.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentScheduling {
    /// The local time, `HH:MM`, from which on posts go out. Default: midnight.
    #[serde(default)]
    window_start: LocalTime,
    /// The local time, `HH:MM`, until which posts go out: on the next day if it is not after `window_start`. Default:
    /// midnight.
    #[serde(default)]
    window_end: LocalTime,
    /// The days, `mon` to `sun`, on which the window opens. Default: all.
    #[serde(default)]
    days: WindowDays,
    /// The IANA name of the time zone. Default: UTC.
    #[serde(default)]
    timezone: Zone,
    /// Spreads posts over the window, instead of sending them as soon as it allows.
    #[serde(default)]
    randomize_within_window: bool,
}

#[async_trait]
impl Skill for ContentScheduling {
    async fn run(&self, draft: Draft, context: &ActorContext) -> Result<Step, SkillError> {
        plan(draft, context, |limits, seed| {
            limits.window = Some(Window {
                start: self.window_start,
                end: self.window_end,
                days: self.days.clone(),
                timezone: self.timezone.clone(),
                spread: self.randomize_within_window.then(|| seed.to_owned()),
            });
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use chrono::{DateTime, Utc};

    async fn times(world: &World, settings: &str, entries: usize) -> Vec<Option<DateTime<Utc>>> {
        let draft =
            world.run("content_scheduling", settings, world.draft(&vec!["text"; entries])).await.unwrap();
        draft.entries.iter().map(|entry| entry.deliveries[0].not_before).collect()
    }

    #[tokio::test]
    async fn a_post_in_the_window_goes_out_and_one_outside_waits_for_it() {
        let world = World::new(); // Sunday, 2026-03-01T12:00 UTC, 13:00 in Berlin
        let berlin = "timezone = 'Europe/Berlin'\n";
        assert_eq!(times(&world, &format!("{berlin}window_start = '13:00'"), 1).await, [None]);
        let evening = format!("{berlin}window_start = '18:00'\nwindow_end = '01:00'");
        assert_eq!(times(&world, &evening, 1).await, [Some(time("2026-03-01T17:00:00Z"))]);
        let monday = format!("{berlin}days = ['mon']");
        assert_eq!(times(&world, &monday, 1).await, [Some(time("2026-03-01T23:00:00Z"))]);
    }

    #[tokio::test]
    async fn a_spread_post_has_one_time_in_the_window_whoever_asks_and_whenever() {
        let mut world = World::new();
        let settings = "window_start = '18:00'\nwindow_end = '22:00'\nrandomize_within_window = true";
        let first = times(&world, settings, 3).await;
        world.now = time("2026-03-01T13:00:00Z");
        assert_eq!(first, times(&world, settings, 3).await);
        for at in first {
            let window = time("2026-03-01T18:00:00Z")..time("2026-03-01T22:00:00Z");
            assert!(window.contains(&at.unwrap()), "{at:?}");
        }
    }

    #[tokio::test]
    async fn window_and_rate_limits_hold_together_in_either_order() {
        let world = World::new();
        let scheduling = ("content_scheduling", "window_start = '18:00'\nwindow_end = '18:30'");
        let limiting = ("rate_limiting", "min_interval_minutes = 20");
        for skills in [[scheduling, limiting], [limiting, scheduling]] {
            let mut draft = world.draft(&["a", "b", "c"]);
            for (name, settings) in skills {
                draft = world.run(name, settings, draft).await.unwrap();
            }
            let times: Vec<_> =
                draft.entries.iter().map(|entry| entry.deliveries[0].not_before.unwrap()).collect();
            assert_eq!(
                times,
                ["2026-03-01T18:00:00Z", "2026-03-01T18:20:00Z", "2026-03-02T18:00:00Z"].map(time)
            );
        }
    }
}
