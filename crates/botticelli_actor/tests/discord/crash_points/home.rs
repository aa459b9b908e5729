//! A configuration, a database and a double, on a clock that goes fast.

use crate::judge::{Judge, are_settled};
use crate::process::{PATIENCE, Server};
use crate::storm::no_history;
use botticelli_actor::clock::SystemClock;
use botticelli_actor::rehearsal::{CLOCK, FAIL_POINT, FastClock};
use botticelli_database::fail_points::Point;
use botticelli_database::{Mode, PostFilter, PostView, Store};
use botticelli_server::clock::Clock as _;
use botticelli_testkit::databases::TestDatabase;
use botticelli_testkit::random::Random;
use discord_double::{Double, Limits, NonceRules, NonceScope, Options, Settings, standard};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The half minute that a request may be on its way is longer than any stall of the machine that tests run on; and the
/// minutes of the other windows are seconds.
const SPEED: u32 = 20;

pub(super) struct Home {
    // Dropped in this order: the database before the runtime that its store lives in.
    store: Store,
    database: TestDatabase,
    runtime: Runtime,
    folder: TempDir,
    pub(super) double: Double,
    clock: Arc<Mutex<FastClock>>,
    is_blind: bool,
}

/// A task, and what it has to say: the texts of its messages.
struct Wish {
    task: &'static str,
    place: &'static str,
    texts: &'static [&'static str],
    /// Keys of the formatter, and more skills.
    more: &'static str,
}

const WISHES: &[Wish] = &[
    Wish {
        task: "news",
        place: "channel_id = \"1300000000000000100\"",
        texts: &["first news", "second news", "third news"],
        more: "",
    },
    Wish {
        task: "serial",
        place: "channel_id = \"1300000000000000101\"",
        texts: &["A long story that goes on and on until it no longer fits into one message."],
        more: "max_length = 30\n[[skills]]\nname = \"discord_message\"\nthread = { name = \"talk\" }\n",
    },
    Wish { task: "twin", place: "channel_id = \"1300000000000000101\"", texts: &["the same"], more: "" },
    Wish {
        task: "other-twin",
        place: "channel_id = \"1300000000000000101\"",
        texts: &["the same"],
        more: "",
    },
    Wish {
        task: "question",
        place: "channel_id = \"1300000000000000103\"",
        texts: &["What is tea?", "What is coffee?"],
        more: "[[skills]]\nname = \"discord_message\"\nforum = { name = \"{{ text }}\" }\n",
    },
    Wish {
        task: "herald",
        place: "platform = \"discord_webhook\"\ndestination = \"herald\"",
        texts: &["hear", "hear again"],
        more: "",
    },
];

impl Home {
    pub(super) fn new(seed: u64, random: &mut Random, is_postgres: bool) -> Option<Self> {
        // Migrations block a thread of the runtime.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let database =
            if is_postgres { runtime.block_on(TestDatabase::postgres())? } else { TestDatabase::sqlite() };
        let now = SystemClock.now();
        let clock = FastClock { real: now, shown: now, speed: SPEED };
        let store = runtime.block_on(async {
            Store::migrate(database.url(), Arc::new(clock)).await?;
            Store::open(database.url(), Mode::Command, Arc::new(clock)).await
        });
        let clock = Arc::new(Mutex::new(clock));
        let double = double(seed, random, clock.clone());
        let is_blind = random.one_in(6);
        if is_blind {
            double.change(no_history(standard::GENERAL)).expect("it is there");
        }
        let folder = TempDir::new().expect("a folder");
        let home =
            Self { store: store.expect("it opens"), database, runtime, folder, double, clock, is_blind };
        home.set_databases_clock();
        home.write_configuration();
        Some(home)
    }

    fn write_configuration(&self) {
        let webhook =
            format!("https://discord.com/api/webhooks/{}/{}", standard::WEBHOOK, standard::WEBHOOK_TOKEN);
        let mut server_file = format!(
            "[server]\nlease_seconds = 60\nshutdown_grace_seconds = 5\n[api]\nenabled = false\n[database]\nurl = \"{}\"\n\
             [discord]\napi_base_url = \"{}\"\nconnect_timeout_seconds = 1\nrequest_timeout_seconds = 1\n\
             nonce_window_seconds = 30\nhistory_grace_seconds = 10\n[discord.webhooks]\nherald = \"{webhook}\"\n",
            self.database.url(),
            self.double.base_url(),
        );
        for Wish { task, place, texts, more } in WISHES {
            let items: String = texts
                .iter()
                .enumerate()
                .map(|(number, text)| format!("{{ id = \"{number}\", text = \"{text}\" }}, "))
                .collect();
            let actor = format!(
                "[actor]\nname = \"{task}\"\n[[knowledge]]\nname = \"items\"\ntype = \"inline\"\nitems = [{items}]\n\
                 [[skills]]\nname = \"content_selection\"\nstrategy = \"oldest\"\nlimit = {}\n\
                 [[skills]]\nname = \"content_formatter\"\ntemplate = \"{{{{ text }}}}\"\n{more}",
                texts.len(),
            );
            self.write(&format!("{task}.toml"), &actor);
            server_file.push_str(&format!(
                "[[actors]]\nname = \"{task}\"\nconfig_file = \"{task}.toml\"\n{place}\n\
                 schedule = {{ type = \"Immediate\" }}\n",
            ));
        }
        self.write("actor_server.toml", &server_file);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    /// A process that may be armed.
    pub(super) fn start(&self, armed: Option<(Point, u32)>) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_actor-server"));
        command
            .current_dir(self.folder.path())
            .env("DISCORD_TOKEN", standard::TOKEN)
            .env(CLOCK, self.clock.lock().expect("not poisoned").to_string())
            .env_remove("DATABASE_URL")
            .env_remove("DISCORD_API_BASE_URL")
            .env_remove("RUST_LOG");
        if let Some((point, nth)) = armed {
            command.env(FAIL_POINT, format!("{}:{nth}", point.name()));
        }
        Server::start(&mut command)
    }

