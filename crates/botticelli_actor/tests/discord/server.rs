//! The real binary against the double.

use super::*;
use crate::process::Server;
use discord_double::{Change, Fault, Overwrite, OverwriteTarget, Permissions, Pings, Scope, What};
use serde_json::Value;
use std::process::Command;
use tempfile::TempDir;

/// A folder with a configuration, and the double that it posts to.
struct Home {
    stage: Stage,
    folder: TempDir,
}

const CHANNEL: &str = "channel_id = \"1300000000000000100\"";

impl Home {
    /// Waits are short here, and nothing else differs from what people run.
    fn new(tasks: &str) -> Self {
        let home = Self { stage: Stage::new(), folder: TempDir::new().expect("a folder") };
        home.write(
            "actor.toml",
            "[actor]\nname = \"herald\"\n[[knowledge]]\nname = \"news\"\ntype = \"inline\"\n\
             items = [{ id = \"1\", text = \"@everyone <@1300000000000000002> the news\" }]\n\
             [[skills]]\nname = \"content_selection\"\n",
        );
        let webhook =
            format!("https://discord.com/api/webhooks/{}/{}", standard::WEBHOOK.0, standard::WEBHOOK_TOKEN);
        home.write(
            "actor_server.toml",
            &format!(
                "[discord]\nrequest_timeout_seconds = 1\n[discord.webhooks]\nherald = \"{webhook}\"\n{tasks}"
            ),
        );
        home
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    /// From now on the actor's messages have an embed.
    fn embeds(&self) {
        let mut file = std::fs::read_to_string(self.folder.path().join("actor.toml")).expect("it is there");
        file.push_str("[[skills]]\nname = \"discord_message\"\nembeds = [{ title = \"{{ text }}\" }]\n");
        self.write("actor.toml", &file);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_actor-server"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .env("DISCORD_API_BASE_URL", self.stage.double.base_url())
            .env("DISCORD_TOKEN", standard::TOKEN)
            .env_remove("DATABASE_URL")
            .env_remove("RUST_LOG");
        command
    }

    fn start(&self) -> Server {
        Server::start(&mut self.command(&[]))
    }

    /// What a command that ends by itself says: its exit code, stdout, stderr.
    fn ask(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        answer(&mut self.command(arguments))
    }

    /// As `posts list --json` has them, oldest first.
    fn posts(&self) -> Vec<Value> {
        let mut posts = json(self.ask(&["posts", "list", "--json"]).1);
        posts.as_array_mut().expect("a list").reverse();
        posts.as_array().expect("a list").clone()
    }

    /// The id of the one message that people see, which has pinged nobody.
    fn only_message(&self) -> String {
        let visible = self.stage.double.all_visible();
        let [message] = visible.as_slice() else { panic!("{visible:?}") };
        assert_eq!(message.pings, Pings::default());
        message.message_id.0.to_string()
    }

    fn is_posted_once(&self) {
        let posts = self.posts();
        let [post] = posts.as_slice() else { panic!("{posts:?}") };
        assert_eq!(post["state"], "posted", "{post}");
        assert_eq!(post["receipt"]["message_id"], self.only_message(), "{post}");
    }
}

fn answer(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A task that runs once, at once.
fn task(name: &str, place: &str) -> String {
    format!(
        "[[actors]]\nname = \"{name}\"\nconfig_file = \"actor.toml\"\n{place}\n[actors.schedule]\ntype = \"Immediate\"\n"
    )
}

fn on_post(what: What) -> Fault {
    Fault::from(what).on_route("create_message")
}

fn may_not_send() -> Change {
    may_not(Permissions::SEND_MESSAGES)
}

fn may_not(deny: Permissions) -> Change {
    let overwrite =
        Overwrite { target: OverwriteTarget::Role(standard::BOT_ROLE), allow: Permissions::NONE, deny };
    Change::Overwrite { channel: standard::GENERAL, overwrite }
}

#[test]
fn a_task_posts_to_a_channel_through_a_webhook_and_into_a_file_once_each() {
    let home = Home::new(&task(
        "news",
        "destinations = [{ channel_id = \"1300000000000000101\" }, { platform = \"file\", destination = \"p.jsonl\" },\n\
         { platform = \"discord_webhook\", destination = \"herald\" }]",
    ));
    let server = home.start();
    server.says_times(3, " posted ");
    server.stop();
    let posts = home.posts();
    let file = std::fs::read_to_string(home.folder.path().join("p.jsonl")).expect("the file");
    assert_eq!(file.lines().count(), 1);
    let in_file = json(file)["key"].as_str().expect("a key").to_owned();
    let mut expected = vec![in_file];
    for channel in [standard::RANDOM, standard::GENERAL] {
        let visible = home.stage.double.visible(channel);
        let [message] = visible.as_slice() else { panic!("{visible:?}") };
        assert_eq!(message.content, "@everyone <@1300000000000000002> the news");
        assert_eq!(message.pings, Pings::default());
        expected.push(message.message_id.0.to_string());
    }
    assert!(posts.iter().all(|post| post["state"] == "posted"), "{posts:?}");
    let mut ids: Vec<_> =
        posts.iter().map(|post| post["receipt"]["message_id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[test]
fn an_answer_that_is_wrong_or_lost_makes_no_second_message() {
    for what in [What::FailAfterCommit { status: 502 }, What::DropReply, What::HoldReply] {
        let home = Home::new(&task("news", CHANNEL));
        home.stage.double.next(on_post(what.clone()));
        let server = home.start();
        server.says("deferred");
        server.says(" posted ");
        home.stage.double.release();
        server.stop();
        home.is_posted_once();
        let requests = home.stage.double.requests();
        let sent = requests.iter().filter(|request| request.route == "create_message").count();
        assert_eq!(sent, 2, "{what:?}");
    }
}

#[test]
fn a_server_that_is_killed_before_the_answer_posts_once() {
    let home = Home::new(&task("news", CHANNEL));
    home.stage.double.next(on_post(What::HoldReply));
    let server = home.start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(home.stage.double.until_visible(standard::GENERAL, 1));
    server.kill();
    home.stage.double.release();
    let server = home.start();
    server.says(" posted ");
    server.stop();
    home.is_posted_once();
}

#[test]
fn a_channel_that_refuses_is_asked_once_and_the_operator_told_what_to_change() {
    let home = Home::new(&task("news", CHANNEL));
    home.stage.double.change(may_not_send()).expect("it is there");
    let server = home.start();
    server.says("the bot lacks in #general: Send Messages; in the settings of #general");
    server.says("the destination is paused");
    server.stop();
    let (code, shown, _) = home.ask(&["posts", "show", "1"]);
    assert_eq!(code, Some(0));
    assert!(
        shown.contains("deferred") && shown.contains("what helps: give the bot's role View Channel"),
        "{shown}"
    );
    assert!(shown.contains("post: destination_closed (HTTP 403, code 50013)"), "{shown}");
    let shown = json(home.ask(&["posts", "show", "1", "--json"]).1);
    let exchange = &shown["attempts_made"][0]["exchanges"][0];
    assert_eq!((&exchange["status"], &exchange["code"]), (&403.into(), &50013.into()), "{exchange}");
    assert_eq!(home.stage.double.invalid_requests(), 1, "{:?}", home.stage.double.requests());
    assert!(home.stage.double.all_visible().is_empty());
}

/// What the actor's skills add to its messages is looked at too, and before the first of them goes.
#[test]
fn what_stands_in_the_way_of_an_actor_is_told_before_its_first_post() {
    let home = Home::new(&task("news", CHANNEL));
    home.embeds();
    home.stage.double.change(may_not(Permissions::EMBED_LINKS)).expect("it is there");
    // Long enough for the run to be over.
    home.stage.double.next(Fault::from(What::SlowReply { millis: 500 }).on_route("get_current_user"));
    let server = home.start();
    server.says("the bot lacks in #general: Embed Links; in the settings of #general");
    server.says(" posted ");
    server.stop();
    let requests = home.stage.double.requests();
    let first = requests.iter().position(|request| request.route == "create_message").expect("it was tried");
    let looked = requests.iter().rposition(|request| request.route.starts_with("get_")).expect("it looked");
    assert!(looked < first, "{requests:?}");
}

#[test]
fn a_reload_looks_at_what_has_changed_before_it_is_posted() {
    let home = Home::new(&task("news", CHANNEL));
    let server = home.start();
    server.says(" posted ");
    let before = home.stage.double.requests().len();
    home.embeds();
    home.stage.double.change(may_not(Permissions::EMBED_LINKS)).expect("it is there");
    server.signal("HUP");
    server.says("the bot lacks in #general: Embed Links; in the settings of #general");
    server.says("configuration reloaded");
    server.signal("HUP");
    server.says_times(2, "configuration reloaded");
    server.stop();
    let requests = home.stage.double.requests();
    let looked = requests[before..].iter().filter(|request| request.route == "get_current_user").count();
    assert_eq!(looked, 1, "the second reload changed nothing: {requests:?}");
}

#[test]
fn a_dry_run_knows_what_the_actor_s_skills_will_do() {
    let home = Home::new(&task("news", CHANNEL));
    home.write(
        "actor.toml",
        "[actor]\nname = \"herald\"\n[[knowledge]]\nname = \"news\"\ntype = \"inline\"\nitems = [{ text = \"x\" }]\n\
         [[skills]]\nname = \"content_selection\"\n[[skills]]\nname = \"discord_message\"\n\
         poll = { question = \"{{ text }}\", answers = [\"a\"] }\nfiles = [{ name = \"a\", text = \"x\" }]\n\
         crosspost = true\nthread = { name = \"{{ text }}\" }\nmentions = { roles = [\"42\"] }\n",
    );
    let denied = Permissions::SEND_POLLS | Permissions::ATTACH_FILES | Permissions::CREATE_PUBLIC_THREADS;
    home.stage.double.change(may_not(denied)).expect("it is there");
    let (code, _, said) = home.ask(&["--dry-run"]);
    assert_eq!(code, Some(1), "{said}");
    for expected in [
        "the bot lacks in #general: Attach Files, Create Public Threads, Create Polls\n",
        "#general is no announcement channel, so nothing can be published from it\n",
        "there is no role 42 to ping\n",
        "hint: take `crosspost` out of the actor's discord_message, or make it an announcement channel",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(home.stage.double.invalid_requests(), 0);
}

#[test]
fn a_token_that_was_revoked_is_used_no_more() {
    let home = Home::new(&format!(
        "{}{}",
        task("news", CHANNEL),
        task("more", "channel_id = \"1300000000000000101\"")
    ));
    let change = Change::RevokeToken { token: standard::TOKEN.into() };
    home.stage.double.change(change).expect("it is there");
    let server = home.start();
    server.says_times(2, "deferred");
    server.stop();
    assert_eq!(home.stage.double.invalid_requests(), 1);
    let shown = home.ask(&["posts", "show", "1"]).1;
    assert!(shown.contains("token"), "{shown}");
}

#[test]
fn a_rate_limit_is_waited_for_and_is_no_failure() {
    let home = Home::new(&task("news", CHANNEL));
    home.stage.double.next(on_post(What::RateLimit {
        scope: Scope::User,
        retry_after_seconds: 0.5,
        header_seconds: None,
        code: 0,
    }));
    let server = home.start();
    server.says(" posted ");
    server.stop();
    home.is_posted_once();
    let tasks = json(home.ask(&["tasks", "list", "--json"]).1);
    assert_eq!(tasks[0]["consecutive_failures"], 0);
}

#[test]
fn without_a_token_the_server_names_the_tasks_or_runs_the_others() {
    let home = Home::new(&format!("{}{}", task("news", CHANNEL), task("printed", "")));
    let without_token = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env_remove("DISCORD_TOKEN");
        command
    };
    let problem = "error: actor_server.toml:8: task \"news\": it posts to Discord, and there is no token\n\
                   hint: set the environment variable DISCORD_TOKEN; --allow-degraded runs the other tasks without it\n";
    assert_eq!(answer(&mut without_token(&[])), (Some(2), String::new(), problem.to_owned()));
    assert_eq!(answer(&mut without_token(&["--dry-run"])), (Some(1), String::new(), problem.to_owned()));
    let server = Server::start(&mut without_token(&["--allow-degraded"]));
    server.says("left out on this node");
    server.says(" posted ");
    let ended = server.stop();
    assert!(ended.out.contains("the news"), "{}", ended.out);
    let tasks = json(home.ask(&["tasks", "list", "--json"]).1);
    assert!(tasks.as_array().expect("a list").iter().all(|task| task["is_paused"] == false), "{tasks}");
    // What it left out is not lost.
    let server = home.start();
    server.says(" posted ");
    server.stop();
    home.only_message();
}

#[test]
fn a_dry_run_with_a_token_finds_what_stands_in_the_way_at_no_cost() {
    let home = Home::new(&format!(
        "{}{}{}",
        task("news", CHANNEL),
        task("also", CHANNEL),
        task("more", "destinations = [{ channel_id = \"1300000000000000103\" },\n{ channel_id = \"42\" }]")
    ));
    home.stage.double.change(may_not_send()).expect("it is there");
    let (code, _, said) = home.ask(&["--dry-run"]);
    assert_eq!((code, said.matches("error: ").count()), (Some(1), 4), "{said}");
    let lacking = "error: actor_server.toml:8: task \"news\": channel 1300000000000000100: the bot lacks in #general: \
                   Send Messages\nhint: in the settings of #general, under Permissions, allow the bot's role: Send \
                   Messages\n";
    let forum = "error: actor_server.toml:20: task \"more\": channel 1300000000000000103: #questions is a forum, which \
                 takes no plain messages\n";
    let unseen = "error: actor_server.toml:21: task \"more\": channel 42: the bot can't see it";
    for expected in [lacking, forum, unseen] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(home.stage.double.invalid_requests(), 0);
    assert!(home.stage.double.all_visible().is_empty());
    assert!(!home.folder.path().join("actor_server.db").exists());
}
