//! JSON Schemas of both files, for editors.

use super::actor_file::ActorFile;
use super::server_file::ActorServerConfig;
use schemars::{Schema, schema_for};

/// The schema of the server's file.
pub fn server() -> Schema {
    schema_for!(ActorServerConfig)
}

/// The schema of an actor's file.
pub fn actor() -> Schema {
    schema_for!(ActorFile)
}
