//! The state in Valkey or Redis, for a cluster of consumers.
//!
//! A shard's tables are hashes whose names carry the hash tag `{namespace:generation:partition}`, so
//! they are one slot's, and one Lua script compares the claim and writes all of a commit. What the
//! server keeps through a crash is its own setting (`appendonly`), and replication is asynchronous:
//! a failed-over server may stand at an earlier commit. Its offsets then are of that commit too, so
//! the next write of the old position is refused, and its writer goes on from where the server is.

use std::collections::BTreeMap;
use std::num::ParseIntError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Client, RedisError, Script};
use serde::{Deserialize, Serialize};

use crate::{Change, Claim, FIRST_GENERATION, Position, Shard, StateError, StateStore, Table};

/// Of keys and values; another one is refused.
const FORMAT: &str = "2";
/// Entries that one step of a scan asks for.
const SCAN_COUNT: usize = 1_000;

/// How to reach Valkey or Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValkeyConfig {
    /// `redis://[user:password@]host[:port][/database]`; without TLS. Default
    /// `redis://127.0.0.1:6379`.
    pub url: String,
    /// Time for one request. Default: 10,000 ms.
    pub timeout_ms: u64,
}

impl Default for ValkeyConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            timeout_ms: 10_000,
        }
    }
}

/// The state in Valkey or Redis.
#[derive(Clone)]
pub struct ValkeyState {
    connection: ConnectionManager,
    namespace: String,
    /// Without the password.
    address: String,
    claim: Script,
    commit: Script,
}

impl ValkeyState {
    /// Asks whether the server answers, and changes nothing.
    ///
    /// # Errors
    /// The address cannot be used, or the server does not answer.
    pub async fn ping(config: &ValkeyConfig) -> Result<(), StateError> {
        let state = Self::open(config, "").await?;
        let mut connection = state.connection.clone();
        let answer = redis::cmd("PING").query_async(&mut connection).await;
        failed(&state.address, answer)
    }

    /// Connects. `namespace` names the state: each consumer has its own, and each pipeline on one
    /// server has others.
    ///
    /// # Errors
    /// The address cannot be used, the server does not answer, or another version wrote the state.
    pub async fn connect(config: &ValkeyConfig, namespace: &str) -> Result<Self, StateError> {
        let mut state = Self::open(config, namespace).await?;
        let key = state.store_key("format");
        let _: bool = failed(&state.address, state.connection.set_nx(&key, FORMAT).await)?;
        let format: String = failed(&state.address, state.connection.get(&key).await)?;
        if format == FORMAT {
            return Ok(state);
        }
        Err(StateError::Unusable {
            location: state.address,
            reason: format!(
                "another version of millrace wrote the state of {namespace}; remove its keys, and it is \
                 rebuilt from the topics"
            ),
            source: None,
        })
    }

    async fn open(config: &ValkeyConfig, namespace: &str) -> Result<Self, StateError> {
        let without_password = config.url.rsplit_once('@').map_or_else(
            || config.url.clone(),
            |(_, address)| format!("redis://{address}"),
        );
        let client = Client::open(config.url.as_str()).map_err(|error| StateError::Unusable {
            location: without_password.clone(),
            reason: "state.valkey.url is no address".to_owned(),
            source: Some(error.into()),
        })?;
        let timeout = Duration::from_millis(config.timeout_ms.max(1));
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        Ok(Self {
            connection: ConnectionManager::new_with_config(client, settings)
                .await
                .map_err(|error| StateError::Unavailable(error.into()))?,
            namespace: namespace.to_owned(),
            address: without_password,
            claim: Script::new(
                "redis.call('HINCRBY', KEYS[1], 'epoch', 1) \
                 return redis.call('HMGET', KEYS[1], 'epoch', 'position')",
            ),
            commit: Script::new(include_str!("commit.lua")),
        })
    }

