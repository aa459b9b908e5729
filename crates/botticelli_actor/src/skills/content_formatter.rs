//! Writes the text of a message.

use super::template::Template;
use crate::config::within::Within;
use crate::draft::{Draft, Item};
use crate::skill::{ActorContext, Skill, SkillError, Step};
use crate::text::{fits, measure, split, truncate};
use async_trait::async_trait;
use botticelli_server::post::TextLimit;
use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// Writes the text of a message from an item's fields, and fits it to the platform.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentFormatter {
    /// A Jinja template over the item's fields. `item`, `task` and `now` are there too. Default: the item's own text.
    template: Option<Template>,
    /// The longest message, as each platform counts. Default, and never more: what the platform takes.
    max_length: Option<Within<1, 1_000_000>>,
    /// What happens to a longer one: it becomes several messages, is cut, or the run fails.
    #[serde(default)]
    overflow: Overflow,
    /// Tags for the end of the message: a list, or true for those in the item's `tags`.
    #[serde(default)]
    add_hashtags: Hashtags,
    /// Puts the item's `source`, else its `url`, at the end of the message.
    #[serde(default)]
    include_source: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Overflow {
    #[default]
    Split,
    Truncate,
    Fail,
}

/// A text before it is fitted to its places.
struct Written {
    body: String,
    /// What stands at the end of it, and is never cut.
    ending: String,
}

/// The longest text that a template may make.
const LONGEST_TEXT: usize = 1 << 20;

#[async_trait]
impl Skill for ContentFormatter {
    async fn run(&self, mut draft: Draft, context: &ActorContext) -> Result<Step, SkillError> {
        let mut notes = Vec::new();
        for entry in &mut draft.entries {
            let Item { key, source, .. } = &entry.item;
            let wrong = |problem| SkillError::Unrecoverable(format!("item {key:?} of {source:?}: {problem}"));
            let text = self.write(&entry.item, context).map_err(wrong)?;
            for delivery in &mut entry.deliveries {
                let limit = context.text_limits.of(&delivery.destination);
                let parts = self.fit(&text, self.limit(limit)).map_err(wrong)?;
                notes.push(format!(
                    "wrote {key:?} for {} in {} part(s), length {}",
                    delivery.destination,
                    parts.len(),
                    parts
                        .iter()
                        .map(|part| measure(part, limit.unit).to_string())
                        .collect::<Vec<_>>()
                        .join(" + ")
                ));
                delivery.parts = Some(parts);
            }
        }
        Ok(Step::Continue { draft, notes })
    }
}

impl ContentFormatter {
    fn write(&self, item: &Item, context: &ActorContext) -> Result<Written, String> {
        let body = match &self.template {
            Some(template) => template.render(item, context).map_err(|error| format!("template: {error}"))?,
            None => item.text().into_owned(),
        };
        if body.len() > LONGEST_TEXT {
            return Err(format!("the text has {} bytes (allowed: {LONGEST_TEXT})", body.len()));
        }
        let body = body.trim();
        if body.is_empty() {
            return Err("the text is empty".to_owned());
        }
        Ok(Written { body: body.to_owned(), ending: self.ending(item)? })
    }

    /// The parts for a place with this limit.
    fn fit(&self, Written { body, ending }: &Written, limit: TextLimit) -> Result<Vec<String>, String> {
        let whole = format!("{body}{ending}");
        match self.overflow {
            Overflow::Split => split(&whole, limit).map_err(|error| error.to_string()),
            _ if fits(&whole, limit) => Ok(vec![whole]),
            Overflow::Truncate => {
                let room = limit.max.map(|max| max.saturating_sub(measure(ending, limit.unit)));
                if room == Some(0) {
                    return Err(format!(
                        "hashtags and source alone are longer than {} ({ending:?})",
                        max(limit)
                    ));
                }
                let body =
                    truncate(body, TextLimit { max: room, ..limit }).map_err(|error| error.to_string())?;
                Ok(vec![format!("{body}{ending}")])
            }
            Overflow::Fail => {
                let size = measure(&whole, limit.unit);
                Err(format!("the text has a length of {size} (allowed: {})", max(limit)))
            }
        }
    }

