//! `doorstep profile`: looks at profiles and changes them, in the store that the configuration names.
//! A running node sees what is changed.

mod import;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Failure, configuration, say};
use crate::collect::{Person, forget};
use crate::node::open_store;
use crate::profile::line::Line;
use crate::profile::store::{LinkedBy, MAX_HOPS, ProfileStore, StoreError, Stored};
use crate::profile::{ProfileKey, Update, now_millis};

/// Look at profiles and change them. Ids have their type in front: `user_id:john`,
/// `anonymous_id:…`, `email:john@shop.example`.
#[derive(Args)]
pub(super) struct Profile {
    /// The configuration. Without it: conf/doorstep.yaml, else /etc/doorstep/doorstep.yaml.
    #[arg(short, long, global = true)]
    config: Option<PathBuf>,
    /// The site, where the configuration has more than one.
    #[arg(long, global = true)]
    site: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what is known: traits, when each was set, and the ids that led there.
    Get {
        /// Whose.
        id: String,
    },
    /// Set traits.
    Set {
        /// Whose.
        id: String,
        /// `name=value`; a value is JSON, or else text. `null` deletes the trait.
        #[arg(required = true)]
        traits: Vec<String>,
    },
    /// Delete a person: the profile and every id that leads to it.
    Delete {
        /// Whose.
        id: String,
    },
    /// Let what is known under one id be found under another.
    Link {
        /// The id that leads there, such as `anonymous_id:…`.
        from: String,
        /// Where it leads, such as `user_id:john`.
        to: String,
    },
    /// Read NDJSON, a profile a line: `{"id":"user_id:john","traits":{"red":true}}`. One that is cut
    /// short goes on where it was when it is started again.
    Import {
        /// The file; `-` for standard input.
        file: PathBuf,
    },
    /// Write everything as NDJSON that `import` reads.
    Export {
        /// The file; standard output without one.
        file: Option<PathBuf>,
    },
}

impl Profile {
    pub(super) fn run(self) -> Result<(), Failure> {
        crate::telemetry::start_log();
        let config = configuration(self.config)?;
        let sites = config.snapshot.all_sites.iter().map(|site| &*site.name);
        let site = match &self.site {
            Some(name) => sites.into_iter().find(|site| site == name),
            None if config.snapshot.all_sites.len() == 1 => sites.into_iter().next(),
            None => None,
        };
        let names = || config.snapshot.all_sites.iter().map(|site| site.name.to_string()).collect();
        let none = || match &self.site {
            Some(wanted) => Failure::NoSite(wanted.clone(), names()),
            None => Failure::Site(names()),
        };
        let site = site.ok_or_else(none)?.to_owned();
        let runtime = tokio::runtime::Runtime::new().map_err(Failure::Runtime)?;
        runtime.block_on(async {
            let store = open_store(&config.node)?;
            store.connect().await?;
            // Keeps the connection: an import may take longer than it lasts.
            let following = Arc::clone(&store);
            let follower = tokio::spawn(async move { following.follow(&|_| {}).await });
            let done = self.command.run(&store, &config.node.data, &site).await;
            follower.abort();
            done
        })
    }
}

impl Command {
    async fn run(
        self,
        store: &Arc<dyn ProfileStore>,
        data: &Path,
        site: &str,
    ) -> Result<(), Failure> {
        let key = |text: &str| {
            ProfileKey::parse(site, text).map_err(|why| Failure::Id(text.to_owned(), why))
        };
        match self {
            Self::Get { id } => {
                let (chain, stored) = chain(&**store, key(&id)?).await?;
                say(format_args!("{:#}", shown(&chain, stored.as_ref())))?;
                if stored.is_none() {
                    return Err(Failure::Unknown(id));
                }
            }
            Self::Set { id, traits } => {
                let traits = traits.iter().map(|text| assignment(text));
                let update = Update::new(now_millis(), traits.collect::<Result<Vec<_>, _>>()?);
                store.merge(&key(&id)?, &update).await?;
            }
            Self::Delete { id } => {
                let mut gone = store.delete(&key(&id)?, now_millis()).await?;
                if !gone.contains(&key(&id)?) {
                    gone.push(key(&id)?);
                }
                let events = forget(data, site, &Person::of(&gone, now_millis()));
                let failed = |error| Failure::Spool(data.display().to_string(), error);
                say(format_args!("{} events erased", events.map_err(failed)?))?;
                for key in gone {
                    say(format_args!("deleted {}", key.text()))?;
                }
            }
            Self::Link { from, to } => {
                store.link(&key(&from)?, &key(&to)?, now_millis(), LinkedBy::Site).await?;
            }
            Self::Import { file } => return import::run(store, site, &file).await,
            Self::Export { file } => return export(&**store, site, file).await,
        }
        Ok(())
    }
}

/// The keys from `key` to where its links end, and what is there.
pub(super) async fn chain(
    store: &dyn ProfileStore,
    key: ProfileKey,
) -> Result<(Vec<ProfileKey>, Option<crate::profile::Profile>), StoreError> {
    let mut chain = vec![key.clone()];
    let mut at = key;
    for _ in 0..=MAX_HOPS {
        match store.get(&at).await? {
            Some(Stored::Linked(to)) => {
                chain.push(to.clone());
                at = to;
            }
            Some(Stored::Profile(profile)) => {
                return Ok((chain, Some(profile).filter(|profile| !profile.is_empty())));
            }
            None => return Ok((chain, None)),
        }
    }
    Err(StoreError::Circle)
}

/// A profile as people read it.
pub(super) fn shown(chain: &[ProfileKey], profile: Option<&crate::profile::Profile>) -> Value {
    let time = |millis: i64| {
        let since = std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
    };
    let chain: Vec<String> = chain.iter().map(ProfileKey::text).collect();
    let Some(profile) = profile else { return json!({ "id": chain.last(), "path": chain }) };
    let traits: serde_json::Map<String, Value> = profile
        .traits()
        .map(|one| (one.name.to_owned(), json!({ "value": one.value(), "set": time(one.at) })))
        .collect();
    let pulled = Some(profile.pulled()).filter(|pulled| pulled.at != 0);
    let pulled = pulled.map(|pulled| json!({ "at": time(pulled.at), "until": time(pulled.until) }));
    json!({ "id": chain.last(), "path": chain, "traits": traits, "pulled": pulled })
}

/// `name=value`: a value that is no JSON is text.
fn assignment(text: &str) -> Result<(Box<str>, Value), Failure> {
    let (name, value) = text.split_once('=').ok_or_else(|| Failure::Assignment(text.to_owned()))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.into(), value))
}

async fn export(
    store: &dyn ProfileStore,
    site: &str,
    file: Option<PathBuf>,
) -> Result<(), Failure> {
    let name =
        file.as_ref().map_or("standard output".to_owned(), |file| file.display().to_string());
    let failed = |cause| Failure::Unreadable { file: name.clone(), cause };
    let mut out: Box<dyn Write> = match &file {
        Some(file) => Box::new(crate::private::create(file).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    };
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_style(import::style("{spinner} {human_pos} profiles, {per_sec}"));
    let mut next = None;
    loop {
        let part = store.part(site, next.as_deref()).await?;
        let mut lines = String::new();
        for (key, stored) in &part.records {
            if let Some(line) = Line::write(key, stored) {
                lines.push_str(&line);
                lines.push('\n');
            }
        }
        out.write_all(lines.as_bytes()).map_err(failed)?;
        bar.inc(part.records.len() as u64);
        next = part.next;
        if next.is_none() {
            break;
        }
    }
    out.flush().map_err(failed)?;
    bar.finish();
    Ok(())
}
