//! What every platform must do to keep the promise that a post appears once. A platform passes with
//! [`platform_suite!`](crate::platform_suite!); rules that rest on something it does not declare don't apply to it.

use async_trait::async_trait;
use botticelli_server::post::{
    Capabilities, Destination, Doubt, IdempotencyKey, LookUp, Platform, PostContent, PostError, Receipt,
    TextUnit,
};
use chrono::{DateTime, Utc};
use std::collections::HashSet;
use std::sync::Arc;

/// A platform and a place on it that holds nothing yet.
#[async_trait]
pub trait PlatformUnderTest: Send + Sync {
    /// The client, as a process that has just started holds it. Called again: the next process, the same place.
    fn connect(&self) -> Arc<Platform>;

    /// Where to post.
    fn destination(&self) -> Destination;

    /// The texts that a person sees there, oldest first.
    async fn visible(&self) -> Vec<String>;

    /// What the platform refuses besides texts that are too long.
    fn refused(&self) -> Vec<(PostContent, Destination)>;

    /// A time before the first post of the test, by the platform's own clock.
    fn before(&self) -> DateTime<Utc>;
}

/// A test for each rule: `platform_suite!(file, FileUnderTest::new());`. Needs `tokio` with its macros.
#[macro_export]
macro_rules! platform_suite {
    ($name:ident, $make:expr) => {
        $crate::platform_suite!(@each $name, $make,
            a_receipt_means_that_the_post_is_there,
            posts_appear_in_the_order_in_which_they_were_sent,
            the_same_key_twice_makes_one_message,
            a_process_that_starts_again_makes_no_second_message,
            a_look_up_says_what_is_there,
            what_is_refused_is_refused_before_it_is_sent,
            the_longest_text_is_taken_and_a_longer_one_refused,
            posts_at_the_same_time_all_appear_once,
        );
    };
    (@each $name:ident, $make:expr, $($rule:ident,)+) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    $crate::platform_suite::$rule(&$make).await;
                }
            )+
        }
    };
}

fn content(text: &str) -> PostContent {
    PostContent::text(text)
}

fn key(key: &str) -> IdempotencyKey {
    IdempotencyKey::stored(key.into())
}

async fn post(place: &dyn PlatformUnderTest, platform: &Platform, text: &str) -> Receipt {
    platform
        .post(&content(text), &place.destination(), &key(&format!("key of {text}")))
        .await
        .expect("the platform takes a plain text")
}

async fn look_up(place: &dyn PlatformUnderTest, platform: &Platform, text: &str) -> LookUp<Receipt> {
    let doubt = Doubt { first_sent: place.before(), taken: Vec::new(), rivals: Vec::new() };
    platform
        .look_up(&content(text), &place.destination(), &key(&format!("key of {text}")), &doubt)
        .await
        .expect("the platform can be asked")
}

fn capabilities(place: &dyn PlatformUnderTest, platform: &Platform) -> Capabilities {
    platform.capabilities(&content(""), &place.destination())
}

fn declares_idempotency(capabilities: Capabilities) -> bool {
    capabilities.idempotent_for.is_some_and(|window| !window.is_zero())
}

/// An id of its own for each message, and the message is visible.
pub async fn a_receipt_means_that_the_post_is_there(place: &dyn PlatformUnderTest) {
    let platform = place.connect();
    let one = post(place, &*platform, "one").await;
    assert_eq!(place.visible().await, ["one"]);
    let two = post(place, &*platform, "two").await;
    assert_eq!(place.visible().await, ["one", "two"]);
    assert!(!one.message_id.is_empty() && !two.message_id.is_empty());
    assert_ne!(one.message_id, two.message_id);
    assert!(!one.recovered && !two.recovered, "these were first requests");
}

/// Nothing overtakes.
pub async fn posts_appear_in_the_order_in_which_they_were_sent(place: &dyn PlatformUnderTest) {
    let platform = place.connect();
    let texts: Vec<String> = (0..10).map(|number| format!("post {number}")).collect();
    for text in &texts {
        post(place, &*platform, text).await;
    }
    assert_eq!(place.visible().await, texts);
}

/// Even when the content differs by then, the answer is the first message.
pub async fn the_same_key_twice_makes_one_message(place: &dyn PlatformUnderTest) {
    let platform = place.connect();
    if !declares_idempotency(capabilities(place, &*platform)) {
        return;
    }
    let first = post(place, &*platform, "one").await;
    let again = post(place, &*platform, "one").await;
    assert_eq!(place.visible().await, ["one"]);
    assert_eq!(again, Receipt { recovered: true, ..first.clone() });
    let other_text =
        platform.post(&content("changed"), &place.destination(), &key("key of one")).await.expect("taken");
    assert_eq!(other_text.message_id, first.message_id);
    assert_eq!(place.visible().await, ["one"]);
}

