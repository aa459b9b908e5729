//! A small world to run one skill in.

use super::SkillRegistry;
use crate::draft::{Delivery, Draft, Entry, Item};
use crate::skill::{ActorContext, Knowledge, Skill, SkillError, Step};
use async_trait::async_trait;
use botticelli_server::clock::Clock;
use botticelli_server::ids::{PostId, TaskId};
use botticelli_server::ledger::LedgerError;
use botticelli_server::outbox::{EarlierItem, PostHistory};
use botticelli_server::post::{Destination, TextLimit, TextUnit};
use chrono::{DateTime, Utc};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn skill(name: &str, settings: &str) -> Arc<dyn Skill> {
    SkillRegistry::standard().build(name, &settings.parse().unwrap()).unwrap()
}

/// Sunday, 2026-03-01T12:00 UTC; the task `daily` posts to the console; one source, `facts`.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: DateTime<Utc>,
    pub(crate) scheduled_for: DateTime<Utc>,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) text_limit: TextLimit,
    pub(crate) post_times: Vec<DateTime<Utc>>,
    pub(crate) folder: PathBuf,
    items: Arc<Vec<Item>>,
    used: Vec<String>,
    earlier: Vec<EarlierItem>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: time("2026-03-01T12:00:00Z"),
            scheduled_for: time("2026-03-01T12:00:00Z"),
            destinations: vec![Destination { platform: "console".into(), target: "stdout".into() }],
            text_limit: TextLimit { max: Some(2000), unit: TextUnit::Scalars },
            post_times: Vec::new(),
            folder: PathBuf::new(),
            items: Arc::default(),
            used: Vec::new(),
            earlier: Vec::new(),
        }
    }

    pub(crate) fn items(&self, items: serde_json::Value) -> Self {
        let item = |value: serde_json::Value| {
            let serde_json::Value::Object(fields) = value else { panic!("items are objects") };
            let key = fields["id"].as_str().map_or_else(|| fields["id"].to_string(), str::to_owned);
            Item { source: "facts".into(), key, fields }
        };
        let serde_json::Value::Array(items) = items else { panic!("items are a list") };
        Self { items: Arc::new(items.into_iter().map(item).collect()), ..self.clone() }
    }

    pub(crate) fn used(mut self, keys: &[&str]) -> Self {
        self.used = keys.iter().map(|key| (*key).to_owned()).collect();
        self
    }

    /// Something posted to the console before.
    pub(crate) fn posted(mut self, post: i64, used_at: &str, text: &str) -> Self {
        self.earlier.push(EarlierItem {
            post_id: Some(PostId(post)),
            text: text.into(),
            used_at: time(used_at),
        });
        self
    }

    /// A draft of these texts, with the keys "0", "1", …
    pub(crate) fn draft(&self, texts: &[&str]) -> Draft {
        let items: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(key, text)| serde_json::json!({"id": key, "text": text}))
            .collect();
        self.items(items.into()).draft_of_items()
    }

    pub(crate) fn draft_of_items(&self) -> Draft {
        let deliveries: Vec<_> = self.destinations.iter().cloned().map(Delivery::to).collect();
        let entry = |item: &Item| Entry {
            item: item.clone(),
            extras: Default::default(),
            deliveries: deliveries.clone(),
            again: false,
        };
        Draft { entries: self.items.iter().map(entry).collect() }
    }

    pub(crate) async fn step(&self, name: &str, settings: &str, draft: Draft) -> Result<Step, SkillError> {
        skill(name, settings).run(draft, &self.context()).await
    }

    pub(crate) async fn run(&self, name: &str, settings: &str, draft: Draft) -> Result<Draft, SkillError> {
        match self.step(name, settings, draft).await? {
            Step::Continue { draft, .. } => Ok(draft),
            Step::Stop { reason, note } => panic!("stopped ({reason:?}): {note}"),
        }
    }

    pub(crate) async fn notes(&self, name: &str, settings: &str, draft: Draft) -> Vec<String> {
        match self.step(name, settings, draft).await.unwrap() {
            Step::Continue { notes, .. } => notes,
            Step::Stop { reason, note } => panic!("stopped ({reason:?}): {note}"),
        }
    }

    pub(crate) fn context(&self) -> ActorContext {
        let world = Arc::new(self.clone());
        ActorContext {
            task_id: TaskId::new("daily").unwrap(),
            scheduled_for: self.scheduled_for,
            destinations: self.destinations.clone(),
            text_limits: self.destinations.iter().map(|to| (to.clone(), self.text_limit)).collect(),
            history: world.clone(),
            clock: world.clone(),
            parameters: serde_json::Value::Null,
            knowledge: world,
            folder: self.folder.clone(),
        }
    }
}

#[async_trait]
impl Clock for World {
    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    async fn sleep_until(&self, _at: DateTime<Utc>) {}
}

#[async_trait]
impl Knowledge for World {
    fn names(&self) -> Vec<String> {
        vec!["facts".to_owned()]
    }

    async fn items(&self, _name: &str, _context: &ActorContext) -> Result<Arc<Vec<Item>>, SkillError> {
        Ok(self.items.clone())
    }
}

#[async_trait]
impl PostHistory for World {
    async fn used_keys(&self, _task: &TaskId, _source: &str) -> Result<Vec<String>, LedgerError> {
        Ok(self.used.clone())
    }

    async fn earlier_items(
        &self,
        to: &Destination,
        since: DateTime<Utc>,
    ) -> Result<Vec<EarlierItem>, LedgerError> {
        let here = to.platform == "console";
        Ok(self.earlier.iter().filter(|item| here && item.used_at >= since).cloned().collect())
    }

    async fn post_times(
        &self,
        _task: &TaskId,
        _destination: &Destination,
        since: DateTime<Utc>,
    ) -> Result<Vec<DateTime<Utc>>, LedgerError> {
        Ok(self.post_times.iter().filter(|at| **at >= since).copied().collect())
    }
}
