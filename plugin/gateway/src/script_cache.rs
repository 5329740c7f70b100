//! Scripts by their SHA-1, so that an EVALSHA still works where Redis has forgotten the script.
//!
//! Redis does not replicate its script cache: after every failover, restart or SCRIPT FLUSH it answers NOSCRIPT. The gateway
//! keeps the text and sends it again. Scripts of @upstash/ratelimit 2.2 begin with `#!lua flags=allow-key-locking`, which only
//! Upstash's own server knows; the flag is taken off, and the script is found under both hashes.
//! Not here: sending anything (`store`).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use sha1_smol::Sha1;

use crate::failure::Failure;
use crate::scripts::built_in;

/// How many scripts of clients are kept: @upstash/ratelimit brings about twenty.
const MOST_SCRIPTS: usize = 512;
/// How many bytes of them. The oldest are forgotten first; Redis may still have them.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// A script as Redis gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// SHA-1 of `text`: 40 hex digits, lower case.
    pub sha: String,
    /// What is sent to Redis.
    pub text: Vec<u8>,
}

/// The scripts that are known; shared by all requests.
pub struct ScriptCache {
    any: bool,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_sha: HashMap<String, Arc<Script>>,
    /// Names of clients' scripts, the oldest first, with the bytes each keeps.
    order: VecDeque<(String, usize)>,
    bytes: usize,
}

impl ScriptCache {
    /// The built-in scripts; with `any`, clients may add theirs.
    pub fn new(any: bool) -> Self {
        let mut known = Known::default();
        for text in built_in() {
            let script = Arc::new(Script { sha: hash(text.as_bytes()), text: text.into() });
            known.by_sha.insert(script.sha.clone(), script);
        }
        Self { any, known: RwLock::new(known) }
    }

    /// The script that a client calls by this hash, in either case of letters.
    pub fn find(&self, sha: &[u8]) -> Option<Arc<Script>> {
        let sha = std::str::from_utf8(sha).ok()?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_sha.get(sha).or_else(|| known.by_sha.get(&sha.to_ascii_lowercase())).cloned()
    }

    /// Whether a hash that is not known may be passed on to Redis.
    pub fn passes_unknown(&self) -> bool {
        self.any
    }

    /// The script with this text, remembered from now on. Equal texts give the same script.
    ///
    /// # Errors
    /// `NotAllowed` for a script that is not built in, unless any may come.
    pub fn learn(&self, text: &[u8]) -> Result<Arc<Script>, Failure> {
        let asked = hash(text);
        if let Some(script) = self.find(asked.as_bytes()) {
            return Ok(script);
        }
        if !self.any {
            return Err(not_built_in());
        }
        let text = without_upstash_flag(text);
        let script = Arc::new(Script { sha: hash(&text), text: text.into_owned() });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.keep(&asked, &script);
        if asked != script.sha {
            known.keep(&script.sha, &script);
        }
        Ok(script)
    }

