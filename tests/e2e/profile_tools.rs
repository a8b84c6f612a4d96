//! What people do with profiles: `doorstep profile`, `doorstep explain`, the admin API.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::server::{Reply, Server};

async fn origin() -> Server {
    Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await
}

fn setup(origin: &Server) -> Setup {
    Setup::new(origin.port)
        .site("variations:\n- route: /\n  choose:\n  - { when: traits.green, path: /green }\n  - { when: traits.red, path: /red }")
        .site("client_traits: { n: traits.n }")
}

fn doorstep(file: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_doorstep"))
        .args(&arguments[..1])
        .arg("--config")
        .arg(file)
        .args(&arguments[1..])
        .output()
        .unwrap()
}

/// What a command prints, which has to work.
fn told(file: &Path, arguments: &[&str]) -> String {
    let output = doorstep(file, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn profile(edge: &Edge, arguments: &[&str]) -> String {
    told(&edge.file, &[&["profile"], arguments].concat())
}

async fn page(edge: &Edge, cookie: &str) -> String {
    let answer = edge.request("GET", "/").header("Cookie", cookie).send().await;
    answer.text().rsplit("</head>").next().unwrap_or_default().to_owned()
}

async fn becomes(edge: &Edge, cookie: &str, expected: &str) {
    eventually(&format!("{cookie} gets {expected}"), || async {
        (page(edge, cookie).await == expected).then_some(())
    })
    .await;
}

/// The same on either store, with a node that runs beside it.
async fn tools_on(edge: Edge) {
    let john = "ajs_user_id=john";
    assert_eq!(page(&edge, john).await, "/");
    profile(&edge, &["set", "user_id:john", "red=true", "city=Vancouver", "n=7"]);
    // What is set beside a running node shows there.
    becomes(&edge, john, "/red").await;
    profile(&edge, &["link", "anonymous_id:b", "user_id:john"]);
    becomes(&edge, "ajs_anonymous_id=b", "/red").await;
    let got: Value = serde_json::from_str(&profile(&edge, &["get", "anonymous_id:b"])).unwrap();
    assert_eq!(got["path"], json!(["anonymous_id:b", "user_id:john"]));
    assert_eq!(got["traits"]["city"]["value"], "Vancouver");
    assert!(got["traits"]["red"]["set"].as_str().unwrap().starts_with("20"));

    let exported = profile(&edge, &["export"]);
    let mut lines: Vec<Value> =
        exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["id"].to_string());
    assert_eq!(lines.len(), 2, "{exported}");
    assert_eq!(lines[0], json!({"id": "anonymous_id:b", "link": "user_id:john"}));
    assert_eq!(lines[1]["traits"], json!({"city": "Vancouver", "n": 7, "red": true}));

    let deleted = profile(&edge, &["delete", "anonymous_id:b"]);
    assert!(deleted.contains("deleted user_id:john") && deleted.contains("deleted anonymous_id:b"));
    becomes(&edge, john, "/").await;
    becomes(&edge, "ajs_anonymous_id=b", "/").await;
    let nobody = doorstep(&edge.file, &["profile", "get", "user_id:john"]);
    assert_eq!(nobody.status.code(), Some(1));

    // What was exported comes back, times and all: the deletion is newer, and stays.
    let file = edge.folder.path().join("people.ndjson");
    std::fs::write(&file, &exported).unwrap();
    profile(&edge, &["import", file.to_str().unwrap()]);
    assert_eq!(doorstep(&edge.file, &["profile", "get", "user_id:john"]).status.code(), Some(1));
    let fresh = exported.replace("john", "mary");
    std::fs::write(&file, &fresh).unwrap();
    let said = profile(&edge, &["import", file.to_str().unwrap()]);
    assert!(said.starts_with("2 lines taken, 0 refused"), "{said}");
    becomes(&edge, "ajs_user_id=mary", "/red").await;
}

#[tokio::test]
async fn the_tools_work_on_the_embedded_store_beside_a_node() {
    let origin = origin().await;
    let edge = setup(&origin).node("profiles: { memory: { fresh_for: 1h, missing_for: 1h } }");
    tools_on(edge.start().await).await;
}

#[tokio::test]
async fn the_tools_work_on_redis_beside_a_node() {
    let (redis, origin) = (Redis::start().await, origin().await);
    let store = format!(
        "profiles: {{ memory: {{ fresh_for: 1h, missing_for: 1h }}, store: {{ redis: {{ urls: ['{}'] }} }} }}",
        redis.url()
    );
    let edge = setup(&origin).node(&store).start().await;
    edge.becomes("doorstep_profile_channel_up", &[], 1.0).await;
    tools_on(edge).await;
}

#[tokio::test]
async fn an_import_tells_what_it_refuses_and_takes_the_rest() {
    let origin = origin().await;
    let edge = setup(&origin).start().await;
    let file = edge.folder.path().join("people.ndjson");
    let long = "x".repeat(300);
    let lines = [
        r#"{"id": "user_id:a", "traits": {"red": true}}"#.to_owned(),
        "{".to_owned(),
        String::new(),
        format!(r#"{{"id": "user_id:b", "traits": {{"{long}": 1}}}}"#),
        r#"{"id": "user_id:c", "link": "user_id:c"}"#.to_owned(),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let output = doorstep(&edge.file, &["profile", "import", file.to_str().unwrap()]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for expected in [
        "ndjson:2: expected",
        "ndjson:4: a trait's name",
        "ndjson:5: a link",
        "3 lines were refused",
    ] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    becomes(&edge, "ajs_user_id=a", "/red").await;
}

/// Killed again and again, an import ends with everything in the store, and begins no sooner than
/// where it was.
#[tokio::test]
async fn a_killed_import_goes_on_where_it_was() {
    let origin = origin().await;
    let edge = setup(&origin).start().await;
    let count = 60_000;
    let file = edge.folder.path().join("people.ndjson");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    for n in 0..count {
        writeln!(out, r#"{{"id":"user_id:u{n}","traits":{{"n":{n}}}}}"#).unwrap();
    }
    out.into_inner().unwrap();
    let progress = edge.folder.path().join("people.ndjson.progress");
    let place = || {
        let text = std::fs::read_to_string(&progress).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorstep"))
        .args(["profile", "--config"])
        .arg(&edge.file)
        .arg("import")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let noted = eventually("its place is noted", || async { place() }).await;
    child.kill().unwrap();
    child.wait().unwrap();
    // Nothing that is behind its place is missing.
    for n in [0, noted / 2, noted - 1] {
        let got: Value =
            serde_json::from_str(&profile(&edge, &["get", &format!("user_id:u{n}")])).unwrap();
        assert_eq!(got["traits"]["n"]["value"], n);
    }
    let said = profile(&edge, &["import", file.to_str().unwrap()]);
    let taken: u64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!(taken <= count - noted && taken > 0, "{said}");
    assert!(!progress.exists());
    assert_eq!(profile(&edge, &["export"]).lines().count() as u64, count);
}

#[tokio::test]
async fn explain_tells_every_step() {
    let origin = origin().await;
    let edge = setup(&origin).start().await;
    profile(&edge, &["set", "user_id:john", "red=true", "n=1"]);
    let explain = |arguments: &[&str]| -> Value {
        serde_json::from_str(&told(&edge.file, &[&["explain"], arguments].concat())).unwrap()
    };
    let url = "https://shop.example/?q=1";
    let john = explain(&[url, "--user-id", "john"]);
    assert_eq!((&john["site"], &john["profile"]["from"]), (&json!("shop"), &json!("embedded")));
    assert!(john["profile"]["traits"]["red"]["set"].is_string());
    let decisions = &john["decisions"];
    assert_eq!(decisions["page"], "/red");
    assert_eq!(decisions["rules"][0]["outcome"], "false");
    let red = &decisions["rules"][1];
    assert_eq!((&red["outcome"], &red["values"]), (&json!("true"), &json!({"traits.red": true})));
    assert_eq!(decisions["client_traits"], json!({"n": 1}));
    let cookie = explain(&[url, "--cookie", "ajs_user_id=nobody"]);
    assert_eq!(cookie["identity"]["user_id"], "nobody");
    assert_eq!(cookie["profile"]["from"], Value::Null);
    assert_eq!(cookie["decisions"]["page"], "/");
    let event = explain(&["http://shop.example/seg/evs/t"]);
    assert!(event["route"].as_str().unwrap().starts_with("event"));
    let unknown = doorstep(&edge.file, &["explain", "https://other.example/"]);
    assert_eq!(unknown.status.code(), Some(1));
}

async fn admin(edge: &Edge, method: &str, path: &str, body: &str) -> Answer {
    let request = crate::support::client::Request::new(edge.admin, method, path);
    request.header("Host", "127.0.0.1").body(body).send().await
}

#[tokio::test]
async fn the_admin_api_does_the_same() {
    let origin = origin().await;
    let edge = setup(&origin).start().await;
    let john = "/sites/shop/profiles/user_id:john";
    assert_eq!(admin(&edge, "GET", john, "").await.status, 404);
    let set = r#"{"traits": {"red": true}, "times": {"red": 5}}"#;
    assert_eq!(admin(&edge, "PATCH", john, set).await.status, 200);
    assert_eq!(page(&edge, "ajs_user_id=john").await, "/red");
    let got = admin(&edge, "GET", john, "").await.json();
    assert_eq!(got, json!({"id": "user_id:john", "traits": {"red": true}, "times": {"red": 5}}));
    let link = "/sites/shop/profiles/email:j%40x/link";
    assert_eq!(admin(&edge, "PUT", link, r#"{"to": "user_id:john"}"#).await.status, 200);
    assert_eq!(admin(&edge, "GET", "/sites/shop/profiles/email:j%40x", "").await.json(), got);
    let circle = admin(&edge, "PUT", &format!("{john}/link"), r#"{"to": "email:j@x"}"#).await;
    assert_eq!(circle.status, 422);
    let lines = "{\"id\":\"user_id:ann\",\"traits\":{\"red\":true}}\nnonsense\n";
    let imported = admin(&edge, "POST", "/sites/shop/profiles", lines).await.json();
    assert_eq!((&imported["taken"], &imported["refused"]), (&json!(1), &json!(1)));
    assert_eq!(imported["reasons"][0]["line"], 2);
    let exported = admin(&edge, "GET", "/sites/shop/profiles", "").await;
    assert_eq!(exported.text().lines().count(), 3, "{}", exported.text());
    assert_eq!(admin(&edge, "DELETE", john, "").await.status, 200);
    assert_eq!(admin(&edge, "GET", "/sites/shop/profiles/email:j%40x", "").await.status, 404);
    for (method, path, status) in [
        ("GET", "/sites/other/profiles", 404),
        ("GET", "/sites/shop/people", 404),
        ("GET", "/sites/shop/profiles/john", 400),
        ("PUT", "/sites/shop/profiles/user_id:john", 405),
        ("GET", "/sites/shop/profiles/user_id:john/link", 405),
        ("PATCH", "/sites/shop/profiles/user_id:john", 400),
    ] {
        assert_eq!(admin(&edge, method, path, "").await.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn no_page_of_the_operators_browser_reaches_profiles() {
    let origin = origin().await;
    let edge = setup(&origin).start().await;
    let ask = || crate::support::client::Request::new(edge.admin, "GET", "/sites/shop/profiles");
    for (name, value) in [
        ("Host", "rebound.example"),
        ("Origin", "http://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let request = ask().header("Host", "127.0.0.1:1").header(name, value);
        assert_eq!(request.send().await.status, 403, "{name}");
    }
    for host in ["localhost:9180", "127.0.0.1", "[::1]:9180"] {
        assert_eq!(ask().header("Host", host).send().await.status, 200, "{host}");
    }
}