/// The memory of keys is the platform's, not the process's.
pub async fn a_process_that_starts_again_makes_no_second_message(place: &dyn PlatformUnderTest) {
    let platform = place.connect();
    if !declares_idempotency(capabilities(place, &*platform)) {
        return;
    }
    let first = post(place, &*platform, "one").await;
    drop(platform);
    let again = post(place, &*place.connect(), "one").await;
    assert_eq!(again, Receipt { recovered: true, ..first });
    assert_eq!(place.visible().await, ["one"]);
}

/// Found what is there, absent what is not; who can't look up never says either.
pub async fn a_look_up_says_what_is_there(place: &dyn PlatformUnderTest) {
    let platform = place.connect();
    let before = look_up(place, &*platform, "one").await;
    let posted = post(place, &*platform, "one").await;
    post(place, &*platform, "two").await;
    let answers = [look_up(place, &*platform, "one").await, look_up(place, &*place.connect(), "one").await];
    let never_posted = look_up(place, &*platform, "three").await;
    if capabilities(place, &*platform).look_up {
        let there = LookUp::Found(Receipt { recovered: true, ..posted });
        assert_eq!(answers, [there.clone(), there]);
        assert_eq!([before, never_posted], [LookUp::Absent, LookUp::Absent]);
    } else {
        for answer in answers.into_iter().chain([before, never_posted]) {
            assert!(matches!(answer, LookUp::Unknowable { .. }), "{answer:?}");
        }
    }
    assert_eq!(place.visible().await, ["one", "two"], "a look-up posts nothing");
}

/// Validation and posting agree.
pub async fn what_is_refused_is_refused_before_it_is_sent(place: &dyn PlatformUnderTest) {
    let platform = place.connect();
    for (content, destination) in place.refused() {
        assert_refused(&*platform, &content, &destination, place).await;
    }
    assert_eq!(platform.validate(&content("fine"), &place.destination()), Ok(()));
    post(place, &*platform, "fine").await;
}

/// The declared limit is the real one, in the declared unit.
pub async fn the_longest_text_is_taken_and_a_longer_one_refused(place: &dyn PlatformUnderTest) {
    let platform = place.connect();
    let limit = capabilities(place, &*platform).text;
    let Some(max) = limit.max else { return };
    // One grapheme of several scalars, one scalar of several bytes and of two UTF-16 units: what tells units apart.
    let (unit_text, units) = match limit.unit {
        TextUnit::Graphemes => ("e\u{301}", 1),
        TextUnit::Scalars => ("😀", 1),
        TextUnit::Utf16 => ("😀", 2),
        TextUnit::Bytes => ("ä", 2),
    };
    let longest = unit_text.repeat(max / units) + &"a".repeat(max % units);
    assert_eq!(platform.validate(&content(&longest), &place.destination()), Ok(()));
    post(place, &*platform, &longest).await;
    assert_refused(&*platform, &content(&(longest.clone() + "a")), &place.destination(), place).await;
    assert_eq!(place.visible().await, [longest]);
}

async fn assert_refused(
    platform: &Platform,
    content: &PostContent,
    destination: &Destination,
    place: &dyn PlatformUnderTest,
) {
    let visible_before = place.visible().await;
    let validated = platform.validate(content, destination);
    assert!(matches!(validated, Err(PostError::Refused(_))), "{content:?} to {destination}: {validated:?}");
    let posted = platform.post(content, destination, &key("refused")).await;
    assert!(matches!(posted, Err(PostError::Refused(_))), "{content:?} to {destination}: {posted:?}");
    assert_eq!(place.visible().await, visible_before);
}

/// From several clients at once.
pub async fn posts_at_the_same_time_all_appear_once(place: &dyn PlatformUnderTest) {
    let clients = [place.connect(), place.connect()];
    let posts = (0..40usize).map(|number| {
        let client = clients[number % clients.len()].clone();
        async move { post(place, &*client, &format!("post {number}")).await.message_id }
    });
    let ids: HashSet<String> = futures::future::join_all(posts).await.into_iter().collect();
    assert_eq!(ids.len(), 40, "each has an id of its own");
    let mut visible = place.visible().await;
    visible.sort_unstable();
    let mut expected: Vec<String> = (0..40).map(|number| format!("post {number}")).collect();
    expected.sort_unstable();
    assert_eq!(visible, expected);
}