    /// How many names are known, for metrics.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_sha.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Known {
    fn keep(&mut self, name: &str, script: &Arc<Script>) {
        if self.by_sha.contains_key(name) || script.text.len() > MOST_BYTES {
            return;
        }
        self.by_sha.insert(name.to_owned(), Arc::clone(script));
        self.order.push_back((name.to_owned(), script.text.len()));
        self.bytes += script.text.len();
        while self.order.len() > MOST_SCRIPTS || self.bytes > MOST_BYTES {
            let Some((oldest, bytes)) = self.order.pop_front() else { break };
            self.by_sha.remove(&oldest);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

/// What a caller hears about a script that may not run.
pub fn not_built_in() -> Failure {
    Failure::NotAllowed("this gateway runs its built-in scripts only; start it with --allow-scripts".to_owned())
}

/// SHA-1 as Redis computes it, in lower-case hex.
pub fn hash(text: &[u8]) -> String {
    Sha1::from(text).hexdigest()
}

/// The text without `allow-key-locking` in its first line. Where no flag is left the line is emptied, not removed, so that
/// line numbers in error messages stay right; other flags stay.
fn without_upstash_flag(text: &[u8]) -> Cow<'_, [u8]> {
    const FLAG: &str = "allow-key-locking";
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    let Some(shebang) = std::str::from_utf8(first).ok().filter(|line| line.starts_with("#!lua")) else {
        return Cow::Borrowed(text);
    };
    let Some((before, flags)) = shebang.split_once("flags=") else { return Cow::Borrowed(text) };
    let all: Vec<&str> = flags.split(',').map(str::trim).collect();
    if !all.contains(&FLAG) {
        return Cow::Borrowed(text);
    }
    let left: Vec<&str> = all.into_iter().filter(|flag| *flag != FLAG).collect();
    let line = if left.is_empty() { String::new() } else { format!("{before}flags={}", left.join(",")) };
    Cow::Owned([line.as_bytes(), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::PING;

    #[test]
    fn hashes_are_those_of_redis() {
        // `redis-cli script load "return 1"`
        assert_eq!(hash(b"return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn only_built_in_scripts_unless_any_may_come() {
        let cache = ScriptCache::new(false);
        let ping = cache.learn(PING.as_bytes()).unwrap();
        assert_eq!(cache.find(ping.sha.to_uppercase().as_bytes()), Some(Arc::clone(&ping)));
        assert!(matches!(cache.learn(b"return redis.call('FLUSHALL')"), Err(Failure::NotAllowed(_))));
        assert!(matches!(cache.learn(b"return 'PONG' "), Err(Failure::NotAllowed(_))));
        assert_eq!(cache.find(hash(b"return 'PONG' ").as_bytes()), None);
        assert_eq!(cache.find(b"\xff"), None);
    }

    #[test]
    fn the_upstash_flag_is_taken_off_and_both_hashes_lead_to_the_script() {
        let cache = ScriptCache::new(true);
        let sent = b"#!lua flags=allow-key-locking\nreturn 1";
        let script = cache.learn(sent).unwrap();
        assert_eq!(script.text, b"\nreturn 1");
        assert_eq!(cache.find(hash(sent).as_bytes()), Some(Arc::clone(&script)));
        assert_eq!(cache.find(script.sha.as_bytes()), Some(script));
    }

    #[test]
    fn other_first_lines_stay() {
        for (sent, kept) in [
            ("#!lua flags=no-writes, allow-key-locking\nx", "#!lua flags=no-writes\nx"),
            ("#!lua name=a flags=allow-key-locking,allow-stale\nx", "#!lua name=a flags=allow-stale\nx"),
            ("#!lua flags=no-writes\nx", "#!lua flags=no-writes\nx"),
            ("#!lua\nx", "#!lua\nx"),
            ("return 'flags=allow-key-locking'", "return 'flags=allow-key-locking'"),
            ("#!lua flags=allow-key-locking", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&without_upstash_flag(sent.as_bytes())), kept, "{sent}");
        }
    }

    #[test]
    fn memory_is_bounded_and_built_in_scripts_stay() {
        let cache = ScriptCache::new(true);
        for index in 0..2_000 {
            cache.learn(format!("return {index}").as_bytes()).unwrap();
        }
        assert_eq!(cache.len(), MOST_SCRIPTS + built_in().count());
        assert!(cache.find(hash(b"return 0").as_bytes()).is_none());
        assert!(cache.find(hash(b"return 1999").as_bytes()).is_some());
        for index in 0..20 {
            cache.learn(format!("return '{index}{}'", " ".repeat(1_000_000)).as_bytes()).unwrap();
        }
        let known = cache.known.read().unwrap();
        assert!(known.bytes <= MOST_BYTES && known.order.len() < 20);
        drop(known);
        assert!(cache.find(hash(PING.as_bytes()).as_bytes()).is_some());
    }
}
