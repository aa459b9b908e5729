//! Storms: the deliverer on a real store, posting to the double through real sockets, while requests and replies get
//! lost and nodes die or are suspended at any point. Only the double's ledger judges what became of the posts.
//!
//! A storm is made from a number. All time is the test's, so windows and leases cost nothing.

mod fate;

use super::chance::seeds;
use super::judge::{Judge, are_settled};
use super::*;
use botticelli_actor::deliverer::{Deliverer, DeliverySettings, DeliverySignals};
use botticelli_actor::discord::platform::{Bot, BotSettings, Webhooks};
use botticelli_actor::engine::CurrentNode;
use botticelli_actor::platforms::Platforms;
use botticelli_database::{Decided, PostDecision, PostFilter, PostView, Store};
use botticelli_server::ids::NodeId;
use botticelli_server::outbox::{NewPost, Outbox as _, PostState};
use botticelli_server::post::{Destination, Platform};
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::databases::TestStore;
use botticelli_testkit::random::Random;
use botticelli_testkit::store_suite::{Player, each_minute, part, register};
use chrono::TimeDelta;
use discord_double::{
    Change, Fault, Limits, NonceRules, NonceScope, Overwrite, OverwriteTarget, Permissions, Scope, What,
};
use fate::{Fate, FatedOutbox, FatedPlatform, Life};
use tokio::task::JoinHandle;

const BOT_CHANNELS: [Id; 2] = [standard::GENERAL, standard::RANDOM];
/// Rounds in which bad luck strikes; afterwards all is well.
const BAD_ROUNDS: u32 = 25;
/// So many rounds without bad luck settle everything.
const GOOD_ROUNDS: u32 = 60;

struct Storm {
    seed: u64,
    random: Random,
    database: TestStore,
    stage: Stage,
    /// The bot may not read the history of the first channel.
    is_blind: bool,
    nodes: Vec<Node>,
    starts: u32,
}

/// A place for a process.
struct Node {
    store: Store,
    process: Option<Process>,
}

struct Process {
    name: NodeId,
    fate: Arc<Fate>,
    platforms: Platforms,
    running: Option<JoinHandle<()>>,
}

impl Storm {
    async fn new(seed: u64, database: TestStore) -> Self {
        let mut random = Random(seed);
        let stage = stage(&mut random, seed, database.clock());
        let is_blind = random.one_in(6);
        if is_blind {
            stage.double.change(no_history(standard::GENERAL)).expect("it is there");
        }
        bad_luck(&mut random, &stage.double, Duration::from_millis(400), seconds(30));
        let mut nodes = Vec::new();
        for _ in 0..=random.below(3) {
            nodes.push(Node { store: database.another().await, process: None });
        }
        let posts = posts(&mut random);
        let storm = Self { seed, random, database, stage, is_blind, nodes, starts: 0 };
        storm.intend(posts).await;
        storm
    }

    /// One node, and no bad luck.
    async fn calm(database: TestStore) -> Self {
        let mut random = Random(0);
        let stage = stage(&mut random, 0, database.clock());
        let nodes = vec![Node { store: database.another().await, process: None }];
        Self { seed: 0, random, database, stage, is_blind: false, nodes, starts: 0 }
    }

    /// Puts posts into the outbox.
    async fn intend(&self, posts: Vec<NewPost>) {
        let task = each_minute("storm");
        register(&self.database, &[&task]).await;
        Player::enter(&self.database, "author").await.run(&task, posts).await;
    }

    async fn rage(mut self) {
        for _ in 0..BAD_ROUNDS {
            if self.is_settled().await {
                break;
            }
            self.round((4, 4)).await;
            self.time_passes().await;
        }
        self.stage.double.clear_faults();
        // Nor is the machine so busy that an answer seems lost.
        self.stage.http.total_timeout = seconds(60);
        for _ in 0..GOOD_ROUNDS {
            if self.is_settled().await {
                break;
            }
            self.round((0, 0)).await;
            self.time_passes().await;
        }
        self.judge().await;
    }

    /// Everybody goes on until nothing is due, or something strikes.
    async fn round(&mut self, dangers: (u64, u64)) {
        for index in 0..self.nodes.len() {
            self.begin(index, dangers);
        }
        for index in 0..self.nodes.len() {
            self.rest(index).await;
        }
        self.quiet().await;
    }

