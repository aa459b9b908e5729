//! Traces as a collector gets them, read with OpenTelemetry's own types.

use crate::receiver::Receiver;
use crate::server::{PATIENCE, Server};
use crate::signals::RARELY;
use crate::stage::{EVERY_SECOND, FROM_FILE, Stage, task, until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::Value;
use std::process::Command;

const KEY: &str = "key-of-the-collector";

/// A server that sends its spans there, soon.
fn traced(stage: &Stage, receiver: &Receiver) -> Command {
    let mut command = stage.command(&["--log-format", "json"]);
    command
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &receiver.url)
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("api-key={KEY}"))
        .env("OTEL_SERVICE_NAME", "herald")
        .env("OTEL_BSP_SCHEDULE_DELAY", "20");
    command
}

/// A span, and the attributes of its process.
struct Sent {
    span: Span,
    resource: Vec<KeyValue>,
}

impl Sent {
    /// As text, whatever its type. Empty: it is not there.
    fn attribute(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }

    fn ids(&self) -> (String, String) {
        (hex(&self.span.trace_id), hex(&self.span.span_id))
    }

    fn error(&self) -> Option<&str> {
        self.span.status.as_ref().map(|status| {
            assert_eq!(status.code, 2);
            status.message.as_str()
        })
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value =
        attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone());
    match value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(truth)) => truth.to_string(),
        Some(other) => panic!("{key}: {other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sent(receiver: &Receiver) -> Vec<Sent> {
    let requests = receiver.arrived().into_iter().map(|arrived| {
        assert_eq!(arrived.headers["content-type"], "application/x-protobuf");
        assert_eq!(arrived.headers["api-key"], KEY);
        ExportTraceServiceRequest::decode(arrived.body.as_slice()).unwrap()
    });
    let processes = requests.flat_map(|request| request.resource_spans);
    let spans = processes.flat_map(|process| {
        let resource = process.resource.unwrap().attributes;
        let spans = process.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| Sent { span, resource: resource.clone() })
    });
    spans.collect()
}

/// Waits for so many spans of that name.
fn named(receiver: &Receiver, count: usize, name: &str) -> Vec<Sent> {
    let mut found = Vec::new();
    until(name, PATIENCE, || {
        found = sent(receiver);
        found.retain(|sent| sent.span.name == name);
        found.len() >= count
    });
    found
}

fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == message).collect()
}

#[test]
fn a_run_is_a_span_with_its_skills_and_posts_and_the_log_tells_which() {
    let stage = Stage::sqlite();
    let receiver = Receiver::start(Some(200));
    stage.plain_actor();
    stage.server_file("", &task("one", RARELY, ""));
    let server = Server::start(traced(&stage, &receiver).env("DISCORD_TOKEN", "dG9rZW4.of.discord"));
    let post = named(&receiver, 1, "post file").remove(0);
    let run = named(&receiver, 1, "run plain").remove(0);
    assert_eq!((run.span.parent_span_id.len(), run.error(), run.span.kind), (0, None, 1));
    for (key, value) in [
        ("task.id", "one"),
        ("actor.name", "plain"),
        ("execution.id", "1"),
        ("attempt", "1"),
        ("trigger", "schedule"),
        ("outcome", "succeeded"),
        ("posts", "1"),
    ] {
        assert_eq!(run.attribute(&format!("actor_server.{key}")), value, "{key}");
    }
    assert_eq!(text(&run.resource, "service.name"), "herald");
    let skills = ["skill content_selection", "skill content_formatter"];
    for skill in skills.map(|name| named(&receiver, 1, name).remove(0).span) {
        assert_eq!((&skill.trace_id, &skill.parent_span_id), (&run.span.trace_id, &run.span.span_id));
        assert!(skill.start_time_unix_nano <= skill.end_time_unix_nano);
        assert!(skill.end_time_unix_nano <= run.span.end_time_unix_nano);
    }
    assert_eq!((&post.span.trace_id, &post.span.parent_span_id), (&run.span.trace_id, &run.span.span_id));
    assert_eq!((post.span.kind, post.error()), (3, None));
    assert_eq!(post.attribute("actor_server.post.state"), "posted");
    assert_eq!(post.attribute("messaging.system"), "file");
    assert!(post.attribute("messaging.destination.name").ends_with("one.posts.jsonl"));
    let log = server.stop().err;
    for (message, span) in [("succeeded", &run), ("posted", &post)] {
        let line = lines(&log, message).remove(0);
        let ids = ["trace_id", "span_id"].map(|id| line[id].as_str().unwrap_or_default().to_owned());
        assert_eq!(ids, <[String; 2]>::from(span.ids()), "{line}");
    }
    assert!(lines(&log, "stopped")[0].get("trace_id").is_none(), "it is of no run");
    for arrived in receiver.arrived() {
        let body = String::from_utf8_lossy(&arrived.body);
        assert!(!body.contains(KEY) && !body.contains("of.discord"), "{body}");
    }
    assert!(!log.contains(KEY), "{log}");
}

