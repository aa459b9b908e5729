//! `actor-server schema`: what editors complete and check configuration files with.

use super::args::SchemaFile;
use super::output::write_json;
use crate::config::schema;
use crate::knowledge;
use crate::skills::SkillRegistry;
use std::io::Write;

pub(super) fn print(file: SchemaFile, out: &mut impl Write) -> anyhow::Result<()> {
    let schema = match file {
        SchemaFile::Server => schema::server(),
        SchemaFile::Actor => {
            let registry = SkillRegistry::standard();
            let skills = registry.names().filter_map(|name| Some((name, registry.schema(name)?)));
            schema::actor(skills, knowledge::schemas())
        }
    };
    write_json(&schema, out)
}
