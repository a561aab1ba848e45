//! What is answered to who speaks HTTP/2, in which logins of a connection do not exist.

use std::fmt;
use std::time::Duration;

use h2::Reason;
use http::{Request, header};
use tokio::time::timeout;

use super::dial::Stream;
use super::login::AGENT;
use super::target::Target;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of a request without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was answered with this status.
    Status(u16),
    /// The server asks for HTTP/1.1 in its place, and clients follow.
    StepsBack,
    /// Nothing that can be understood.
    None,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::StepsBack => f.write_str("that HTTP/1.1 is required"),
            Self::None => f.write_str("by nothing that can be understood"),
        }
    }
}

/// Asks for the target once.
pub(super) async fn ask(stream: Box<dyn Stream>, target: &Target) -> Answer {
    timeout(PATIENCE, answer(stream, target))
        .await
        .ok()
        .and_then(|answer| {
            answer.unwrap_or_else(|error| match error.reason() {
                Some(Reason::HTTP_1_1_REQUIRED) => Some(Answer::StepsBack),
                _ => None,
            })
        })
        .unwrap_or(Answer::None)
}

async fn answer(stream: Box<dyn Stream>, target: &Target) -> Result<Option<Answer>, h2::Error> {
    let request = Request::get(target.to_string())
        .header(header::USER_AGENT, AGENT)
        .header(header::ACCEPT, "*/*")
        .body(());
    // A target is what was a URL before.
    let Ok(request) = request else {
        return Ok(None);
    };
    let (sender, connection) = h2::client::handshake(stream).await?;
    let ask = async {
        let (response, _) = sender.ready().await?.send_request(request, true)?;
        Ok(Some(Answer::Status(response.await?.status().as_u16())))
    };
    tokio::select! {
        answer = ask => answer,
        // It ends before the answer: why, it says.
        ended = connection => ended.map(|()| None),
    }
}
