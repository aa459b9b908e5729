//! `/posts`: the outbox, and what people decide about it.

use super::note::{Note, Noted};
use crate::api::Api;
use crate::api::access::Needs;
use crate::api::page::{Cursor, Limit, Page};
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use crate::shown::PostDetails;
use botticelli_database::{Decided, PostDecision, PostFilter, PostView, Scope};
use botticelli_server::ids::{ExecutionId, PostId, TaskId};
use botticelli_server::outbox::PostState;
use schemars::JsonSchema;
use serde::Deserialize;

const READ: Needs = Needs::Scope(Scope::Read);
const OPERATE: Needs = Needs::Scope(Scope::Operate);
const POSTS: &str = "posts";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(Operation::get("/posts", "list_posts", READ, "Posts, newest first"), list)
        .add(
            Operation::get("/posts/{id}", "show_post", READ, "One post")
                .about("With every attempt to send it, and what the platform was asked and answered."),
            show,
        )
        .add(
            Operation::post("/posts/{id}/retry", "retry_post", OPERATE, "Send a post again that failed or was left out")
                .about("Asks at once about one that is deferred. What may be there stays in doubt: it is sent under its key, or looked for."),
            async |call, input: Input<PostPath, Nothing, Noted>| {
                decide(call, input.path, PostDecision::Retry, input.body.note).await
            },
        )
        .add(
            Operation::post("/posts/{id}/resend", "resend_post", OPERATE, "Send a post again although it may be there")
                .about("Look first, or it may appear twice."),
            async |call, input: Input<PostPath, Nothing, Noted>| {
                decide(call, input.path, PostDecision::Resend, input.body.note).await
            },
        )
        .add(
            Operation::post("/posts/{id}/mark-posted", "mark_post_posted", OPERATE, "Settle a post that you have seen there")
                .about("Where the platform did not say so."),
            mark_posted,
        )
        .add(
            Operation::post("/posts/{id}/dismiss", "dismiss_post", OPERATE, "Leave a post as it is, for good"),
            async |call, input: Input<PostPath, Nothing, Noted>| {
                decide(call, input.path, PostDecision::Dismiss, input.body.note).await
            },
        )
}

/// A post.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PostPath {
    /// Its number.
    id: PostId,
}

/// Which posts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PostQuery {
    /// Only those of this task.
    task: Option<TaskId>,
    /// Only those that this execution made.
    execution: Option<ExecutionId>,
    /// Only those in this state.
    state: Option<PostState>,
    /// How many rows.
    #[serde(default)]
    limit: Limit,
    /// Where the page begins.
    cursor: Option<Cursor>,
}

async fn list(call: Call, input: Input<Nothing, PostQuery>) -> Answer<Reply<Page<PostView>>> {
    let query = input.query;
    let filter = PostFilter {
        task: query.task,
        execution_id: query.execution,
        state: query.state,
        before: query.cursor.map(|cursor| cursor.read::<PostId>(POSTS)).transpose()?,
        limit: query.limit.and_one(),
    };
    let posts = call.api.store.posts(filter).await?;
    Ok(Page::new(posts, query.limit, POSTS, |post| post.id).into())
}

async fn show(call: Call, input: Input<PostPath>) -> Answer<Reply<PostDetails>> {
    Ok(find(&call.api, input.path.id).await?.into())
}

async fn find(api: &Api, id: PostId) -> Answer<PostDetails> {
    PostDetails::of(&api.store, id).await?.ok_or_else(|| Problem::unknown("post", id.0))
}

/// What a person has seen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MarkPostedBody {
    /// The platform's id of the message.
    message_id: Word,
    /// Where it can be seen.
    link: Option<Word>,
    /// Why, for others: it stands in the audit.
    note: Option<Note>,
}

/// What a platform may have called a message, or a link to it: 1-500 characters, without blanks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = 500, "pattern" = r"^[^ \x00-\x1f\x7f-\x9f]+$"))]
struct Word(String);

impl TryFrom<String> for Word {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        crate::cli::printable(&text).map(Self)
    }
}

async fn mark_posted(
    call: Call,
    input: Input<PostPath, Nothing, MarkPostedBody>,
) -> Answer<Reply<PostDetails>> {
    let MarkPostedBody { message_id, link, note } = input.body;
    let decision = PostDecision::MarkPosted { message_id: message_id.0, link: link.map(|link| link.0) };
    decide(call, input.path, decision, note).await
}

async fn decide(
    call: Call,
    PostPath { id }: PostPath,
    decision: PostDecision,
    note: Option<Note>,
) -> Answer<Reply<PostDetails>> {
    match call.store(note.map(Note::into)).decide(id, decision.clone()).await? {
        Decided::Done => {}
        Decided::UnknownPost => return Err(Problem::unknown("post", id.0)),
        Decided::NotNow(state) => {
            let detail = format!("post {id} is {}: {}", state.as_str(), decision.why_not(state));
            return Err(Problem::new(Kind::Conflict, detail).hint(instead(state)));
        }
    }
    call.changed();
    Ok(find(&call.api, id).await?.into())
}

/// What can be decided about a post in this state.
fn instead(state: PostState) -> &'static str {
    match state {
        PostState::NeedsReview => {
            "look at the destination; then `mark-posted` if it is there, `resend` if it is not"
        }
        PostState::Deferred | PostState::Failed | PostState::Skipped => "`retry` sends it",
        PostState::Sending => "a server is sending it at this moment: try again when that is over",
        PostState::Pending | PostState::Posted => "`GET /posts/{id}` tells more",
    }
}
