//! What the origin answers.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use super::super::mark::Finds;
use super::{Hall, Heard, Step};

/// An answer in the making.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

/// The answer to `heard`, and what stands before and behind it.
pub(super) fn answer(heard: &Heard, hall: &Hall) -> Vec<Step> {
    let answer = match heard.path() {
        "/whoami" => whoami(heard, hall),
        "/login" => login(heard, hall),
        "/logout" => logout(heard, hall),
        _ => by_plan(heard),
    };
    framed(heard, answer)
}

fn by_plan(heard: &Heard) -> Answer {
    let mut answer = Answer { status: 200, headers: String::new(), body: Vec::new() };
    let chosen = heard.path().starts_with("/gold/");
    let word = |word: &str| heard.has(word) || (chosen && heard.has(&format!("gold-{word}")));
    answer.status = match () {
        () if heard.has("tunnel") => 101,
        () if heard.has("none") => 204,
        () if word("same") && heard.header("if-none-match").is_some() => 304,
        () if word("moved") => 302,
        () if word("gone") => 404,
        () if word("broken") => 500,
        () if heard.has("part") && heard.header("range").is_some() => 206,
        () => 200,
    };
    let token = heard.token().unwrap_or_default();
    match answer.status {
        101 => answer.headers.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        302 => {
            let to = heard.path().replace("/gold/", "/page/");
            let _ = write!(answer.headers, "Location: {to}-moved?n={token}\r\n");
        }
        206 => answer.headers.push_str("Content-Range: bytes 0-99/1000\r\n"),
        _ => {}
    }
    let own = token.split('.').next().unwrap_or_default();
    if heard.has("cookie") {
        let _ = write!(answer.headers, "Set-Cookie: own={own}; Path=/\r\nX-Own: {token}\r\n");
    }
    if heard.has("etag") {
        let _ = write!(answer.headers, "ETag: \"{}\"\r\n", heard.path());
    } else if heard.has("weak") {
        let _ = write!(answer.headers, "ETag: W/\"{}\"\r\n", heard.path());
    }
    let told = told(heard);
    answer.body = if heard.has("page") {
        answer.headers.push_str("Content-Type: text/html; charset=utf-8\r\n");
        page(heard, &told).into_bytes()
    } else {
        answer.headers.push_str("Content-Type: text/plain\r\nCache-Control: max-age=60\r\n");
        told.into_bytes()
    };
    answer
}

/// What was heard, and the end that tells whether all of it has come back.
fn told(heard: &Heard) -> String {
    let head: Vec<&str> = heard
        .head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("x-plan:"))
        .collect();
    let mut told = head.join("\n");
    let finds = Finds::of(&heard.body);
    let _ = writeln!(told, "body of {}: {:?} {:?}", heard.body.len(), finds.marks, finds.numbers);
    if heard.has("large") {
        let token = heard.token().unwrap_or_default();
        told.push_str(&format!("{token} and much more\n").repeat(2000));
    }
    told.push_str(&end(heard));
    told
}

fn end(heard: &Heard) -> String {
    format!("end of {}", heard.token().unwrap_or_default())
}

/// Pages of one kind have one strong ETag, whatever stands in them.
fn page(heard: &Heard, told: &str) -> String {
    let token = heard.token().unwrap_or_default();
    let kind = heard.path().rsplit('/').next().unwrap_or_default();
    let shift = if heard.has("shift") { " ".repeat(token.len() % 7 * 11) } else { String::new() };
    let told = if heard.has("pad") { format!("{told:<6000}") } else { told.to_owned() };
    format!(
        "<!doctype html><html><head><meta charset=utf-8><title>{kind}</title></head><body>{shift}\
         <h1 id=greeting>Hello</h1><h2>Prices</h2><p class=more>More</p>\
         <script id=state type=application/json>{{}}</script><pre>{told}</pre>\
         <a class=cta href=/x>Go</a><ul><li>one<li class=x>two</ul><p class=login>Log in</p>\
         </body></html><!--{}-->",
        end(heard)
    )
}

