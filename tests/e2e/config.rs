//! What an operator reads of a configuration.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::edge::Setup;
use crate::support::server::{Reply, Server};

fn doorstep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_doorstep"))
        .args(arguments)
        .env("SEGMENT_WRITE_KEY", "a-write-key-123")
        .env("PROFILES_PASSWORD", "secret")
        .env("REDIS_PASSWORD", "secret")
        .output()
        .unwrap()
}

fn complaints(yaml: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("d.yaml");
    std::fs::write(&file, yaml).unwrap();
    let output = doorstep(&["check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn every_configuration_that_we_show_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|file| file.extension().is_some_and(|kind| kind == "yaml"));
    let mut count = 0;
    for file in yaml.filter(|file| !file.ends_with("alerts.yaml")) {
        let output = doorstep(&["check", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn what_is_wrong_with_a_store_is_told_where_it_is() {
    let with = |profiles: &str| {
        complaints(&format!(
            "listeners: [{{ address: '127.0.0.1:1' }}]\nprofiles: {profiles}\nsites: [{{ name: a, hosts: [a.example], \
             origin: {{ address: 'x:1' }}, vendor: {{ segment: {{ write_key: a-good-key-1 }} }} }}]\n"
        ))
    };
    for (profiles, expected) in [
        ("{ store: redis }", "expected `embedded` or keys and values, found `redis`"),
        ("{ store: { redis: { url: x } } }", "unknown key `url`; did you mean `urls`?"),
        ("{ store: { redis: { url: x } } }", "`urls` is missing here"),
        ("{ store: { redis: { urls: [] } } }", "expected at least one entry"),
        ("{ store: { redis: { urls: ['http://x'] } } }", "expected `redis://host:6379`"),
        (
            "{ store: { redis: { urls: ['redis://x'], mode: ring } } }",
            "expected `single`, `sentinel` or `cluster`, found `ring`",
        ),
        ("{ store: { redis: { urls: ['redis://x'], mode: sentinel } } }", "`master` is missing"),
        (
            "{ store: { redis: { urls: ['redis://x'], master: { name: a } } } }",
            "for `mode: sentinel` alone",
        ),
        ("{ store: { redis: { urls: ['redis://x'], key_prefix: 'a{b' } } }", "expected text like"),
        ("{ store: { redis: { urls: ['rediss://x'], ca_file: /nowhere } } }", "can't be read"),
    ] {
        let told = with(profiles);
        assert!(told.contains(expected), "{profiles}: {expected}\n{told}");
    }
    let told = with("{ store: { redis: { urls: ['redis://u:hunter2@x:y'] } } }");
    assert!(told.contains("profiles.store.redis.urls[0]"), "{told}");
}

#[test]
fn a_site_has_one_source_and_a_webhook_some_way_to_log_in() {
    let with = |site: &str| {
        complaints(&format!(
            "listeners: [{{ address: '127.0.0.1:1' }}]\nsites:\n- name: a\n  hosts: [a.example]\n  \
             origin: {{ address: 'x:1' }}\n  vendor: {{ segment: {{ write_key: a-good-key-1 }} }}\n  {site}\n"
        ))
    };
    let url = "https://crm.example/{id}";
    for (site, expected) in [
        ("webhook: {}".to_owned(), "expected `username` and `password`, or `signing_secret`"),
        ("webhook: { password: x }".to_owned(), "`username` is missing beside the password"),
        ("profile_source: {}".to_owned(), "one source of profiles"),
        (
            format!(
                "profile_source: {{ http_json: {{ url: '{url}' }}, rudderstack: {{ destination: d, token: t }} }}"
            ),
            "one source of profiles",
        ),
        (
            "profile_source: { http_json: { url: 'https://crm.example/x' } }".to_owned(),
            "expected `{id}` in the path",
        ),
        (
            "profile_source: { http_json: { url: 'https://{id}/{id}' } }".to_owned(),
            "path and the query alone",
        ),
        (
            format!("profile_source: {{ http_json: {{ url: '{url}', pull: {{ ids: [User] }} }} }}"),
            "lower-case letters",
        ),
        (
            "profile_source: { rudderstack: { destination: d } }".to_owned(),
            "expected `token` or `token_file`",
        ),
    ] {
        let told = with(&site);
        assert!(told.contains(expected), "{site}: {expected}\n{told}");
    }
}

/// Shape, environment and values are judged in one go.
#[test]
fn a_broken_part_hides_nothing_of_the_others() {
    let told = complaints(
        "listeners: [{ address: '127.0.0.1:8080', tsl: 1 }]
threads: many
sites:
- name: a
  hosts: [shop.example]
  origin: { address: 127.0.0.1:1, conect_timeout: 3s }
  vendor: { segment: { write_key: '${NOPE}' } }
  variations:
  - route: /
    chose: []
  - route: /x
    choose:
    - when: profile.traits.x >
      path: /b
- name: b
  hosts: [shop.example]
  origin: { address: 127.0.0.1:2 }
  vendor: { segment: { write_key: k2 } }
",
    );
    for place in [
        "d.yaml:1:42: listeners[0].tsl\n  unknown key `tsl`",
        "d.yaml:2:10: threads\n  expected a whole number or `auto`",
        "d.yaml:6:35: sites[0].origin.conect_timeout\n  unknown key",
        "d.yaml:7:35: sites[0].vendor.segment.write_key\n  the environment has no variable `NOPE`",
        "d.yaml:9:5: sites[0].variations[0]\n  `choose` is missing here",
        "d.yaml:10:5: sites[0].variations[0].chose\n  unknown key",
        "d.yaml:13:31: sites[0].variations[1].choose[0].when\n  Syntax error",
        "d.yaml:16:11: sites[1].hosts[0]\n  host `shop.example` is listed twice: site `a` has it",
        "d.yaml:18:35: sites[1].vendor.segment.write_key\n  a write key has",
    ] {
        assert!(told.contains(place), "{place} is missing:\n{told}");
    }
    assert!(told.ends_with("d.yaml: 9 problems\n"), "{told}");
}

/// `doorstep schema | head`.
#[test]
fn a_reader_may_leave_before_the_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorstep"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Every key of the schema stands in the commented file, so that it is the reference.
#[test]
fn the_commented_configuration_names_every_key() {
    let schema: serde_json::Value = serde_json::from_slice(&doorstep(&["schema"]).stdout).unwrap();
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/doorstep.yaml"))
            .unwrap();
    let mut keys = Vec::new();
    collect(&schema, &mut keys);
    assert!(keys.len() > 50, "{keys:?}");
    let missing: Vec<_> = keys.iter().filter(|key| !text.contains(&format!("{key}:"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn collect(schema: &serde_json::Value, keys: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| collect(value, keys));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let told = complaints(
        "listeners: [{ address: 'localhost' }]
trusted_proxies: [10.0.0.0/99]
connections: { unread: 0 }
sites:
- name: shop
  hosts: [shop.example, 'a b']
  origin: { address: 127.0.0.1:1 }
  prefix: seg
  vendor: { segment: { write_key: short } }
  variations:
  - route: /
    choose:
    - { when: \"trait.green\", path: /green }
    - { when: traits.a, path: /green?x }
- name: shop
  hosts: [shop.example]
  origin: { address: ftp://x }
  vendor: { segment: { write_key: long-enough-1, write_key_file: /nowhere } }
  identity:
    domain: other.example
    cookies: { lives_for: 500d }
    prolong: [{ name: a b }, { name: ajs_user_id }]
",
    );
    let first = "d.yaml:1:24: listeners[0].address
  expected an address with a port, such as `0.0.0.0:80` or `[::]:443`, found `localhost`
  1 | listeners: [{ address: 'localhost' }]
    |                        ^^^^^^^^^^^
d.yaml:2:19: trusted_proxies[0]
  expected a network such as `10.0.0.0/8`, found `10.0.0.0/99`
  2 | trusted_proxies: [10.0.0.0/99]
    |                   ^^^^^^^^^^^
d.yaml:3:24: connections.unread
  expected at least 1.0 MiB, found 0 B: no page has room in less
  3 | connections: { unread: 0 }
    |                        ^
d.yaml:6:25: sites[0].hosts[1]
  `a b` is not a host: expected `www.shop.example`, `*.shop.example` or an address
  6 |   hosts: [shop.example, 'a b']
    |                         ^^^^^
d.yaml:8:11: sites[0].prefix
  expected a path such as `/seg`: parts of letters, digits, `-` and `_`, found `seg`
  8 |   prefix: seg
    |           ^^^
d.yaml:9:35: sites[0].vendor.segment.write_key
  a write key has 8 to 128 letters, digits, `-` and `_`; this one has 5 characters
  9 |   vendor: { segment: { write_key: …     } }
    |                                   ^^^^^
d.yaml:13:16: sites[0].variations[0].choose[0].when
  unknown name `trait`; did you mean `traits`?
  13 |     - { when: \"trait.green\", path: /green }
     |                ^^^^^
";
    assert!(told.starts_with(first), "{told}");
    for expected in [
        "another site is called `shop`",
        "host `shop.example` is listed twice: site `shop` has it",
        "scheme other than http and https",
        "are both set: keep one",
        "browsers refuse a cookie of `other.example`",
        "between `1h` and `400d`",
        "expected the name of a cookie, found `a b`",
        "`ajs_user_id` is set already",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

/// What a start would refuse, or nobody could use.
#[test]
fn addresses_and_databases_are_judged_as_a_start_would() {
    let file = |listener: &str, more: &str| {
        format!(
            "listeners: [{{ address: '{listener}' }}]\n{more}\nsites: [{{ name: a, hosts: [a.example], origin: {{ address: 'x:1' }}, vendor: {{ segment: {{ write_key: long-enough-1 }} }} }}]\n"
        )
    };
    for (listener, more, expected) in [
        ("127.0.0.1:0", "", "a port other than 0"),
        ("[::ffff:127.0.0.1]:81", "", "expected it as `127.0.0.1:81`"),
        ("224.0.0.1:81", "", "nobody can connect to `224.0.0.1`"),
        ("255.255.255.255:81", "", "nobody can connect to"),
        ("127.0.0.1:81", "admin: { address: '127.0.0.1:0' }", "a port other than 0"),
        ("127.0.0.1:81", "geoip: { database: /etc/passwd }", "is no MMDB"),
        ("127.0.0.1:81", "geoip: { database: /nowhere }", "/nowhere"),
    ] {
        let told = complaints(&file(listener, more));
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let told = complaints(
        "listeners: [{ address: '127.0.0.1:1' }]\nsites: [{ name: a, hosts: [a.example], origin: { address: 'x:1' }, vendor: { segment: { write_key: 'secret with spaces' } } }]\n",
    );
    assert!(told.contains("has 18 characters") && !told.contains("with spaces"), "{told}");
    let told = complaints(
        "listeners: [{ address: '127.0.0.1:1' }]
profiles: { store: { redis: { urls: ['redis://u:hunter2@h:1/0', 'http://u:hunter2@h'], nonsense: 1 } } }
sites:
- name: a
  hosts: [a.example]
  origin: { address: 'http://u:hunter2@h:1' }
  vendor: { segment: { write_key: hunter2 } }
  webhook: { username: u, password: 7777777, pasword: hunter2 }
  signing_keys: [hunter2]
  profile_source: { http_json: { url: 'http://h/{id}', headers: { authorization: Bearer hunter2, 'a b': hunter2 } } }
",
    );
    assert!(!told.contains("hunter2") && !told.contains("7777777"), "{told}");
    assert!(told.contains("can't have") && told.contains("expected text"), "{told}");
    let told = complaints("webhook: { password: hunter2 }\n  b: [\nx: 'hunter3\n");
    assert!(!told.contains("hunter2"), "{told}");
}

/// What only a start would find out.
#[test]
fn a_check_judges_what_a_start_would() {
    let file = |listeners: &str, more: &str| {
        complaints(&format!(
            "listeners: {listeners}\n{more}\nsites: [{{ name: a, hosts: [a.example], origin: {{ address: 'x:1' }}, \
             vendor: {{ segment: {{ write_key: long-enough-1 }} }} }}]\n"
        ))
    };
    for (listeners, more, why) in [
        ("[{ address: '0.0.0.0:81' }]", "admin: { address: '127.0.0.1:81' }", "admin.address"),
        ("[{ address: '127.0.0.1:81' }]", "admin: { address: '127.0.0.1:81' }", "another port"),
        ("[{ address: '0.0.0.0:81' }, { address: '127.0.0.1:81' }]", "", "takes this address"),
        ("[{ address: '127.0.0.1:81' }]", "data: { size: 99999999999999999999GiB }", "at most 64"),
        ("[{ address: '127.0.0.1:81' }]", "data: { size: 1 }", "at least 1"),
        ("[{ address: '127.0.0.1:81' }]", "data: { path: /dev/null/x }", "`/dev/null` is no"),
        ("[{ address: '127.0.0.1:81' }]", "profiles: { wait: 99999999999999d }", "at most `9999d`"),
        ("[{ address: '127.0.0.1:81' }]", "cache: { memory: 1PiB }", "cache.memory"),
        ("[{ address: '127.0.0.1:81' }]", "events: { per_client: 1e30 }", "events.per_client"),
        ("[{ address: '127.0.0.1:81' }]", "events: { at_once: 18446744073709551616 }", "at most"),
    ] {
        let told = file(listeners, more);
        assert!(told.contains(why) && told.contains("1 problem"), "{more}: {told}");
    }
    // Sizes that are no pages, and numbers written in another way. What is doubtful is told, and a problem where asked for.
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("d.yaml");
    let text = "listeners: [{ address: '0.0.0.0:81' }, { address: '[::]:81' }, { address: '127.0.0.1:82' }]
admin: { address: '0.0.0.0:9180' }
data: { size: 10GB }
events: { per_client: 1e3 }
sites: [{ name: a, hosts: [a.example], origin: { address: 'x:1' }, vendor: { segment: { write_key: long-enough-1 } } }]
";
    std::fs::write(&yaml, text).unwrap();
    let yaml = yaml.to_str().unwrap();
    let output = doorstep(&["check", yaml]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.starts_with("warning: "), "{output:?}");
    assert!(told.contains("admin.address") && told.contains("no login"), "{told}");
    assert_eq!(doorstep(&["check", "--strict", yaml]).status.code(), Some(1));
}

#[test]
fn what_is_missing_is_said() {
    let output = doorstep(&["check", "/nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("/nowhere.yaml: No such file"));
    assert!(complaints("").contains("keys and values"), "{}", complaints(""));
}

#[tokio::test]
async fn a_check_warns_of_a_node_that_is_its_own_origin() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let edge = Setup::new(origin.port).start().await;
    assert!(!edge.cli_check().await.1.contains("would ask itself"));
    let file = std::fs::read_to_string(&edge.file).unwrap();
    let own = file
        .replace(&format!("'127.0.0.1:{}'", origin.port), &format!("'127.0.0.1:{}'", edge.port));
    std::fs::write(&edge.file, own).unwrap();
    let (good, said) = edge.cli_check().await;
    assert!(good && said.contains("would ask itself"), "{said}");
}

#[tokio::test]
async fn a_check_warns_where_anybody_can_see_anybodys_traits() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let more = "client_traits: { plan: traits.plan }\ntrait_cookies: [{ name: plan, value: traits.plan }]\n\
                request_headers: { X-Doorstep-Plan: traits.plan }\nenrich: { profile: [plan] }\n\
                rewrite: [{ select: h1, set: { text: Hello } }, { select: h2, set: { text: '{{ traits.plan }}' } }]\n\
                experiments: [{ key: e, route: /e, sticky: [trait], variants: [{ name: a, traits: { p: traits.plan } }, \
                { name: b, rewrite: [{ select: h1, hide: true }, { select: h2, set: { text: '{{ traits.plan }}' } }] }] }]";
    let places = [
        "client_traits",
        "trait_cookies",
        "request_headers",
        "enrich.profile",
        "rewrite[1]",
        "experiments[0].sticky",
        "experiments[0].variants[0].traits",
        "experiments[0].variants[1].rewrite[1]",
    ];
    let edge = Setup::new(origin.port).site(more).start().await;
    let (good, said) = edge.cli_check().await;
    assert!(good && said.contains("good, with warnings"), "{said}");
    for place in places {
        assert!(said.contains(&format!("sites[0].{place}")), "{place}: {said}");
    }
    assert!(!said.contains("rewrite[0]"), "{said}");
    assert!(edge.log().contains("identity.signed"), "a node says so as well: {}", edge.log());
    let signed = "signing_keys: [0123456789abcdef0123456789abcdef]\nidentity: { signed: true }";
    let edge = Setup::new(origin.port).site(&format!("{more}\n{signed}")).start().await;
    let (good, said) = edge.cli_check().await;
    assert!(good && !said.contains("warning") && !said.contains("sites[0]"), "{said}");
}
