#![doc = include_str!("../README.md")]

mod answer;
mod call;
mod change;
mod clock;
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
mod server;
mod state;
mod validation;
mod world;

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
pub use pings::Pings;
pub use state::{AfterOrder, ContentUnit, Request, Settings};
pub use world::{
    Channel, ChannelKind, Guild, Member, Overwrite, OverwriteTarget, Role, Tag, User, Webhook, World,
    standard,
};
