//! A file of the right shape → a [`Config`], or everything that is wrong with its values.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::certificate::Certificates;
use super::file::{self, File, Threads};
use super::fixed::Fixed;
use super::problem::{Problem, Problems};
use super::profiles::compile_store;
use super::public::Visibility;
use super::remains::{Remains, follows};
use super::shown::Shown;
use super::site::compile_site;
use super::snapshot::{Config, ConnectionBounds, End, ListenOn, Node, Snapshot, UnreadBounds};
use super::source::Source;
use super::units::ByteSize;
use crate::collect::{Durability, EventLimits, Keeping, Timing};
use crate::geo::Geo;
use crate::profile::Lifetimes;
use crate::profile::store::DELETED_FOR;
use crate::site::{HostPattern, Hosts};
use crate::telemetry::AccessLog;

/// Reads and compiles `text`, the configuration file `name`.
///
/// # Errors
/// Every problem of the file: of its shape, of the environment, and of the values that can be judged without
/// what those are about.
pub fn load(
    name: &str,
    text: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let (source, mut problems) = Source::parse(name, text, env)
        .map_err(|error| Problems::new(name, &Shown::of_broken(text), &[error]))?;
    let visibility = Visibility::of(&source);
    let shown = Shown::of(&source, &visibility);
    let complain = |list: &[Problem]| Problems::new(name, &shown, list);
    let (file, mut wrong) = super::schema::read(&source, &visibility);
    wrong.retain(|one| problems.iter().all(|lacks| lacks.pointer() != one.pointer()));
    problems.append(&mut wrong);
    let config = file.and_then(|(file, remains)| {
        let (wrong, warnings) = (Vec::new(), Vec::new());
        let mut checking =
            Checking { source: &source, remains: &remains, problems: wrong, warnings };
        let compiled = checking.compile(&file);
        let Checking { problems: mut wrong, warnings, .. } = checking;
        wrong.retain(|one| problems.iter().all(|broken| !follows(one.pointer(), broken.pointer())));
        problems.append(&mut wrong);
        let hash = format!("{:016x}", xxh3_64(text.as_bytes())).into();
        compiled.map(|(node, snapshot)| Config {
            node,
            snapshot,
            warnings: complain(&warnings),
            hash,
        })
    });
    config.filter(|_| problems.is_empty()).ok_or_else(|| complain(&problems))
}

const MOST_MEMORY: ByteSize = ByteSize::mib(4 * 1024 * 1024);
/// The store's own pages would fill less than this.
const LEAST_STORE: ByteSize = ByteSize::mib(1);
/// The least that visitors may leave unread.
const LEAST_UNREAD: ByteSize = ByteSize::mib(1);
/// As much as a process can map.
const MOST_DISK: ByteSize = ByteSize::mib(64 * 1024 * 1024);

/// Whether two sockets can't listen on these at one time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || (any && one.is_ipv4() == other.is_ipv4()))
}

/// What is no folder where `folder` is to be.
fn stands_in_the_way(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|part| part.exists()).filter(|part| !part.is_dir())
}

/// Descriptors that are not for visitors: stores, vendors, files.
const OTHER_DESCRIPTORS: u64 = 256;

/// How many connections there may be; with 0 as many as the process has file descriptors for: each may need one to the
/// origin.
fn most_connections(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // The process takes as many as it may have (`node::use_all_descriptors`).
    let all = limit.maximum.or(limit.current).unwrap_or(u64::MAX);
    usize::try_from(all.saturating_sub(OTHER_DESCRIPTORS) / 2).unwrap_or(usize::MAX).max(64)
}

