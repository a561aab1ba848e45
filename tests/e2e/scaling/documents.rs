//! The examples of `docs/scaling`: each passes the check of the program that it is for, and runs where that can run here.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use ntlm_origin::programs::RealClient;
use ntlm_origin::{Origin, OriginOptions};

use crate::front::{BINARY, Front, eventually};
use crate::prefix::{Ran, Running, get, is_root, run};
use crate::site::alice;
use crate::tls::pki::Pki;
use crate::upgrade::Successor;

use super::network::Network;
use super::{adapted, balancer, document};

/// A checking program with an example.
fn check(program: &str, arguments: &[&str], file: &Path) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).arg(file);
    run(command)
}

/// What `manifests.py` makes of the manifests: an answer, and in the directory the pieces that can be run.
fn manifests(file: &Path, out: &Path) -> Ran {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = std::env::var_os("NTLMFRONT_TEST_PYTHON")
        .map_or_else(|| root.join(".venv/bin/python"), PathBuf::from);
    let mut command = Command::new(interpreter);
    command
        .arg(root.join("tests/e2e/scaling/manifests.py"))
        .args([file, out]);
    run(command)
}

fn words(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn the_examples_are_right_and_mistakes_in_them_would_show() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_owned();
    type Check<'a> = &'a dyn Fn(&Path) -> Ran;
    let haproxy: Check = &|file| check("/usr/sbin/haproxy", &["-c", "-f"], file);
    let keepalived: Check = &|file| check("/usr/sbin/keepalived", &["--config-test", "-f"], file);
    let kubernetes: Check = &|file| manifests(file, &out);
    for (name, check, right, wrong) in [
        ("haproxy.cfg", haproxy, "send-proxy-v2", "send-proxy-v3"),
        (
            "haproxy.cfg",
            haproxy,
            "default_backend fronts",
            "default_backend front",
        ),
        (
            "keepalived.conf",
            keepalived,
            "inhibit_on_failure",
            "inhibit",
        ),
        ("keepalived.conf", keepalived, "lvs_timeouts", "lvs_timeout"),
        (
            "kubernetes.yaml",
            kubernetes,
            "externalTrafficPolicy",
            "externalTraficPolicy",
        ),
        (
            "kubernetes.yaml",
            kubernetes,
            "terminationGracePeriodSeconds",
            "terminationGracePeriod",
        ),
        (
            "kubernetes.yaml",
            kubernetes,
            "worker_shutdown_timeout 60s",
            "worker_shutdown_timeout 90s",
        ),
        (
            "kubernetes.yaml",
            kubernetes,
            "targetPort: https",
            "targetPort: http",
        ),
    ] {
        let ran = check(&document(name));
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
        let file = directory.path().join(name);
        fs::write(&file, adapted(name, &[(right, wrong)])).unwrap();
        assert_ne!(check(&file).code, Some(0), "{name} with {wrong}");
    }
}

/// Both as they are documented, but for addresses: with TLS from the client to the front, and checks that speak it, too.
#[test]
fn the_documented_front_serves_behind_the_documented_balancer() {
    let origin = Origin::start(OriginOptions::default()).unwrap();
    let pki = Pki::new();
    let path = |name: &str| pki.path(name).display().to_string();
    let text = adapted(
        "front.conf",
        &[
            ("192.0.2.21:443", &origin.addr().to_string()),
            ("        server 192.0.2.22:443;\n", ""),
            ("https://exchange", "http://exchange"),
            ("listen 443", "listen 127.0.0.1:0"),
            ("certs/mail.example.com.pem", &path("mail.pem")),
            ("certs/mail.example.com.key", &path("mail.key")),
            ("set_real_ip_from 192.0.2.1;", "set_real_ip_from 127.0.0.1;"),
        ],
    );
    let (main, http) = text.split_once("http {").unwrap();
    let (http, _) = http.rsplit_once('}').unwrap();
    let front = Front::start_main(main, http);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // Nobody listens at the second.
    let fronts = [&*front.addr(0).to_string(), "127.0.0.1:1"];
    let balancer = balancer(listener, fronts, &[]);
    eventually("the checks find one well and one not", || {
        let is = |name, column, value| balancer.stat("fronts", name, column) == value;
        (is("a", "status", "UP") && is("a", "check_code", "200") && is("b", "status", "DOWN"))
            .then_some(())
    });
    let ca = pki.path("mail.pem");
    let url = format!("https://{addr}/private/whoami");
    let answers = RealClient::CurlNtlm.get_trusting(Some(&ca), &url, &alice(), 3);
    for answer in answers.unwrap() {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.identity, Some(alice().identity()));
    }
    let log = front.error_log();
    assert!(!log.contains("[error]"), "{log}");
}

/// A container that ends with its value: a process of number 1, with the rights that the manifest gives it.
struct Container {
    /// Its process, by the number that everybody else knows it by.
    process: Successor,
    running: Running,
}

