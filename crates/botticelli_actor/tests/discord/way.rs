//! The whole way: an actor's file, its pipeline, the outbox, the deliverer, and what people see on the double.

use super::*;
use botticelli_actor::actor::{PipelineActor, RunContext};
use botticelli_actor::config::ActorFile;
use botticelli_actor::deliverer::{Deliverer, DeliverySettings, DeliverySignals, Report};
use botticelli_actor::discord::platform::{Bot, BotSettings, Webhooks};
use botticelli_actor::engine::CurrentNode;
use botticelli_actor::platforms::Platforms;
use botticelli_actor::skills::SkillRegistry;
use botticelli_database::{PostFilter, PostView};
use botticelli_server::ledger::Recorded;
use botticelli_server::outbox::OnUnknown;
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::post::Destination;
use botticelli_server::server::{Actor as _, Run};
use botticelli_testkit::databases::TestStore;
use botticelli_testkit::store_suite::{Made, Player, each_minute, register};
use discord_double::Limits;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A server without its timer, in the hands of a test.
pub(super) struct Way {
    pub(super) stage: Stage,
    pub(super) database: TestStore,
    pub(super) folder: TempDir,
    nodes: std::sync::atomic::AtomicU32,
}

impl Way {
    pub(super) async fn new() -> Self {
        Self::with(Limits::off()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let database = TestStore::sqlite().await;
        let stage = Stage::on_clock(Settings { limits, ..Settings::default() }, database.clock());
        let folder = TempDir::new().expect("a folder");
        Self { stage, database, folder, nodes: Default::default() }
    }

    /// Those of a process that has just started.
    pub(super) fn platforms(&self) -> Platforms {
        // On a clock that stands still nothing would ever be allowed again.
        let limits = LimitSettings { global_per_second: u32::MAX, ..LimitSettings::default() };
        let limiter = Limiter::new(limits, self.stage.clock.clone());
        let token = SecretString::from(standard::TOKEN.to_owned());
        let rest = Rest::new(&self.stage.http, &token, limiter, self.stage.clock.clone()).expect("a client");
        let bot = Bot::new(rest, self.stage.clock.clone(), BotSettings::default());
        let webhook = self.stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN);
        let webhooks = Webhooks::new([("herald".to_owned(), webhook)].into(), FileLimits::default());
        let mut platforms = Platforms::built_in(self.stage.clock.clone());
        platforms.register("discord", Arc::new(bot));
        platforms.register("discord_webhook", Arc::new(webhooks));
        platforms
    }

    pub(super) fn file(&self) -> Destination {
        let path = self.folder.path().join("posts.jsonl").display().to_string();
        Destination { platform: "file".into(), target: path }
    }

