//! What follows a message, a thread and a crosspost: done once, whatever goes wrong, and visible until then.

use super::way::{Way, discord, item};
use super::*;
use botticelli_database::{Decided, PostDecision, PostView};
use botticelli_server::outbox::{Outbox as _, PostState};
use discord_double::{Change, Event, Fault, Limits, Overwrite, OverwriteTarget, Permissions, Scope, What};

const CROSSPOST: &str = "[[skills]]\nname = 'discord_message'\ncrosspost = true";
const BOTH: &str = "[[skills]]\nname = 'discord_message'\ncrosspost = true\nthread = { name = 'Talk' }";

impl Way {
    fn fails(&self, route: &str, what: What) {
        self.stage.double.next(Fault::from(what).on_route(route));
    }

    async fn only_post(&self) -> PostView {
        let mut posts = self.posts().await;
        assert_eq!(posts.len(), 1);
        posts.remove(0)
    }

    /// Until nothing is to follow any more; each time a new process.
    async fn goes_on(&self) -> PostView {
        for _ in 0..20 {
            let post = self.only_post().await;
            assert_eq!(post.state, PostState::Posted, "{post:?}");
            let Some(at) = post.follow_up_at else { return post };
            self.database.set(at.max(self.database.time())).await;
            self.deliver().await;
        }
        panic!("it never ends: {:?}", self.only_post().await);
    }

    fn requests(&self, route: &str) -> usize {
        self.stage.double.requests().iter().filter(|request| request.route == route).count()
    }

    fn events(&self, event: Event) -> usize {
        self.stage.double.ledger().iter().filter(|entry| entry.event == event).count()
    }

    /// One message, one thread of it, published once.
    async fn all_is_there_once(&self) {
        let visible = self.stage.double.all_visible();
        let [message] = visible.as_slice() else { panic!("{visible:?}") };
        assert_eq!(self.events(Event::Crossposted), 1);
        let bot = self.stage.bot();
        let thread = bot.channel(at(message.message_id)).await.expect("a thread");
        assert_eq!(thread.name.as_deref(), Some("Talk"));
    }
}

#[tokio::test]
async fn a_crosspost_that_is_put_off_follows_at_its_time_and_holds_up_nothing() {
    let way = Way::new().await;
    let limit = What::RateLimit {
        scope: Scope::Shared,
        retry_after_seconds: 1163.0,
        header_seconds: Some(1.0),
        code: 20028,
    };
    way.fails("crosspost_message", limit);
    way.say(&item("news"), BOTH, &[discord(standard::NEWS)]).await.expect("posted");
    let post = way.only_post().await;
    assert_eq!((post.state, post.attempts), (PostState::Posted, 2));
    let receipt = post.receipt.clone().expect("a receipt");
    assert_eq!((receipt.to_follow, receipt.missing), (vec!["crosspost".to_owned()], Vec::new()));
    let wait = post.follow_up_at.expect("it waits") - way.database.time();
    assert_eq!(wait.num_seconds(), 1163);
    let reason = post.reason.clone().expect("a reason");
    assert!(reason.starts_with("its crosspost follows later: "), "{reason}");
    way.say(&item("next"), "", &[discord(standard::NEWS)]).await.expect("posted");
    assert_eq!(way.stage.texts(standard::NEWS), ["news", "next"]);
    assert_eq!(way.requests("crosspost_message"), 1, "nobody asks before its time");
    way.database.set(post.follow_up_at.expect("it waits")).await;
    way.deliver().await;
    let done = &way.posts().await[0];
    assert_eq!((done.follow_up_at, &done.reason), (None, &None));
    assert_eq!(way.events(Event::Crossposted), 1);
    assert_eq!(way.requests("start_thread_from_message"), 1, "what is done is not done again");
}

#[tokio::test]
async fn whatever_becomes_of_a_request_the_thread_and_the_crosspost_come_once() {
    for route in ["start_thread_from_message", "crosspost_message"] {
        for what in [
            What::LoseRequest,
            What::DropReply,
            What::ResetReply,
            What::TruncateBody,
            What::FailAfterCommit { status: 502 },
            What::FailBeforeCommit { status: 503 },
            What::DeliverTwice,
        ] {
            let way = Way::new().await;
            way.fails(route, what.clone());
            way.say(&item("news"), BOTH, &[discord(standard::NEWS)]).await.expect("posted");
            let post = way.goes_on().await;
            assert_eq!(post.receipt.expect("a receipt").missing, [""; 0], "{route}: {what:?}");
            way.all_is_there_once().await;
        }
    }
}

