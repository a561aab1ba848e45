//! Sessions that clients may resume, for a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::server::{ProducesTickets, StoresServerSessions};

/// Tickets or a cache whose sessions end after `timeout`: `inner` has times of its own, or none.
#[derive(Debug)]
pub(super) struct Timed<T: ?Sized> {
    timeout: Duration,
    inner: Arc<T>,
}

impl<T: ?Sized> Timed<T> {
    pub(super) fn new(inner: Arc<T>, timeout: Duration) -> Self {
        Self { timeout, inner }
    }

    /// A session with the time at which it began.
    fn stamp(session: &[u8]) -> Vec<u8> {
        [&now().to_be_bytes()[..], session].concat()
    }

    /// The session, unless its time is over.
    fn fresh(&self, stamped: Vec<u8>) -> Option<Vec<u8>> {
        let (time, session) = stamped.split_first_chunk::<8>()?;
        let age = now().checked_sub(u64::from_be_bytes(*time))?;
        (age < self.timeout.as_secs()).then(|| session.to_vec())
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

impl ProducesTickets for Timed<dyn ProducesTickets> {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(&Self::stamp(plain))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.fresh(self.inner.decrypt(cipher)?)
    }
}

impl StoresServerSessions for Timed<dyn StoresServerSessions> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.inner.put(key, Self::stamp(&value))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fresh(self.inner.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fresh(self.inner.take(key)?)
    }

    fn can_cache(&self) -> bool {
        self.inner.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end() {
        let cache: Arc<dyn StoresServerSessions> =
            rustls::server::ServerSessionMemoryCache::new(10);
        let timed = |seconds| Timed::new(Arc::clone(&cache), Duration::from_secs(seconds));
        assert!(timed(60).put(b"key".to_vec(), b"session".to_vec()));
        assert_eq!(timed(60).get(b"key"), Some(b"session".to_vec()));
        assert_eq!(timed(60).get(b"other"), None);
        let old = [&(now() - 61).to_be_bytes()[..], b"session"].concat();
        assert_eq!(timed(61).fresh(old.clone()), None);
        assert_eq!(timed(63).fresh(old), Some(b"session".to_vec()));
        let future = [&(now() + 1000).to_be_bytes()[..], b"session"].concat();
        assert_eq!(timed(60).fresh(future), None);
        assert_eq!(timed(60).fresh(b"short".to_vec()), None);
    }
}
