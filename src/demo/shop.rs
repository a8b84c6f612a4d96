//! The demonstration's shop: three home pages, a login form, a page with images and forms.

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

/// The shop.
pub(super) struct Shop;

/// Most bytes of a form.
const MAX_FORM_BYTES: usize = 16 * 1024;

#[async_trait]
impl ServeHttp for Shop {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (method, path) =
            (session.req_header().method.clone(), session.req_header().uri.path().to_owned());
        if method == Method::POST {
            let mut size = 0;
            while let Ok(Some(chunk)) = session.read_request_body().await {
                size += chunk.len();
                if size > MAX_FORM_BYTES {
                    return page(StatusCode::PAYLOAD_TOO_LARGE, "Too much", "<p>Too much.");
                }
            }
        }
        match (method, path.as_str()) {
            (Method::GET | Method::HEAD, "/") => home("Welcome", "#777", "Everything for everyone"),
            (Method::GET | Method::HEAD, "/red") => {
                home("Welcome back", "#c33", "Red things, picked for you")
            }
            (Method::GET | Method::HEAD, "/green") => {
                home("Welcome back", "#393", "Green things, picked for you")
            }
            (Method::GET | Method::HEAD, "/login") => page(StatusCode::OK, "Log in", LOGIN),
            (Method::GET | Method::HEAD, "/products") => page(StatusCode::OK, "Products", PRODUCTS),
            (Method::POST, "/order") => {
                page(StatusCode::OK, "Thank you", "<p id=thanks>Your order has been placed.")
            }
            (Method::GET | Method::HEAD, "/cup.svg" | "/favicon.ico") => {
                answer(StatusCode::OK, "image/svg+xml", CUP.into())
            }
            _ => page(StatusCode::NOT_FOUND, "Not found", "<p>There is no such page."),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    // As real sites have it: what depends on who asks must not be kept all the same.
    if status == StatusCode::OK {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=600"));
    }
    *response.body_mut() = body;
    response
}

fn page(status: StatusCode, title: &str, content: &str) -> Response<Vec<u8>> {
    let body = format!(
        "<!doctype html>\n<html lang=en>\n<head><meta charset=utf-8><title>{title} – Demo shop</title>\n\
         <meta name=viewport content='width=device-width'><link rel=icon href=/cup.svg>\n\
         <style>body{{font:1.1em sans-serif;max-width:40em;margin:2em auto;padding:0 1em}}nav a{{margin-right:1em}}</style>\n\
         </head>\n<body>\n<nav><a href=/>Home</a><a href=/products>Products</a><a href=/login>Log in</a>\
         <a href=# id=logout>Log out</a></nav>\n<h1>{title}</h1>\n{content}\n\
         <script>document.getElementById('logout').onclick=function(){{analytics.reset();\
         setTimeout(function(){{location.href='/'}},300);return false}}</script>\n</body>\n</html>\n"
    );
    answer(status, "text/html; charset=utf-8", body.into_bytes())
}

fn home(title: &str, color: &str, text: &str) -> Response<Vec<u8>> {
    page(
        StatusCode::OK,
        title,
        &format!(
            "<p id=teaser style='background:{color};color:#fff;padding:2em'>{text}</p><img src=/cup.svg alt='A cup' width=120>"
        ),
    )
}

const LOGIN: &str =
    "<form id=login><label>Name <input name=name autofocus></label> <button>Log in</button></form>
<p>Try <b>john</b> or <b>mary</b>: their profiles are known.
<script>document.getElementById('login').onsubmit=function(){var name=this.name.value.trim();
if(name)analytics.identify(name,{},{},function(){location.href='/'});return false}</script>";

const PRODUCTS: &str = "<p><img src=/cup.svg alt='A cup' width=120> A cup, 7 €</p>
<form method=post action=/order><label>How many? <input name=count value=1 size=3></label>
<button onclick=\"analytics.track('Product Added',{name:'cup'})\">Order</button></form>";

const CUP: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'><path fill='none' stroke='#555' stroke-width='1.5' d='M4 8h13v8a4 4 0 0 1-4 4H8a4 4 0 0 1-4-4zM17 10h2a2 2 0 0 1 0 5h-2'/></svg>";
