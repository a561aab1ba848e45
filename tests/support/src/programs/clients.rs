//! Clients that people use, each run as a process of its own.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{TempDir, user_file};
use crate::ntlm::User;

/// A client that speaks NTLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealClient {
    /// `curl --ntlm`, with curl's own NTLM.
    CurlNtlm,
    /// `curl --negotiate`, with MIT's SPNEGO and gss-ntlmssp.
    CurlNegotiate,
    /// Python's requests with requests-ntlm.
    RequestsNtlm,
    /// Python's httpx with httpx-ntlm.
    HttpxNtlm,
    /// pyspnego's NTLM over Python's http.client.
    PyspnegoNtlm,
    /// pyspnego's SPNEGO over Python's http.client.
    PyspnegoNegotiate,
    /// Headless Chromium with its own NTLM. It believes any certificate.
    Chromium,
}

/// What a client got in the end for one of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `X-Identity`.
    pub identity: Option<String>,
    /// `X-Connection`: the origin's number, or Apache's view of the client's port.
    pub connection: Option<u64>,
}

impl RealClient {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CurlNtlm,
        Self::CurlNegotiate,
        Self::RequestsNtlm,
        Self::HttpxNtlm,
        Self::PyspnegoNtlm,
        Self::PyspnegoNegotiate,
        Self::Chromium,
    ];

    /// Those whose NTLM Apache's takes, with or without a front: not that of `curl --ntlm`, nor Chromium's.
    pub fn known_to_apache() -> impl Iterator<Item = Self> {
        let unknown = [Self::CurlNtlm, Self::Chromium];
        Self::ALL
            .into_iter()
            .filter(move |client| !unknown.contains(client))
    }

    /// Runs the client for `requests` GETs of `url` in turn, and waits for its end.
    ///
    /// The Python ones run under the interpreter that `NTLMFRONT_TEST_PYTHON` names, or else that of `.venv`.
    pub fn get(self, url: &str, user: &User, requests: usize) -> io::Result<Vec<Answer>> {
        self.get_trusting(None, url, user, requests)
    }

    /// The same, and believes certificates that one of this PEM file stands behind.
    pub fn get_trusting(
        self,
        ca: Option<&Path>,
        url: &str,
        user: &User,
        requests: usize,
    ) -> io::Result<Vec<Answer>> {
        let home = TempDir::new()?;
        let mut command = match self {
            Self::CurlNtlm => {
                let mut curl = curl(url, requests);
                curl.args([
                    "--ntlm",
                    "--user",
                    &format!("{}:{}", user.identity(), user.password),
                ]);
                curl
            }
            Self::CurlNegotiate => {
                let users = home.write("users", &user_file(std::slice::from_ref(user)))?;
                let mut curl = curl(url, requests);
                curl.args(["--negotiate", "--user", ":"])
                    .env("NTLM_USER_FILE", users);
                curl
            }
            Self::RequestsNtlm => python("requests_ntlm_client.py", url, user, requests),
            Self::HttpxNtlm => python("httpx_ntlm_client.py", url, user, requests),
            Self::Chromium => python("chromium_client.py", url, user, requests),
            Self::PyspnegoNtlm | Self::PyspnegoNegotiate => {
                let mut python = python("pyspnego_client.py", url, user, requests);
                python.arg(if self == Self::PyspnegoNtlm {
                    "ntlm"
                } else {
                    "negotiate"
                });
                python
            }
        };
        // Neither a user's settings nor a proxy from the environment may change what a client does.
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        if let Some(ca) = ca {
            for name in ["CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"] {
                command.env(name, ca);
            }
        }
        let output = command.env("HOME", home.path()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let answers: Option<Vec<_>> = text.lines().map(Answer::parse).collect();
        answers
            .filter(|answers| output.status.success() && answers.len() == requests)
            .ok_or_else(|| {
                let errors = String::from_utf8_lossy(&output.stderr);
                io::Error::other(format!(
                    "{self:?} ended with {}: {text}{errors}",
                    output.status
                ))
            })
    }
}

impl Answer {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split('\t');
        let status = parts.next()?.parse().ok()?;
        let identity = Some(parts.next()?)
            .filter(|identity| !identity.is_empty())
            .map(str::to_owned);
        let connection = parts.next()?.parse().ok();
        Some(Self {
            status,
            identity,
            connection,
        })
    }
}

fn curl(url: &str, requests: usize) -> Command {
    let mut curl = Command::new("curl");
    curl.args([
        "--disable",
        "--silent",
        "--show-error",
        "--globoff",
        "--max-time",
        "60",
    ]);
    curl.args([
        "--write-out",
        "%{http_code}\\t%header{x-identity}\\t%header{x-connection}\\n",
    ]);
    for _ in 0..requests {
        curl.args(["--output", "/dev/null", url]);
    }
    curl
}

fn python(script: &str, url: &str, user: &User, requests: usize) -> Command {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let interpreter = std::env::var_os("NTLMFRONT_TEST_PYTHON").map_or_else(
        || tests.join("../.venv/bin/python"),
        std::path::PathBuf::from,
    );
    let mut python = Command::new(interpreter);
    python
        .arg(tests.join("clients").join(script))
        .args([url, &user.identity(), &user.password]);
    python
        .arg(requests.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python
}
