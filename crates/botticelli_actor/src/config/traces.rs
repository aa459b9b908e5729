//! Whether and where traces go: the variables of the environment by which OpenTelemetry is set up everywhere.

use super::env::Environment;
use crate::alerts::sinks::wrong_url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use std::time::Duration;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// Where one endpoint takes several kinds of data.
const PATH: &str = "/v1/traces";

/// How traces are sent.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// Where to. It may hold a password.
    pub endpoint: SecretString,
    /// What is sent along, such as a key. Not shown.
    pub headers: HeaderMap,
    /// So long one request may take.
    pub timeout: Duration,
    /// What all spans of this process have.
    pub resource: Vec<(String, String)>,
    /// The share of the executions that are traced, 0 to 1.
    pub share: f64,
    /// Spans wait so long for others that are sent with them.
    pub delay: Duration,
    /// So many are sent at a time.
    pub batch: usize,
    /// So many may wait. More are left out.
    pub queue: usize,
}

/// What the environment says, and what of it is not as it should be: that is a warning, because the variables are often
/// those of a whole cluster, and nothing may fail for the want of a trace. `None`: no traces.
pub(super) fn read(environment: &Environment) -> (Option<TraceSettings>, Vec<String>) {
    let mut variables = Variables { environment, warnings: Vec::new() };
    let settings = variables.settings();
    (settings, variables.warnings)
}

struct Variables<'a> {
    environment: &'a Environment,
    warnings: Vec<String>,
}

impl Variables<'_> {
    fn settings(&mut self) -> Option<TraceSettings> {
        let endpoint = match (self.get(TRACES_ENDPOINT), self.get(ENDPOINT)) {
            (Some(exact), _) => exact,
            (None, Some(base)) => format!("{}{PATH}", base.trim_end_matches('/')),
            (None, None) => return None,
        };
        let endpoint = SecretString::from(endpoint);
        let is_off = self.get("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"));
        if is_off || self.one_of("OTEL_TRACES_EXPORTER", &["otlp", "none"])? == "none" {
            return None;
        }
        if let Some(wrong) = wrong_url(&endpoint) {
            return self.no_traces(&format!("{ENDPOINT}, or {TRACES_ENDPOINT}, {wrong}"));
        }
        self.of_traces("PROTOCOL", |variables, name| variables.one_of(name, &["http/protobuf"]))?;
        if self.of_traces("COMPRESSION", Self::get_named).is_some_and(|how| how != "none") {
            self.warn("OTEL_EXPORTER_OTLP_COMPRESSION: traces are sent without compression");
        }
        let timeout = self.of_traces("TIMEOUT", Self::number).unwrap_or(10_000);
        let batch = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(512).clamp(1, 10_000);
        let queue = self.number("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(2_048).clamp(1, 1_000_000);
        Some(TraceSettings {
            endpoint,
            headers: self.headers(),
            timeout: Duration::from_millis(timeout),
            resource: self.resource(),
            share: self.share()?,
            delay: Duration::from_millis(self.number("OTEL_BSP_SCHEDULE_DELAY").unwrap_or(5_000)),
            batch: batch as usize,
            queue: queue as usize,
        })
    }

    fn get(&self, name: &str) -> Option<String> {
        let value = (self.environment)(name)?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// What there is for traces alone, else for all that is exported.
    fn of_traces<T>(&mut self, what: &str, read: impl Fn(&mut Self, &str) -> Option<T>) -> Option<T> {
        let own = format!("OTEL_EXPORTER_OTLP_TRACES_{what}");
        let name = if self.get(&own).is_some() { own } else { format!("OTEL_EXPORTER_OTLP_{what}") };
        read(self, &name)
    }

    fn get_named(&mut self, name: &str) -> Option<String> {
        self.get(name)
    }

    /// One of these; the first if the variable is not set. `None`: another one, and so there are no traces.
    fn one_of(&mut self, name: &str, allowed: &[&'static str]) -> Option<&'static str> {
        let Some(value) = self.get(name) else { return allowed.first().copied() };
        let known = allowed.iter().copied().find(|known| *known == value);
        let hint = if value == "grpc" { "; collectors have http/protobuf on port 4318" } else { "" };
        known.or_else(|| {
            self.no_traces(&format!("{name} is {value:?} (allowed: {}{hint})", allowed.join(", ")))
        })
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        let value = self.get(name)?;
        value.parse().map_err(|_| self.warn(&format!("{name} is {value:?} (allowed: a whole number)"))).ok()
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let list = self.of_traces("HEADERS", Self::get_named).unwrap_or_default();
        for (key, value) in self.pairs("OTEL_EXPORTER_OTLP_HEADERS", &list) {
            match (HeaderName::try_from(&key), HeaderValue::try_from(&value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                (Ok(_), Err(_)) | (Err(_), _) => {
                    self.warn(&format!("OTEL_EXPORTER_OTLP_HEADERS: {key:?} can't be a header"));
                }
            }
        }
        headers
    }

    /// `key=value,key=value`, with percent escapes in the values. What is wrong is not shown: it may be a secret.
    fn pairs(&mut self, name: &str, list: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    pairs.push((key.trim().to_owned(), unescaped(value.trim())));
                }
                Some(_) | None => self.warn(&format!("{name} has an entry that is not key=value")),
            }
        }
        pairs
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let list = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut resource = self.pairs("OTEL_RESOURCE_ATTRIBUTES", &list);
        let is_name = |(key, _): &(String, String)| key == "service.name";
        let name = self.get("OTEL_SERVICE_NAME");
        if name.is_some() {
            resource.retain(|pair| !is_name(pair));
        }
        if !resource.iter().any(is_name) {
            resource.push(("service.name".to_owned(), name.unwrap_or_else(|| "actor-server".to_owned())));
        }
        resource
    }

    fn share(&mut self) -> Option<f64> {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        // A run has no parent, so that both kinds come to the same.
        let samplers = [
            "parentbased_always_on",
            "always_on",
            "parentbased_always_off",
            "always_off",
            "parentbased_traceidratio",
            "traceidratio",
        ];
        match self.one_of(NAME, &samplers)?.trim_start_matches("parentbased_") {
            "always_off" => None,
            "traceidratio" => Some(self.ratio()),
            _ => Some(1.0),
        }
    }

    fn ratio(&mut self) -> f64 {
        const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(value) = self.get(NAME) else { return 1.0 };
        match value.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            Ok(_) | Err(_) => {
                self.warn(&format!("{NAME} is {value:?} (allowed: 0 to 1)"));
                1.0
            }
        }
    }

    fn no_traces<T>(&mut self, why: &str) -> Option<T> {
        self.warn(&format!("no traces are sent: {why}"));
        None
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(format!("environment: {warning}"));
    }
}