#[test]
fn what_fails_has_the_status_error_and_later_attempts_are_in_the_same_trace() {
    let stage = Stage::sqlite();
    let receiver = Receiver::start(Some(200));
    let away = "type = \"query\"\nquery = \"SELECT 1 AS id\"\ndatabase = \"postgres://127.0.0.1:1/away\"";
    stage.actor("plain", away, 1);
    let actor = std::fs::read_to_string(stage.path("plain.toml")).unwrap();
    stage.write("plain.toml", actor + "[execution]\nmax_retries = 0\n");
    stage.server_file("backoff_initial_seconds = 1", &task("t", RARELY, "max_attempts = 2"));
    let server = Server::start(&mut traced(&stage, &receiver));
    let runs = named(&receiver, 2, "run plain");
    let skills = named(&receiver, 2, "skill content_selection");
    let (first, second) = (&runs[0], &runs[1]);
    assert_eq!(first.span.trace_id, second.span.trace_id);
    assert_eq!((first.span.parent_span_id.len(), &second.span.parent_span_id), (0, &first.span.span_id));
    for (run, skill) in runs.iter().zip(&skills) {
        assert_eq!(run.attribute("actor_server.outcome"), "failed");
        assert_eq!(run.attribute("error.type"), "recoverable");
        assert!(run.error().unwrap().contains("127.0.0.1:1"), "{:?}", run.error());
        assert!(skill.error().unwrap().contains("127.0.0.1:1"), "{:?}", skill.error());
        assert_eq!(skill.span.parent_span_id, run.span.span_id);
    }
    server.stop();
}

#[test]
fn a_post_that_another_process_sends_later_belongs_to_the_trace_of_its_run() {
    let stage = Stage::sqlite();
    let receiver = Receiver::start(Some(200));
    stage.plain_actor();
    stage.server_file("", &task("folder/one", RARELY, "").replace("name = \"folder/one\"", "name = \"one\""));
    let server = Server::start(&mut traced(&stage, &receiver));
    let refused = named(&receiver, 1, "post file").remove(0);
    assert_eq!(refused.attribute("actor_server.post.state"), "deferred");
    assert!(refused.error().is_some());
    let run = named(&receiver, 1, "run plain").remove(0);
    server.stop();
    std::fs::create_dir(stage.path("folder")).unwrap();
    stage.answer(&["posts", "retry", &refused.attribute("actor_server.post.id")]);
    let server = Server::start(&mut traced(&stage, &receiver));
    let posted = named(&receiver, 2, "post file").remove(1);
    assert_eq!(posted.attribute("actor_server.post.state"), "posted");
    assert_eq!((&posted.span.trace_id, &posted.span.parent_span_id), (&run.span.trace_id, &run.span.span_id));
    assert_ne!(text(&posted.resource, "service.instance.id"), text(&run.resource, "service.instance.id"));
    assert_ne!(posted.span.span_id, refused.span.span_id);
    server.stop();
}

#[test]
fn a_collector_that_does_not_answer_holds_up_nothing_and_is_complained_of_once() {
    let stage = Stage::sqlite();
    let receiver = Receiver::start(None);
    stage.actor("plain", FROM_FILE, 1);
    stage.server_file("", &task("t", EVERY_SECOND, ""));
    let server = Server::start(traced(&stage, &receiver).env("OTEL_EXPORTER_OTLP_TIMEOUT", "100"));
    let mut asked = 0;
    until("it has tried again and again", PATIENCE, || {
        asked = receiver.arrived().len();
        asked >= 3
    });
    stage.until("work goes on", |stage| stage.posted_lines().len() >= 3);
    receiver.answers(200);
    server.says("traces are taken again");
    let log = server.stop().err;
    assert_eq!(lines(&log, "traces are taken again").len(), 1);
    assert_eq!(log.matches("traces are not taken").count(), 1, "{log}");

    let silent = Receiver::start(None);
    let server = Server::start(&mut traced(&stage, &silent));
    until("a request is under way", PATIENCE, || !silent.arrived().is_empty());
    let log = server.stop().err;
    assert_eq!(lines(&log, "the last traces could not be sent in time").len(), 1, "{log}");
}