impl Container {
    fn start(network: &Network, words: &[String]) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            // Its outputs are its user's, as runtimes have it.
            .args([
                "sh",
                "-c",
                "chown 10001 /dev/stdout /dev/stderr; exec \"$0\" \"$@\"",
            ])
            .args([
                "setpriv",
                "--reuid=10001",
                "--regid=10001",
                "--clear-groups",
            ])
            .args(["--no-new-privs", "--bounding-set=-all", "--"])
            .args(words)
            .current_dir("/");
        let running = network.within(|| Running::start(command));
        let children = format!("/proc/{0}/task/{0}/children", running.pid());
        let process = eventually("the container has a process", || {
            let children = fs::read_to_string(&children).ok()?;
            children.trim().parse().ok().map(Successor)
        });
        Self { process, running }
    }

    /// As Kubernetes runs a command in it.
    fn exec(&self, words: &[String], delay: &str) -> Running {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--pid",
                "--mount",
                "--net",
                "--target",
                &self.process.0.to_string(),
            ])
            .args(["--setuid=10001", "--setgid=10001", "--"])
            .args(words)
            .env("DRAIN_DELAY", delay);
        Running::start(command)
    }
}

/// What the manifest says is started and stopped as Kubernetes does it: whoever comes before the balancers know is served, and
/// whoever is being served gets his answer.
#[test]
fn the_pod_of_the_manifests_drains() {
    if !is_root() {
        return;
    }
    let Ok(network) = Network::new() else {
        println!("skipped: this process may make no networks");
        return;
    };
    network.ip("link set lo up").unwrap();
    let origin = network.within(|| Origin::start(OriginOptions::default()).unwrap());
    let mut pki = Pki::new();
    pki.add("tls", &["mail.test"]);
    let home = tempfile::tempdir().unwrap();
    let in_home = |name: &str| home.path().join(name).display().to_string();
    assert_eq!(
        manifests(&document("kubernetes.yaml"), home.path()).code,
        Some(0)
    );
    for name in ["run", "tls"] {
        fs::create_dir(home.path().join(name)).unwrap();
    }
    for (from, to) in [("tls.pem", "tls/tls.crt"), ("tls.key", "tls/tls.key")] {
        fs::copy(pki.path(from), home.path().join(to)).unwrap();
    }
    // Not by this process: while another thread forks, a file that is being written here cannot be run.
    let copied = Command::new("cp")
        .args([BINARY, &in_home("ntlmfront")])
        .status();
    assert!(copied.unwrap().success());
    let owned = Command::new("chown")
        .args(["-R", "10001:10001"])
        .arg(home.path())
        .status();
    assert!(owned.unwrap().success());
    let configuration = fs::read_to_string(home.path().join("front.conf")).unwrap();
    let mut configuration = configuration
        .replace("/tls/", &(in_home("tls") + "/"))
        .replace("/run/ntlmfront", &in_home("run"));
    for (from, to) in [
        (
            "server 192.0.2.21:443;",
            &*format!("server {};", origin.addr()),
        ),
        ("server 192.0.2.22:443;", ""),
        ("https://exchange", "http://exchange"),
    ] {
        assert!(configuration.contains(from), "{from}");
        configuration = configuration.replace(from, to);
    }
    fs::write(home.path().join("front.conf"), configuration).unwrap();
    let command: Vec<String> = words(&home.path().join("command"))
        .iter()
        .map(|word| match &**word {
            "ntlmfront" => in_home("ntlmfront"),
            word => word
                .replace("/etc/ntlmfront", &in_home(""))
                .replace("/run/ntlmfront", &in_home("run")),
        })
        .collect();
    let container = Container::start(&network, &command);
    let probe = || network.within(|| get("127.0.0.1:8080".parse().unwrap(), "/healthz").ok());
    eventually("it is ready", || {
        probe().filter(|(status, _)| *status == 200)
    });
    let ca = pki.path("tls.pem");
    let ask = |path: &str| {
        let url = format!("https://127.0.0.1:8443{path}");
        let answers =
            network.within(|| RealClient::CurlNtlm.get_trusting(Some(&ca), &url, &alice(), 1));
        answers.unwrap().remove(0)
    };
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| ask("/private/slow/7000"));
        eventually("a request is on its way", || {
            let log = origin.log();
            log.iter()
                .any(|entry| entry.identity.is_some())
                .then_some(())
        });
        let hook = container.exec(&words(&home.path().join("hook")), "2");
        // The hook waits: new logins are taken.
        assert_eq!(ask("/private/whoami").identity, Some(alice().identity()));
        eventually("it takes no more", || probe().is_none().then_some(()));
        assert!(!slow.is_finished(), "the answer is not there yet");
        assert_eq!(slow.join().unwrap().status, 200);
        let Container { running, process } = container;
        let ran = running.wait();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("gracefully shutting down"), "{ran:?}");
        assert!(
            ran.stdout.contains("GET /private/slow/7000 HTTP/1.1\" 200"),
            "{ran:?}"
        );
        drop(process);
        // It ends with the container.
        hook.wait();
    });
}
