use super::super::compile::load;
use super::*;

const SECRET: &str = "hunter2SECRETvalue";

#[test]
fn what_is_public_stays_at_its_place_and_all_else_goes() {
    let place = |line, column, width| Place { line, column, width };
    let text = "a: hunter2\nb: { x: two\n  lines, hosts: d } # e: f\nc: e";
    let shown = paint(text, &[place(2, 1, 1), place(4, 4, 1)], &[place(2, 9, 11)]);
    assert_eq!(shown, "…: …      \nb: { …: …  \n…      , hosts: … } …     \n…: e");
    assert_eq!(shown.chars().count(), text.chars().count());
}

/// A file with lines of the node, lines of the site, and its vendor and origin.
fn file(node: &str, site: &str, vendor: &str, origin: &str) -> String {
    let site = site.lines().fold(String::new(), |text, line| text + "  " + line + "\n");
    format!(
        "listeners: [{{ address: '127.0.0.1:1' }}]\nadmin: {{ address: '0.0.0.0:2' }}\n{node}\nsites:\n- name: shop\n  \
         hosts: [shop.example]\n  origin: {{ address: {origin} }}\n  vendor: {vendor}\n{site}"
    )
}

const VENDOR: &str = "{ segment: { write_key: abcdefgh } }";
const ORIGIN: &str = "'127.0.0.1:3000'";

/// Complaints or warnings, whatever there is.
fn told(text: &str, secret: &str) -> String {
    let env = |name: &str| (name == "P").then(|| secret.to_owned());
    match load("d.yaml", text, env) {
        Ok(config) => config.warnings.text(),
        Err(problems) => {
            let pointers: String = problems.list().iter().map(Problem::pointer).collect();
            format!("{problems}{}{pointers}", problems.text())
        }
    }
}

fn assert_hidden(text: &str, secret: &str, marker: &str) {
    let told = told(text, secret);
    assert!(!told.is_empty(), "nothing was complained about:\n{text}");
    let chars: Vec<char> = marker.chars().collect();
    for run in chars.windows(6.min(chars.len())) {
        let run: String = run.iter().collect();
        assert!(!told.contains(&run), "`{run}` of\n{text}\nis in\n{told}");
    }
}

fn assert_all_hidden(text: &str) {
    for secret in
        [SECRET, "p4ssw0rd/with@signs", "12345678", "correct-horse-battery", "Zq:x'y\"%{z"]
    {
        // A key of plain words is shown: it is what a typing error looks like.
        if secret.starts_with("correct") && text.contains("SECRET:") {
            continue;
        }
        // What is no scalar of its own is quoted.
        let quoted = format!("'{}'", secret.replace('\'', "''"));
        assert_hidden(&text.replace("SECRET", &quoted), secret, secret);
    }
    assert_hidden(&text.replace("SECRET", SECRET), SECRET, SECRET);
    let broken = format!("{}\nx: [unclosed\n", text.replace("SECRET", SECRET));
    assert_hidden(&broken, SECRET, SECRET);
}