    fn begin(&mut self, index: usize, dangers: (u64, u64)) {
        let calm = dangers == (0, 0);
        if let Some(process) = &self.nodes[index].process
            && process.fate.life() == Life::Suspended
            && (calm || self.random.one_in(2))
        {
            process.fate.resume();
        }
        if !calm && self.random.one_in(4) {
            return;
        }
        if self.nodes[index].process.is_none() || calm && self.nodes[index].is_idle() {
            self.start(index, dangers);
        }
        let node = &mut self.nodes[index];
        if let Some(process) = &mut node.process
            && process.running.is_none()
        {
            process.run(&node.store, &self.stage.clock);
        }
    }

    /// A new process, which remembers nothing.
    fn start(&mut self, index: usize, dangers: (u64, u64)) {
        self.starts += 1;
        let name = NodeId::new(format!("node-{}", self.starts)).expect("a name");
        let fate = Fate::new(Random(self.seed ^ u64::from(self.starts) << 32), dangers);
        let limits = LimitSettings { global_per_second: u32::MAX, ..LimitSettings::default() };
        self.stage.limiter = Limiter::new(limits, self.stage.clock.clone());
        let bot = Bot::new(self.stage.bot(), self.stage.clock.clone(), BotSettings::default());
        let webhook = self.stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN);
        let webhooks = Webhooks::new([("herald".to_owned(), webhook)].into(), FileLimits::default());
        let mut platforms = Platforms::default();
        let fated: [(&str, Arc<Platform>); 2] =
            [("discord", Arc::new(bot)), ("discord_webhook", Arc::new(webhooks))];
        for (name, platform) in fated {
            platforms.register(name, Arc::new(FatedPlatform { platform, fate: fate.clone() }));
        }
        self.nodes[index].process = Some(Process { name, fate, platforms, running: None });
    }

    /// Until the process of this node has nothing to do, or can't.
    async fn rest(&mut self, index: usize) {
        /// Who waits for so long (really) waits for the clock.
        const STALL: Duration = Duration::from_millis(40);
        let clock = self.database.clock();
        let Some(process) = &mut self.nodes[index].process else { return };
        let Some(mut running) = process.running.take() else { return };
        loop {
            let ended = tokio::select! {
                ended = tokio::time::timeout(STALL, &mut running) => ended,
                () = process.fate.strikes() => break,
            };
            match ended {
                Ok(ended) => return ended.expect("a deliverer does not panic"),
                Err(_) => {
                    // A turn at the limiter takes up to five seconds.
                    let soon = clock.now() + TimeDelta::seconds(6);
                    if let Some(wake) = clock.wake_times().first().filter(|wake| **wake <= soon) {
                        self.database.set(*wake).await;
                    }
                }
            }
        }
        match process.fate.life() {
            Life::Dead => {
                running.abort();
                assert!(running.await.is_err_and(|error| error.is_cancelled()), "it was killed");
                self.nodes[index].process = None;
            }
            Life::Running | Life::Suspended => process.running = Some(running),
        }
    }

    /// Until nothing is on the wire any more: what a dead process has sent arrives before time goes on.
    async fn quiet(&mut self) {
        // With all the time that a busy machine takes.
        let http = HttpSettings { total_timeout: seconds(60), ..self.stage.http.clone() };
        let limiter = Limiter::new(LimitSettings::default(), self.stage.clock.clone());
        let token = SecretString::from(standard::TOKEN.to_owned());
        let bot = Rest::new(&http, &token, limiter, self.stage.clock.clone()).expect("a client");
        for _ in 0..3 {
            bot.current_user().await.expect("no fault strikes this");
        }
        let is_open = |request: &discord_double::Request| {
            request.status.is_none() && request.fault.as_deref() != Some("lose_request")
        };
        self.stage.double.until(|double| (!double.requests().iter().any(is_open)).then_some(())).await;
    }

    async fn time_passes(&mut self) {
        let now = self.database.time();
        let due = self.database.next_post_due(&[]).await.expect("an answer");
        let to = match self.random.below(10) {
            0 => now + TimeDelta::milliseconds(i64::try_from(self.random.below(30_000)).expect("small")),
            1 | 2 => now + TimeDelta::seconds(61),
            3 => now + TimeDelta::seconds(130),
            _ => due.filter(|due| *due > now).unwrap_or(now + TimeDelta::seconds(61)),
        };
        self.database.set(to).await;
    }

    async fn posts(&self) -> Vec<PostView> {
        let filter = PostFilter { limit: 1000, ..PostFilter::default() };
        self.database.posts(filter).await.expect("posts")
    }

    async fn is_settled(&self) -> bool {
        are_settled(&self.posts().await)
    }

    async fn judge(&self) {
        let judge = Judge {
            story: format!("storm {}", self.seed),
            ledger: self.stage.double.ledger(),
            posts: self.posts().await,
        };
        judge.every_post_is_there_once(|post| self.is_undecidable(post));
        judge.posts_of_a_destination_are_in_order();
        judge.nothing_else_appeared();
    }

    /// The only cases that nothing can decide: webhooks, and channels whose history can't be read.
    fn is_undecidable(&self, post: &PostView) -> bool {
        let blind = standard::GENERAL.to_string();
        post.platform == "discord_webhook" || self.is_blind && post.destination == blind
    }
}