#[tokio::test]
async fn a_process_that_dies_behind_its_message_leaves_the_rest_to_the_next_one() {
    for route in ["create_message", "start_thread_from_message", "crosspost_message"] {
        for what in [What::HoldReply, What::HoldRequest] {
            let way = Way::new().await;
            way.intend(&item("news"), BOTH, &[discord(standard::NEWS)]).await.expect("made");
            way.fails(route, what.clone());
            let deliverer = way.deliverer(way.platforms()).await;
            let process = tokio::spawn(async move { deliverer.run_once().await });
            let is_there = |double: &discord_double::Double| {
                double.requests().iter().any(|request| request.route == route).then_some(())
            };
            way.stage.double.until(is_there).await;
            process.abort();
            process.await.expect_err("it was killed");
            way.stage.double.release();
            way.database.advance(seconds(61)).await;
            way.deliver().await;
            way.goes_on().await;
            way.all_is_there_once().await;
            let attempts = way.database.post_attempts(way.only_post().await.id).await.expect("attempts");
            let lost = attempts.iter().filter(|attempt| attempt.ended.as_deref() == Some("lost")).count();
            assert_eq!(lost, 1, "{route}: {what:?}: {attempts:?}");
        }
    }
}

#[tokio::test]
async fn what_a_channel_refuses_is_missing_and_asked_for_once_until_a_person_wants_it() {
    let way = Way::new().await;
    let overwrite = |deny| Change::Overwrite {
        channel: standard::NEWS,
        overwrite: Overwrite {
            target: OverwriteTarget::Role(standard::BOT_ROLE),
            allow: Permissions::NONE,
            deny,
        },
    };
    way.stage.double.change(overwrite(Permissions::CREATE_PUBLIC_THREADS)).expect("it is there");
    let platforms = way.platforms();
    for text in ["one", "two"] {
        way.intend(&item(text), BOTH, &[discord(standard::NEWS)]).await.expect("made");
    }
    way.deliver_by(platforms.clone()).await;
    let posts = way.posts().await;
    for post in &posts {
        assert_eq!((post.state, post.follow_up_at), (PostState::Posted, None));
        let receipt = post.receipt.clone().expect("a receipt");
        let [missing] = receipt.missing.as_slice() else { panic!("{receipt:?}") };
        assert!(missing.starts_with("thread: ") && missing.contains("what helps"), "{missing}");
        assert!(post.reason.as_ref().is_some_and(|reason| reason.starts_with("without its thread: ")));
    }
    assert_eq!(way.events(Event::Crossposted), 2, "the other step is another matter");
    assert_eq!(way.requests("start_thread_from_message"), 1, "refusals count towards a ban");
    way.stage.double.change(overwrite(Permissions::NONE)).expect("it is there");
    let decided = way.database.decide(posts[1].id, PostDecision::Retry).await;
    assert_eq!(decided.expect("an answer"), Decided::Done);
    way.deliver_by(platforms).await;
    let post = &way.posts().await[1];
    assert_eq!((post.follow_up_at, &post.reason), (None, &None));
    assert_eq!(way.requests("start_thread_from_message"), 2);
    assert_eq!(way.requests("crosspost_message"), 2, "what was done is not asked for again");
}

#[tokio::test]
async fn what_is_to_follow_a_message_that_is_gone_is_missing() {
    let way = Way::new().await;
    way.fails("crosspost_message", What::FailBeforeCommit { status: 503 });
    way.say(&item("news"), CROSSPOST, &[discord(standard::NEWS)]).await.expect("posted");
    let [message] = <[_; 1]>::try_from(way.stage.double.visible(standard::NEWS)).expect("one message");
    let bot = way.stage.bot();
    bot.delete_message(at(standard::NEWS), at(message.message_id)).await.expect("deleted");
    let post = way.goes_on().await;
    let missing = post.receipt.expect("a receipt").missing;
    assert!(missing[0].contains("does not exist any more"), "{missing:?}");
}

#[tokio::test]
async fn more_crossposts_than_an_hour_allows_follow_in_the_next_hours_and_in_order() {
    let way = Way::with(Limits { buckets: Default::default(), ..Limits::default() }).await;
    for number in 0..12 {
        way.intend(&item(&number.to_string()), CROSSPOST, &[discord(standard::NEWS)]).await.expect("made");
    }
    let platforms = way.platforms();
    for _ in 0..30 {
        way.deliver_by(platforms.clone()).await;
        let posts = way.posts().await;
        let due = way.database.next_post_due(&[]).await.expect("an answer");
        let Some(due) = due else { break };
        assert!(posts.iter().all(|post| matches!(post.state, PostState::Posted | PostState::Deferred)));
        way.database.set(due.max(way.database.time())).await;
    }
    let ledger = way.stage.double.ledger();
    let of = |event| ledger.iter().filter(move |entry| entry.event == event).map(|entry| entry.message_id);
    let created: Vec<_> = of(Event::Created).collect();
    assert_eq!(created.len(), 12);
    assert_eq!(of(Event::Crossposted).collect::<Vec<_>>(), created);
    assert_eq!(way.stage.double.invalid_requests(), 0);
    assert!(way.requests("crosspost_message") <= 14, "{}", way.requests("crosspost_message"));
}
