//! Leaves out what was posted before.

use crate::config::within::Within;
use crate::draft::Draft;
use crate::skill::{ActorContext, Skill, SkillError, Step};
use async_trait::async_trait;
use botticelli_server::outcome::SkipReason;
use botticelli_server::post::Destination;
use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use unicode_segmentation::UnicodeSegmentation;

/// Leaves out what was posted to the same destination before, by whatever task, in the same or almost the same words.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DuplicateCheck {
    /// How many days back posts are compared.
    #[serde(default = "thirty")]
    lookback_days: Within<1, 3650>,
    /// From this similarity on, 0 to 1, a text is a duplicate. 1 leaves out only the same words in the same order.
    #[serde(default)]
    similarity_threshold: Similarity,
}

/// From 0 (nothing in common) to 1 (the same).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize, JsonSchema)]
#[serde(try_from = "f64")]
#[schemars(with = "f64")]
struct Similarity(f64);

impl Default for Similarity {
    fn default() -> Self {
        Self(0.9)
    }
}

impl TryFrom<f64> for Similarity {
    type Error = String;
    fn try_from(similarity: f64) -> Result<Self, String> {
        let allowed = (0.0..=1.0).contains(&similarity);
        allowed
            .then_some(Self(similarity))
            .ok_or_else(|| format!("{similarity} is no similarity (allowed: 0 to 1)"))
    }
}

fn thirty() -> Within<1, 3650> {
    Within::of::<30>()
}

#[async_trait]
impl Skill for DuplicateCheck {
    async fn run(&self, mut draft: Draft, context: &ActorContext) -> Result<Step, SkillError> {
        let mut earlier = self.earlier(&draft, context).await?;
        let mut notes = Vec::new();
        for entry in &mut draft.entries {
            let print = Print::of(&entry.item.text());
            let key = &entry.item.key;
            entry.deliveries.retain(|delivery| {
                let known = earlier.entry(delivery.destination.clone()).or_default();
                let closest = known.iter().map(|(who, other)| (print.similarity(other), who));
                let closest = closest.max_by(|(left, _), (right, _)| left.total_cmp(right));
                if let Some((similarity, who)) =
                    closest.filter(|(alike, _)| *alike >= self.similarity_threshold.0)
                {
                    let percent = (similarity * 100.0).floor();
                    notes.push(format!(
                        "left out {key:?} for {}: {percent} % like {who}",
                        delivery.destination
                    ));
                    return false;
                }
                known.push((format!("{key:?} of this run"), print.clone()));
                true
            });
        }
        let before = draft.entries.len();
        draft.entries.retain(|entry| !entry.deliveries.is_empty());
        if before > 0 && draft.entries.is_empty() {
            return Ok(Step::Stop { reason: SkipReason::Duplicate, note: notes.join("; ") });
        }
        notes.push(format!("{} of {before} entries are new", draft.entries.len()));
        Ok(Step::Continue { draft, notes })
    }
}

/// What is known of each destination: who, and the print of the text.
type Earlier = HashMap<Destination, Vec<(String, Print)>>;

impl DuplicateCheck {
    async fn earlier(&self, draft: &Draft, context: &ActorContext) -> Result<Earlier, SkillError> {
        let since = context.clock.now() - TimeDelta::days(i64::from(self.lookback_days.count().get()));
        let mut earlier = Earlier::new();
        for delivery in draft.entries.iter().flat_map(|entry| &entry.deliveries) {
            if earlier.contains_key(&delivery.destination) {
                continue;
            }
            let items = context.history.earlier_items(&delivery.destination, since).await?;
            let known = items.into_iter().map(|item| {
                let day = item.used_at.format("%Y-%m-%d");
                let who = match item.post_id {
                    Some(post) => format!("post #{post} of {day}"),
                    None => format!("a post of {day}"),
                };
                (who, Print::of(&item.text))
            });
            earlier.insert(delivery.destination.clone(), known.collect());
        }
        Ok(earlier)
    }
}

/// What texts are compared by: their words and pairs of neighbouring words, hashed, sorted.
///
/// Posts are short: a 64-bit simhash of a dozen words says little, and longer shingles all break when one word of a
/// sentence is changed. Words alone would not see their order. The similarity is Jaccard's: what both have, of what
/// either has. Case, punctuation and spacing do not count, so the same words are exactly 1.
#[derive(Debug, Clone)]
struct Print {
    exact: u64,
    features: Vec<u64>,
}

impl Print {
    fn of(text: &str) -> Self {
        let lower = text.to_lowercase();
        let mut words: Vec<&str> = lower.unicode_words().collect();
        if words.is_empty() {
            // Emoji, for example.
            words.push(lower.trim());
        }
        let pairs = words.windows(2).map(hash);
        let mut features: Vec<u64> = words.iter().map(|word| hash(&[word])).chain(pairs).collect();
        features.sort_unstable();
        features.dedup();
        Self { exact: hash(&words), features }
    }

