//! The demonstration's stand-in for the vendor: an SDK of a few lines with the vendor's paths and
//! payloads, settings, and a tracking API that shows what it got.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};

/// CDN and tracking API.
#[derive(Default)]
pub(super) struct Vendor {
    events: Mutex<VecDeque<Value>>,
}

/// Events that are shown.
const KEPT: usize = 100;
const MAX_EVENT_BYTES: usize = 512 * 1024;

#[async_trait]
impl ServeHttp for Vendor {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (method, path) =
            (session.req_header().method.clone(), session.req_header().uri.path().to_owned());
        if method == Method::POST {
            return self.take(session, &path).await;
        }
        match path.as_str() {
            "/" => answer("text/html; charset=utf-8", VIEW.into()),
            "/events" => {
                let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                answer("application/json", json!(*events).to_string().into_bytes())
            }
            path if path.ends_with("/settings") => answer(
                "application/json",
                json!({ "integrations": { "Segment.io": { "apiKey": "demo-write-key" } } })
                    .to_string()
                    .into_bytes(),
            ),
            path if path.ends_with("/analytics.min.js") => {
                answer("text/javascript; charset=utf-8", include_bytes!("sdk.js").to_vec())
            }
            _ => {
                let mut missing = answer("text/plain", b"not found\n".to_vec());
                *missing.status_mut() = StatusCode::NOT_FOUND;
                missing
            }
        }
    }
}

impl Vendor {
    async fn take(&self, session: &mut ServerSession, path: &str) -> Response<Vec<u8>> {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = session.read_request_body().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_EVENT_BYTES {
                break;
            }
        }
        let event: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = event.get("batch").and_then(Value::as_array).cloned();
        for event in batch.unwrap_or_else(|| vec![event]) {
            events.push_front(json!({ "path": path, "event": event }));
        }
        events.truncate(KEPT);
        answer("application/json", br#"{"success":true}"#.to_vec())
    }
}

fn answer(kind: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    *response.body_mut() = body;
    response
}

const VIEW: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Delivered events</title>
<style>body{font:1em sans-serif;margin:2em}td{border-top:1px solid #ccc;padding:.3em 1em;vertical-align:top}pre{margin:0;max-width:60em;overflow:auto;font-size:.8em}</style>
<h1>What the vendor got</h1><table id=t></table>
<script>
function cell(row,text,tag){var c=row.insertCell(),e=document.createElement(tag||'span');e.textContent=text;c.appendChild(e)}
async function show(){var events=await(await fetch('/events')).json(),t=document.getElementById('t');t.textContent='';
events.forEach(function(e){var r=t.insertRow(),v=e.event||{};cell(r,v.type||e.path);cell(r,v.event||v.name||(v.context&&v.context.page&&v.context.page.path)||'');
cell(r,v.userId||v.anonymousId||'');cell(r,JSON.stringify(v,null,1),'pre')})}
show();setInterval(show,1000)
</script></html>";
