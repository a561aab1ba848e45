//! Findings in plain words: the cause, and what to do about it.

use std::fmt;
use std::io;

use ntlm_origin::ntlm::ServerNames;
use rustls::CertificateError;

use crate::observe::cause::Cause;
use crate::observe::escape::Escaped;

use super::crowd::Crowd;
use super::dial::Unreached;
use super::finding::{Doubt, Finding, Proof, Shift};
use super::http2;

impl Finding {
    /// What to do about it.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::Unreached(unreached) => unreached_advice(unreached).to_owned(),
            Self::Certificate(..) => "Show a certificate that is valid, for this name, and from an authority that \
                clients trust; the intermediate certificates belong into the same file. (This machine's own list counts \
                here; SSL_CERT_FILE names another.)".to_owned(),
            Self::Http2Only => "Have the front speak HTTP/1.1: Windows authentication logs a connection in, and HTTP/2 \
                mixes everybody's requests on one.".to_owned(),
            Self::Http2Preferred(http2::Answer::StepsBack) => String::new(),
            Self::Http2Preferred(_) => "Turn HTTP/2 off in the front for this name. Browsers may step back to HTTP/1.1 \
                by themselves, other programs ask for the password again and again.".to_owned(),
            Self::NoHttp(_) => "See what listens there. If it speaks TLS, probe it with https://.".to_owned(),
            Self::TooLarge => "Probe the path of a small page.".to_owned(),
            Self::Redirected(to) => {
                // It is meant to be copied to a shell.
                let to = to.replace('\'', "%27");
                format!("Probe where it leads: ntlmfront --probe '{}'", Escaped(to.as_bytes()))
            }
            Self::NotAsked(_) => "Probe a path that needs a login (/ews/exchange.asmx, /rpc/rpcproxy.dll, a SharePoint \
                site). If this one should need one, turn anonymous authentication off in the server, and see that the \
                front adds no credentials of its own.".to_owned(),
            Self::ForwardProxy => "Probe the front or the server itself. Where clients come through a forward proxy, it \
                must tunnel (CONNECT, so https://), or the login is the proxy's and everybody shares it.".to_owned(),
            Self::Unserved(status) => unserved_advice(*status).to_owned(),
            Self::Stripped => "Let WWW-Authenticate through: a front or firewall on the way removes it.".to_owned(),
            Self::WrongScheme(_) => "Turn Windows authentication on in the server (IIS: Authentication, Windows \
                Authentication, Providers: Negotiate and NTLM), or use clients that log in as it is offered.".to_owned(),
            Self::KerberosOnly => "Clients need a ticket: the name in the URL must be a service principal (setspn -Q \
                HTTP/NAME) and reachable controllers. Or let the server take NTLM too (IIS: Providers: Negotiate in \
                place of Negotiate:Kerberos, or NTLM).".to_owned(),
            Self::NotChallenged => "Let Authorization through to the server: a front or firewall on the way removes or \
                replaces it. If it does not, NTLM is denied in the server's domain (policy \"Restrict NTLM\").".to_owned(),
            Self::BadChallenge => "See what answers: it says NTLM and sends no sound challenge.".to_owned(),
            Self::NotKept(_) => "Give each client connection that sends credentials a server connection of its own, for \
                as long as it lives (ntlmfront: `ntlm;` in the upstream block), or pass TCP through. Every front, \
                balancer and firewall on the way has to. Probe them one by one, from the server outwards, to find the \
                one that does not.".to_owned(),
            Self::Inherited(_) => "Take the front out of use, or have it share no connections (no keepalive to the \
                servers), until each login has a server connection of its own (ntlmfront: `ntlm;` in the upstream \
                block). This is how one person is shown another's mail.".to_owned(),
            Self::Differs(_) => "Probe each server behind the front by itself: one that asks for no login has anonymous \
                authentication on, and the others have not. If all of them ask, connections are shared that somebody is \
                logged in on, and one person is shown another's mail: take the front out of use until each login has a \
                server connection of its own (ntlmfront: `ntlm;` in the upstream block).".to_owned(),
            Self::ChannelBinding(_) => "Install the server's own certificate, with its key, in the front, and pass to \
                the server with https:// (SSL bridging). Or, less safe, set Extended Protection in the server to off or \
                to accept.".to_owned(),
            Self::Refused(doubt) => refused_advice(*doubt),
            Self::BrokenByTheFront => "Look at what lies between: the login has to stay on one connection, with \
                Authorization and WWW-Authenticate as they are (ntlmfront: `ntlm;` in the upstream block, and \
                `error_log … info` says how each login ended).".to_owned(),
            Self::Unjudged(status) => unserved_advice(*status).to_owned(),
            Self::Lost(_) => "Look into the front's and the server's error logs at this time. A front that gives up \
                connections between requests breaks logins as well.".to_owned(),
            Self::DoesNotLast => "If the server is to ask for each request (IIS: authPersistSingleRequest), nothing. If \
                not, something on the way changes server connections behind the login: give it one of its own \
                (ntlmfront: `ntlm;` in the upstream block).".to_owned(),
            Self::ClosesAfterLogin => "Have the front keep client connections open (keepalive_timeout above 0), and the \
                server too: otherwise each request logs in anew.".to_owned(),
            Self::NotTried | Self::PerRequest | Self::BehindUnreached(_) => String::new(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreached(unreached) => write!(f, "{unreached}."),
            Self::Certificate(error, expires) => certificate(f, error, *expires),
            Self::NotTried => f.write_str("no login was tried: whoever shows such a certificate may be somebody in between, \
                who could use the login elsewhere, or guess the password from it. SSL_CERT_FILE names certificates to \
                trust; --insecure logs in all the same."),
            Self::Http2Only => f.write_str("only HTTP/2 is spoken here, and Windows authentication does not exist in it."),
            Self::Http2Preferred(answer) => {
                f.write_str("clients that can speak HTTP/2 are made to, and Windows authentication does not exist in it")?;
                match answer {
                    http2::Answer::StepsBack => f.write_str("; the server sends them back to HTTP/1.1, which clients \
                        follow."),
                    _ => f.write_str("."),
                }
            }
            Self::NoHttp(error) => write!(f, "what is answered is no HTTP/1.1 ({}).", Words(error)),
            Self::TooLarge => f.write_str("the answer is too large to be read to its end."),
            Self::Redirected(to) => write!(f, "nothing asks for a login here: it redirects to {}.", Escaped(to.as_bytes())),
            Self::NotAsked(status) => write!(f, "nothing asks for a login here: a request without credentials is \
                answered {status}."),
            Self::ForwardProxy => f.write_str("a forward proxy answers and asks for a login of its own (407)."),
            Self::Unserved(status) => write!(f, "a request without credentials is answered {status}, which is about no \
                login."),
            Self::Stripped => f.write_str("401 comes without WWW-Authenticate, so that no client knows how to log in."),
            Self::WrongScheme(schemes) => {
                let schemes = schemes.join(", ");
                write!(f, "wrong scheme: only {} is offered, neither NTLM nor Negotiate.", Escaped(schemes.as_bytes()))
            }
            Self::KerberosOnly => f.write_str("wrong scheme: Negotiate is offered without NTLM inside, so that only \
                Kerberos logs in."),
            Self::NotChallenged => f.write_str("NTLM is offered, but its first message is answered as if no credentials \
                had come."),
            Self::BadChallenge => f.write_str("the challenge is none that NTLM version 2 can answer."),
            Self::NotKept(shift) => write!(f, "the login is not kept on one connection: {shift}."),
            Self::Inherited(crowd) => write!(f, "UNSAFE: logins are inherited: {}.", LetIn(crowd)),
            Self::Differs(crowd) => write!(f, "UNSAFE: logins are inherited, or one of several servers asks for none: {}.",
                LetIn(crowd)),
            Self::ChannelBinding(Proof::Unbound) => f.write_str("channel binding mismatch: a login that is bound to the \
                certificate shown here is refused, and one that is bound to none is taken. The server behind checks \
                against another certificate (Extended Protection)."),
            Self::ChannelBinding(Proof::Behind(subject)) => write!(f, "channel binding mismatch: only a login that is \
                bound to the certificate of the server behind ({}) is taken, and clients are shown another one here, or none \
                (Extended Protection).", Escaped(subject.as_bytes())),
            Self::Refused(doubt) => refused(f, *doubt),
            Self::BrokenByTheFront => f.write_str("the front breaks the login: the same name and password are taken by \
                the server behind."),
            Self::Unjudged(status) => write!(f, "a leg of the login is answered {status}, which is no verdict on it."),
            Self::Lost(error) => write!(f, "a request gets no answer ({}).", Words(error)),
            Self::DoesNotLast => f.write_str("the login does not last: the next request on the same connection is asked \
                to log in again."),
            Self::ClosesAfterLogin => f.write_str("the answer to the login ends the connection, and with it the login."),
            Self::PerRequest => f.write_str("the server asks each request to log in (Persistent-Auth: false). That \
                works and costs time."),
            Self::BehindUnreached(why) => write!(f, "the server behind could not be compared: {why}."),
        }
    }
}

