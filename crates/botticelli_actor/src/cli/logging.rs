//! The log: on stderr, as text or JSON.

use super::args::LogFormat;
use super::errors::UsageError;
use crate::config::env;
use crate::traces::LOG_SPANS;
use std::fmt;
use std::io::IsTerminal;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

pub(super) fn start(format: LogFormat) -> Result<(), UsageError> {
    let filter = env::log_filter().unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        UsageError::new(format!("RUST_LOG is {filter:?}: {error}"))
            .hint(Some("such as info, or warn,botticelli_actor=debug".to_owned()))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where the log can't be written, that can't be told there either: trying to would end the server.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start in one process (tests) keeps the first log.
    let started = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().with_ansi(false).event_format(Lines::default()).try_init(),
    };
    started.or(Ok(()))
}

/// An object a line. Those of a run that is traced begin with its `trace_id` and `span_id`.
struct Lines(Format<Json>);

impl Default for Lines {
    fn default() -> Self {
        let lines = tracing_subscriber::fmt::format().json().flatten_event(true);
        Self(lines.with_current_span(false).with_span_list(false))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Lines {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let spans = context.event_scope().into_iter().flatten();
        let of_run = spans.into_iter().find(|span| LOG_SPANS.contains(&span.metadata().name()));
        let ids = of_run.and_then(|span| {
            let fields = span.extensions().get::<FormattedFields<JsonFields>>()?.fields.clone();
            Some(fields.strip_suffix('}')?.to_owned())
        });
        match (ids, line.strip_prefix('{')) {
            (Some(ids), Some(rest)) => write!(writer, "{ids},{rest}"),
            _ => writer.write_str(&line),
        }
    }
}
