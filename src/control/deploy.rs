//! A configuration, and everything that it names, read and opened: certificates, logs and zones.

use std::sync::Arc;

use crate::config::model::{Group, Server};
use crate::config::{self, Config, System};
use crate::observe::Log;
use crate::observe::error_log::ErrorLog;
use crate::observe::files::LogFiles;
use crate::proxy::Deployment;
use crate::tls::{self, GroupTls, ServerTls};

use super::binding::{self, Bindings, Compared};
use super::{Source, StartError, emerg, zones};

/// A configuration that was read, and with it the certificates that it names.
pub(super) struct Loaded {
    pub(super) config: Config,
    tls: Vec<Option<Arc<ServerTls>>>,
    group_tls: Vec<Option<GroupTls>>,
}

impl Loaded {
    pub(super) fn with(config: Config) -> Result<Self, StartError> {
        Ok(Self {
            tls: load_tls(&config)?,
            group_tls: load_group_tls(&config)?,
            config,
        })
    }

    /// Compares certificates where `ntlm_channel_binding require` holds.
    ///
    /// # Errors
    /// They do not fit.
    pub(super) async fn require_bindings(&self, log: &Arc<ErrorLog>) -> Result<(), StartError> {
        let compared = Compared {
            config: &self.config,
            tls: &self.tls,
            group_tls: &self.group_tls,
        };
        if !compared.is_required() {
            return Ok(());
        }
        let (report, fits) = Bindings::default().check(&compared).await;
        if fits.is_err() {
            binding::note(&report, log);
        }
        fits.map_err(emerg)
    }
}

/// Reads the configuration again, which can take long and changes nothing: names are looked up, and servers asked for their
/// certificates. `None` if there is nothing to read.
pub(super) async fn load(source: Source, log: Arc<ErrorLog>) -> Result<Option<Loaded>, StartError> {
    let Source::Files(options) = source else {
        return Ok(None);
    };
    let read = move || {
        let config = config::load(&options, &System, &System);
        Loaded::with(config.map_err(emerg)?)
    };
    let loaded = tokio::task::spawn_blocking(read).await.map_err(emerg)??;
    loaded.require_bindings(&log).await?;
    Ok(Some(loaded))
}

/// Opens everything else that a configuration names; what the one before it counted goes on.
pub(super) fn deploy(
    loaded: Loaded,
    listen_ids: Vec<u64>,
    logs: &mut LogFiles,
    before: Option<&Deployment>,
) -> Result<Arc<Deployment>, StartError> {
    let Loaded {
        config,
        tls,
        group_tls,
    } = loaded;
    let main_log = Arc::new(ErrorLog::open(&config.main.error_logs, logs).map_err(emerg)?);
    let LocationLogs { errors, accesses } = open_logs(&config, logs, &main_log)?;
    let zones = zones::open(&config, before)?;
    let logins = zones::logins(&config, before)?;
    Ok(Arc::new(Deployment {
        config,
        zones,
        tls,
        group_tls,
        logins,
        error_logs: errors,
        access_logs: accesses,
        listen_ids,
        main_log,
    }))
}

/// For each server, how its handshakes are made.
pub(super) fn load_tls(config: &Config) -> Result<Vec<Option<Arc<ServerTls>>>, StartError> {
    let load = |server: &Server| match &server.tls {
        Some(settings) => tls::load(settings).map_err(emerg),
        None => Ok(None),
    };
    config.http.servers.iter().map(load).collect()
}

/// For each group, how handshakes with its servers are made.
pub(super) fn load_group_tls(config: &Config) -> Result<Vec<Option<GroupTls>>, StartError> {
    let load = |group: &Group| match &group.tls {
        Some(settings) => tls::load_group(settings).map(Some).map_err(emerg),
        None => Ok(None),
    };
    config.http.groups.iter().map(load).collect()
}

/// For each location, where its errors go, and the logs of its `access_log` lines.
pub(super) struct LocationLogs {
    errors: Vec<Arc<ErrorLog>>,
    accesses: Vec<Vec<Arc<Log>>>,
}

pub(super) fn open_logs(
    config: &Config,
    logs: &mut LogFiles,
    main_log: &Arc<ErrorLog>,
) -> Result<LocationLogs, StartError> {
    let mut errors = Vec::with_capacity(config.http.locations.len());
    let mut accesses = Vec::with_capacity(config.http.locations.len());
    for location in &config.http.locations {
        errors.push(if location.error_logs == config.main.error_logs {
            Arc::clone(main_log)
        } else {
            Arc::new(ErrorLog::open(&location.error_logs, logs).map_err(emerg)?)
        });
        let files = location
            .access_logs
            .iter()
            .map(|log| logs.open(&log.target));
        accesses.push(files.collect::<Result<Vec<_>, _>>().map_err(emerg)?);
    }
    Ok(LocationLogs { errors, accesses })
}
