//! TLS towards clients, as a server block has it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions};

use crate::config::model::Tls;

use super::certificates::{self, Certificates};
use super::protocols::{provider, versions};
use super::resumption::Timed;

/// The one protocol that is spoken inside (RFC 7301): Windows authentication does not exist in HTTP/2.
const ALPN: &[u8] = b"http/1.1";

/// Reads the certificates of a server and makes what its handshakes need. `None` for one that rejects them all.
///
/// # Errors
/// A file cannot be read or used: what nginx would write after `[emerg] `.
pub fn load(settings: &Tls) -> Result<Option<Arc<ServerConfig>>, String> {
    if settings.rejects {
        return Ok(None);
    }
    let provider = Arc::new(provider(&settings.protocols));
    let password_file = settings.password_file.as_deref();
    let keys = settings
        .certificates
        .iter()
        .map(|files| certificates::load(files, password_file, &provider).map(Arc::new));
    let keys = Certificates(keys.collect::<Result<_, _>>()?);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(&settings.protocols))
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(keys));
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
    Ok(Some(Arc::new(config)))
}
