//! What the origin answers.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use super::super::mark::Finds;
use super::{Hall, OriginRequest, Step};

/// An answer in the making.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

/// The answer to `request`, and what stands before and behind it.
pub(super) fn answer(request: &OriginRequest, hall: &Hall) -> Vec<Step> {
    let answer = match request.path() {
        "/whoami" => whoami(request, hall),
        "/login" => login(request, hall),
        "/logout" => logout(request, hall),
        _ => by_plan(request),
    };
    framed(request, answer)
}

fn by_plan(request: &OriginRequest) -> Answer {
    let mut answer = Answer { status: 200, headers: String::new(), body: Vec::new() };
    let chosen = request.path().starts_with("/gold/");
    let word = |word: &str| request.has(word) || (chosen && request.has(&format!("gold-{word}")));
    answer.status = match () {
        () if request.has("tunnel") => 101,
        () if request.has("none") => 204,
        () if word("same") && request.header("if-none-match").is_some() => 304,
        () if word("moved") => 302,
        () if word("gone") => 404,
        () if word("broken") => 500,
        () if request.has("part") && request.header("range").is_some() => 206,
        () => 200,
    };
    let token = request.token().unwrap_or_default();
    match answer.status {
        101 => answer.headers.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        302 => {
            let to = request.path().replace("/gold/", "/page/");
            let _ = write!(answer.headers, "Location: {to}-moved?n={token}\r\n");
        }
        206 => answer.headers.push_str("Content-Range: bytes 0-99/1000\r\n"),
        _ => {}
    }
    let own = token.split('.').next().unwrap_or_default();
    if request.has("cookie") {
        let _ = write!(answer.headers, "Set-Cookie: own={own}; Path=/\r\nX-Own: {token}\r\n");
    }
    if request.has("etag") {
        let _ = write!(answer.headers, "ETag: \"{}\"\r\n", request.path());
    } else if request.has("weak") {
        let _ = write!(answer.headers, "ETag: W/\"{}\"\r\n", request.path());
    }
    let echo = echo(request);
    answer.body = if request.has("page") {
        answer.headers.push_str("Content-Type: text/html; charset=utf-8\r\n");
        page(request, &echo).into_bytes()
    } else {
        answer.headers.push_str("Content-Type: text/plain\r\nCache-Control: max-age=60\r\n");
        echo.into_bytes()
    };
    answer
}

/// What was request, and the end that tells whether all of it has come back.
fn echo(request: &OriginRequest) -> String {
    let head: Vec<&str> = request
        .head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("x-plan:"))
        .collect();
    let mut echo = head.join("\n");
    let finds = Finds::of(&request.body);
    let _ = writeln!(echo, "body of {}: {:?} {:?}", request.body.len(), finds.marks, finds.numbers);
    if request.has("large") {
        let token = request.token().unwrap_or_default();
        echo.push_str(&format!("{token} and much more\n").repeat(2000));
    }
    echo.push_str(&end(request));
    echo
}

fn end(request: &OriginRequest) -> String {
    format!("end of {}", request.token().unwrap_or_default())
}

/// Pages of one kind have one strong ETag, whatever stands in them.
fn page(request: &OriginRequest, echo: &str) -> String {
    let token = request.token().unwrap_or_default();
    let kind = request.path().rsplit('/').next().unwrap_or_default();
    let shift = if request.has("shift") { " ".repeat(token.len() % 7 * 11) } else { String::new() };
    let echo = if request.has("pad") { format!("{echo:<6000}") } else { echo.to_owned() };
    format!(
        "<!doctype html><html><head><meta charset=utf-8><title>{kind}</title></head><body>{shift}\
         <h1 id=greeting>Hello</h1><h2>Prices</h2><p class=more>More</p>\
         <script id=state type=application/json>{{}}</script><pre>{echo}</pre>\
         <a class=cta href=/x>Go</a><ul><li>one<li class=x>two</ul><p class=login>Log in</p>\
         </body></html><!--{}-->",
        end(request)
    )
}

/// Whose session it is (`identity.check`).
fn whoami(request: &OriginRequest, hall: &Hall) -> Answer {
    let sessions = hall.sessions.lock().unwrap();
    let user = request.cookie("sid").and_then(|sid| sessions.get(sid));
    let headers = "Content-Type: application/json\r\n".to_owned();
    match user {
        Some(user) => {
            let body = format!("{{\"user_id\":\"{user}\"}}").into_bytes();
            Answer { status: 200, headers, body }
        }
        None => Answer { status: 401, headers, body: Vec::new() },
    }
}

