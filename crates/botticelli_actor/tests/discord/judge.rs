//! The verdict on posts: by the double's ledger of what people have seen, and by nothing that the server says of itself.

use botticelli_database::PostView;
use botticelli_server::outbox::PostState;
use discord_double::{Entry, Event, standard};

/// What is judged, when all has come to rest.
pub(crate) struct Judge {
    /// How it can be seen again.
    pub(crate) story: String,
    pub(crate) ledger: Vec<Entry>,
    pub(crate) posts: Vec<PostView>,
}

impl Judge {
    /// Every post appeared once and its state tells so; or nobody can tell, and it waits for a person.
    pub(crate) fn every_post_is_there_once(&self, is_undecidable: impl Fn(&PostView) -> bool) {
        for post in &self.posts {
            let created: Vec<String> =
                self.appearances(post).map(|entry| entry.message_id.to_string()).collect();
            let story = || format!("{}: {post:#?}\nmessages: {created:?}", self.story);
            assert!(created.len() <= 1, "it appeared twice. {}", story());
            let receipt = post.receipt.as_ref().map(|receipt| &receipt.message_id);
            match post.state {
                PostState::Posted => assert_eq!(receipt, created.first(), "no such receipt. {}", story()),
                PostState::NeedsReview => {
                    assert!(is_undecidable(post), "it can be decided. {}", story());
                    assert_eq!(receipt, None, "a receipt, and not posted. {}", story());
                }
                PostState::Pending if waits_for_a_person(post, &self.posts) => {
                    assert!(created.is_empty(), "a part came before its turn. {}", story());
                }
                PostState::Failed
                | PostState::Skipped
                | PostState::Pending
                | PostState::Deferred
                | PostState::Sending => panic!("it is lost, or never settled. {}", story()),
            }
        }
    }

    /// What was posted to a destination appeared there in the order in which it was made.
    pub(crate) fn posts_of_a_destination_are_in_order(&self) {
        let is_posted = |post: &&PostView| post.state == PostState::Posted;
        let mut posted: Vec<(&str, &str, u64, i64)> = self
            .posts
            .iter()
            .filter(is_posted)
            .filter_map(|post| {
                let appeared = self.appearances(post).next()?;
                Some((post.platform.as_str(), post.destination.as_str(), appeared.seq, post.id.0))
            })
            .collect();
        posted.sort_unstable();
        let out_of_order =
            posted.windows(2).find(|two| (two[0].0, two[0].1) == (two[1].0, two[1].1) && two[0].3 > two[1].3);
        assert_eq!(out_of_order, None, "{}: (platform, destination, place in the ledger, post)", self.story);
    }

    /// Nothing appeared that no post wanted.
    pub(crate) fn nothing_else_appeared(&self) {
        for entry in self.ledger.iter().filter(|entry| entry.event == Event::Created) {
            let wanted = self.posts.iter().any(|post| is_its(post, entry));
            assert!(wanted, "{}: nobody wanted {entry:#?}", self.story);
        }
    }

    fn appearances<'a>(&'a self, post: &'a PostView) -> impl Iterator<Item = &'a Entry> {
        self.ledger.iter().filter(|entry| entry.event == Event::Created).filter(|entry| is_its(post, entry))
    }
}

/// Whether this is the post's message. Only messages of bots outside forums have a nonce; the texts of others must differ.
fn is_its(post: &PostView, entry: &Entry) -> bool {
    let says_the_same = entry.message["content"] == post.content;
    match post.platform.as_str() {
        "discord_webhook" => entry.author_id == standard::WEBHOOK && says_the_same,
        _ if is_in_forum(post) => {
            entry.author_id == standard::BOT && entry.message_id == entry.channel_id && says_the_same
        }
        _ => entry.nonce.as_deref() == Some(post.key.as_str()),
    }
}

/// The first message of a thread in a forum has its thread's id.
fn is_in_forum(post: &PostView) -> bool {
    post.destination == standard::FORUM.to_string()
}

/// Whether nothing more becomes of any of them without a person.
pub(crate) fn are_settled(posts: &[PostView]) -> bool {
    posts.iter().all(|post| match post.state {
        PostState::Posted => post.follow_up_at.is_none(),
        PostState::Failed | PostState::NeedsReview | PostState::Skipped => true,
        PostState::Pending => waits_for_a_person(post, posts),
        PostState::Deferred | PostState::Sending => false,
    })
}

/// A part of a message, an earlier part of which nobody can tell about.
fn waits_for_a_person(post: &PostView, posts: &[PostView]) -> bool {
    posts.iter().any(|earlier| {
        earlier.state == PostState::NeedsReview
            && (&earlier.destination, earlier.first_part) == (&post.destination, post.first_part)
            && earlier.execution_id == post.execution_id
            && earlier.part < post.part
    })
}