/// What is no escape stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped =
            after.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn read_of(variables: &[(&str, &str)]) -> (Option<TraceSettings>, Vec<String>) {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(&move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    const SOMEWHERE: (&str, &str) = (ENDPOINT, "http://127.0.0.1:4318/");

    #[test]
    fn without_an_endpoint_there_are_no_traces() {
        let off = [
            &[][..],
            &[(ENDPOINT, " ")],
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[SOMEWHERE, ("OTEL_SDK_DISABLED", "true")],
            &[SOMEWHERE, ("OTEL_TRACES_EXPORTER", "none")],
            &[SOMEWHERE, ("OTEL_TRACES_SAMPLER", "always_off")],
        ];
        for variables in off {
            let (settings, warnings) = read_of(variables);
            assert!(settings.is_none() && warnings.is_empty(), "{variables:?}: {warnings:?}");
        }
    }

    #[test]
    fn the_usual_variables_are_understood() {
        let (settings, warnings) = read_of(&[
            SOMEWHERE,
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%20ecret, other=1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3000"),
            ("OTEL_SERVICE_NAME", "herald"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ]);
        let settings = settings.expect("traces");
        assert_eq!(warnings, [""; 0]);
        assert_eq!(settings.endpoint.expose_secret(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(settings.headers["api-key"], "s ecret");
        assert!(!format!("{settings:?}").contains("s ecret"));
        assert_eq!((settings.timeout.as_millis(), settings.delay.as_millis()), (3_000, 100));
        let resource = [("deployment.environment.name", "test"), ("service.name", "herald")];
        assert_eq!(settings.resource, resource.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!((settings.share, settings.batch, settings.queue), (0.25, 512, 2_048));

        let exact = (TRACES_ENDPOINT, "https://traces.example/in");
        let (settings, _) = read_of(&[SOMEWHERE, exact]);
        assert_eq!(settings.expect("traces").endpoint.expose_secret(), exact.1);
    }

    #[test]
    fn what_can_not_be_is_a_warning_that_shows_no_secret() {
        let warned = |variables: &[(&str, &str)]| {
            let (settings, warnings) = read_of(&[&[SOMEWHERE], variables].concat());
            (settings.is_some(), warnings.join("\n"))
        };
        let (goes, said) = warned(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert!(!goes && said.contains("is \"grpc\" (allowed: http/protobuf; collectors have"), "{said}");
        let (goes, said) = warned(&[(TRACES_ENDPOINT, "me:secret@collector")]);
        assert!(!goes && said.starts_with("environment: no traces are sent: "), "{said}");
        assert!(!said.contains("secret"), "{said}");
        let (goes, said) = warned(&[("OTEL_TRACES_SAMPLER", "xray")]);
        assert!(!goes && said.contains("OTEL_TRACES_SAMPLER is \"xray\""), "{said}");
        let (goes, said) =
            warned(&[("OTEL_EXPORTER_OTLP_HEADERS", "secret"), ("OTEL_BSP_SCHEDULE_DELAY", "5s")]);
        assert!(goes && !said.contains("secret"), "{said}");
        assert!(said.contains("OTEL_BSP_SCHEDULE_DELAY is \"5s\" (allowed: a whole number)"), "{said}");
    }
}