    fn store_key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.namespace)
    }

    fn shard_key(&self, shard: Shard, name: &str) -> String {
        format!(
            "{{{}:{}:{}}}:{name}",
            self.namespace, shard.generation, shard.partition
        )
    }

    async fn refuse_superseded(&self, shard: Shard) -> Result<(), StateError> {
        let live = self.live_generation().await?;
        if shard.generation < live {
            return Err(StateError::Superseded {
                generation: shard.generation,
                live,
            });
        }
        Ok(())
    }

    fn read_claim(&self, shard: Shard, found: &[Option<String>]) -> Result<Claim, StateError> {
        let field = |index: usize| {
            let text = found.get(index).and_then(Option::as_deref);
            text.filter(|text| !text.is_empty())
        };
        let unusable =
            |text: &str, source: Box<dyn std::error::Error + Send + Sync>| StateError::Unusable {
                location: self.address.clone(),
                reason: format!("the claim of {shard} cannot be read: {text:?}"),
                source: Some(source),
            };
        let epoch = field(0).map(|text| {
            text.parse()
                .map_err(|e: ParseIntError| unusable(text, e.into()))
        });
        let position =
            field(1).map(|text| Position::from_text(text).map_err(|e| unusable(text, e.into())));
        Ok(Claim {
            epoch: epoch.transpose()?.unwrap_or_default(),
            position: position.transpose()?.unwrap_or_default(),
        })
    }
}

/// Only what no waiting mends is an error for good.
fn failed<T>(address: &str, result: Result<T, RedisError>) -> Result<T, StateError> {
    result.map_err(|error| match error.kind() {
        redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => {
            StateError::Unusable {
                location: address.to_owned(),
                reason: "the server refuses the connection; see state.valkey.url".to_owned(),
                source: Some(error.into()),
            }
        }
        _ => StateError::Unavailable(error.into()),
    })
}

/// Nothing for the beginning, which is what an absent field is too.
fn text(position: &Position) -> String {
    if *position == Position::default() {
        String::new()
    } else {
        position.to_text()
    }
}

#[async_trait]
impl StateStore for ValkeyState {
    async fn live_generation(&self) -> Result<u32, StateError> {
        let live: Option<u32> = failed(
            &self.address,
            self.connection.clone().get(self.store_key("live")).await,
        )?;
        Ok(live.unwrap_or(FIRST_GENERATION))
    }

    async fn switch(&self, live: u32, next: u32) -> Result<(), StateError> {
        let script = Script::new(
            "local found = redis.call('GET', KEYS[1]) or ARGV[3] \
             if found ~= ARGV[1] then return found end \
             redis.call('SET', KEYS[1], ARGV[2]) return ARGV[1]",
        );
        let mut connection = self.connection.clone();
        let found: String = failed(
            &self.address,
            script
                .key(self.store_key("live"))
                .arg(live)
                .arg(next)
                .arg(FIRST_GENERATION)
                .invoke_async(&mut connection)
                .await,
        )?;
        if found == live.to_string() {
            return Ok(());
        }
        Err(StateError::Superseded {
            generation: live,
            live: found.parse().unwrap_or(0),
        })
    }

    async fn claim(&self, shard: Shard) -> Result<Claim, StateError> {
        self.refuse_superseded(shard).await?;
        let mut connection = self.connection.clone();
        let claimed = self
            .claim
            .key(self.shard_key(shard, "claim"))
            .invoke_async(&mut connection)
            .await;
        let found: Vec<Option<String>> = failed(&self.address, claimed)?;
        self.read_claim(shard, &found)
    }

    async fn position(&self, shard: Shard) -> Result<Position, StateError> {
        let mut command = redis::cmd("HMGET");
        command
            .arg(self.shard_key(shard, "claim"))
            .arg("epoch")
            .arg("position");
        let mut connection = self.connection.clone();
        let found: Vec<Option<String>> =
            failed(&self.address, command.query_async(&mut connection).await)?;
        Ok(self.read_claim(shard, &found)?.position)
    }

