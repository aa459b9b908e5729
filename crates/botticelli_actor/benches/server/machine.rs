//! What was measured on.

use crate::harness::{Database, postgres};
use serde_json::{Value, json};

pub(crate) async fn describe() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let postgres = match Database::all().into_iter().find(|database| database.kind() == "postgres") {
        Some(Database::Postgres { url }) => {
            let settings = "SELECT version() || ', fsync ' || current_setting('fsync') \
                 || ', synchronous_commit ' || current_setting('synchronous_commit')";
            let row = postgres(&url).await.query_one(settings, &[]).await;
            row.map_or(Value::Null, |row| row.get::<_, String>(0).into())
        }
        Some(Database::Sqlite) | None => Value::Null,
    };
    json!({
        "machine": field(&read("/proc/cpuinfo"), "model name"),
        "cores": cores,
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "postgres": postgres,
        "sqlite": rusqlite::version(),
        "load_average": read("/proc/loadavg").trim(),
    })
}