#[test]
fn no_message_shows_a_secret() {
    let of_site = |site: &str| file("", site, VENDOR, ORIGIN);
    let of_vendor = |vendor: &str| file("", "", vendor, ORIGIN);
    let of_node = |node: &str| file(node, "", VENDOR, ORIGIN);
    let keys = "passwrod pasword pass pwd pass_word secert signing-secret user_hash auth credentials \
                wirte_key write-key key keys tokne token header segment";
    for key in keys.split_whitespace() {
        assert_all_hidden(&of_site(&format!("webhook: {{ username: a, {key}: SECRET }}")));
        assert_all_hidden(&of_site(&format!("webhook:\n  username: a\n  {key}:\n  - SECRET")));
        assert_all_hidden(&of_site(&format!("{key}: {{ x-key: SECRET, y: [SECRET] }}")));
        assert_all_hidden(&of_vendor(&format!("{{ segment: {{ {key}: SECRET, x: 1 }} }}")));
    }
    for site in [
        "webhook: SECRET",
        "webhook: [segment, SECRET]",
        "webhook: { username: a, password: [SECRET] }",
        "webhook: { username: a, password: { a: SECRET } }",
        "webhook: { username: a, password: { SECRET: a } }",
        "webhook: { username: a, SECRET: a }",
        "webhook: { username: a, password_file: SECRET }",
        "webhook: { signing_secret_file: SECRET }",
        "webhook: { username: a, password: SECRET, username: SECRET }",
        "webhook: { password: SECRET }",
        "webhook: { password: &a SECRET, username: *a, x: *a }",
        "signing_keys: SECRET",
        "signing_keys: [SECRET]",
        "signing_keys: [[SECRET]]",
        "signing_keys:\n- SECRET: x",
        "identity: { user_hash_secrt: SECRET }",
        "identity: { user_hash_secret_file: SECRET }",
        "profile_source: { http_json: { url: 'https://a/{id}', headers: SECRET } }",
        "profile_source: { http_json: { url: 'https://a/{id}', headers: [SECRET] } }",
        "profile_source: { http_json: { url: 'https://a/{id}', headers: { 'a b': SECRET } } }",
        "profile_source: { http_json: { url: 'https://a/{id}', headers: { SECRET: [1] } } }",
        "bots: [SECRET]\nhosts: SECRET",
        "nonsense: 1 # SECRET",
        "exposures: ${P}",
        "bots: ${P}",
        "cors: ['${P}']\nprefix: ${P}",
        "variations: [{ route: '${P}', choose: [{ when: '${P}', path: '${P}' }] }]",
        "rewrite: [{ select: '${P}', set: { html: '<${P}>' } }]",
    ] {
        assert_all_hidden(&of_site(site));
    }
    for vendor in [
        "SECRET",
        "[SECRET]",
        "{ segment: SECRET }",
        "{ segment: [SECRET] }",
        "{ segment: { write_key_file: SECRET } }",
        "{ segment: { write_key: SECRET, write_key_file: /nowhere } }",
        "{ segment: { write_key: abcdefgh, profiles_api: { space: s, tokne: SECRET } } }",
        "{ generic: [{ name: x, address: 'https://a', headers: { x-key: SECRET }, rules: [] }] }",
        "{ generic: [{ name: x, address: 'https://a', headers: { 'x key': SECRET }, rules: [{ path: /x }] }] }",
    ] {
        assert_all_hidden(&of_vendor(vendor));
    }
    for node in [
        "threads: ${P}",
        "data: ${P}",
        "data: { size: '${P}' }",
        "trusted_proxies: ['${P}']",
        "trusted_proxies: ['a${P}b']",
        "listeners: [{ address: '127.0.0.1:1', tls: { key: SECRET, certificate: SECRET } }]",
        "profiles: { store: SECRET }",
        "profiles: { store: { redis: SECRET } }",
        "profiles: { store: { redis: { urls: SECRET } } }",
        "profiles: { store: { redis: { urls: ['redis://h'], mode: sentinel, master: SECRET } } }",
        "profiles: { store: { redis: { urls: ['redis://h'], master: { name: x, passwrd: SECRET } } } }",
    ] {
        assert_all_hidden(&of_node(node).replacen(
            "listeners: [{ address: '127.0.0.1:1' }]\n",
            "",
            usize::from(node.starts_with("listeners")),
        ));
    }
}

