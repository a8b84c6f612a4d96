//! What an operator reads of a configuration.

use std::path::Path;
use std::process::{Command, Output};

fn doorstep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_doorstep"))
        .args(arguments)
        .env("SEGMENT_WRITE_KEY", "a-write-key-123")
        .env("PROFILES_PASSWORD", "secret")
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
fn the_commented_configuration_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/doorstep.yaml");
    let output = doorstep(&["check", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
  identity: { domain: other.example }
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
d.yaml:5:25: sites[0].hosts[1]
  `a b` is not a host: expected `www.shop.example`, `*.shop.example` or an address
  5 |   hosts: [shop.example, 'a b']
    |                         ^^^^^
d.yaml:7:11: sites[0].prefix
  expected a path such as `/seg`: parts of letters, digits, `-` and `_`, found `seg`
  7 |   prefix: seg
    |           ^^^
d.yaml:8:35: sites[0].vendor.segment.write_key
  a write key has 8 to 128 letters, digits, `-` and `_`; this one has 5 characters
  8 |   vendor: { segment: { write_key: short } }
    |                                   ^^^^^
d.yaml:12:16: sites[0].variations[0].choose[0].when
  unknown name `trait`; did you mean `traits`?
  12 |     - { when: \"trait.green\", path: /green }
     |                ^^^^^
";
    assert!(told.starts_with(first), "{told}");
    for expected in [
        "another site is called `shop`",
        "host `shop.example` is listed twice: site `shop` has it",
        "scheme other than http and https",
        "are both set: keep one",
        "browsers refuse a cookie of `other.example`",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let told = complaints(
        "listeners: [{ address: '127.0.0.1:1' }]\nsites: [{ name: a, hosts: [a.example], origin: { address: 'x:1' }, vendor: { segment: { write_key: 'secret with spaces' } } }]\n",
    );
    assert!(told.contains("has 18 characters"), "{told}");
}

#[test]
fn what_is_missing_is_said() {
    let output = doorstep(&["check", "/nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("/nowhere.yaml: No such file"));
    assert!(complaints("").contains("keys and values"), "{}", complaints(""));
}