impl Node {
    fn is_idle(&self) -> bool {
        self.process.as_ref().is_none_or(|process| process.running.is_none())
    }
}

impl Process {
    fn run(&mut self, store: &Store, clock: &Arc<dyn Clock>) {
        let outbox = Arc::new(FatedOutbox { store: store.clone(), fate: self.fate.clone() });
        let node = Arc::new(CurrentNode::new(self.name.clone()));
        let (settings, signals) = (DeliverySettings::default(), DeliverySignals::default());
        let deliverer =
            Deliverer::new(outbox, self.platforms.clone(), clock.clone(), node, settings, signals);
        self.running = Some(tokio::spawn(async move {
            deliverer.run_once().await.expect("the store is there");
        }));
    }
}

/// A few messages for each destination, some in two parts.
fn posts(random: &mut Random) -> Vec<NewPost> {
    let bot = BOT_CHANNELS.map(|id| ("discord", id.to_string()));
    let webhook = ("discord_webhook", "herald".to_owned());
    let mut posts = Vec::new();
    for (platform, target) in bot.into_iter().chain([webhook]) {
        let mut first_part = 0;
        for number in 0..1 + u32::try_from(random.below(4)).expect("small") {
            if !random.one_in(3) {
                first_part = number;
            }
            // A webhook's messages have no nonce: only by its text the judge can tell one from another.
            let is_like_another = platform == "discord" && random.one_in(2);
            let text = if is_like_another { "the same".into() } else { format!("number {number}") };
            posts.push(NewPost { first_part, ..message(platform, &target, number, &text) });
        }
    }
    for number in 0..u32::try_from(random.below(3)).expect("small") {
        posts.push(in_forum(number));
    }
    posts
}

/// In a forum there are no nonces either.
fn in_forum(number: u32) -> NewPost {
    let text = format!("question {number}");
    let extra = serde_json::json!({"forum": {"name": text}});
    let mut post = message("discord", &standard::FORUM.to_string(), number, &text);
    post.content.extras = [("discord".to_owned(), extra)].into();
    post
}

fn message(platform: &str, target: &str, number: u32, text: &str) -> NewPost {
    let destination = Destination { platform: platform.into(), target: target.into() };
    NewPost { destination, first_part: number, ..part("", number, text) }
}

fn stage(random: &mut Random, seed: u64, clock: Arc<ManualClock>) -> Stage {
    let scope = if random.one_in(2) { NonceScope::Author } else { NonceScope::AuthorAndChannel };
    let window_seconds = [150.0, 180.0, 600.0][random.index(3)];
    let settings = Settings {
        limits: Limits::off(),
        nonce: NonceRules { window_seconds, scope },
        ..Settings::default()
    };
    let mut stage = Stage::seeded(settings, clock, seed);
    stage.http.total_timeout = Duration::from_millis(250);
    stage
}

pub(crate) fn no_history(channel: Id) -> Change {
    let target = OverwriteTarget::Role(standard::BOT_ROLE);
    let (allow, deny) = (Permissions::NONE, Permissions::READ_MESSAGE_HISTORY);
    Change::Overwrite { channel, overwrite: Overwrite { target, allow, deny } }
}