    fn similarity(&self, other: &Self) -> f64 {
        if self.exact == other.exact {
            return 1.0;
        }
        let in_both = common(&self.features, &other.features);
        let in_either = self.features.len() + other.features.len() - in_both;
        // The same words and pairs in another order are not the same text.
        (in_both as f64 / in_either as f64).min(0.99)
    }
}

fn common(left: &[u64], right: &[u64]) -> usize {
    let (mut left, mut right, mut count) = (left.iter().peekable(), right.iter().peekable(), 0);
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        match l.cmp(r) {
            std::cmp::Ordering::Less => drop(left.next()),
            std::cmp::Ordering::Greater => drop(right.next()),
            std::cmp::Ordering::Equal => {
                count += 1;
                left.next();
                right.next();
            }
        }
    }
    count
}

/// FNV-1a. It is never stored, and a collision only makes two texts a little more alike.
fn hash(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const FOX: &str = "The quick brown fox jumps over the lazy dog";

    async fn result(world: &World, settings: &str, texts: &[&str]) -> Step {
        world.step("duplicate_check", settings, world.draft(texts)).await.unwrap()
    }

    #[tokio::test]
    async fn the_same_words_are_left_out_and_the_note_says_which_post_has_them() {
        let world =
            World::new().posted(17, "2026-02-20T10:00:00Z", "the QUICK brown fox, jumps over the lazy dog!");
        let note = "left out \"0\" for console:stdout: 100 % like post #17 of 2026-02-20".to_owned();
        assert_eq!(result(&world, "", &[FOX]).await, Step::Stop { reason: SkipReason::Duplicate, note });
    }

    #[tokio::test]
    async fn almost_the_same_words_are_left_out_from_the_threshold_on() {
        let world = World::new().posted(1, "2026-02-20T10:00:00Z", FOX);
        let nearly = "The quick brown fox jumps over the lazy cat";
        let Step::Stop { note, .. } = result(&world, "similarity_threshold = 0.7", &[nearly]).await else {
            panic!()
        };
        assert!(note.contains("77 % like post #1"), "{note}");
        assert!(matches!(result(&world, "", &[nearly]).await, Step::Continue { .. }));
        let swapped = "dog lazy the over jumps fox brown quick the";
        assert!(matches!(
            result(&world, "similarity_threshold = 1.0", &[swapped]).await,
            Step::Continue { .. }
        ));
    }

    #[tokio::test]
    async fn an_older_post_than_the_lookback_does_not_count() {
        let world = World::new().posted(1, "2026-02-20T10:00:00Z", FOX);
        assert!(matches!(result(&world, "lookback_days = 9", &[FOX]).await, Step::Continue { .. }));
        assert!(matches!(result(&world, "lookback_days = 10", &[FOX]).await, Step::Stop { .. }));
    }

    #[tokio::test]
    async fn entries_of_one_draft_are_compared_with_each_other() {
        let world = World::new();
        let Step::Continue { draft, notes } = result(&world, "", &[FOX, "something else", FOX]).await else {
            panic!()
        };
        assert_eq!(draft.entries.len(), 2);
        assert_eq!(notes[0], "left out \"2\" for console:stdout: 100 % like \"0\" of this run");
        assert_eq!(notes[1], "2 of 3 entries are new");
    }

    #[tokio::test]
    async fn only_the_destination_that_had_it_is_left_out() {
        let mut world = World::new().posted(1, "2026-02-20T10:00:00Z", FOX);
        world.destinations.push(Destination { platform: "file".into(), target: "posts.jsonl".into() });
        let Step::Continue { draft, .. } = result(&world, "", &[FOX]).await else { panic!() };
        assert_eq!(draft.entries[0].deliveries.len(), 1);
        assert_eq!(draft.entries[0].deliveries[0].destination.platform, "file");
    }

    #[tokio::test]
    async fn emoji_alone_are_compared_as_they_are() {
        let world = World::new().posted(1, "2026-02-20T10:00:00Z", "🎉🎉");
        assert!(matches!(result(&world, "", &["🎉🎉"]).await, Step::Stop { .. }));
        assert!(matches!(result(&world, "", &["🎈"]).await, Step::Continue { .. }));
        assert!(matches!(
            world.step("duplicate_check", "", world.items(json!([])).draft(&[])).await.unwrap(),
            Step::Continue { .. }
        ));
    }

    proptest! {
        #[test]
        fn similarity_is_symmetric_and_1_only_for_the_same_words(left in ".{0,60}", right in ".{0,60}") {
            let (left, right) = (Print::of(&left), Print::of(&right));
            prop_assert_eq!(left.similarity(&right), right.similarity(&left));
            prop_assert_eq!(left.similarity(&left), 1.0);
            prop_assert_eq!(left.similarity(&right) == 1.0, left.exact == right.exact);
        }
    }
}