/// How many strangers were not asked to log in.
struct LetIn<'a>(&'a Crowd);

impl fmt::Display for LetIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let let_in = self.0.let_in;
        match self.0.asked_to_log_in + let_in {
            1 => f.write_str("a connection that never sent credentials was let in"),
            all => write!(
                f,
                "of {all} connections that never sent credentials, {let_in} were let in"
            ),
        }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closing => f.write_str("the answer to its first leg closes the connection"),
            Self::Forgotten => f.write_str(
                "its second leg is answered as if there had been no first, so it reached \
                another connection of the server",
            ),
            Self::OtherServer(one, other) => {
                let (one, other) = (Names(one), Names(other));
                write!(
                    f,
                    "two challenges on one connection came from two servers, {one} and {other}"
                )
            }
            Self::BegunAnew => f.write_str(
                "its last leg is answered by another challenge, so it reached a connection \
                that knows nothing of the first",
            ),
            Self::TwoAtOnce => f.write_str(
                "it succeeds alone, and fails when another one is made at the same time",
            ),
            Self::Taken => f.write_str("it was gone when others had asked for something"),
        }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "the name has no address ({})", Words(error)),
            Self::Connect(address, error) => {
                write!(f, "{address} cannot be reached ({})", Words(error))
            }
            Self::Tls(error) if is_no_tls(error) => f.write_str("no TLS is spoken here"),
            Self::Tls(error) => write!(f, "the TLS handshake fails ({})", Words(error)),
        }
    }
}

