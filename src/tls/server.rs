//! TLS towards clients, as a server block has it.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::CertifiedKey;

use crate::config::model::Tls;

use super::binding::Shown;
use super::certificates::{self, Certificates};
use super::client_certificate::{Asking, ClientRules};
use super::protocols::{provider, versions};
use super::resumption::Timed;

/// The one protocol that is spoken inside (RFC 7301): Windows authentication does not exist in HTTP/2.
const ALPN: &[u8] = b"http/1.1";

/// What handshakes with the clients of a server need.
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    client_rules: Option<Arc<ClientRules>>,
    settings: Tls,
    /// The files as they were when they were last read.
    read: Mutex<Vec<FileState>>,
}

/// What tells that a file is another one, written anew, or one that may be read now: device, inode, length, and the time of the
/// last change, that of its owner and permissions included.
type FileState = Option<(u64, u64, u64, (i64, i64))>;

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = &self.settings.certificates;
        f.debug_tuple("ServerTls").field(files).finish()
    }
}

impl ServerTls {
    /// How a handshake is made.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What is asked of the clients' certificates; `None`: they are not asked for any.
    pub fn client_rules(&self) -> Option<&Arc<ClientRules>> {
        self.client_rules.as_ref()
    }

    /// Reads the files again if they have changed; handshakes that begin from then on are shown what is in them. True if they
    /// did. What is not whole, such as a certificate whose new key has yet to come, changes nothing.
    ///
    /// # Errors
    /// What has changed cannot be used, told once for each change.
    pub fn renew(&self) -> Result<bool, String> {
        let now = states(&self.settings);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *read == now {
            return Ok(false);
        }
        *read = now;
        self.certificates.replace(keys(&self.settings)?);
        Ok(true)
    }

    /// The certificates that clients are shown.
    pub fn shown(&self) -> Vec<Shown> {
        let keys = self.certificates.all();
        let leaves = keys.iter().filter_map(|key| key.cert.first());
        leaves.filter_map(|leaf| Shown::of(leaf)).collect()
    }

    /// The first of its certificates, for messages.
    pub fn name(&self) -> impl fmt::Display {
        let first = self.settings.certificates.first();
        first.map_or_else(String::new, |files| files.certificate.display().to_string())
    }
}

fn states(settings: &Tls) -> Vec<FileState> {
    let files = settings.certificates.iter();
    let paths = files.flat_map(|files| [&files.certificate, &files.key]);
    let state = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Some((found.dev(), found.ino(), found.len(), changed))
    };
    paths.map(state).collect()
}

fn keys(settings: &Tls) -> Result<Vec<Arc<CertifiedKey>>, String> {
    let provider = provider(&settings.protocols);
    let password_file = settings.password_file.as_deref();
    let files = settings.certificates.iter();
    files
        .map(|files| certificates::load(files, password_file, &provider).map(Arc::new))
        .collect()
}

/// Reads the certificates of a server and makes what its handshakes need. `None` for one that rejects them all.
///
/// # Errors
/// A file cannot be read or used: what nginx would write after `[emerg] `.
pub fn load(settings: &Tls) -> Result<Option<Arc<ServerTls>>, String> {
    if settings.rejects {
        return Ok(None);
    }
    // Before they are read, so that a change meanwhile is noticed.
    let read = Mutex::new(states(settings));
    let certificates = Arc::new(Certificates::new(keys(settings)?));
    let provider = Arc::new(provider(&settings.protocols));
    let client_rules = match &settings.client_certificates {
        Some(settings) => Some(Arc::new(ClientRules::load(settings, &provider)?)),
        None => None,
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(&settings.protocols))
        .map_err(|error| error.to_string())?;
    let builder = match &client_rules {
        Some(rules) => builder.with_client_cert_verifier(Arc::new(Asking(Arc::clone(rules)))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = settings.prefer_server_ciphers;
    config.session_storage = match settings.sessions {
        0 => Arc::new(NoServerSessionStorage {}),
        sessions => {
            let cache: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(sessions);
            Arc::new(Timed::new(cache, settings.session_timeout))
        }
    };
    if settings.tickets {
        let tickets = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        config.ticketer = Arc::new(Timed::new(tickets, settings.session_timeout));
    } else if settings.sessions == 0 {
        config.send_tls13_tickets = 0;
    }
    Ok(Some(Arc::new(ServerTls {
        config: Arc::new(config),
        certificates,
        client_rules,
        settings: settings.clone(),
        read,
    })))
}
