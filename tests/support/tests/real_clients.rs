//! The clients that people use, against the origin and against Apache, with nothing between them.

use ntlm_origin::client::{Connection, Scheme};
use ntlm_origin::programs::{Apache, RealClient};
use ntlm_origin::{Origin, OriginOptions, User};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn alice() -> User {
    User::new("EXAMPLE", "alice", "wonderland")
}

fn mistaken_alice() -> User {
    User::new("EXAMPLE", "alice", "Wonderland")
}

#[test]
fn the_origin_lets_them_in() -> Outcome {
    for client in RealClient::ALL {
        let origin = Origin::start(OriginOptions::default())?;
        let answers = client.get(
            &format!("http://{}/private/whoami", origin.addr()),
            &alice(),
            3,
        )?;
        for answer in &answers {
            assert_eq!(
                (answer.status, answer.identity.as_deref()),
                (200, Some("EXAMPLE\\alice")),
                "{client:?}"
            );
            assert_eq!(answer.connection, answers[0].connection, "{client:?}");
        }
    }
    Ok(())
}

#[test]
fn the_origin_keeps_them_out() -> Outcome {
    let origin = Origin::start(OriginOptions::default())?;
    for client in RealClient::ALL {
        let answers = client.get(
            &format!("http://{}/private/whoami", origin.addr()),
            &mistaken_alice(),
            1,
        )?;
        assert_eq!(
            (answers[0].status, answers[0].identity.as_deref()),
            (401, None),
            "{client:?}"
        );
    }
    assert!(origin.log().iter().all(|entry| entry.identity.is_none()));
    Ok(())
}

#[test]
fn apache_knows_them() -> Outcome {
    let apache = Apache::start(&[alice()])?;
    let url = format!("http://{}/private/whoami", apache.addr());
    for client in RealClient::known_to_apache() {
        let answers = client.get(&url, &alice(), 3)?;
        for answer in &answers {
            assert_eq!(
                (answer.status, answer.identity.as_deref()),
                (200, Some("EXAMPLE\\alice")),
                "{client:?}"
            );
            assert_eq!(answer.connection, answers[0].connection, "{client:?}");
        }
        let refused = client.get(&url, &mistaken_alice(), 1)?;
        assert_eq!(
            (refused[0].status, refused[0].identity.as_deref()),
            (401, None),
            "{client:?}"
        );
    }
    Ok(())
}

/// The client of this crate, which tests and load rest on, against a server that is not of this crate.
#[tokio::test]
async fn apache_knows_the_client_of_this_crate() -> Outcome {
    let apache = Apache::start(&[alice()])?;
    for scheme in [
        Scheme::Ntlm,
        Scheme::NegotiateBare,
        Scheme::Negotiate,
        Scheme::NegotiateNamed,
    ] {
        let mut connection = Connection::open(apache.addr()).await?;
        let response = connection
            .login(scheme, "/private/whoami", &alice())
            .await?;
        assert_eq!(response.status, 200, "{scheme:?}");
        assert_eq!(response.headers.first("x-identity"), Some("EXAMPLE\\alice"));
        assert_eq!(connection.get("/private/whoami").await?.status, 200);
        let mut stranger = Connection::open(apache.addr()).await?;
        assert_eq!(
            stranger
                .login(scheme, "/private/whoami", &mistaken_alice())
                .await?
                .status,
            401
        );
    }
    Ok(())
}