/// An error in the system's words, or in those of whoever made it.
pub(super) struct Words<'a>(pub(super) &'a io::Error);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            _ if self.0.raw_os_error().is_some() => Cause::from(self.0).fmt(f),
            io::ErrorKind::TimedOut => f.write_str("no answer in time"),
            io::ErrorKind::UnexpectedEof => f.write_str("the connection was closed"),
            // What others sent may be in it.
            _ => Escaped(self.0.to_string().as_bytes()).fmt(f),
        }
    }
}

/// Whom a server says that it is: `DOMAIN\COMPUTER`.
pub(super) struct Names<'a>(pub(super) &'a ServerNames);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [domain, computer] = [&self.0.domain, &self.0.computer].map(|it| it.as_bytes());
        write!(f, "{}\\{}", Escaped(domain), Escaped(computer))
    }
}

/// What came in place of a handshake was none of TLS.
fn is_no_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType
                | rustls::InvalidMessage::UnknownProtocolVersion
        ))
    )
}

fn certificate(f: &mut fmt::Formatter<'_>, error: &rustls::Error, expires: i64) -> fmt::Result {
    let rustls::Error::InvalidCertificate(error) = error else {
        return write!(f, "clients do not take the certificate ({error}).");
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            write!(f, "the certificate has expired on {}.", date(expires))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            f.write_str("the certificate is not valid yet.")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            f.write_str("the certificate is for another name.")
        }
        // Of another one of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            f.write_str("nobody that this machine trusts stands behind the certificate.")
        }
        error => write!(f, "clients do not take the certificate ({error})."),
    }
}

fn refused(f: &mut fmt::Formatter<'_>, doubt: Doubt) -> fmt::Result {
    f.write_str("the login is refused, 401 after its last leg, so that clients ask for the password again and again: \
        wrong name or password, or the account is locked, disabled, expired or has no right to this page")?;
    f.write_str(match doubt {
        Doubt::None => ".",
        Doubt::Kept => "; or its legs do not arrive on one connection, which could not be seen here.",
        Doubt::Binding => "; or the server requires logins bound to another certificate than the one shown here \
            (Extended Protection).",
        Doubt::Both => "; or its legs do not arrive on one connection; or the server requires logins bound to another \
            certificate than the one shown here (Extended Protection).",
    })
}

fn refused_advice(doubt: Doubt) -> String {
    let mut advice = "Check name, domain and password. The server's security log says why (event 4625), and IIS's log \
        in sc-win32-status: 2148074252 is the password or the account, 2148074248 a leg on another connection, \
        2148074310 a wrong channel binding.".to_owned();
    if doubt != Doubt::None {
        advice += " To have the causes told apart, name the server behind the front: --behind https://SERVER.";
    }
    advice
}

fn unreached_advice(unreached: &Unreached) -> &'static str {
    match unreached {
        Unreached::Name(_) => "Check the name, and whether this machine's DNS knows it.",
        Unreached::Connect(..) => {
            "See whether the front runs and listens there, and whether a firewall is on the way."
        }
        Unreached::Tls(error) if is_no_tls(error) => {
            "Probe it with http://, or have the front speak TLS there (ntlmfront: `listen … ssl`)."
        }
        Unreached::Tls(_) => {
            "Have the front speak TLS 1.2 or 1.3 with usual suites, and show a certificate for this name."
        }
    }
}

fn unserved_advice(status: u16) -> &'static str {
    match status {
        502..=504 => {
            "The front cannot have the request answered: see its error log for the server behind."
        }
        400 | 431 => {
            "The request or its credentials are refused as they are: see the front's error log (ntlmfront: `error_log … \
                info` names the rule), and the size of heads that it takes."
        }
        407 => "A proxy on the way asks for a login of its own.",
        429 => "A limit on the way refuses it: wait, or probe from elsewhere.",
        300..=399 | 403 | 404 => {
            "Others were asked to log in before. A limit or a filter on the way answers so who asks often (IIS: Dynamic IP \
                Restrictions): wait, or probe from elsewhere. Or one of several servers does: probe them one by one."
        }
        _ => "See the server's log for this request.",
    }
}

/// A day, of seconds since 1970: `2026-11-26`.
pub(super) fn date(seconds: i64) -> impl fmt::Display {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d")
}