    /// The texts in that file.
    pub(super) fn filed(&self) -> Vec<String> {
        let lines = std::fs::read_to_string(self.file().target).unwrap_or_default();
        let text = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["content"].as_str().expect("a text").to_owned()
        };
        lines.lines().map(text).collect()
    }

    /// What a run of the actor makes. `items` is what is in the file that it reads: JSON Lines, or a list in JSON.
    pub(super) async fn run(&self, items: &str, skills: &str, destinations: &[Destination]) -> Run {
        let name = if items.starts_with('[') { "items.json" } else { "items.jsonl" };
        std::fs::write(self.folder.path().join(name), items).expect("written");
        let file = format!(
            "[actor]\nname = 'herald'\n[execution]\nmax_retries = 0\n\
             [[knowledge]]\nname = 'items'\ntype = 'file'\npath = '{name}'\n\
             [[skills]]\nname = 'content_selection'\nlimit = 10\nrepeat = true\n{skills}"
        );
        let file: ActorFile = toml::from_str(&file).expect("an actor");
        let file = ActorFile { folder: self.folder.path().to_owned(), ..file };
        let actor = PipelineActor::build(&file, &SkillRegistry::standard(), self.database.url());
        let platforms = self.platforms();
        let context = RunContext {
            task_id: each_minute("herald").id,
            scheduled_for: self.database.time(),
            destinations: destinations.to_vec(),
            text_limits: platforms.text_limits(destinations),
            platforms,
            history: Arc::new(self.database.another().await),
            clock: self.stage.clock.clone(),
            parameters: serde_json::Value::Null,
            on_unknown: OnUnknown::NeedsReview,
            stop: CancellationToken::new(),
            trace: None,
        };
        actor.expect("its settings are right").run(context).await
    }

    /// Puts what a run makes into the outbox. `Err`: the run failed, and says so.
    pub(super) async fn intend(&self, items: &str, skills: &str, to: &[Destination]) -> Result<(), String> {
        let run = self.run(items, skills, to).await;
        match run.end {
            AttemptEnd::Succeeded => {
                let task = each_minute("herald");
                register(&self.database, &[&task]).await;
                let author = Player::enter(&self.database, "author").await;
                let attempt = author.claim(&task).await;
                let made = Made { posts: run.posts, used_items: run.used_items };
                let ended = author.ended(&task, &attempt, AttemptEnd::Succeeded, made).await;
                self.database.advance(seconds(60)).await;
                match author.record(ended).await {
                    Recorded::Stored { .. } => Ok(()),
                    Recorded::Refused { reason } => Err(reason),
                    other => panic!("{other:?}"),
                }
            }
            AttemptEnd::Failed { error, .. } => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// A process that remembers nothing delivers what is due.
    pub(super) async fn deliver(&self) -> Report {
        self.deliver_by(self.platforms()).await
    }

    /// A process delivers what is due. A turn at the limiter may take a few seconds of the test's time.
    pub(super) async fn deliver_by(&self, platforms: Platforms) -> Report {
        /// Who waits for so long (really) waits for the clock.
        const STALL: Duration = Duration::from_millis(100);
        let deliverer = self.deliverer(platforms).await;
        let mut running = std::pin::pin!(deliverer.run_once());
        loop {
            if let Ok(ended) = tokio::time::timeout(STALL, &mut running).await {
                return ended.expect("the store is there");
            }
            let soon = self.database.time() + seconds(6);
            if let Some(wake) = self.database.clock().wake_times().first().filter(|wake| **wake <= soon) {
                self.database.set(*wake).await;
            }
        }
    }

    pub(super) async fn deliverer(&self, platforms: Platforms) -> Deliverer {
        let number = self.nodes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let player = Player::enter(&self.database, &format!("node-{number}")).await;
        // A process that went: nothing is sent for its token any more.
        self.database.sql("DELETE FROM actor_server_egress_leases").await;
        Deliverer::new(
            Arc::new(player.store),
            platforms,
            self.stage.clock.clone(),
            Arc::new(CurrentNode::new(player.id)),
            DeliverySettings::default(),
            DeliverySignals::default(),
        )
    }

    /// Runs the actor and delivers what it made.
    pub(super) async fn say(&self, items: &str, skills: &str, to: &[Destination]) -> Result<(), String> {
        self.intend(items, skills, to).await?;
        self.deliver().await;
        Ok(())
    }

    /// Oldest first.
    pub(super) async fn posts(&self) -> Vec<PostView> {
        let filter = PostFilter { limit: 1000, ..PostFilter::default() };
        let mut posts = self.database.posts(filter).await.expect("posts");
        posts.reverse();
        posts
    }
}

pub(super) fn discord(channel: Id) -> Destination {
    Destination { platform: "discord".into(), target: channel.to_string() }
}

pub(super) fn webhook() -> Destination {
    Destination { platform: "discord_webhook".into(), target: "herald".into() }
}

/// An item with this text, as JSON.
pub(super) fn item(text: &str) -> String {
    serde_json::json!({ "id": "1", "text": text }).to_string()
}
