#![doc = include_str!("../README.md")]

mod answer;
mod behaviours;
mod call;
mod change;
mod clock;
#[cfg(feature = "compare")]
pub mod compare;
mod control;
mod double;
mod error;
mod faults;
mod id;
mod invalid;
mod ledger;
mod limits;
mod message;
mod nonce;
mod permissions;
mod pings;
mod routes;
mod scenario;
mod server;
mod state;
mod validation;
mod world;

pub use behaviours::{BEHAVIOURS, Behaviour, Source, behaviours_markdown};
pub use change::Change;
pub use clock::Clock;
pub use double::{Double, Options, StartError};
pub use faults::{Fault, What, When};
pub use id::Id;
pub use invalid::{BanPage, BanRules};
pub use ledger::{Entry, Event, Visible};
pub use limits::{Limits, Rate, Scope, ScopeHeader};
pub use nonce::{NonceRules, NonceScope};
pub use permissions::Permissions;
pub use pings::{Pings, Writes};
pub use scenario::{BotPlan, ChannelPlan, GuildPlan, Scenario, ScenarioError, WebhookPlan};
pub use state::{AfterOrder, ContentUnit, Request, Settings};
pub use world::{
    Channel, ChannelKind, Guild, Member, Overwrite, OverwriteTarget, Role, Tag, User, Webhook, World,
    standard,
};

/// The routes, one line each: name, method, path and bucket (`-` where there are no rate limit headers).
#[must_use]
pub fn routes() -> Vec<String> {
    let bucket = |name: &'static str| if name.is_empty() { "-" } else { name };
    let line = |route: &routes::Route| {
        format!("{:28} {:7} {} ({})", route.name, route.method.as_str(), route.path, bucket(route.bucket))
    };
    routes::TABLE.iter().map(line).collect()
}
