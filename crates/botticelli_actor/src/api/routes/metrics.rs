//! `GET /metrics`: for Prometheus.

use crate::api::access::Needs;
use crate::api::problem::Answer;
use crate::api::route::{Call, Input, Nothing, Operation, Routes};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use botticelli_database::Scope;

pub(super) fn add(routes: Routes) -> Routes {
    let read = Needs::Scope(Scope::Read);
    routes.add_raw(
        Operation::get("/metrics", "metrics", read, "What this node counts and measures")
            .about("In the text format of Prometheus, as docs/metrics.md describes it."),
        "text/plain",
        metrics,
    )
}

async fn metrics(call: Call, _: Input<Nothing, Nothing>) -> Answer<Response> {
    let mut response = Response::new(Body::from(call.api.metrics.render().await));
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
