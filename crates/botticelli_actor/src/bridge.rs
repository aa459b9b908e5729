//! From an actor's file to the actor that runs.

use crate::actor::{ActorDefinition, PipelineActor};
use crate::config::{ActorFile, Problem, Problems};
use crate::skills::SkillRegistry;
use serde::Deserialize;
use serde_json::json;

impl PipelineActor {
    /// As build.
    pub fn from_file(file: &ActorFile, registry: &SkillRegistry, own: &str) -> Result<Self, Problems> {
        let entries = |rows: Vec<toml::Table>| rows;
        let knowledge: Vec<toml::Table> = file
            .knowledge
            .iter()
            .map(|k| {
                let mut t = k.settings.clone();
                t.insert("name".into(), k.name.clone().into());
                t.insert("type".into(), k.kind.clone().into());
                t
            })
            .collect();
        let skills: Vec<toml::Table> = file
            .skills
            .iter()
            .map(|k| {
                let mut t = k.settings.clone();
                t.insert("name".into(), k.name.clone().into());
                t.insert("enabled".into(), k.enabled.into());
                t
            })
            .collect();
        let mut t = toml::Table::new();
        t.insert("actor".into(), toml::Value::try_from(json!({"name": file.actor.name.as_str()})).unwrap());
        t.insert("knowledge".into(), entries(knowledge).into());
        t.insert("skills".into(), entries(skills).into());
        t.insert("execution".into(), toml::Value::try_from(&file.execution).unwrap());
        t.insert("cache".into(), toml::Value::try_from(&file.cache).unwrap());
        let d = ActorDefinition::deserialize(toml::Value::Table(t))
            .map_err(|e| Problems(vec![Problem::with(file.actor.name.to_string(), e.to_string())]))?;
        Self::build(&d, registry, &file.folder, own).map_err(|problems| {
            Problems(problems.into_iter().map(|p| Problem::with(p.path, p.message)).collect())
        })
    }
}