    fn limit(&self, platform: TextLimit) -> TextLimit {
        let own = self.max_length.map(|length| length.count().get() as usize);
        let max = own.into_iter().chain(platform.max).min();
        TextLimit { max, ..platform }
    }

    /// What follows the text: hashtags and source, each in a line of its own.
    fn ending(&self, item: &Item) -> Result<String, String> {
        let mut ending = String::new();
        let tags = self.add_hashtags.of(item).join(" ");
        if !tags.is_empty() {
            ending.push_str("\n\n");
            ending.push_str(&tags);
        }
        if self.include_source {
            let text =
                |name: &&str| item.fields.get(*name)?.as_str().map(str::trim).filter(|text| !text.is_empty());
            let source = ["source", "url"].iter().find_map(text);
            let source =
                source.ok_or("include_source is set, but the item has neither `source` nor `url`")?;
            ending.push_str(if ending.is_empty() { "\n\n" } else { "\n" });
            ending.push_str(source);
        }
        Ok(ending)
    }
}

fn max(limit: TextLimit) -> usize {
    limit.max.unwrap_or(usize::MAX)
}

/// The hashtags at the end of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
enum Hashtags {
    /// None, or those of the item.
    #[schemars(with = "bool")]
    #[default]
    None,
    #[schemars(with = "bool")]
    OfItem,
    /// These.
    List(Vec<String>),
}

impl Hashtags {
    fn of(&self, item: &Item) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::List(tags) => tags.clone(),
            Self::OfItem => {
                let tags: Vec<&str> = match item.fields.get("tags") {
                    Some(serde_json::Value::Array(tags)) => {
                        tags.iter().filter_map(|tag| tag.as_str()).collect()
                    }
                    Some(serde_json::Value::String(tags)) => tags.split([',', ' ']).collect(),
                    Some(_) | None => Vec::new(),
                };
                tags.into_iter().filter_map(hashtag).collect()
            }
        }
    }
}

/// `machine learning!` is `#machinelearning`.
fn hashtag(tag: &str) -> Option<String> {
    let letters: String = tag.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    (!letters.is_empty()).then(|| format!("#{letters}"))
}

