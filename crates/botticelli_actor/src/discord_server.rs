//! The server as a Discord server: the contracts of `botticelli_server`, by the names that people who write bots look for.
//!
//! Nothing here is a second way: these are the very types that `actor-server` is assembled of.
//!
//! | name | is | keeps the contract |
//! |---|---|---|
//! | [`DiscordActorId`], [`DiscordContext`] | an actor's name; what one attempt needs to know | |
//! | [`DiscordTaskScheduler`] | the engine: timers, claims, records | [`TaskScheduler`] |
//! | [`DiscordActorManager`] | the actors that are registered | [`ActorManager`]`<DiscordActorId, DiscordContext>` |
//! | [`DiscordContentPoster`] | the platform `discord` of [`Platforms`](crate::platforms::Platforms) | [`ContentPoster`] |
//! | [`DiscordServerState`] | what a server leaves behind for the next one | the state of a [`StatePersistence`] |
//! | [`DiscordActorServer`] | the whole server | [`ActorServer`] |
//!
//! ```
//! use botticelli_actor::app::{AppParts, last_server};
//! use botticelli_actor::clock::SystemClock;
//! use botticelli_actor::config::{ActorFile, Given, load};
//! use botticelli_actor::deliverer::DeliverySettings;
//! use botticelli_actor::discord::limits::Limiter;
//! use botticelli_actor::discord::{HttpSettings, Rest};
//! use botticelli_actor::discord_server::{DiscordActorServer, DiscordContentPoster, DiscordServerState};
//! use botticelli_actor::platforms::Platforms;
//! use botticelli_actor::skills::SkillRegistry;
//! use botticelli_database::{Mode, Store};
//! use botticelli_server::ids::NodeId;
//! use botticelli_server::server::ActorServer as _;
//! use discord_double::{Double, Options, standard};
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! std::fs::write(
//!     folder.path().join("herald.toml"),
//!     "[actor]\nname = \"herald\"\n[[knowledge]]\nname = \"news\"\ntype = \"inline\"\nitems = [\"Hello\"]\n\
//!      [[skills]]\nname = \"content_selection\"\n",
//! )?;
//! let task = "[[actors]]\nname = \"news\"\nconfig_file = \"herald.toml\"\nchannel_id = \"1300000000000000100\"\n\
//!             schedule = { type = \"Immediate\" }\n";
//! std::fs::write(folder.path().join("actor_server.toml"), task)?;
//! let url = format!("sqlite://{}", folder.path().join("server.db").display());
//! let given = Given {
//!     config: folder.path().join("actor_server.toml"),
//!     database_url: Some(url.clone().into()),
//!     discord_token: Some(standard::TOKEN.into()),
//! };
//! let read = move || load(&given, &|_| None, &|_: &ActorFile, _: &_| Vec::new());
//! let config = read()?;
//!
//! // The place of Discord is taken by a double on this machine. With a configuration that says where Discord is,
//! // `AppParts::new` does all of this.
//! let double = Double::start(Options::default())?;
//! let clock = Arc::new(SystemClock);
//! let http = HttpSettings { api_base_url: double.base_url(), ..HttpSettings::default() };
//! let limiter = Limiter::new(Default::default(), clock.clone());
//! let rest = Rest::new(&http, &standard::TOKEN.into(), limiter, clock.clone())?;
//! let poster = DiscordContentPoster::new(rest, clock.clone(), Default::default());
//!
//! let mut platforms = Platforms::built_in(clock.clone());
//! platforms.register("discord", Arc::new(poster));
//! let parts = AppParts {
//!     platforms,
//!     clock: clock.clone(),
//!     skills: Arc::new(SkillRegistry::standard()),
//!     node: NodeId::new("here")?,
//!     delivery: DeliverySettings::default(),
//! };
//! let server = DiscordActorServer::build(config, parts, Box::new(read));
//! server.start().await?;
//! let there = double.until_visible(standard::GENERAL, 1).await;
//! assert_eq!(there[0].content, "Hello");
//! server.stop().await?;
//!
//! let store = Store::open(&url, Mode::Command, clock).await?;
//! let left: DiscordServerState = last_server(&store).await?.expect("a server was here");
//! assert!(left.stopped_at.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! [`TaskScheduler`]: botticelli_server::server::TaskScheduler
//! [`ActorManager`]: botticelli_server::server::ActorManager
//! [`ContentPoster`]: botticelli_server::post::ContentPoster
//! [`StatePersistence`]: botticelli_server::server::StatePersistence
//! [`ActorServer`]: botticelli_server::server::ActorServer

/// Who an actor is.
pub type DiscordActorId = botticelli_server::ids::ActorName;

/// What one attempt of an actor needs to know.
pub type DiscordContext = crate::actor::RunContext;

/// Runs tasks when they are due.
pub type DiscordTaskScheduler = crate::engine::Engine;

/// The registry of actors, and the place where they run.
pub type DiscordActorManager = crate::actor::RegisteredActors;

/// Puts posts into channels, as a bot, each once.
pub type DiscordContentPoster = crate::discord::platform::Bot;

/// What a server leaves behind for the next one.
pub type DiscordServerState = crate::app::ServerState;

/// The server as a whole.
pub type DiscordActorServer = crate::app::App;
