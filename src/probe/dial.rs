//! Connections to what is probed, always to the same address of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ntlm_origin::client::Connection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::{self, Shown};

use super::target::Target;

/// How long a connection may take to open, and a TLS handshake to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client offers that can speak HTTP/2 (ALPN).
pub(super) const BOTH: &[&[u8]] = &[H2, HTTP_1_1];
pub(super) const H2: &[u8] = b"h2";
pub(super) const HTTP_1_1: &[u8] = b"http/1.1";

/// A connection's bytes, whatever carries them.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection on which HTTP/1.1 is spoken.
pub(super) type Http = Connection<Box<dyn Stream>>;

/// Opens connections to one address.
pub(super) struct Dialer {
    pub(super) target: Target,
    pub(super) address: SocketAddr,
    /// For HTTP/1.1 alone, if TLS is spoken.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// An open connection.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Stream>,
    /// What the handshake agreed upon, if there was one.
    pub(super) session: Option<Session>,
}

/// What a TLS handshake came to.
pub(super) struct Session {
    pub(super) version: &'static str,
    /// The protocol that the server chose of those that were offered (ALPN).
    pub(super) protocol: Option<Vec<u8>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Session {
    /// The server's own certificate.
    pub(super) fn shown(&self) -> Option<Shown> {
        Shown::of(self.chain.first()?)
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unreached {
    /// The name has no address.
    Name(io::Error),
    /// The last of its addresses, and what it said.
    Connect(SocketAddr, io::Error),
    /// The handshake failed.
    Tls(io::Error),
}

impl Dialer {
    /// Finds an address that takes a connection.
    pub(super) async fn find(target: &Target) -> Result<Self, Unreached> {
        let host = (target.host.as_str(), target.port);
        let found = timeout(PATIENCE, tokio::net::lookup_host(host)).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let mut failed = Unreached::Name(io::Error::other("it has no address"));
        for address in found.map_err(Unreached::Name)? {
            match connect(address).await {
                Ok(_) => {
                    let tls = match target.tls {
                        true => Some(client(&target.host, &[HTTP_1_1]).map_err(Unreached::Tls)?),
                        false => None,
                    };
                    return Ok(Self {
                        target: target.clone(),
                        address,
                        tls,
                    });
                }
                Err(error) => failed = Unreached::Connect(address, error),
            }
        }
        Err(failed)
    }

    /// Opens a connection for HTTP/1.1.
    pub(super) async fn open(&self) -> Result<Opened, Unreached> {
        open(self.address, self.tls.as_ref()).await
    }

    /// The same, ready for requests.
    pub(super) async fn http(&self) -> Result<Http, Unreached> {
        Ok(self.speak(self.open().await?))
    }

    /// Speaks HTTP/1.1 on an open connection.
    pub(super) fn speak(&self, opened: Opened) -> Http {
        Connection::over(opened.stream, &self.target.authority())
    }

    /// Opens a connection as a client does that can speak HTTP/2.
    pub(super) async fn open_for_any(&self) -> Result<Opened, Unreached> {
        let tls = client(&self.target.host, BOTH).map_err(Unreached::Tls)?;
        open(self.address, Some(&tls)).await
    }

    /// Looks what others make of a certificate that is shown for the target's name. If they take it, connections from then on are
    /// opened only to who shows one that they take.
    ///
    /// # Errors
    /// Why they do not take it.
    pub(super) fn judge(&mut self, session: &Session) -> Result<(), rustls::Error> {
        if let Some((config, name)) = &mut self.tls {
            tls::judge(&session.chain, name)?;
            *config = tls::trusting_the_system(&[HTTP_1_1])?;
        }
        Ok(())
    }
}

/// What a handshake begins with.
fn client(host: &str, protocols: &[&[u8]]) -> io::Result<(Arc<ClientConfig>, ServerName<'static>)> {
    let config = tls::trusting_anybody(protocols).map_err(io::Error::other)?;
    let name = match host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
    };
    Ok((config, name))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(stream) => {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn open(
    address: SocketAddr,
    tls: Option<&(Arc<ClientConfig>, ServerName<'static>)>,
) -> Result<Opened, Unreached> {
    let stream = connect(address).await;
    let stream = stream.map_err(|error| Unreached::Connect(address, error))?;
    let Some((config, name)) = tls else {
        return Ok(Opened {
            stream: Box::new(stream),
            session: None,
        });
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let shaken = timeout(PATIENCE, connector.connect(name.clone(), stream)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = shaken.map_err(Unreached::Tls)?;
    let session = stream.get_ref().1;
    let session = Session {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS",
        },
        protocol: session.alpn_protocol().map(<[u8]>::to_vec),
        chain: session.peer_certificates().unwrap_or_default().to_vec(),
    };
    Ok(Opened {
        stream: Box::new(stream),
        session: Some(session),
    })
}
