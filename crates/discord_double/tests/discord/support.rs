//! A plain HTTP client, so that tests see what is on the wire.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::collections::BTreeMap;

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The number in a header.
    pub(crate) fn number(&self, name: &str) -> f64 {
        let value = self.header(name).unwrap_or_else(|| panic!("no header {name} in {self:?}"));
        value.parse().expect("the header is a number")
    }

    /// The errors at a path of the form, as (code, message).
    pub(crate) fn form_errors(&self, path: &str) -> Vec<(String, String)> {
        let node = path.split('.').filter(|part| !part.is_empty());
        let node = node.fold(&self.json["errors"], |node, part| &node[part]);
        let errors = node["_errors"].as_array().cloned().unwrap_or_default();
        let text = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
        errors.iter().map(|error| (text(error, "code"), text(error, "message"))).collect()
    }
}

/// A client with a token.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    pub(crate) authorization: Option<String>,
    pub(crate) user_agent: Option<String>,
}

impl Http {
    pub(crate) fn new(base: &str, token: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: base.to_owned(),
            authorization: Some(format!("Bot {token}")),
            user_agent: Some("DiscordBot (https://example.org, 1)".into()),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await.expect("a reply")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, Some(body)).await.expect("a reply")
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send("PATCH", path, Some(body)).await.expect("a reply")
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, None).await.expect("a reply")
    }

    /// Fails if there is no whole reply.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Result<Reply, String> {
        let body = body.map(|body| ("application/json".to_owned(), serde_json::to_vec(&body).expect("JSON")));
        self.send_bytes(method, path, body).await
    }

    /// A form with `payload_json` and files.
    pub(crate) async fn post_files(&self, path: &str, json: Value, files: &[(&str, &[u8])]) -> Reply {
        let mut body = b"--x\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\r\n".to_vec();
        body.extend(serde_json::to_vec(&json).expect("JSON"));
        for (index, (name, bytes)) in files.iter().enumerate() {
            let part = format!(
                "\r\n--x\r\nContent-Disposition: form-data; name=\"files[{index}]\"; filename=\"{name}\"\r\n\
                 Content-Type: text/plain\r\n\r\n"
            );
            body.extend(part.into_bytes());
            body.extend(*bytes);
        }
        body.extend(b"\r\n--x--\r\n");
        let body = Some(("multipart/form-data; boundary=x".to_owned(), body));
        self.send_bytes("POST", path, body).await.expect("a reply")
    }

    pub(crate) async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Reply, String> {
        let uri = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let mut request = hyper::Request::builder().method(method).uri(uri);
        let headers = [("authorization", &self.authorization), ("user-agent", &self.user_agent)];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let mut bytes = Bytes::new();
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type);
            bytes = body.into();
        }
        let request = request.body(Full::new(bytes)).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
        let headers = headers.collect();
        let body = response.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Reply { status, headers, text, json })
    }
}
