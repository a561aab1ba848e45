//! Who is compared: how each is found, configured and started. The configurations are in `templates/`.

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use crate::cli::CompareArgs;
use crate::listen;
use crate::login::LOGIN_REQUESTS;
use crate::process::Server;
use crate::scenario::{IDLE_WARM_UP, Scenario, Tls, Work};
use crate::tls;

const NGINX_CONF: &str = include_str!("templates/nginx.conf");
const TLS_CONF: &str = include_str!("templates/tls.conf");
const NTLMFRONT_CONF: &str = include_str!("templates/ntlmfront.conf");
const HAPROXY_CFG: &str = include_str!("templates/haproxy.cfg");
const HAPROXY_BIND_TLS: &str = "ssl crt {{certificate}} ssl-min-ver TLSv1.2 alpn http/1.1";
const HAPROXY_SERVER_TLS: &str = "ssl verify none sni str({{server_name}}) no-ssl-reuse";

/// The names that ratios are taken to.
pub(crate) const FLOOR: &str = "floor";
/// See [`FLOOR`].
pub(crate) const NGINX: &str = "nginx";
/// The nginx of `--nginx`.
pub(crate) const NGINX_CUSTOM: &str = "nginx-custom";
/// The front itself, driven by io_uring where it can be.
pub(crate) const NTLMFRONT: &str = "ntlmfront";
/// The front itself, driven by epoll.
pub(crate) const NTLMFRONT_EPOLL: &str = "ntlmfront-epoll";
const HAPROXY: &str = "haproxy";
/// What the names of those end with that log every request.
const LOGGING: &str = "-log";

/// One contender.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// On the command line, and in reports.
    pub(crate) name: String,
    /// What it says about itself, for the report.
    pub(crate) version: String,
    /// Whether a login holds for the connection behind it.
    pub(crate) pins: bool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Floor,
    Ntlmfront { binary: PathBuf, epoll: bool },
    Nginx { binary: PathBuf, template: String },
    Haproxy { binary: PathBuf },
}

/// What a contender is started for.
#[derive(Clone, Debug)]
pub(crate) struct Setting<'a> {
    /// What will be done with it.
    pub(crate) scenario: &'a Scenario,
    /// The server behind it.
    pub(crate) origin: SocketAddr,
    /// Threads or processes.
    pub(crate) workers: usize,
    /// Where those run.
    pub(crate) cores: &'a [usize],
    /// How many descriptors a process may have.
    pub(crate) descriptors: u64,
    /// The certificate and its key, where TLS is spoken.
    pub(crate) certificate: Option<&'a Path>,
}

/// The contenders that were asked for, and a line for each that is left out without having been excluded by name.
pub(crate) fn find(args: &CompareArgs) -> io::Result<(Vec<Contender>, Vec<String>)> {
    let named = |name: &str| args.contenders.iter().any(|other| other == name);
    let wanted = |name: &str| args.contenders.is_empty() || named(name);
    let logging = |name: &str| Some(format!("{name}{LOGGING}")).filter(|name| named(name));
    let mut found = Vec::new();
    let mut notes = Vec::new();
    if wanted(FLOOR) {
        found.push(Contender {
            name: FLOOR.to_owned(),
            version: "blind epoll relay".to_owned(),
            pins: true,
            kind: Kind::Floor,
        });
    }
    let ntlmfront_log = logging(NTLMFRONT);
    if wanted(NTLMFRONT) || wanted(NTLMFRONT_EPOLL) || ntlmfront_log.is_some() {
        let binary = match &args.ntlmfront {
            Some(binary) => binary.clone(),
            None => build_ntlmfront()?,
        };
        if wanted(NTLMFRONT) {
            found.push(ntlmfront(NTLMFRONT, &binary, false));
        }
        if let Some(name) = ntlmfront_log {
            found.push(ntlmfront(&name, &binary, false));
        }
        if wanted(NTLMFRONT_EPOLL) {
            if said(&binary, "--help").contains("--io") {
                found.push(ntlmfront(NTLMFRONT_EPOLL, &binary, true));
            } else {
                notes.push("ntlmfront-epoll is left out: this ntlmfront has no --io".to_owned());
            }
        }
    }
    for (name, binary) in &args.also {
        if wanted(name) {
            found.push(ntlmfront(name, binary, false));
        }
    }
    if wanted(NGINX) {
        found.push(nginx(NGINX, installed("nginx")?, None)?);
    }
    if let Some(name) = logging(NGINX) {
        found.push(nginx(&name, installed("nginx")?, None)?);
    }
    if let Some(binary) = &args.nginx
        && wanted(NGINX_CUSTOM)
    {
        let template = args.nginx_conf.as_deref();
        found.push(nginx(NGINX_CUSTOM, binary.clone(), template)?);
    }
    if wanted(HAPROXY) {
        let binary = match &args.haproxy {
            Some(binary) => binary.clone(),
            None => installed("haproxy")?,
        };
        found.push(Contender {
            name: HAPROXY.to_owned(),
            version: said(&binary, "-v"),
            pins: true,
            kind: Kind::Haproxy { binary },
        });
    }
    for name in &args.contenders {
        let optional = name == NTLMFRONT_EPOLL;
        if !optional && !found.iter().any(|contender| contender.name == *name) {
            return Err(io::Error::other(format!("no contender \"{name}\"")));
        }
    }
    if args.real_ntlm {
        found.retain(|contender| {
            if !contender.pins {
                let name = &contender.name;
                notes.push(format!(
                    "{name} is left out: it shares its upstream connections, full NTLM needs one for each client"
                ));
            }
            contender.pins
        });
    }
    Ok((found, notes))
}

