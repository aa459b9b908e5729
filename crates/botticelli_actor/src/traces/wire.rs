//! Spans as OTLP has them: protobuf, by the field numbers of `opentelemetry/proto/trace/v1/trace.proto`. These few messages
//! need no library; tests read them with the official types.

use super::span::{Kind, Span, Value};
use chrono::{DateTime, Utc};

/// Who makes the spans.
const SCOPE: &str = "actor-server";
const STATUS_ERROR: u64 = 2;
/// The flag of the W3C's trace context that says: this one is recorded.
const SAMPLED: u32 = 1;

/// An `ExportTraceServiceRequest` with these spans of one process.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
    let mut about = Message::default();
    for (key, value) in resource {
        about.message(1, attribute(key, &Value::Text(value.clone())));
    }
    let mut scope = Message::default();
    scope.text(1, SCOPE).text(2, env!("CARGO_PKG_VERSION"));
    let mut of_scope = Message::default();
    of_scope.message(1, scope);
    for one in spans {
        of_scope.message(2, span(one));
    }
    let mut of_resource = Message::default();
    of_resource.message(1, about).message(2, of_scope);
    let mut request = Message::default();
    request.message(1, of_resource);
    request.0
}

fn span(span: &Span) -> Message {
    let mut message = Message::default();
    message.bytes(1, &span.ids.trace).bytes(2, &span.ids.span);
    if let Some(parent) = span.parent {
        message.bytes(4, &parent);
    }
    let kind = match span.kind {
        Kind::Internal => 1,
        Kind::Client => 3,
    };
    message.text(5, &span.name).number(6, kind);
    message.fixed64(7, nanoseconds(span.started_at)).fixed64(8, nanoseconds(span.ended_at));
    for (key, value) in &span.attributes {
        message.message(9, attribute(key, value));
    }
    if let Some(error) = &span.error {
        let mut status = Message::default();
        status.text(2, error).number(3, STATUS_ERROR);
        message.message(15, status);
    }
    message.fixed32(16, SAMPLED);
    message
}

fn attribute(key: &str, value: &Value) -> Message {
    let mut any = Message::default();
    match value {
        Value::Text(text) => any.text(1, text),
        Value::Truth(truth) => any.number(2, u64::from(*truth)),
        // Two's complement, as int64 has it.
        Value::Number(number) => any.number(3, number.cast_unsigned()),
    };
    let mut attribute = Message::default();
    attribute.text(1, key).message(2, any);
    attribute
}

/// 0 before 1970 and after 2262, where nothing runs.
fn nanoseconds(time: DateTime<Utc>) -> u64 {
    time.timestamp_nanos_opt().and_then(|nanoseconds| nanoseconds.try_into().ok()).unwrap_or_default()
}

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    const VARINT: u64 = 0;
    const FIXED64: u64 = 1;
    const BYTES: u64 = 2;
    const FIXED32: u64 = 5;

    fn tag(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) -> &mut Self {
        self.tag(field, Self::VARINT);
        self.varint(number);
        self
    }

    fn fixed64(&mut self, field: u64, number: u64) -> &mut Self {
        self.tag(field, Self::FIXED64);
        self.0.extend(number.to_le_bytes());
        self
    }

    fn fixed32(&mut self, field: u64, number: u32) -> &mut Self {
        self.tag(field, Self::FIXED32);
        self.0.extend(number.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.tag(field, Self::BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(&mut self, field: u64, message: Self) -> &mut Self {
        self.bytes(field, &message.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::Ids;
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use prost::Message as _;

    #[test]
    fn the_official_types_read_what_is_written() {
        let at = |seconds| DateTime::from_timestamp(seconds, 5).expect("a time");
        let written = Span {
            ids: Ids { trace: [1; 16], span: [2; 8] },
            parent: Some([3; 8]),
            name: "näme".repeat(100),
            kind: Kind::Client,
            started_at: at(-1),
            ended_at: at(1_900_000_000),
            attributes: vec![("text", "".into()), ("number", (-7).into()), ("truth", true.into())],
            error: Some("wrong".into()),
        };
        let resource = [("service.name".to_owned(), "herald".to_owned())];
        let request = request(&resource, &[written.clone(), Span { parent: None, error: None, ..written }]);
        let read = ExportTraceServiceRequest::decode(request.as_slice()).expect("protobuf");
        let [process] = read.resource_spans.as_slice() else { panic!("one process: {read:?}") };
        assert_eq!(process.resource.as_ref().expect("a resource").attributes[0].key, "service.name");
        let [scope] = process.scope_spans.as_slice() else { panic!("one scope: {process:?}") };
        assert_eq!(scope.scope.as_ref().expect("a scope").name, SCOPE);
        let [span, plain] = scope.spans.as_slice() else { panic!("two spans: {scope:?}") };
        assert_eq!((span.trace_id.as_slice(), span.span_id.as_slice()), (&[1; 16][..], &[2; 8][..]));
        assert_eq!((span.parent_span_id.as_slice(), plain.parent_span_id.len()), (&[3; 8][..], 0));
        assert_eq!((span.name.chars().count(), span.kind, span.flags), (400, 3, 1));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (0, 1_900_000_000_000_000_005));
        let values: Vec<_> =
            span.attributes.iter().filter_map(|attribute| attribute.value.clone()?.value).collect();
        assert_eq!(values, [Any::StringValue(String::new()), Any::IntValue(-7), Any::BoolValue(true)]);
        let status = span.status.as_ref().expect("a status");
        assert_eq!((status.code, status.message.as_str()), (2, "wrong"));
        assert_eq!(plain.status, None);
    }
}
