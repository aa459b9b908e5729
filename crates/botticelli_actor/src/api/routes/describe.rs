//! `GET /openapi.json`, `GET /docs`: what can be asked for.

use crate::api::access::Needs;
use crate::api::docs;
use crate::api::problem::Answer;
use crate::api::route::{Call, Input, Nothing, Operation, Reply, Routes};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde_json::Value;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/openapi.json", "openapi", Needs::Nothing, "This interface, for programs")
                .about("OpenAPI 3.1, made from the code of this server."),
            document,
        )
        .add_raw(
            Operation::get("/docs", "docs", Needs::Nothing, "This interface, for people"),
            "text/html",
            page,
        )
}

async fn document(call: Call, _: Input) -> Answer<Reply<Value>> {
    Ok(call.api.document.clone().into())
}

async fn page(call: Call, _: Input<Nothing, Nothing>) -> Answer<Response> {
    let mut response = Response::new(Body::from(docs::page(&call.api.document)?));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