fn ntlmfront(name: &str, binary: &Path, epoll: bool) -> Contender {
    Contender {
        name: name.to_owned(),
        version: said(binary, "-v"),
        pins: true,
        kind: Kind::Ntlmfront {
            binary: binary.to_owned(),
            epoll,
        },
    }
}

fn nginx(name: &str, binary: PathBuf, template: Option<&Path>) -> io::Result<Contender> {
    let template = match template {
        Some(path) => fs::read_to_string(path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?,
        None => NGINX_CONF.to_owned(),
    };
    Ok(Contender {
        name: name.to_owned(),
        version: said(&binary, "-v"),
        // With the module's directive, a login holds.
        pins: template
            .lines()
            .any(|line| line.trim().trim_end_matches(';').split(' ').next() == Some("ntlm")),
        kind: Kind::Nginx { binary, template },
    })
}

/// Builds the front as it is in this workspace; cargo knows whether there is anything to do.
fn build_ntlmfront() -> io::Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "-p",
            "ntlmfront",
            "--bin",
            "ntlmfront",
        ])
        .current_dir(workspace)
        .status()?;
    if !status.success() {
        return Err(io::Error::other("ntlmfront could not be built"));
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    Ok(target.join("release/ntlmfront"))
}

/// A program of Debian's, which may lie where only root's path leads.
fn installed(name: &str) -> io::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            io::Error::other(format!(
                "{name} is not installed: apt-get install {name} (or name others with --contenders)"
            ))
        })
}

/// The first line of what a program says to an option that only makes it speak; everything for `--help`.
fn said(binary: &Path, option: &str) -> String {
    let Ok(output) = Command::new(binary).arg(option).output() else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    match option {
        "--help" => text.into_owned(),
        _ => text.lines().next().unwrap_or_default().to_owned(),
    }
}

impl Contender {
    /// Starts it on a free port.
    pub(crate) fn start(&self, setting: &Setting<'_>) -> io::Result<Server> {
        let dir = tempfile::Builder::new()
            .prefix("ntlmfront-bench-")
            .tempdir()?;
        let addr = listen::free_address()?;
        let words = words(setting, addr, dir.path(), self.access_log(dir.path()));
        let (program, arguments) = match &self.kind {
            Kind::Floor => {
                let listen = format!("--listen={addr}");
                let upstream = format!("--upstream={}", setting.origin);
                let workers = format!("--workers={}", setting.workers);
                let arguments = vec!["floor".to_owned(), listen, upstream, workers];
                (env::current_exe()?, arguments)
            }
            Kind::Ntlmfront { binary, epoll } => {
                let conf = written(dir.path(), "ntlmfront.conf", NTLMFRONT_CONF, &words)?;
                let mut arguments = vec!["-c".to_owned(), conf];
                if *epoll {
                    arguments.extend(["--io".to_owned(), "epoll".to_owned()]);
                }
                (binary.clone(), arguments)
            }
            Kind::Nginx { binary, template } => {
                let conf = written(dir.path(), "nginx.conf", template, &words)?;
                let prefix = dir.path().display().to_string();
                let log = format!("{prefix}/error.log");
                let arguments = ["-c", &conf, "-p", &prefix, "-e", &log].map(str::to_owned);
                (binary.clone(), arguments.to_vec())
            }
            Kind::Haproxy { binary } => {
                let conf = written(dir.path(), "haproxy.cfg", HAPROXY_CFG, &words)?;
                let arguments = ["-db", "-f", &conf].map(str::to_owned);
                (binary.clone(), arguments.to_vec())
            }
        };
        Server::start(&self.name, dir, setting.cores, addr, &program, &arguments)
    }

    /// The arguments of its `access_log`.
    fn access_log(&self, dir: &Path) -> String {
        match self.name.ends_with(LOGGING) {
            true => format!("{}/access.log combined", dir.display()),
            false => "off".to_owned(),
        }
    }

    /// Whether it has a place in a scenario. The floor speaks no TLS. The epoll driver is there to be compared with the other
    /// driver where that says most, unless it was named.
    pub(crate) fn takes_part(&self, scenario: &Scenario, named: &[String]) -> bool {
        match self.name.as_str() {
            FLOOR => scenario.tls == Tls::None,
            NTLMFRONT_EPOLL => {
                !named.is_empty() || matches!(scenario.name, "small-64" | "small-512")
            }
            _ => true,
        }
    }
}

