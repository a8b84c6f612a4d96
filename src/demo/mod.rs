//! `doorstep run --demo`: a small shop as origin and a stand-in for the vendor in one process, so
//! that a newcomer sees injection, identity, a variation and delivered events without any account.

mod shop;
mod vendor;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use pingora::services::ServiceWithDependents;
use pingora::services::listening::Service;
use serde_json::json;

use crate::cli::Failure;
use crate::config::{Config, load};
use crate::identity::UserId;
use crate::node::{Prepare, Start};
use crate::profile::{ProfileKey, Resolver, Update, now_millis};

/// The demonstration's configuration and services; with `own` (origin and write key) the same
/// before somebody's own site and the real vendor.
///
/// # Errors
/// When there is no temporary folder or no free port, or `own` is not usable.
pub fn prepare(listen: SocketAddr, own: Option<(&str, &str)>) -> Result<(Config, Start), Failure> {
    // Told before anything is made or promised.
    TcpListener::bind(listen).map_err(|error| Failure::Taken(listen, error))?;
    let folder =
        tempfile::Builder::new().prefix("doorstep-").tempdir().map_err(Failure::Demo)?.keep();
    let admin = free_port().map_err(Failure::Demo)?;
    let mut beside: Vec<Box<dyn ServiceWithDependents>> = Vec::new();
    let (origin, vendor, variations) = match own {
        Some((origin, key)) => {
            (origin_yaml(origin), format!("{{ write_key: {} }}", json!(key)), String::new())
        }
        None => {
            let (shop, vendor) =
                (free_port().map_err(Failure::Demo)?, free_port().map_err(Failure::Demo)?);
            let mut service = Service::new("demo shop".to_owned(), shop::Shop);
            service.add_tcp(&shop.to_string());
            beside.push(Box::new(service));
            let mut service = Service::new("demo vendor".to_owned(), vendor::Vendor::default());
            service.add_tcp(&vendor.to_string());
            beside.push(Box::new(service));
            println!(
                "\n  Open      http://localhost:{}/ and log in as `john` or `mary`: the home page changes under the same address\n  \
                   Events    http://{vendor}/ shows what the vendor gets\n  \
                   Metrics   http://{admin}/metrics\n  \
                   Ctrl-C ends it. Failed requests alone are logged.\n",
                listen.port()
            );
            (
                format!("{{ address: {shop} }}"),
                format!(
                    "{{ write_key: demo-write-key, cdn: http://{vendor}, tracking_api: http://{vendor}/v1 }}"
                ),
                VARIATIONS.to_owned(),
            )
        }
    };
    if own.is_some() {
        println!(
            "\n  Open      http://localhost:{}/ is your site, with the SDK on its own host\n  \
               Metrics   http://{admin}/metrics\n  \
               Ctrl-C ends it. Redirects and failed requests alone are logged.\n",
            listen.port()
        );
    }
    let yaml = format!(
        "listeners: [{{ address: '{listen}' }}]\n\
         admin: {{ address: '{admin}' }}\n\
         threads: 2\n\
         data: {{ path: {data}, size: 1GiB }}\n\
         access_log: {{ sample: 0 }}\n\
         shutdown: {{ drain: 3s }}\n\
         sites:\n\
         - name: demo\n  \
           hosts: [localhost, 127.0.0.1, '[::1]', {host}]\n  \
           origin: {origin}\n  \
           vendor: {{ segment: {vendor} }}\n  \
           webhook: {{ username: demo, password: demo }}\n{variations}",
        data = json!(folder),
        host = json!(extra_host(listen)),
    );
    let config = load("(demo)", &yaml, |_| None)
        .map_err(|problems| Failure::Configuration(problems.into()))?;
    let start = Start {
        remove: Some(folder),
        beside,
        prepare: own.is_none().then(|| Box::new(seed) as Prepare),
        ..Start::default()
    };
    Ok((config, start))
}

const VARIATIONS: &str = "  \
  variations:
  - route: /
    choose:
    - { when: traits.red_group, path: /red }
    - { when: traits.green_group, path: /green }
  client_traits: { group: 'traits.red_group ? \"red\" : \"green\"' }
";

fn origin_yaml(origin: &str) -> String {
    let host = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    // One's own site answers by its own name.
    format!("{{ address: {}, host: {} }}", json!(origin.trim_end_matches('/')), json!(host))
}

/// The host that is listened on, where it is neither loopback nor every address.
fn extra_host(listen: SocketAddr) -> String {
    if listen.ip().is_unspecified() || listen.ip().is_loopback() {
        return "doorstep.localhost".into();
    }
    match listen.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// A free port on loopback. Somebody else may take it before we do: then the start fails.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// What the vendor would have pushed about two customers.
fn seed(profiles: &Arc<Resolver>) {
    let at = now_millis();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    for (name, group) in [("john", "red_group"), ("mary", "green_group")] {
        let Ok(user) = UserId::parse(name) else { continue };
        let update = Update::new(at, [(group.into(), json!(true))]);
        let key = ProfileKey::user("demo", &user);
        if let Err(error) = runtime.block_on(profiles.merge(&key, &update)) {
            tracing::error!(%error, "the demonstration's profiles could not be stored");
        }
    }
}