/// `user=` comes, with the session `sid=`. Neither says more of the visitor than that.
fn login(request: &OriginRequest, hall: &Hall) -> Answer {
    let mut headers = "Content-Type: text/html\r\n".to_owned();
    if let (Some(user), Some(sid)) = (request.value("user"), request.value("sid")) {
        hall.sessions.lock().unwrap().insert(sid.to_owned(), user.to_owned());
        let _ = write!(headers, "Set-Cookie: sid={sid}; Path=/; HttpOnly\r\n");
        if request.has("vouch") {
            let _ = write!(headers, "X-Doorstep-User: {user}\r\n");
        }
    }
    if request.has("moved") {
        headers.push_str("Location: /\r\n");
        return Answer { status: 302, headers, body: Vec::new() };
    }
    Answer { status: 200, headers, body: plain_page("Welcome", request) }
}

fn logout(request: &OriginRequest, hall: &Hall) -> Answer {
    if let Some(sid) = request.cookie("sid") {
        hall.sessions.lock().unwrap().remove(sid);
    }
    let mut headers = "Content-Type: text/html\r\n".to_owned();
    headers
        .push_str("Set-Cookie: sid=; Max-Age=0; Path=/\r\nSet-Cookie: own=; Max-Age=0; Path=/\r\n");
    if request.has("bye") {
        headers.push_str("X-Doorstep-User:\r\n");
    }
    if request.has("ends") {
        headers.push_str("Set-Cookie: ajs_user_id=; Max-Age=0; Path=/\r\n");
        headers.push_str("Set-Cookie: rl_user_id=; Max-Age=0; Path=/\r\n");
    }
    if request.has("moved") {
        headers.push_str("Location: /\r\n");
        return Answer { status: 302, headers, body: Vec::new() };
    }
    Answer { status: 200, headers, body: plain_page("Bye", request) }
}

fn plain_page(title: &str, request: &OriginRequest) -> Vec<u8> {
    let end = end(request);
    format!(
        "<!doctype html><head><title>{title}</title></head><h1 id=greeting>Hello</h1>\
         <p class=more>More</p><a class=cta href=/x>Go</a><!--{end}-->"
    )
    .into_bytes()
}

/// The answer as it leaves, by the words about its way.
fn framed(request: &OriginRequest, answer: Answer) -> Vec<Step> {
    let Answer { status, mut headers, mut body } = answer;
    let none = request.method() == "HEAD" || matches!(status, 101 | 204 | 304);
    let accepts = request.header("accept-encoding").is_some_and(|accept| accept.contains("gzip"));
    if request.has("gzip") && accepts && !none {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&body).unwrap();
        body = gzip.finish().unwrap();
        headers.push_str("Content-Encoding: gzip\r\n");
    }
    let version = if request.has("old") { "1.0" } else { "1.1" };
    let closes = request.has("close") || request.has("old");
    let chunked = request.has("chunked") && !closes;
    if !none && !closes && chunked {
        headers.push_str("Transfer-Encoding: chunked\r\n");
        body = chunks(&body, request.has("trailer"));
    } else if (!none && !closes) || request.method() == "HEAD" {
        let _ = write!(headers, "Content-Length: {}\r\n", body.len());
    }
    if none {
        body.clear();
    }
    let token = request.token().unwrap_or_default();
    let mut out = Vec::new();
    if request.has("hints") {
        let hints =
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a.css?{token}>; rel=preload\r\n\r\n");
        out.extend_from_slice(hints.as_bytes());
    }
    out.extend_from_slice(format!("HTTP/{version} {status} X\r\n{headers}\r\n").as_bytes());
    let head = out.len();
    out.extend_from_slice(&body);
    if request.has("cut") {
        out.truncate(head + body.len() / 2);
    }
    // Behind the end, in the same write.
    if request.has("double") {
        let more = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}", token.len());
        out.extend_from_slice(more.as_bytes());
    }
    if request.has("junk") {
        out.extend_from_slice(format!("\r\n{token} junk\r\n\r\n").as_bytes());
    }
    let mut steps = Vec::new();
    if request.has("tunnel") {
        // As far away as an origin is: see ARCHITECTURE about one that agrees at once.
        steps.push(Step::Pause(Duration::from_millis(50)));
    }
    if request.has("slow") {
        for piece in out.chunks(out.len() / 4 + 1) {
            steps.push(Step::Bytes(piece.to_vec()));
            steps.push(Step::Pause(Duration::from_millis(3)));
        }
    } else {
        steps.push(Step::Bytes(out));
    }
    if closes || request.has("cut") {
        steps.push(Step::Close);
    }
    steps
}

fn chunks(body: &[u8], trailer: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(body.len() / 3 + 1) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(if trailer { b"0\r\nX-Sum: 7\r\n\r\n" } else { b"0\r\n\r\n" });
    out
}