/// The upstream connections that a contender may keep which shares them.
fn kept(scenario: &Scenario) -> usize {
    match scenario.work {
        // Those of the connections that came before stay.
        Work::Idle => scenario.connections + LOGIN_REQUESTS * IDLE_WARM_UP,
        _ => scenario.connections.max(32),
    }
}

/// The servers of nginx's group, all of them the origin. Without a directive for logins nginx has an idle upstream connection for
/// each client only if they are to as many addresses: it takes them in turn and keeps a connection to each.
fn servers(setting: &Setting<'_>) -> String {
    let scenario = setting.scenario;
    match scenario.work {
        Work::Idle => listen::loopback_addresses(setting.origin.port())
            .take(kept(scenario))
            .map(|addr| format!("server {addr};\n"))
            .collect(),
        _ => format!("server {};", setting.origin),
    }
}

/// What stands for the words in double braces. Where a word's text has words in it, they come later.
fn words(
    setting: &Setting<'_>,
    listen: SocketAddr,
    dir: &Path,
    access_log: String,
) -> Vec<(&'static str, String)> {
    let bodies = setting.scenario.moves_bodies();
    let tls = setting.certificate.is_some();
    let reaches_origin = setting.scenario.tls.reaches_origin();
    let yes = |condition, then: &str, otherwise: &str| match condition {
        true => then.to_owned(),
        false => otherwise.to_owned(),
    };
    let certificate = setting.certificate.unwrap_or(Path::new(""));
    let files = setting.descriptors;
    vec![
        ("servers", servers(setting)),
        ("tls", yes(tls, TLS_CONF, "")),
        ("ssl", yes(tls, "ssl", "")),
        ("bind_tls", yes(tls, HAPROXY_BIND_TLS, "")),
        ("server_tls", yes(reaches_origin, HAPROXY_SERVER_TLS, "")),
        ("scheme", yes(reaches_origin, "https", "http")),
        ("certificate", certificate.display().to_string()),
        ("server_name", tls::NAME.to_owned()),
        ("listen", listen.to_string()),
        ("upstream", setting.origin.to_string()),
        ("dir", dir.display().to_string()),
        ("workers", setting.workers.to_string()),
        ("files", files.to_string()),
        ("worker_connections", files.min(16_384).to_string()),
        // Each client takes two descriptors, and some are needed besides.
        (
            "maxconn",
            (files.min(20_000) / 2 - 500.min(files / 4)).to_string(),
        ),
        ("connections", kept(setting.scenario).to_string()),
        (
            "request_buffering",
            yes(setting.scenario.uploads(), "off", "on"),
        ),
        ("reuseport", yes(setting.workers > 1, "reuseport", "")),
        ("splice", yes(bodies, "option splice-auto", "")),
        ("access_log", access_log),
        ("user", yes(geteuid().is_root(), "user root;", "")),
    ]
}

fn written(
    dir: &Path,
    name: &str,
    template: &str,
    words: &[(&'static str, String)],
) -> io::Result<String> {
    let path = dir.join(name);
    fs::write(&path, filled(template, words).map_err(io::Error::other)?)?;
    Ok(path.display().to_string())
}

fn filled(template: &str, words: &[(&'static str, String)]) -> Result<String, String> {
    let text = words
        .iter()
        .fold(template.to_owned(), |text, (word, value)| {
            text.replace(&format!("{{{{{word}}}}}"), value)
        });
    match text.split_once("{{") {
        None => Ok(text),
        Some((_, rest)) => {
            let word = rest.split("}}").next().unwrap_or_default();
            Err(format!("the template has an unknown word: {word}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_completely() {
        for scenario in crate::scenario::all() {
            let setting = Setting {
                scenario: &scenario,
                origin: ([127, 0, 0, 1], 1).into(),
                workers: 2,
                cores: &[0],
                descriptors: 20_000,
                certificate: scenario.tls.key().map(|_| Path::new("/d/key.pem")),
            };
            let listen = ([127, 0, 0, 1], 2).into();
            let words = words(&setting, listen, Path::new("/d"), "off".to_owned());
            for template in [NGINX_CONF, NTLMFRONT_CONF, HAPROXY_CFG] {
                let text = filled(template, &words).unwrap();
                assert!(text.contains("127.0.0.1:2"));
                let servers =
                    text.matches("server 127.").count() + text.matches("server origin").count();
                let idle_nginx = scenario.work == Work::Idle && template == NGINX_CONF;
                assert_eq!(servers > 1, idle_nginx, "{text}");
                let tls = scenario.tls != Tls::None;
                assert_eq!(text.contains("/d/key.pem"), tls, "{}", scenario.name);
            }
            assert!(filled("{{nothing}}", &words).is_err());
        }
    }
}
