//! `actor-server schema`: what editors complete and check configuration files with.

use super::args::SchemaFile;
use super::output::write_json;
use crate::config::schema;
use std::io::Write;

pub(super) fn print(file: SchemaFile, out: &mut impl Write) -> anyhow::Result<()> {
    let schema = match file {
        SchemaFile::Server => schema::server(),
        SchemaFile::Actor => schema::actor([]),
    };
    write_json(&schema, out)
}
