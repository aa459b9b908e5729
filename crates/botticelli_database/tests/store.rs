//! One suite, both databases.

use botticelli_testkit::databases::TestStore;
use botticelli_testkit::store_suite;

store_suite!(sqlite, TestStore::sqlite());
store_suite!(postgres, TestStore::postgres());

/// What can happen at the same moment on PostgreSQL, made to happen: a trigger holds the first of two statements up until
/// the second one has been. (On SQLite who writes is alone.)
mod at_the_same_moment {
    use super::TestStore;
    use botticelli_database::{Decided, PostDecision};
    use botticelli_server::ids::PostId;
    use botticelli_server::ledger::{Ledger as _, Registration};
    use botticelli_server::outbox::{Outbox as _, PostEnd, PostState, SettledPost};
    use botticelli_server::post::Receipt;
    use botticelli_server::schedule::{ImmediateSchedule, ScheduleType};
    use botticelli_testkit::store_suite::{LEASE, Player, each_minute, message, register, task};
    use std::time::Duration;

    /// The first `event` on `table` from now on takes its time.
    async fn hold_up_the_first(database: &TestStore, event: &str, table: &str) {
        database
            .sql(&format!(
                "CREATE SEQUENCE arrivals; \
                 CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                     IF nextval('arrivals') = 1 THEN PERFORM pg_sleep(0.5); END IF; RETURN NULL; END $$; \
                 CREATE TRIGGER hold_up BEFORE {event} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION hold_up()"
            ))
            .await;
    }

    async fn until_it_is_held_up(database: &TestStore) {
        while database.value("SELECT is_called AS value FROM arrivals").await != "true" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_registrations_make_one_first_occurrence() {
        let Some(database) = TestStore::postgres().await else { return };
        let immediate = task("task", ScheduleType::Immediate(ImmediateSchedule { every_start: false }));
        let (slow, quick) = (Player::enter(&database, "slow").await, Player::enter(&database, "quick").await);
        hold_up_the_first(&database, "INSERT", "actor_server_state").await;
        let registration = Registration { tasks: vec![immediate.clone()], start: true, complete: true };
        let (store, the_same) = (slow.store.clone(), registration.clone());
        let registering = tokio::spawn(async move { store.register(the_same).await });
        until_it_is_held_up(&database).await;
        database.advance(Duration::from_secs(1)).await;
        quick.store.register(registration).await.expect("an answer");
        let first = quick.run(&immediate, Vec::new()).await;
        registering.await.expect("no panic").expect("an answer");
        assert_eq!(slow.try_claim(&immediate).await, None, "it ran as {first:?}");
    }

    async fn one_post(database: &TestStore) -> Player {
        let task = each_minute("task");
        register(database, &[&task]).await;
        let player = Player::enter(database, "node").await;
        player.run(&task, vec![message("a", "text")]).await;
        player
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_of_a_post_and_its_rescue_do_not_both_count() {
        let Some(database) = TestStore::postgres().await else { return };
        let player = one_post(&database).await;
        let post = player.store.claim_posts(&player.id, 1, LEASE, &[]).await.expect("an answer").remove(0);
        database.advance(2 * LEASE).await;
        hold_up_the_first(&database, "UPDATE", "actor_server_posts").await;
        let receipt = Receipt {
            message_id: "1".into(),
            posted_at: database.time(),
            link: None,
            recovered: false,
            to_follow: Vec::new(),
            missing: Vec::new(),
        };
        let ended = [SettledPost {
            id: post.id,
            fence: post.fence,
            end: PostEnd::Posted(receipt),
            exchanges: Vec::new(),
        }];
        let (store, id) = (player.store.clone(), player.id.clone());
        let settling = tokio::spawn(async move { store.settle_posts(&id, &ended).await });
        until_it_is_held_up(&database).await;
        let rescued = database.rescue_posts().await.expect("an answer");
        let lost = settling.await.expect("no panic").expect("an answer").lost;
        let state = database.post(post.id).await.expect("an answer").expect("the post").state;
        let attempts = database.post_attempts(post.id).await.expect("attempts");
        assert_eq!((rescued, lost, state), (0, Vec::<PostId>::new(), PostState::Posted));
        assert_eq!(attempts[0].ended.as_deref(), Some("posted"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_post_is_not_sent_and_dismissed_at_once() {
        let Some(database) = TestStore::postgres().await else { return };
        let player = one_post(&database).await;
        hold_up_the_first(&database, "UPDATE", "actor_server_posts").await;
        let (store, id) = (player.store.clone(), player.id.clone());
        let claiming = tokio::spawn(async move { store.claim_posts(&id, 1, LEASE, &[]).await });
        until_it_is_held_up(&database).await;
        let all = botticelli_database::PostFilter { limit: 1, ..Default::default() };
        let post = database.posts(all).await.expect("posts").remove(0).id;
        let decided = database.decide(post, PostDecision::Dismiss).await.expect("an answer");
        let claimed = claiming.await.expect("no panic").expect("an answer");
        assert_eq!((claimed.len(), decided), (1, Decided::NotNow(PostState::Sending)));
    }
}