#[test]
fn no_message_shows_what_is_written_instead_of_a_password() {
    let values = "[S]|{a: S}|!!int S|\"S|'S|'S''|>-\n    S|&a S|*S|!S|!!S x|%S|@S|`S|S: x|\"S\\q\"|\"a,S\"|\"a}S\"|x # S|${S}|${S|$S|\
                  ? S|- S|\"S\" \"x\"|S\n   more: S|\tS|[S|{S|\n      S|\"a\n      S\"";
    let literal = ["|\n    S\n    S"];
    for value in values.split('|').chain(literal) {
        let value = value.replace('S', SECRET);
        for site in [
            format!("webhook:\n  password: {value}\n  nonsense: 1"),
            format!("signing_keys: {value}\nnonsense: 1"),
        ] {
            let text = file("", &site, VENDOR, ORIGIN);
            assert_hidden(&text, SECRET, SECRET);
            assert_hidden(&format!("{text}x: [unclosed\n"), SECRET, SECRET);
        }
    }
    for name in ["HUNTER2SECRET", "AKIAIOSFODNN7EXAMPLE", "hunter2", "JBSWY3DPEHPK3PXP"] {
        assert_hidden(
            &file(&format!("data: {{ path: '${{{name}}}' }}"), "", VENDOR, ORIGIN),
            "",
            name,
        );
    }
    let named = told(&file("data: { path: '${DB1_PASSWORD}' }", "", VENDOR, ORIGIN), "");
    assert!(named.contains("no variable `DB1_PASSWORD`"), "{named}");
}

#[test]
fn no_message_shows_the_password_of_a_url() {
    for between in ["", "/", "@", "'", "#", "?", ":", "[", " ", "\\", "%", ",", "{"] {
        let password = format!("hunter2{between}SECRETvalue");
        for url in [
            format!("u:{password}@h:80"),
            format!("http://u:{password}@h:99999"),
            format!("http://u:{password}@h/path"),
            format!("redis://d:{password}@h:1/x"),
            format!("redis://d:{password}@h:99999/0"),
            format!("rediss:/d:{password}@h"),
            format!("https://a.example/x?key={password}"),
            format!("ftp://a.example/{password}"),
        ] {
            let quoted = format!("\"{}\"", url.replace('\\', "\\\\"));
            for value in [quoted.as_str(), "'${P}'"] {
                for text in [
                    file("", "nonsense: 1", VENDOR, value),
                    file(
                        "",
                        &format!("identity: {{ check: {{ url: {value}, cookie: 'a b' }} }}"),
                        VENDOR,
                        ORIGIN,
                    ),
                    file(
                        "",
                        &format!("profile_source: {{ http_json: {{ url: {value}, pointr: x }} }}"),
                        VENDOR,
                        ORIGIN,
                    ),
                    file("", &format!("cors: [{value}]\nnonsense: 1"), VENDOR, ORIGIN),
                    file(
                        "",
                        "",
                        &format!("{{ segment: {{ write_key: abc, cdn: {value} }} }}"),
                        ORIGIN,
                    ),
                    file(&format!("profiles: {{ store: {value} }}"), "", VENDOR, ORIGIN),
                    file(
                        &format!("profiles: {{ store: {{ redis: {{ urls: {value} }} }} }}"),
                        "",
                        VENDOR,
                        ORIGIN,
                    ),
                    file(
                        &format!("profiles: {{ stroe: {{ redis: {{ urls: [{value}] }} }} }}"),
                        "",
                        VENDOR,
                        ORIGIN,
                    ),
                    file(
                        &format!(
                            "profiles: {{ store: {{ redis: {{ urls: [{value}], mode: x }} }} }}"
                        ),
                        "",
                        VENDOR,
                        ORIGIN,
                    ),
                    file(
                        &format!("profiles: {{ store: {{ redis: {{ urls: [{value}] }} }}"),
                        "",
                        VENDOR,
                        ORIGIN,
                    ),
                ] {
                    // What a visitor's browser sends is public: an origin of `cors` without a login is shown.
                    if !(text.contains("cors:")
                        && !url.contains("://u:")
                        && !url.contains(":hunter2"))
                    {
                        assert_hidden(&text, &url, "SECRETvalue");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_public_is_still_shown() {
    let text = file(
        "threads: many\nprofiles: { wait: 25 }",
        "prefix: seg\nwebhook: { pasword: x }",
        VENDOR,
        "'http://u.example/path'",
    );
    let told = told(&text, "");
    for part in [
        "found `many`",
        "threads: many",
        "found `25`",
        "wait: 25",
        "unknown key `pasword`; did you mean `password`?",
        "webhook: { pasword: … }",
    ] {
        assert!(told.contains(part), "{part} is missing:\n{told}");
    }
}
