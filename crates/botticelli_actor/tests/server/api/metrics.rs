//! What `/metrics` tells, and the self-audit behind a part of it.

use super::server::{Answered, ApiServer, HANGS, every_minute, token};
use botticelli_actor::engine::DatabaseClock;
use botticelli_actor::self_audit::SelfAudit;
use botticelli_database::Scope;
use botticelli_testkit::databases::TestStore;
use chrono::{DateTime, Utc};
use discord_double::{Double, Options, standard};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

crate::promises! {
    what_runs_and_what_is_posted_is_counted,
    metrics_are_for_those_who_may_read,
    the_self_audit_finds_what_must_not_be,
    an_occurrence_that_the_ledger_lost_is_found,
    what_is_said_of_metrics_is_what_a_server_tells,
}

const MINUTE: Duration = Duration::from_secs(60);

/// Runs an actor that works, one that fails, and one that posts to the double through a webhook.
async fn busy_server(database: TestStore, double: &Double) -> ApiServer {
    let folder = tempfile::tempdir().expect("a folder");
    let failing = "[actor]\nname = \"failing\"\n[[knowledge]]\nname = \"words\"\ntype = \"file\"\n\
         path = \"gone.jsonl\"\n[[skills]]\nname = \"content_selection\"\n";
    let path = folder.path().join("failing.toml");
    std::fs::write(&path, failing).expect("written");
    let webhook =
        format!("https://discord.com/api/webhooks/{}/{}", standard::WEBHOOK.0, standard::WEBHOOK_TOKEN);
    let entries = format!(
        "[discord]\napi_base_url = \"{base}\"\n[discord.webhooks]\nherald = \"{webhook}\"\n{good}\
         [[actors]]\nname = \"bad\"\nconfig_file = \"{path}\"\nplatform = \"file\"\ndestination = \"posts.jsonl\"\n\
         schedule = {{ type = \"Interval\", seconds = 60 }}\nmax_attempts = 1\nmax_consecutive_failures = 2\n\
         backoff_initial_seconds = 1\n\
         [[actors]]\nname = \"herald\"\nconfig_file = \"writer.toml\"\nplatform = \"discord_webhook\"\n\
         destination = \"herald\"\nschedule = {{ type = \"Immediate\" }}\n",
        base = double.base_url(),
        good = every_minute("good"),
        path = path.display(),
    );
    ApiServer::start_with(database, "", &entries).await
}

/// Three items are posted, then there is nothing to do; and what fails twice is paused.
async fn what_runs_and_what_is_posted_is_counted(database: TestStore) {
    let double = Double::start(Options::default()).expect("a double");
    let server = busy_server(database, &double).await;
    server.advance(3 * MINUTE + Duration::from_secs(30)).await;
    let answer = all_posted(&server, 4.0).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for expected in [
        r#"actor_executions_total{actor="writer",outcome="succeeded",trigger="schedule"} 4"#,
        r#"actor_executions_total{actor="writer",outcome="skipped",trigger="schedule"} 1"#,
        r#"actor_executions_total{actor="failing",outcome="failed",trigger="schedule"} 2"#,
        "actor_execution_duration_seconds_count 7",
        "actor_schedule_lateness_seconds_count 7",
        r#"actor_schedule_lateness_seconds_bucket{le="0.001"} 7"#,
        r#"actor_posts_total{platform="file",state="posted"} 3"#,
        r#"actor_posts_total{platform="discord_webhook",state="posted"} 1"#,
        "actor_post_delivery_seconds_count 4",
        r#"actor_discord_requests_total{route="POST /webhooks/{}/{}",status="200"} 1"#,
        "actor_rate_limit_wait_seconds_count 1",
        "actor_invalid_requests 0",
        r#"actor_breaker_state{actor="failing",state="open"} 1"#,
        r#"actor_breaker_state{actor="failing",state="half_open"} 0"#,
        r#"actor_breaker_state{actor="writer",state="open"} 0"#,
        "actor_tasks_scheduled 1",
        "actor_tasks_paused 1",
        "actor_tasks_running 0",
        "actor_database_up 1",
        "actor_invariant_overdue_tasks 0",
        "actor_invariant_orphaned_executions 0",
        "actor_invariant_stuck_posts 0",
        "actor_invariant_unaccounted_occurrences 0",
    ] {
        assert!(answer.body.lines().any(|line| line == expected), "{expected} in\n{}", answer.body);
    }
    assert!(!answer.body.contains(standard::WEBHOOK_TOKEN), "a secret");
    server.end().await;
}

