//! `GET /actors`, `GET /nodes`, `GET /audit`: what the server is made of, and who has changed what.

use crate::api::access::Needs;
use crate::api::page::{Cursor, Limit, Page};
use crate::api::problem::{Answer, Kind, Problem};
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use crate::config::LoadedConfig;
use botticelli_database::{AuditFilter, AuditView, NodeView, Scope};
use botticelli_server::ids::{ActorName, TaskId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const READ: Needs = Needs::Scope(Scope::Read);
const ACTORS: &str = "actors";
const NODES: &str = "nodes";
const AUDIT: &str = "audit";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/actors", "list_actors", READ, "Actors, by name")
                .about("Those of this node's configuration, and the tasks that run them."),
            actors,
        )
        .add(
            Operation::get("/nodes", "list_nodes", READ, "Nodes, by name")
                .about("The server processes of this database that live, or went less than a day ago."),
            nodes,
        )
        .add(
            Operation::get(
                "/audit",
                "list_audit",
                Needs::Scope(Scope::Admin),
                "Who has changed what, newest first",
            )
            .about("Every change over the API and by the command line."),
            audit,
        )
}

/// A page of a list without filters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// How many rows.
    #[serde(default)]
    limit: Limit,
    /// Where the page begins.
    cursor: Option<Cursor>,
}

/// An actor: what tasks run.
#[derive(Debug, Serialize, JsonSchema)]
struct ActorView {
    /// Its name.
    actor_name: ActorName,
    /// What it says of itself.
    description: Option<String>,
    /// The skills of its pipeline, in order.
    skills: Vec<String>,
    /// Its knowledge sources.
    knowledge: Vec<String>,
    /// The tasks that run it, by name.
    tasks: Vec<TaskId>,
}

async fn actors(call: Call, input: Input<Nothing, PageQuery>) -> Answer<Reply<Page<ActorView>>> {
    let query = input.query;
    let after = query.cursor.map(|cursor| cursor.read::<String>(ACTORS)).transpose()?;
    let stopping = || Problem::new(Kind::Unavailable, "the server is about to stop");
    let server = call.api.server.upgrade().ok_or_else(stopping)?;
    let mut actors = server.with_config(actor_views).await;
    actors.retain(|actor| after.as_deref().is_none_or(|after| actor.actor_name.as_str() > after));
    actors.sort_by(|one, other| one.actor_name.cmp(&other.actor_name));
    Ok(Page::new(actors, query.limit, ACTORS, |actor| actor.actor_name.clone()).into())
}

fn actor_views(config: &LoadedConfig) -> Vec<ActorView> {
    let tasks_of = |name: &ActorName| {
        let mut tasks: Vec<TaskId> =
            config.tasks.iter().filter(|task| task.actor_name == *name).map(|task| task.id.clone()).collect();
        tasks.sort();
        tasks
    };
    let view = |file: &crate::config::ActorFile| ActorView {
        description: file.actor.description.clone(),
        skills: file.skills.iter().map(|skill| skill.name.clone()).collect(),
        knowledge: file.knowledge.iter().map(|source| source.name.clone()).collect(),
        tasks: tasks_of(&file.actor.name),
        actor_name: file.actor.name.clone(),
    };
    config.actors.iter().map(view).collect()
}

async fn nodes(call: Call, input: Input<Nothing, PageQuery>) -> Answer<Reply<Page<NodeView>>> {
    let query = input.query;
    let after = query.cursor.map(|cursor| cursor.read::<String>(NODES)).transpose()?;
    let nodes = call.api.store.nodes(after, query.limit.and_one()).await?;
    Ok(Page::new(nodes, query.limit, NODES, |node| node.node.clone()).into())
}

/// Which changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only those of this kind, such as `task.pause`.
    action: Option<Text>,
    /// Only those of this task, execution, post or token.
    target: Option<Text>,
    /// How many rows.
    #[serde(default)]
    limit: Limit,
    /// Where the page begins.
    cursor: Option<Cursor>,
}

/// A text that can be looked for: without control characters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
struct Text(String);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.contains(char::is_control) { Err("has a control character") } else { Ok(Self(text)) }
    }
}

async fn audit(call: Call, input: Input<Nothing, AuditQuery>) -> Answer<Reply<Page<AuditView>>> {
    let query = input.query;
    let filter = AuditFilter {
        action: query.action.map(|text| text.0),
        target: query.target.map(|text| text.0),
        before: query.cursor.map(|cursor| cursor.read::<i64>(AUDIT)).transpose()?,
        limit: query.limit.and_one(),
    };
    let rows = call.api.store.audits(filter).await?;
    Ok(Page::new(rows, query.limit, AUDIT, |row| row.id).into())
}