    /// Time in which nobody runs.
    pub(super) fn pass(&self, time: Duration) {
        self.clock.lock().expect("not poisoned").shown += time;
        self.set_databases_clock();
    }

    /// SQLite goes by the clock of the process.
    fn set_databases_clock(&self) {
        if !self.database.is_postgres() {
            return;
        }
        let FastClock { real, shown, speed } = *self.clock.lock().expect("not poisoned");
        let sql = format!(
            "CREATE OR REPLACE FUNCTION actor_server_now() RETURNS timestamptz LANGUAGE sql STABLE AS \
             'SELECT ''{shown}''::timestamptz + (statement_timestamp() - ''{real}''::timestamptz) * {speed}'"
        );
        self.runtime.block_on(self.database.sql(&sql));
    }

    /// Waits until the double says so.
    pub(super) fn until<T>(&self, found: impl FnMut(&Double) -> Option<T>) -> T {
        self.runtime.block_on(self.double.until(found))
    }

    fn posts(&self) -> Vec<PostView> {
        let filter = PostFilter { limit: 1000, ..PostFilter::default() };
        let mut posts = self.runtime.block_on(self.store.posts(filter)).expect("posts");
        posts.sort_by_key(|post| post.id);
        posts
    }

    /// All is said that was to be said, or waits for a person.
    fn is_settled(&self) -> bool {
        let posts = self.posts();
        let has_run = |wish: &Wish| posts.iter().any(|post| post.task_id.as_str() == wish.task);
        WISHES.iter().all(has_run) && are_settled(&posts)
    }

    /// Waits until there is nothing left to do, or `or` says that there is no need to wait.
    pub(super) fn until_settled(&self, mut or: impl FnMut() -> bool) {
        // Where the machine is so busy that answers come too late, the waits between the attempts grow.
        let deadline = Instant::now() + 3 * PATIENCE;
        while !or() && !self.is_settled() {
            assert!(Instant::now() < deadline, "never settled: {:#?}", self.posts());
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    pub(super) fn judge(&self, story: String) {
        let judge = Judge { story, ledger: self.double.ledger(), posts: self.posts() };
        for Wish { task, texts, .. } in WISHES {
            let said: Vec<&str> = judge
                .posts
                .iter()
                .filter(|post| post.task_id.as_str() == *task)
                .map(|post| post.content.as_str())
                .collect();
            let is_as_wished = said == *texts || texts.len() == 1 && said.join(" ") == texts[0];
            assert!(is_as_wished, "{}: {task} made {said:?}", judge.story);
        }
        let blind = standard::GENERAL.to_string();
        judge.every_post_is_there_once(|post| {
            post.platform == "discord_webhook" || self.is_blind && post.destination == blind
        });
        judge.posts_of_a_destination_are_in_order();
        judge.nothing_else_appeared();
        self.every_story_has_its_thread(&judge);
    }

    /// A thread has the id of the message that it starts from.
    fn every_story_has_its_thread(&self, judge: &Judge) {
        for post in judge.posts.iter().filter(|post| post.task_id.as_str() == "serial" && post.part == 0) {
            let Some(receipt) = &post.receipt else { continue };
            let threads: Vec<String> =
                self.double.world(|world| world.channels.keys().map(ToString::to_string).collect());
            assert!(threads.contains(&receipt.message_id), "{}: no thread: {post:#?}", judge.story);
        }
    }
}

fn double(seed: u64, random: &mut Random, clock: Arc<Mutex<FastClock>>) -> Double {
    let scope = if random.one_in(2) { NonceScope::Author } else { NonceScope::AuthorAndChannel };
    let window_seconds = [65.0, 90.0, 600.0][random.index(3)];
    let settings = Settings {
        limits: Limits::off(),
        nonce: NonceRules { window_seconds, scope },
        ..Settings::default()
    };
    let clock = discord_double::Clock::following(move || clock.lock().expect("not poisoned").now());
    Double::start(Options { settings, clock, seed, ..Options::default() }).expect("a double")
}
