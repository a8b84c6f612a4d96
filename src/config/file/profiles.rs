//! What the file may say about profiles: where they are kept, and where they come from.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::secret::Secret;
use crate::config::units::{ByteSize, Duration};

/// Profiles on this node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// Profiles in memory.
    pub memory: ProfileMemory,
    /// Where profiles are kept: `embedded` (in `data.path`, for one node), or `redis`, which several
    /// nodes share.
    pub store: Store,
    /// Forget profiles that nobody has written for that long. Default: never.
    pub expire_after: Option<Duration>,
    /// The most that a page waits for its visitor's profile. After that it goes on without; the
    /// lookup ends in memory and serves the next page.
    pub wait: Duration,
}

impl Default for Profiles {
    fn default() -> Self {
        Self {
            memory: ProfileMemory::default(),
            store: Store::default(),
            expire_after: None,
            wait: Duration::millis(25),
        }
    }
}

/// How many profiles a node keeps in memory, and for how long it believes them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileMemory {
    /// Most bytes of profiles in memory. A profile of 20 traits takes about 1 KiB.
    pub capacity: ByteSize,
    /// A younger profile is used without asking the store: the bound on staleness should a change
    /// not be heard of. Smaller is fresher and asks more often.
    pub fresh_for: Duration,
    /// For how long a visitor without a profile is remembered as such.
    pub missing_for: Duration,
    /// For how much longer than `fresh_for` a profile may serve while the store can't be asked.
    /// `0s`: not at all.
    pub stale_if_error: Duration,
}

impl Default for ProfileMemory {
    fn default() -> Self {
        Self {
            capacity: ByteSize::mib(256),
            fresh_for: Duration::secs(60),
            missing_for: Duration::secs(5),
            stale_if_error: Duration::secs(600),
        }
    }
}

/// Where profiles are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Store {
    /// `embedded`: LMDB in `data.path`.
    Word(StoreWord),
    /// Redis or Valkey.
    Redis(RedisStore),
}

impl Default for Store {
    fn default() -> Self {
        Self::Word(StoreWord::Embedded)
    }
}

/// The only word that `profiles.store` knows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreWord {
    /// LMDB in `data.path`.
    Embedded,
}

/// Profiles in Redis.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisStore {
    /// Redis or Valkey, 6.2 or later.
    pub redis: Redis,
}

/// Redis or Valkey.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://user:password@host:6379/0`, with TLS `rediss://`. `single`: the server, then its
    /// replicas; `sentinel`: the sentinels; `cluster`: some of its nodes.
    #[schemars(length(min = 1))]
    pub urls: Vec<Secret>,
    /// How Redis is run.
    #[serde(default)]
    pub mode: RedisMode,
    /// The master that the sentinels watch. Needed for `sentinel`.
    #[serde(default)]
    pub master: Option<RedisMaster>,
    /// What every key begins with. Sites and nodes that share profiles share it.
    #[serde(default = "default_key_prefix")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9:._-]{1,64}$"))]
    pub key_prefix: String,
    /// The most that one command may take. After that the connection is made anew.
    #[serde(default = "default_redis_timeout")]
    pub timeout: Duration,
    /// The most that a connection may take to be made.
    #[serde(default = "default_redis_connect_timeout")]
    pub connect_timeout: Duration,
    /// Read from replicas. A page may then be as old as the replica is behind.
    #[serde(default)]
    pub read_from_replicas: bool,
    /// PEM file of the authorities that certificates are checked against. Default: the system's.
    #[serde(default)]
    pub ca_file: Option<String>,
}

/// How Redis is run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// One server, perhaps with replicas.
    #[default]
    Single,
    /// Sentinels tell which server is the master.
    Sentinel,
    /// A cluster.
    Cluster,
}

/// The servers behind the sentinels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisMaster {
    /// The name that the sentinels know the master by.
    pub name: String,
    /// ACL user of the master and its replicas.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of the master and its replicas.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Speak TLS with the master and its replicas.
    #[serde(default)]
    pub tls: bool,
}

/// Where profiles come from that no store has: one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileSource {
    /// RudderStack's Activation API.
    #[serde(default)]
    pub rudderstack: Option<ActivationApi>,
    /// Any API that answers JSON.
    #[serde(default)]
    pub http_json: Option<HttpJson>,
}

/// How a profile source is asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pull {
    /// Types of ids that it is asked for.
    #[schemars(length(min = 1))]
    pub ids: Vec<String>,
    /// The most that an answer may take, all its pages together.
    pub timeout: Duration,
    /// Most profiles that are asked for at one time.
    #[schemars(range(min = 1, max = 1024))]
    pub in_flight: usize,
    /// For how long an answer holds. A profile in use is asked for again before that ends.
    pub fresh_for: Duration,
    /// For how long it holds that nobody is known; each is made up to a fifth shorter.
    pub missing_for: Duration,
}

impl Default for Pull {
    fn default() -> Self {
        Self {
            ids: vec!["user_id".into(), "anonymous_id".into()],
            timeout: Duration::secs(5),
            in_flight: 32,
            fresh_for: Duration::secs(900),
            missing_for: Duration::secs(300),
        }
    }
}

/// Segment's Profiles API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfilesApi {
    /// Id of the space, `spa_…`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,128}$"))]
    pub space: String,
    /// Access token. This or `token_file`.
    #[serde(default)]
    pub token: Option<Secret>,
    /// File that holds the token and nothing else.
    #[serde(default)]
    pub token_file: Option<String>,
    /// Where it is. EU: `https://profiles.euw1.segment.com/v1`.
    #[serde(default = "default_profiles_api")]
    #[schemars(extend("x-show" = "url"))]
    pub address: String,
    /// Ask for traits of one class alone, such as `audience` or `computed_trait`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[a-z_]{1,64}$"))]
    pub class: Option<String>,
    /// How it is asked.
    #[serde(default)]
    pub pull: Pull,
}

/// RudderStack's Activation API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationApi {
    /// Id of the activation API's destination.
    pub destination: String,
    /// Entity that profiles are of.
    #[serde(default = "default_entity")]
    pub entity: String,
    /// Access token. This or `token_file`.
    #[serde(default)]
    pub token: Option<Secret>,
    /// File that holds the token and nothing else.
    #[serde(default)]
    pub token_file: Option<String>,
    /// Where it is.
    #[serde(default = "default_activation_api")]
    #[schemars(extend("x-show" = "url"))]
    pub address: String,
    /// How it is asked.
    #[serde(default)]
    pub pull: Pull,
}

/// An API that answers a GET with JSON.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpJson {
    /// URL with `{id}` and, if need be, `{id_type}` in its path or query; both are percent-encoded.
    #[schemars(extend("x-show" = "url"))]
    pub url: String,
    /// Headers of the request. Values are secrets: they are never shown.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, Secret>,
    /// Where in the answer the object of traits is (RFC 6901), such as `/data/traits`.
    #[serde(default)]
    #[schemars(regex(pattern = "^(/.*)?$"))]
    pub pointer: String,
    /// How it is asked.
    #[serde(default)]
    pub pull: Pull,
}

fn default_key_prefix() -> String {
    "doorstep:".into()
}
fn default_redis_timeout() -> Duration {
    Duration::millis(250)
}
fn default_redis_connect_timeout() -> Duration {
    Duration::secs(1)
}
fn default_profiles_api() -> String {
    "https://profiles.segment.com/v1".into()
}
fn default_activation_api() -> String {
    "https://profiles.rudderstack.com/v1".into()
}
fn default_entity() -> String {
    "user".into()
}