/// `slow` is longer than the client waits for an answer, and `hidden` no longer than it expects the history to lag.
pub(crate) fn bad_luck(random: &mut Random, double: &Double, slow: Duration, hidden: Duration) {
    let [slow, hidden] = [slow, hidden].map(|time| u64::try_from(time.as_millis()).expect("short"));
    // A message that something on the way sends twice can't be told from two, without a nonce.
    let is_ours = |fault: &Fault| {
        fault.what != What::DeliverTwice || fault.when.route.as_deref() == Some("create_message")
    };
    let strength = [0.01, 0.03, 0.07][random.index(3)];
    let reads = ["get_messages", "get_channel", "get_guild"].map(|route| {
        Fault::from(What::FailBeforeCommit { status: 503 }).on_route(route).with_probability(strength)
    });
    let limited =
        What::RateLimit { scope: Scope::User, retry_after_seconds: 7.5, header_seconds: None, code: 0 };
    let forbidden = What::Error { status: 403, code: 50013, message: "Missing Permissions".into() };
    let rare = [
        (What::HideInReads { millis: random.below(hidden) }, 4.0),
        (What::SlowReply { millis: slow }, 0.3),
        (What::SlowRequest { millis: slow }, 0.3),
        (limited, 1.0),
        (forbidden, 0.5),
    ];
    let writes = ["create_message", "execute_webhook"];
    let rare = writes.iter().flat_map(|route| {
        rare.iter().map(|(what, weight)| {
            Fault::from(what.clone()).on_route(route).with_probability(strength * weight)
        })
    });
    for fault in Fault::storm(strength).into_iter().filter(is_ours).chain(reads).chain(rare) {
        double.next(fault);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_moderator_removed_before_we_knew_that_it_was_there_is_not_posted_again() {
    let database = TestStore::sqlite().await;
    let mut storm = Storm::calm(database).await;
    storm.intend(vec![message("discord", &standard::GENERAL.to_string(), 0, "x")]).await;
    storm.stage.double.next(Fault::from(What::DropReply).on_route("create_message"));
    storm.round((0, 0)).await;
    let [there] = &storm.stage.double.visible(standard::GENERAL)[..] else { panic!("it is there") };
    let (bot, id) = (storm.stage.bot(), at(there.message_id));
    bot.delete_message(at(standard::GENERAL), id).await.expect("deleted");
    for _ in 0..GOOD_ROUNDS {
        storm.time_passes().await;
        storm.round((0, 0)).await;
    }
    assert_eq!(storm.stage.texts(standard::GENERAL), [""; 0]);
    let post = storm.posts().await.remove(0);
    assert_eq!((post.state, post.attempts), (PostState::Failed, 2));
    assert!(post.reason.is_some_and(|reason| reason.contains("somebody deleted it")));
}

/// A person did not wait until it was known whether it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_does_not_take_the_message_of_one_that_was_dismissed_in_doubt() {
    let mut storm = Storm::calm(TestStore::sqlite().await).await;
    let say_it = || vec![message("discord", &standard::GENERAL.to_string(), 0, "the same")];
    storm.intend(say_it()).await;
    storm.database.advance(seconds(50)).await;
    storm.stage.double.next(Fault::from(What::DropReply).on_route("create_message"));
    storm.round((0, 0)).await;
    let id = storm.posts().await[0].id;
    let dismissed = storm.database.decide(id, PostDecision::Dismiss).await.expect("an answer");
    assert_eq!(dismissed, Decided::Done);
    storm.database.advance(seconds(10)).await;
    storm.intend(say_it()).await;
    storm.stage.double.next(Fault::from(What::LoseRequest).on_route("create_message"));
    storm.round((0, 0)).await;
    storm.database.advance(seconds(200)).await;
    storm.round((0, 0)).await;
    let states: Vec<PostState> = storm.posts().await.iter().map(|post| post.state).collect();
    assert_eq!(states, [PostState::NeedsReview, PostState::Skipped], "newest first");
    assert_eq!(storm.stage.texts(standard::GENERAL), ["the same"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_each_post_appears_once_on_sqlite() {
    for seed in seeds("STORM_SEED", "STORMS", 60) {
        println!("storm {seed}: STORM_SEED={seed} STORMS=1 shows it again");
        Storm::new(seed, TestStore::sqlite().await).await.rage().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_each_post_appears_once_on_postgres() {
    for seed in seeds("STORM_SEED", "STORMS", 10) {
        println!("storm {seed}: STORM_SEED={seed} STORMS=1 shows it again");
        let Some(database) = TestStore::postgres().await else { return };
        Storm::new(seed, database).await.rage().await;
    }
}