/// Whose session it is (`identity.check`).
fn whoami(heard: &Heard, hall: &Hall) -> Answer {
    let sessions = hall.sessions.lock().unwrap();
    let user = heard.cookie("sid").and_then(|sid| sessions.get(sid));
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
fn login(heard: &Heard, hall: &Hall) -> Answer {
    let mut headers = "Content-Type: text/html\r\n".to_owned();
    if let (Some(user), Some(sid)) = (heard.value("user"), heard.value("sid")) {
        hall.sessions.lock().unwrap().insert(sid.to_owned(), user.to_owned());
        let _ = write!(headers, "Set-Cookie: sid={sid}; Path=/; HttpOnly\r\n");
        if heard.has("vouch") {
            let _ = write!(headers, "X-Doorstep-User: {user}\r\n");
        }
    }
    if heard.has("moved") {
        headers.push_str("Location: /\r\n");
        return Answer { status: 302, headers, body: Vec::new() };
    }
    Answer { status: 200, headers, body: plain_page("Welcome", heard) }
}

fn logout(heard: &Heard, hall: &Hall) -> Answer {
    if let Some(sid) = heard.cookie("sid") {
        hall.sessions.lock().unwrap().remove(sid);
    }
    let mut headers = "Content-Type: text/html\r\n".to_owned();
    headers
        .push_str("Set-Cookie: sid=; Max-Age=0; Path=/\r\nSet-Cookie: own=; Max-Age=0; Path=/\r\n");
    if heard.has("bye") {
        headers.push_str("X-Doorstep-User:\r\n");
    }
    if heard.has("ends") {
        headers.push_str("Set-Cookie: ajs_user_id=; Max-Age=0; Path=/\r\n");
        headers.push_str("Set-Cookie: rl_user_id=; Max-Age=0; Path=/\r\n");
    }
    if heard.has("moved") {
        headers.push_str("Location: /\r\n");
        return Answer { status: 302, headers, body: Vec::new() };
    }
    Answer { status: 200, headers, body: plain_page("Bye", heard) }
}

fn plain_page(title: &str, heard: &Heard) -> Vec<u8> {
    let end = end(heard);
    format!(
        "<!doctype html><head><title>{title}</title></head><h1 id=greeting>Hello</h1>\
         <p class=more>More</p><a class=cta href=/x>Go</a><!--{end}-->"
    )
    .into_bytes()
}

/// The answer as it leaves, by the words about its way.
fn framed(heard: &Heard, answer: Answer) -> Vec<Step> {
    let Answer { status, mut headers, mut body } = answer;
    let none = heard.method() == "HEAD" || matches!(status, 101 | 204 | 304);
    let accepts = heard.header("accept-encoding").is_some_and(|accept| accept.contains("gzip"));
    if heard.has("gzip") && accepts && !none {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&body).unwrap();
        body = gzip.finish().unwrap();
        headers.push_str("Content-Encoding: gzip\r\n");
    }
    let version = if heard.has("old") { "1.0" } else { "1.1" };
    let closes = heard.has("close") || heard.has("old");
    let chunked = heard.has("chunked") && !closes;
    if !none && !closes && chunked {
        headers.push_str("Transfer-Encoding: chunked\r\n");
        body = chunks(&body, heard.has("trailer"));
    } else if (!none && !closes) || heard.method() == "HEAD" {
        let _ = write!(headers, "Content-Length: {}\r\n", body.len());
    }
    if none {
        body.clear();
    }
    let token = heard.token().unwrap_or_default();
    let mut out = Vec::new();
    if heard.has("hints") {
        let hints =
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a.css?{token}>; rel=preload\r\n\r\n");
        out.extend_from_slice(hints.as_bytes());
    }
    out.extend_from_slice(format!("HTTP/{version} {status} X\r\n{headers}\r\n").as_bytes());
    let head = out.len();
    out.extend_from_slice(&body);
    if heard.has("cut") {
        out.truncate(head + body.len() / 2);
    }
    // Behind the end, in the same write.
    if heard.has("double") {
        let more = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}", token.len());
        out.extend_from_slice(more.as_bytes());
    }
    if heard.has("junk") {
        out.extend_from_slice(format!("\r\n{token} junk\r\n\r\n").as_bytes());
    }
    let mut steps = Vec::new();
    if heard.has("slow") {
        for piece in out.chunks(out.len() / 4 + 1) {
            steps.push(Step::Bytes(piece.to_vec()));
            steps.push(Step::Pause(Duration::from_millis(3)));
        }
    } else {
        steps.push(Step::Bytes(out));
    }
    if closes || heard.has("cut") {
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
