//! Giving up what only root may do (`user`).

use nix::unistd::geteuid;

use crate::config::Config;
use crate::config::model::Level;
use crate::observe::error_log::{ErrorLog, level_word};
use crate::observe::files::LogFiles;
use crate::process::Identity;

use super::{StartError, emerg, load_group_tls, load_tls};

/// Becomes the configured user, if this process is root's.
pub(super) fn become_user(
    config: &Config,
    logs: &LogFiles,
    log: &ErrorLog,
) -> Result<(), StartError> {
    let Some((name, group)) = &config.main.user else {
        // One that daemonizes is there to stay; others are somebody's try.
        if config.main.daemon && geteuid().is_root() {
            let message =
                "the process runs as the super-user, which it need not: name somebody in \"user\"";
            log.note(Level::Warn, format_args!("{message}"));
        }
        return Ok(());
    };
    let identity = Identity::resolve(name, group.as_deref());
    if !geteuid().is_root() {
        // A service manager has made it that user already.
        if !identity.is_ok_and(|identity| identity.uid() == geteuid()) {
            let message = "the \"user\" directive makes sense only if the process runs with super-user privileges, ignored";
            log.note(Level::Warn, format_args!("{message}"));
        }
        return Ok(());
    }
    assume(
        &identity.map_err(emerg)?,
        config,
        logs,
        &|level, message| {
            log.note(level, format_args!("{message}"));
        },
    )
}

/// The same for `-t`, which ends after it: whoever runs it, what it says and leaves behind is fit for the configured user.
pub(super) fn check(config: &Config, logs: &LogFiles) -> Result<(), StartError> {
    let Some((name, group)) = &config.main.user else {
        return Ok(());
    };
    if !geteuid().is_root() {
        return Ok(());
    }
    let identity = Identity::resolve(name, group.as_deref()).map_err(emerg)?;
    assume(&identity, config, logs, &|level, message| {
        let level = level_word(level);
        eprintln!("ntlmfront: [{level}] {message}");
    })
}

/// Gives logs that root has opened, and perhaps made, to the user who is to write them.
pub(super) fn give_logs(config: &Config, logs: &LogFiles) {
    if let Some((name, group)) = &config.main.user
        && geteuid().is_root()
        && let Ok(identity) = Identity::resolve(name, group.as_deref())
    {
        // What cannot be given away is said by the process that is to write it.
        let _ = logs.change_owner(identity.uid());
    }
}

/// Becomes a user who can write the logs, and warns of keys that root alone may read: from now on they are read as that user.
fn assume(
    identity: &Identity,
    config: &Config,
    logs: &LogFiles,
    note: &dyn Fn(Level, String),
) -> Result<(), StartError> {
    for error in logs.change_owner(identity.uid()) {
        note(Level::Alert, error.to_string());
    }
    identity.assume().map_err(emerg)?;
    let unreadable = [load_tls(config).err(), load_group_tls(config).err()];
    for error in unreadable.into_iter().flatten() {
        note(
            Level::Warn,
            format!("reloads and renewals will fail, since they are made as \"user\": {error}"),
        );
    }
    Ok(())
}
