//! The memory of `limit_req_zone`, `limit_conn_zone` and `ntlm_fail_delay`, and what becomes of it at a reload.

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::config::model::LimitZone;
use crate::limit::Zone;
use crate::proxy::Deployment;

use super::{StartError, emerg};

/// The zones of a configuration: as nginx, those of the one before where name, use and size are the same.
///
/// # Errors
/// There is not enough memory, or the key of a zone that goes on is another one.
pub(super) fn open(
    config: &Config,
    before: Option<&Deployment>,
) -> Result<Vec<Arc<Zone>>, StartError> {
    let open = |zone: &LimitZone| match before.and_then(|before| kept(zone, before)) {
        None => made(zone),
        Some((known, memory)) if known.key_text == zone.key_text => Ok(memory),
        Some((known, _)) => Err(emerg(format_args!(
            "{} \"{}\" uses the \"{}\" key while previously it used the \"{}\" key",
            match zone.kind.counts() {
                true => "limit_conn_zone",
                false => "limit_req",
            },
            zone.name,
            zone.key_text,
            known.key_text
        ))),
    };
    config.http.limit_zones.iter().map(open).collect()
}

/// Room for failed logins (`ntlm_fail_delay`), in bytes: of some 65,000 addresses.
const LOGINS_BYTES: usize = 1 << 20;

/// Where failed logins are counted, if any location wants that: in what the configuration before it counted in.
///
/// # Errors
/// There is not enough memory.
pub(super) fn logins(
    config: &Config,
    before: Option<&Deployment>,
) -> Result<Option<Arc<Zone>>, StartError> {
    let mut locations = config.http.locations.iter();
    if !locations.any(|location| location.proxy.fail_delay.is_some()) {
        return Ok(None);
    }
    if let Some(known) = before.and_then(|before| before.logins.clone()) {
        return Ok(Some(known));
    }
    let made = Zone::new(LOGINS_BYTES, RandomState::new(), Instant::now());
    made.map(|zone| Some(Arc::new(zone))).map_err(emerg)
}

fn made(zone: &LimitZone) -> Result<Arc<Zone>, StartError> {
    let made = Zone::new(zone.bytes, RandomState::new(), Instant::now());
    made.map(Arc::new).map_err(|error| {
        let LimitZone { name, bytes, .. } = zone;
        emerg(format_args!(
            "{bytes} bytes for shared memory zone \"{name}\" cannot be had ({error})"
        ))
    })
}

/// The zone that goes on as `zone`.
fn kept<'a>(zone: &LimitZone, before: &'a Deployment) -> Option<(&'a LimitZone, Arc<Zone>)> {
    let known = &before.config.http.limit_zones;
    let index = known.iter().position(|known| {
        known.name == zone.name
            && known.bytes == zone.bytes
            && known.kind.counts() == zone.kind.counts()
    })?;
    Some((&known[index], Arc::clone(&before.zones[index])))
}