/// Collects problems while values are compiled.
pub(super) struct Checking<'s> {
    source: &'s Source,
    remains: &'s Remains,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Checking<'_> {
    /// Complains about the value at `pointer`.
    pub(super) fn problem(&mut self, pointer: &str, message: impl Into<String>) {
        let pointer = self.remains.in_file(pointer);
        let place = self.source.place(&pointer);
        self.problems.push(Problem::new(&pointer, place, message));
    }

    /// Warns of the value at `pointer`: it is allowed, and mostly not meant.
    pub(super) fn warn(&mut self, pointer: &str, message: impl Into<String>) {
        let pointer = self.remains.in_file(pointer);
        let place = self.source.place(&pointer);
        self.warnings.push(Problem::new(&pointer, place, message));
    }

    /// Complains about a part of the text at `pointer`: `start` and `width` in characters.
    pub(super) fn problem_within(
        &mut self,
        pointer: &str,
        start: usize,
        width: usize,
        message: impl Into<String>,
    ) {
        let pointer = self.remains.in_file(pointer);
        let place = self.source.place(&pointer).within(&self.source.text, start, width);
        self.problems.push(Problem::new(&pointer, place, message));
    }

    /// Tells the values at `pointer` from others.
    pub(super) fn edition(&self, pointer: &str) -> Box<str> {
        let value = self.source.value.pointer(&self.remains.in_file(pointer));
        let text = value.map(ToString::to_string).unwrap_or_default();
        format!("{:032x}", xxh3_128(text.as_bytes())).into()
    }

    /// The value, or a complaint about it.
    pub(super) fn take<T, E: ToString>(
        &mut self,
        pointer: &str,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed.map_err(|error| self.problem(pointer, error.to_string())).ok()
    }

    fn address(&mut self, pointer: &str, text: &str) -> Option<SocketAddr> {
        let parsed = text.parse::<SocketAddr>().map_err(|_| {
            format!("expected an address with a port, such as `0.0.0.0:80` or `[::]:443`, found `{text}`")
        });
        self.take(pointer, parsed)
    }

    fn compile(&mut self, file: &File) -> Option<(Node, Snapshot)> {
        let hosts = file.sites.iter().flat_map(|site| &site.hosts);
        let hosts: Vec<_> = hosts.filter_map(|host| HostPattern::parse(host).ok()).collect();
        let listeners = self.listeners(&file.listeners, &hosts);
        let admin = self.address("/admin/address", &file.admin.address);
        if let Some(admin) = admin {
            self.reachable("/admin/address", admin);
            self.admin(admin, &listeners);
        }
        let trusted = file
            .trusted_proxies
            .iter()
            .enumerate()
            .filter_map(|(index, text)| {
                let parsed = text
                    .parse::<ipnet::IpNet>()
                    .or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into))
                    .map_err(|_| {
                        format!("expected a network such as `10.0.0.0/8`, found `{text}`")
                    });
                self.take(&format!("/trusted_proxies/{index}"), parsed)
            })
            .collect();
        let profile_store = compile_store(self, &file.profiles);
        let (sites, all_sites) = self.sites(file);
        self.own_listeners(file, &listeners);
        let redirect_ports = file
            .listeners
            .iter()
            .filter(|listener| listener.redirect_to_https)
            .filter_map(|listener| Some(listener.address.parse::<SocketAddr>().ok()?.port()))
            .collect();
        let threads = match file.threads {
            Threads::Count(count) => usize::from(count),
            Threads::Word(_) => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let events = self.events(&file.events);
        let capacity = file.profiles.memory.capacity;
        let profile_bytes = self.size("/profiles/memory/capacity", capacity, MOST_MEMORY);
        let cache_bytes = self.size("/cache/memory", file.cache.memory, MOST_MEMORY);
        if let Some(other) = stands_in_the_way(file.data.path.as_ref()) {
            let why = format!("`{}` is no folder, and none can be made there", other.display());
            self.problem("/data/path", why);
        }
        // The store maps whole pages.
        let data_bytes = self.size("/data/size", file.data.size, MOST_DISK);
        if file.data.size < LEAST_STORE {
            self.problem("/data/size", format!("expected at least {LEAST_STORE:?}"));
        }
        let data_bytes = data_bytes.map(|bytes| bytes.next_multiple_of(rustix::param::page_size()));
        let geo = self.geo(&file.geoip);
        let unread = self.unread(&file.connections);
        let node = Node {
            listeners,
            admin: admin?,
            threads,
            data: file.data.path.clone().into(),
            data_bytes: data_bytes?,
            profile_bytes: profile_bytes?,
            profile_lifetimes: Lifetimes {
                fresh: file.profiles.memory.fresh_for.get(),
                missing: file.profiles.memory.missing_for.get(),
                stale_if_error: file.profiles.memory.stale_if_error.get(),
            },
            profile_store: profile_store?,
            profile_expire: file.profiles.expire_after.map(super::units::Duration::get),
            cache_bytes: cache_bytes?,
            events: events?,
            geo,
            fixed: Fixed::of(&self.source.value),
        };
        let snapshot = Snapshot {
            sites,
            all_sites,
            trusted_proxies: trusted,
            redirect_ports,
            profile_wait: file.profiles.wait.get(),
            vendor_timeout: file.events.timeout.get(),
            event_limits: EventLimits {
                per_client: file.events.per_client,
                bytes_per_client: file.events.bytes_per_client.bytes(),
                at_once: file.events.at_once,
            },
            access_log: AccessLog::new(file.access_log.sample),
            connections: ConnectionBounds {
                most: most_connections(file.connections.most),
                per_client: match file.connections.per_client {
                    0 => usize::MAX,
                    bound => bound,
                },
            },
            unread: unread?,
            shutdown: End { delay: file.shutdown.delay.get(), drain: file.shutdown.drain.get() },
        };
        Some((node, snapshot))
    }

    /// What visitors may leave unread: an answer has to have room in it.
    fn unread(&mut self, given: &file::Connections) -> Option<UnreadBounds> {
        let sizes = [("unread", given.unread), ("unread_per_client", given.unread_per_client)];
        let mut fits = true;
        for (name, size) in sizes.into_iter().filter(|(_, size)| *size < LEAST_UNREAD) {
            let why = format!(
                "expected at least {LEAST_UNREAD:?}, found {size:?}: no page has room in less"
            );
            self.problem(&format!("/connections/{name}"), why);
            fits = false;
        }
        let [most, per_client] = sizes.map(|(_, size)| size.bytes());
        fits.then_some(UnreadBounds { most, per_client })
    }

    /// A size of at most `most`: more than any machine has is a typing error.
    fn size(&mut self, pointer: &str, size: ByteSize, most: ByteSize) -> Option<usize> {
        if size > most {
            self.problem(pointer, format!("expected at most {most:?}"));
            return None;
        }
        Some(size.bytes())
    }

    /// The operator's listener has no login: it must not be where visitors are.
    fn admin(&mut self, admin: SocketAddr, listeners: &[ListenOn]) {
        let place = "/admin/address";
        if let Some(taken) =
            listeners.iter().map(|one| one.address).find(|one| overlap(*one, admin))
        {
            self.problem(
                place,
                format!("visitors are listened for on `{taken}`: take another port"),
            );
        } else if admin.ip().is_unspecified() {
            let why = "this listens on every network, and the operator's listener has no login: name one address";
            self.warn(place, why);
        }
    }

    fn geo(&mut self, geoip: &file::Geoip) -> Vec<PathBuf> {
        let one = geoip.database.iter().map(|path| ("/geoip/database".to_owned(), path));
        let more = geoip.databases.iter().enumerate();
        let more = more.map(|(index, path)| (format!("/geoip/databases/{index}"), path));
        one.chain(more)
            .filter_map(|(place, path)| {
                let opened = Geo::open(vec![path.into()]).map_err(|error| error.to_string());
                self.take(&place, opened).map(|_| path.into())
            })
            .collect()
    }

    fn events(&mut self, events: &file::Events) -> Option<Keeping> {
        let disk = self.size("/events/disk", events.disk, MOST_DISK)? as u64;
        let dead_letters = self.size("/events/dead_letters", events.dead_letters, MOST_DISK)?;
        if disk < 4 * 1024 * 1024 {
            self.problem("/events/disk", "expected at least 4MiB");
            return None;
        }
        if events.retain.get() > DELETED_FOR {
            let why = "expected at most 8 days: for that long it is known who was deleted";
            self.problem("/events/retain", why);
            return None;
        }
        Some(Keeping {
            durability: match events.durability {
                file::EventDurability::Sync => Durability::Sync,
                file::EventDurability::Relaxed => Durability::Relaxed,
            },
            disk,
            dead_letters: dead_letters as u64,
            timing: Timing {
                timeout: events.timeout.get(),
                retain: events.retain.get(),
                in_flight: events.in_flight,
            },
        })
    }

    /// Warns of an origin that is this node itself: each request would ask for itself, until there are no connections left.
    fn own_listeners(&mut self, file: &File, listeners: &[ListenOn]) {
        for (index, site) in file.sites.iter().enumerate() {
            let file::OriginChoice::At(origin) = &site.origin else { continue };
            let Ok(address) = origin.address.parse::<SocketAddr>() else { continue };
            let is_here = |on: &ListenOn| {
                let any = on.address.ip().is_unspecified() && address.ip().is_loopback();
                on.address == address || (any && on.address.port() == address.port())
            };
            if listeners.iter().any(is_here) {
                let why = format!("`{address}` is a listener of this node, which would ask itself");
                self.warn(&format!("/sites/{index}/origin/address"), why);
            }
        }
    }

    /// Complains about an address on which nobody can ask this machine for anything.
    fn reachable(&mut self, place: &str, address: SocketAddr) {
        let ip = address.ip();
        let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if address.port() == 0 {
            self.problem(place, "expected a port other than 0: nobody would know which one it is");
        } else if mapped {
            self.problem(
                place,
                format!("expected it as `{}`", SocketAddr::new(ip.to_canonical(), address.port())),
            );
        } else if ip.is_multicast() || broadcast {
            self.problem(place, format!("nobody can connect to `{ip}`"));
        } else if let Err(error) = std::net::UdpSocket::bind((ip, 0))
            && error.kind() == std::io::ErrorKind::AddrNotAvailable
        {
            // The file may be another machine's.
            self.warn(place, format!("this machine has no address `{ip}`"));
        }
    }

    fn listeners(&mut self, listeners: &[file::Listener], hosts: &[HostPattern]) -> Vec<ListenOn> {
        let mut out = Vec::new();
        let mut seen: Vec<SocketAddr> = Vec::new();
        for (index, listener) in listeners.iter().enumerate() {
            let at = format!("/listeners/{index}");
            let place = format!("{at}/address");
            let address = self.address(&place, &listener.address);
            if let Some(address) = address {
                self.reachable(&place, address);
                match seen.iter().find(|one| overlap(**one, address)) {
                    Some(one) if *one == address => {
                        self.problem(&place, format!("`{address}` is listed twice"));
                    }
                    Some(one) => {
                        self.problem(&place, format!("`{one}` above takes this address as well"));
                    }
                    None => seen.push(address),
                }
            }
            let tls =
                listener.tls.as_ref().map(|tls| (self.certificates(&at, tls, hosts), tls.http2));
            if listener.redirect_to_https && tls.is_some() {
                let place = format!("{at}/redirect_to_https");
                self.problem(&place, "a TLS listener can't redirect to https");
            }
            match (address, tls) {
                (Some(address), None) => out.push(ListenOn { address, tls: None }),
                (Some(address), Some((Some(certificates), http2))) => {
                    out.push(ListenOn { address, tls: Some((certificates, http2)) });
                }
                _ => {}
            }
        }
        out
    }

    fn certificates(
        &mut self,
        at: &str,
        tls: &file::Tls,
        hosts: &[HostPattern],
    ) -> Option<Certificates> {
        let at = format!("{at}/tls");
        let mut pairs = tls.certificates.clone();
        match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (certificate.clone(), key.clone());
                pairs.insert(0, file::CertificateFiles { certificate, key });
            }
            (None, None) if !pairs.is_empty() => {}
            _ => {
                self.problem(&at, "expected `certificate` and `key`, or `certificates`");
                return None;
            }
        }
        let inline = usize::from(tls.certificate.is_some());
        let place = |index: usize| match index.checked_sub(inline) {
            Some(listed) => format!("{at}/certificates/{listed}"),
            None => at.clone(),
        };
        match Certificates::load(&pairs) {
            Ok(certificates) => {
                for (index, why) in certificates.doubts(hosts) {
                    self.warn(&place(index), why);
                }
                Some(certificates)
            }
            Err(wrong) => {
                for (index, error) in wrong {
                    self.problem(&place(index), error.to_string());
                }
                None
            }
        }
    }

    fn sites(
        &mut self,
        file: &File,
    ) -> (Hosts<Arc<crate::site::Site>>, Vec<Arc<crate::site::Site>>) {
        let (mut hosts, mut all) = (Hosts::default(), Vec::new());
        let mut owners: Vec<(HostPattern, &str)> = Vec::new();
        let mut names = HashSet::new();
        for (index, site) in file.sites.iter().enumerate() {
            let at = format!("/sites/{index}");
            if !names.insert(site.name.as_str()) {
                self.problem(
                    &format!("{at}/name"),
                    format!("another site is called `{}`", site.name),
                );
            }
            let (mut patterns, mut free) = (Vec::new(), Vec::new());
            for (number, text) in site.hosts.iter().enumerate() {
                let place = format!("{at}/hosts/{number}");
                let Some(pattern) = self.take(&place, HostPattern::parse(text)) else { continue };
                match owners.iter().find(|(taken, _)| *taken == pattern) {
                    Some((_, owner)) => {
                        self.problem(
                            &place,
                            format!("host `{text}` is listed twice: site `{owner}` has it"),
                        );
                    }
                    None => {
                        owners.push((pattern.clone(), &site.name));
                        free.push(pattern.clone());
                    }
                }
                patterns.push(pattern);
            }
            let Some(compiled) = compile_site(self, &at, file, site, &patterns) else { continue };
            let compiled = Arc::new(compiled);
            for pattern in free {
                // Only hosts that nobody has are left.
                let _ = hosts.add(pattern, Arc::clone(&compiled));
            }
            all.push(compiled);
        }
        (hosts, all)
    }
}