/// The metrics when so many posts are there: who sends them is not waited for when time goes on.
async fn all_posted(server: &ApiServer, posts: f64) -> Answered {
    let asking = async {
        loop {
            let answer = server.get("/metrics").await;
            if value(&answer.body, "actor_post_delivery_seconds_count") == Some(posts) {
                return answer;
            }
        }
    };
    tokio::time::timeout(HANGS, asking).await.expect("all is posted")
}

async fn metrics_are_for_those_who_may_read(database: TestStore) {
    let secret = token(&database, "reader", Scope::Read).await;
    let server = ApiServer::start(database, &["a"]).await;
    server.get("/metrics").await.problem(401);
    let bearer = format!("Bearer {secret}");
    let answer = server.ask("GET", "/metrics", &[("Authorization", &bearer)], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(value(&answer.body, "actor_invariant_overdue_tasks"), None, "nobody has looked yet");
    server.end().await;
}

/// Somebody has broken the database. The numbers show it at the next look, and whoever listens has the names.
async fn the_self_audit_finds_what_must_not_be(database: TestStore) {
    let server = ApiServer::start(database, &["good"]).await;
    let past = literal(server.database.time() - 5 * MINUTE);
    for sql in [
        "INSERT INTO actor_server_state (task_id, actor_name, definition, schedule, next_run, wake_at, \
             max_consecutive_failures, updated_at) \
         SELECT 'lost', actor_name, 'of nobody', schedule, {past}, {past}, 5, {past} FROM actor_server_state",
        "INSERT INTO actor_server_open_executions (id, task_id, actor_name, trigger, due_at, node, fence, attempt, \
             opened_at) VALUES (4711, 'ghost', 'writer', 'manual', {past}, 'gone', 1, 1, {past})",
        "INSERT INTO actor_server_posts (execution_id, task_id, platform, destination, part, first_part, key, content, \
             limits, on_unknown, state, node, fence, lease_until, created_at, updated_at) \
         VALUES (4711, 'ghost', 'file', 'nowhere', 0, 0, 'k', '{\"text\": \"t\"}', '{}', 'needs_review', 'sending', 'gone', 1, {past}, \
             {past}, {past})",
    ] {
        server.database.sql(&sql.replace("{past}", &past)).await;
    }
    let mut reports = server.app.self_audits().await.expect("it runs");
    server.advance(MINUTE + Duration::from_secs(1)).await;
    let report = reports.borrow_and_update().clone().expect("it has looked");
    assert_eq!((report.overdue_tasks.count, &*report.overdue_tasks.examples), (1, &["lost".to_owned()][..]));
    assert_eq!(report.orphaned_executions.examples, ["4711"]);
    assert_eq!(report.stuck_posts.count, 1);
    assert_eq!(report.unaccounted_occurrences.count, 0);
    let text = server.get("/metrics").await.body;
    for (name, count) in [("overdue_tasks", 1.0), ("orphaned_executions", 1.0), ("stuck_posts", 1.0)] {
        assert_eq!(value(&text, &format!("actor_invariant_{name}")), Some(count), "{text}");
    }
    server.end().await;
}

/// A look from beside the server, at moments at which nothing happens.
async fn an_occurrence_that_the_ledger_lost_is_found(database: TestStore) {
    let server = ApiServer::start(database, &["good", "other"]).await;
    let clock = Arc::new(DatabaseClock::new(server.database.clock()));
    let mut audit = SelfAudit::new(server.database.another().await, clock);
    let mut look = async |server: &ApiServer| {
        let report = audit.run_once(server.database.time()).await.expect("an answer");
        report.unaccounted_occurrences
    };
    server.advance(Duration::from_secs(30)).await;
    assert_eq!(look(&server).await.count, 0, "the first look only notes where all stand");
    server.advance(3 * MINUTE).await;
    assert_eq!(look(&server).await.count, 0, "all of it is in the ledger");
    server.advance(2 * MINUTE).await;
    let last = "(SELECT max(scheduled_for) FROM actor_server_executions)";
    server
        .database
        .sql(&format!(
            "DELETE FROM actor_server_executions WHERE task_id = 'good' AND scheduled_for = {last}"
        ))
        .await;
    let found = look(&server).await;
    assert_eq!((found.count, found.examples), (1, vec!["good".to_owned()]));
    server.advance(MINUTE).await;
    assert_eq!(look(&server).await.count, 0, "it is said once");
    server.end().await;
}

/// `docs/metrics.md`, the dashboard and the rules name what a server tells, and Prometheus' own tool takes it.
async fn what_is_said_of_metrics_is_what_a_server_tells(database: TestStore) {
    let double = Double::start(Options::default()).expect("a double");
    let server = busy_server(database, &double).await;
    server.advance(MINUTE + Duration::from_secs(1)).await;
    let text = server.get("/metrics").await.body;
    server.end().await;
    let told: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let page = read("docs/metrics.md");
    let described: BTreeMap<&str, Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `actor_"))
        .map(|row| row.split('|').map(str::trim).collect())
        .map(|cells: Vec<&str>| (cells[0].trim_end_matches('`'), cells))
        .collect();
    let names: BTreeSet<String> = described.keys().map(|name| format!("actor_{name}")).collect();
    assert_eq!(names, told.keys().map(ToString::to_string).collect(), "docs/metrics.md and /metrics");
    for (name, cells) in &described {
        let name = format!("actor_{name}");
        assert_eq!(cells[1], told[&*name], "the type of {name}");
        for labels in labels_of(&text, &name) {
            let said: Vec<&str> = cells[2].split(", ").map(|label| label.trim_matches('`')).collect();
            let said: BTreeSet<&str> = said.into_iter().filter(|label| !label.trim().is_empty()).collect();
            assert_eq!(labels, said, "the labels of {name}");
        }
    }
    for file in ["deploy/grafana-dashboard.json", "deploy/prometheus-alerts.yaml"] {
        let used = used_in(&read(file));
        assert!(used.len() > 5, "{file}: {used:?}");
        for name in used {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(
                told.contains_key(&*name) || base.is_some_and(|base| told.contains_key(base)),
                "{file}: {name}"
            );
        }
    }
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana-dashboard.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 9));
    promtool(&["check", "metrics"], &text);
    promtool(&["check", "rules", &path("deploy/prometheus-alerts.yaml").to_string_lossy()], "");
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The names of the labels of each sample of a metric; those of a histogram's buckets without `le`.
fn labels_of<'a>(text: &'a str, name: &str) -> Vec<BTreeSet<&'a str>> {
    let labels = |line: &'a str| -> Option<BTreeSet<&'a str>> {
        let rest = line.strip_prefix(name)?;
        let rest =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(rest);
        if rest.starts_with(' ') {
            return Some(BTreeSet::new());
        }
        let inside = rest.strip_prefix('{')?.rsplit_once('}')?.0;
        Some(
            inside
                .split("\",")
                .filter_map(|label| Some(label.split_once("=\"")?.0))
                .filter(|label| *label != "le")
                .collect(),
        )
    };
    text.lines().filter_map(labels).collect()
}

/// All metrics of ours that a text names.
fn used_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("actor_"))
        .map(str::to_owned)
        .collect()
}

/// Nothing is found to be wrong by Prometheus' own tool. Where it is not there, that is said.
fn promtool(arguments: &[&str], input: &str) {
    let mut tool = Command::new("promtool");
    tool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match tool.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!(
                "LEFT OUT: promtool {arguments:?}: it is not installed (Debian, Ubuntu: package prometheus)"
            );
            return;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

/// As both databases read a time.
fn literal(at: DateTime<Utc>) -> String {
    format!("'{}'", at.format("%F %T%.6f%:z"))
}