    async fn get(
        &self,
        shard: Shard,
        keys: Vec<(Table, Vec<u8>)>,
    ) -> Result<Vec<Option<Bytes>>, StateError> {
        let mut tables = BTreeMap::<Table, Vec<usize>>::new();
        for (index, (table, _)) in keys.iter().enumerate() {
            tables.entry(*table).or_default().push(index);
        }
        let mut pipeline = redis::pipe();
        for (table, indexes) in &tables {
            let fields: Vec<&[u8]> = indexes.iter().map(|&index| &keys[index].1[..]).collect();
            pipeline
                .cmd("HMGET")
                .arg(self.shard_key(shard, &table.to_string()))
                .arg(fields);
        }
        let mut values = vec![None; keys.len()];
        if tables.is_empty() {
            return Ok(values);
        }
        let mut connection = self.connection.clone();
        let found: Vec<Vec<Option<Vec<u8>>>> =
            failed(&self.address, pipeline.query_async(&mut connection).await)?;
        for (indexes, found) in tables.into_values().zip(found) {
            for (index, value) in indexes.into_iter().zip(found) {
                values[index] = value.map(Bytes::from);
            }
        }
        Ok(values)
    }

    async fn scan(
        &self,
        shard: Shard,
        table: Table,
        enough: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, StateError> {
        let key = self.shard_key(shard, &table.to_string());
        let mut connection = self.connection.clone();
        // An entry may come twice while the hash grows; nobody writes it while its owner reads.
        let mut found = BTreeMap::<Vec<u8>, Vec<u8>>::new();
        let mut cursor = 0_u64;
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(&key).arg(cursor).arg("COUNT").arg(SCAN_COUNT);
            let (next, entries): (u64, Vec<(Vec<u8>, Vec<u8>)>) =
                failed(&self.address, command.query_async(&mut connection).await)?;
            found.extend(entries);
            cursor = next;
            if cursor == 0 || found.len() >= enough {
                break;
            }
        }
        let entry = |(key, value): (Vec<u8>, Vec<u8>)| (key, Bytes::from(value));
        Ok(found.into_iter().map(entry).collect())
    }

    async fn commit(
        &self,
        shard: Shard,
        claim: &Claim,
        next: &Position,
        changes: Vec<Change>,
    ) -> Result<(), StateError> {
        // Not in one step with the write: a write that slips through goes to the old generation,
        // which nobody reads any more.
        self.refuse_superseded(shard).await?;
        let mut tables = Vec::<Table>::new();
        let mut invocation = self.commit.prepare_invoke();
        invocation
            .key(self.shard_key(shard, "claim"))
            .arg(claim.epoch)
            .arg(text(&claim.position))
            .arg(text(next));
        for change in &changes {
            let known = tables.iter().position(|table| *table == change.table);
            let index = known.unwrap_or_else(|| {
                invocation.key(self.shard_key(shard, &change.table.to_string()));
                tables.push(change.table);
                tables.len() - 1
            });
            // Lua counts from 1, and the claim is the first key.
            invocation.arg(index + 2).arg(&change.key[..]);
            match &change.value {
                Some(value) => invocation.arg("1").arg(&value[..]),
                None => invocation.arg("0").arg(""),
            };
        }
        let mut connection = self.connection.clone();
        let refused: Vec<Option<String>> = failed(
            &self.address,
            invocation.invoke_async(&mut connection).await,
        )?;
        if refused.is_empty() {
            return Ok(());
        }
        let found = self.read_claim(shard, &refused)?;
        Err(StateError::Refused {
            shard,
            epoch: found.epoch,
            position: found.position,
        })
    }

    async fn drop_generation(&self, generation: u32) -> Result<(), StateError> {
        if generation == self.live_generation().await? {
            return Err(StateError::Unusable {
                location: self.address.clone(),
                reason: format!("generation {generation} is live and is not dropped"),
                source: None,
            });
        }
        let pattern = format!("{{{}:{generation}:*", self.namespace);
        let mut connection = self.connection.clone();
        let mut cursor = 0_u64;
        loop {
            let mut command = redis::cmd("SCAN");
            command
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<String>) =
                failed(&self.address, command.query_async(&mut connection).await)?;
            for key in keys {
                let _: u64 = failed(&self.address, connection.unlink(key).await)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