impl<'de> Deserialize<'de> for Hashtags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrList;

        impl<'de> Visitor<'de> for BoolOrList {
            type Value = Hashtags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a list of tags like \"#art\"")
            }

            fn visit_bool<E>(self, of_item: bool) -> Result<Hashtags, E> {
                Ok(if of_item { Hashtags::OfItem } else { Hashtags::None })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tags: A) -> Result<Hashtags, A::Error> {
                let mut list = Vec::new();
                while let Some(tag) = tags.next_element::<String>()? {
                    let clean = hashtag(&tag)
                        .filter(|clean| clean.trim_start_matches('#') == tag.trim_start_matches('#'));
                    let problem =
                        || de::Error::custom(format!("{tag:?} is no hashtag (allowed: letters, digits, _)"));
                    list.push(clean.ok_or_else(problem)?);
                }
                Ok(Hashtags::List(list))
            }
        }

        deserializer.deserialize_any(BoolOrList)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use botticelli_server::post::TextUnit;
    use serde_json::json;

    async fn parts(world: &World, settings: &str) -> Result<Vec<String>, String> {
        let draft = world.run("content_formatter", settings, world.draft_of_items()).await;
        draft
            .map(|mut draft| draft.entries[0].deliveries.remove(0).parts.unwrap())
            .map_err(|error| error.to_string())
    }

    fn one(item: serde_json::Value) -> World {
        World::new().items(json!([item]))
    }

    #[tokio::test]
    async fn the_template_sees_the_item_the_task_and_the_time() {
        let world = one(json!({"id": "a", "title": "T", "n": 3, "list": ["x", "y"]}));
        let settings =
            "template = '{{ title|upper }} {{ item.n + 1 }} {{ list|join(\"-\") }} {{ task }} {{ now }}'";
        assert_eq!(parts(&world, settings).await.unwrap(), ["T 4 x-y daily 2026-03-01T12:00:00+00:00"]);
        assert_eq!(parts(&world, "").await.unwrap(), ["T"]);
    }

    #[tokio::test]
    async fn a_field_that_is_not_there_is_named() {
        let world = one(json!({"id": "a", "title": "T"}));
        assert_eq!(
            parts(&world, "template = '{{ titel }}'").await.unwrap_err(),
            "item \"a\" of \"facts\": template: the item has no field \"titel\" (did you mean \"title\"? (known: id, title, item, task, now))"
        );
        assert!(parts(&world, "template = '{{ title.x.y }}'").await.unwrap_err().contains("undefined"));
        assert_eq!(parts(&world, "template = '{{ titel|default(title) }}'").await.unwrap(), ["T"]);
    }

    #[tokio::test]
    async fn a_template_that_does_not_end_is_stopped() {
        let world = one(json!({"id": "a"}));
        let settings =
            "template = '{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}'";
        assert!(parts(&world, settings).await.unwrap_err().contains("engine ran out of fuel"));
        let huge = "template = '{{ \"x\" * 3000000 }}'";
        assert!(
            parts(&world, huge).await.unwrap_err().contains("the text has 3000000 bytes (allowed: 1048576)")
        );
    }

    #[tokio::test]
    async fn a_long_text_is_split_cut_or_refused_as_told() {
        let world = one(json!({"id": "a", "text": "one two three"}));
        let with = |overflow| format!("max_length = 8\noverflow = '{overflow}'");
        assert_eq!(parts(&world, &with("split")).await.unwrap(), ["one two", "three"]);
        assert_eq!(parts(&world, &with("truncate")).await.unwrap(), ["one two…"]);
        let error = parts(&world, &with("fail")).await.unwrap_err();
        assert_eq!(error, "item \"a\" of \"facts\": the text has a length of 13 (allowed: 8)");
    }

    #[tokio::test]
    async fn the_platform_s_limit_and_unit_hold_whatever_the_setting() {
        let mut world = one(json!({"id": "a", "text": "👩‍👩‍👧 👩‍👩‍👧"}));
        world.text_limit = TextLimit { max: Some(10), unit: TextUnit::Utf16 };
        assert_eq!(parts(&world, "max_length = 4000").await.unwrap(), ["👩‍👩‍👧", "👩‍👩‍👧"]);
    }

    #[tokio::test]
    async fn hashtags_and_source_stand_at_the_end_and_survive_truncation() {
        let world = one(
            json!({"id": "a", "text": "one two three", "url": "https://a.b/c", "tags": ["machine learning", "art!"]}),
        );
        let settings = "add_hashtags = true\ninclude_source = true";
        assert_eq!(
            parts(&world, settings).await.unwrap(),
            ["one two three\n\n#machinelearning #art\nhttps://a.b/c"]
        );
        let settings = "add_hashtags = ['#art', 'daily']\nmax_length = 20\noverflow = 'truncate'";
        assert_eq!(parts(&world, settings).await.unwrap(), ["one…\n\n#art #daily"]);
        let error =
            parts(&world, "add_hashtags = ['longer_than_that']\nmax_length = 10\noverflow = 'truncate'")
                .await;
        assert!(error.unwrap_err().contains("hashtags and source alone are longer than 10"));
        let no_source = one(json!({"id": "a", "text": "one"}));
        assert!(
            parts(&no_source, "include_source = true")
                .await
                .unwrap_err()
                .contains("neither `source` nor `url`")
        );
    }

    #[tokio::test]
    async fn an_empty_text_is_an_error() {
        let world = one(json!({"id": "a", "text": "one", "empty": " "}));
        assert!(parts(&world, "template = '{{ empty }}'").await.unwrap_err().ends_with("the text is empty"));
    }

    #[tokio::test]
    async fn a_url_that_does_not_fit_is_an_error_that_shows_it() {
        let world = one(json!({"id": "a", "text": "https://example.org/a/long/way"}));
        let error = parts(&world, "max_length = 10").await.unwrap_err();
        assert!(error.contains("a URL of length 30 can't be cut, and only 10 fit"), "{error}");
    }
}
