//! The origin and the client that this crate brings, one against the other.

use std::io;
use std::time::Duration;

use ntlm_origin::client::{Connection, Handshake, Scheme, ticket};
use ntlm_origin::{Kerberos, LoginPaths, Origin, OriginOptions, User};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SCHEMES: [Scheme; 5] = [
    Scheme::Ntlm,
    Scheme::NegotiateBare,
    Scheme::Negotiate,
    Scheme::NegotiateNamed,
    Scheme::NegotiateAfterKerberos,
];

fn alice() -> User {
    User::new("EXAMPLE", "alice", "wonderland")
}

fn origin(kerberos: Kerberos) -> io::Result<Origin> {
    Origin::start(OriginOptions {
        kerberos,
        ..OriginOptions::default()
    })
}

#[tokio::test]
async fn a_login_holds_for_its_connection_alone() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    for scheme in SCHEMES {
        let mut mine = Connection::open(origin.addr()).await?;
        let mut other = Connection::open(origin.addr()).await?;
        assert_eq!(mine.get("/private/whoami").await?.status, 401);
        let response = mine.login(scheme, "/private/whoami", &alice()).await?;
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "EXAMPLE\\alice"),
            "{scheme:?}"
        );
        assert_eq!(response.headers.first("persistent-auth"), Some("true"));
        let again = mine.get("/private/whoami").await?;
        assert_eq!(again.text(), "EXAMPLE\\alice");
        assert_eq!(
            again.headers.first("x-connection"),
            response.headers.first("x-connection")
        );
        assert_eq!(other.get("/whoami").await?.text(), "anonymous");
        assert_eq!(other.get("/private/whoami").await?.status, 401);
    }
    let log = origin.log();
    assert!(
        log.iter()
            .any(|entry| entry.connection == 1
                && entry.identity.as_deref() == Some("EXAMPLE\\alice"))
    );
    assert!(
        log.iter()
            .all(|entry| entry.connection != 2 || entry.identity.is_none())
    );
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_ends_what_was() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    let wrong = User::new("EXAMPLE", "alice", "Wonderland");
    for scheme in SCHEMES {
        let mut connection = Connection::open(origin.addr()).await?;
        assert_eq!(
            connection.login(scheme, "/whoami", &alice()).await?.status,
            200
        );
        let response = connection.login(scheme, "/whoami", &wrong).await?;
        let offers: Vec<_> = response.headers.all("www-authenticate").collect();
        assert_eq!(
            (response.status, offers),
            (401, vec!["Negotiate", "NTLM"]),
            "{scheme:?}"
        );
        assert_eq!(connection.get("/whoami").await?.text(), "anonymous");
    }
    Ok(())
}

#[tokio::test]
async fn the_legs_of_a_login_belong_to_one_connection() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    let user = alice();
    let mut first = Connection::open(origin.addr()).await?;
    let mut second = Connection::open(origin.addr()).await?;
    let (mut handshake, opening) = Handshake::begin(Scheme::Ntlm, &user);
    let challenge = first
        .request("GET", "/whoami", &[("Authorization", &opening)], b"")
        .await?;
    let other = second
        .request("GET", "/whoami", &[("Authorization", &opening)], b"")
        .await?;
    assert_eq!((challenge.status, other.status), (401, 401));
    let answer = handshake.next(&challenge).ok_or("no answer")?;
    assert_eq!(
        second
            .request("GET", "/whoami", &[("Authorization", &answer)], b"")
            .await?
            .status,
        401
    );
    assert_eq!(
        first
            .request("GET", "/whoami", &[("Authorization", &answer)], b"")
            .await?
            .status,
        200
    );
    Ok(())
}

#[tokio::test]
async fn tickets_bind_or_do_not() -> Outcome {
    for (kerberos, afterwards) in [
        (Kerberos::BindsConnection, "EXAMPLE\\alice"),
        (Kerberos::PerRequest, "anonymous"),
    ] {
        let origin = origin(kerberos)?;
        let mut connection = Connection::open(origin.addr()).await?;
        let ticket = ticket(&alice(), 40_000);
        let response = connection
            .request("GET", "/private/whoami", &[("Authorization", &ticket)], b"")
            .await?;
        assert_eq!(response.text(), "EXAMPLE\\alice");
        assert_eq!(
            response.headers.first("persistent-auth"),
            Some(match kerberos {
                Kerberos::PerRequest => "false",
                _ => "true",
            })
        );
        assert_eq!(connection.get("/whoami").await?.text(), afterwards);
    }
    Ok(())
}

#[tokio::test]
async fn every_path_can_ask_for_a_login() -> Outcome {
    let origin = Origin::start(OriginOptions {
        login: LoginPaths::Everything,
        ..OriginOptions::default()
    })?;
    let mut connection = Connection::open(origin.addr()).await?;
    assert_eq!(connection.get("/").await?.status, 401);
    let home = connection.login_negotiate("/", &alice()).await?;
    assert_eq!(
        home.text(),
        "Hello EXAMPLE\\alice. This is connection 1 of ORIGIN.\n"
    );
    Ok(())
}

#[tokio::test]
async fn bodies_of_every_framing() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    for length in [0_usize, 1, 26, 65_520, 65_521, 1_000_000] {
        let expected: Vec<u8> = (b'a'..=b'z').cycle().take(length).collect();
        for page in ["bytes", "chunked", "close"] {
            let mut connection = Connection::open(origin.addr()).await?;
            let response = connection.get(&format!("/{page}/{length}")).await?;
            assert_eq!(response.status, 200);
            assert!(response.body == expected, "/{page}/{length}");
            let head = connection
                .request("HEAD", &format!("/{page}/{length}"), &[], b"")
                .await;
            assert_eq!(head.is_ok(), page != "close");
        }
        let mut connection = Connection::open(origin.addr()).await?;
        let mirrored = connection
            .request("POST", "/mirror", &[], &expected)
            .await?;
        assert!(mirrored.body == expected, "/mirror {length}");
    }
    let mut connection = Connection::open(origin.addr()).await?;
    assert_eq!(
        connection
            .get("/cut/100")
            .await
            .map_err(|error| error.kind())
            .err(),
        Some(io::ErrorKind::UnexpectedEof)
    );
    Ok(())
}

#[tokio::test]
async fn echo_shows_the_request_as_it_came() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    let mut connection = Connection::open(origin.addr()).await?;
    let chunked = [("X-MixedCase", "Kept"), ("Transfer-Encoding", "chunked")];
    let body = b"3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n";
    let text = connection
        .request("POST", "/echo?a=b", &chunked, body)
        .await?
        .text();
    assert!(text.starts_with("POST /echo?a=b HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nX-MixedCase: Kept\r\n"), "{text}");
    let sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(
        text.ends_with(&format!(
            "\r\n\r\nbody-bytes: 3\nbody-sha256: {sha256_of_abc}\n"
        )),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn statuses_and_interim_answers() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    let mut connection = Connection::open(origin.addr()).await?;
    for (path, status, interim) in [
        ("/204", 204, vec![]),
        ("/304", 304, vec![]),
        ("/status/503", 503, vec![]),
        ("/redirect", 302, vec![]),
        ("/hints", 200, vec![103]),
        ("/slow/20", 200, vec![]),
        ("/headers/60000", 200, vec![]),
        ("/upgrade", 426, vec![]),
        ("/nowhere", 404, vec![]),
    ] {
        let response = connection.get(path).await?;
        assert_eq!(
            (response.status, response.interim),
            (status, interim),
            "{path}"
        );
    }
    let expects = [("Expect", "100-continue")];
    assert_eq!(
        connection
            .request("POST", "/continue", &expects, b"x")
            .await?
            .interim,
        [100]
    );
    assert_eq!(
        connection
            .request("POST", "/early/413", &[], b"x")
            .await?
            .status,
        413
    );
    let refused = connection
        .request("POST", "/continue/417", &expects, b"x")
        .await?;
    assert_eq!((refused.status, refused.interim), (417, vec![]));
    assert!(connection.closed().await?);
    Ok(())
}

#[tokio::test]
async fn an_early_answer_comes_before_the_body_ends() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    let mut connection = Connection::open(origin.addr()).await?;
    connection
        .send(b"POST /early/401 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        .await?;
    assert_eq!(connection.response("POST").await?.status, 401);
    connection.send(b"cde").await?;
    assert_eq!(connection.get("/whoami").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    let mut connection = Connection::open(origin.addr()).await?;
    connection.send(b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly").await?;
    let response = connection.response_head("GET").await?;
    assert_eq!(
        (response.status, response.headers.first("upgrade")),
        (101, Some("echo"))
    );
    assert_eq!(
        connection.body_piece().await?.as_deref(),
        Some(&b"early"[..])
    );
    connection.send(b"late").await?;
    assert_eq!(
        connection.body_piece().await?.as_deref(),
        Some(&b"late"[..])
    );
    connection.finish().await?;
    assert_eq!(connection.body_piece().await?, None);
    Ok(())
}

#[tokio::test]
async fn ambiguous_requests_are_refused() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let mut connection = Connection::open(origin.addr()).await?;
        connection
            .send(format!("POST /echo HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes())
            .await?;
        assert_eq!(connection.response("POST").await?.status, 400, "{fields}");
    }
    Ok(())
}

#[tokio::test]
async fn connections_are_counted_and_closed() -> Outcome {
    let origin = origin(Kerberos::Declined)?;
    let mut idle = Connection::open(origin.addr()).await?;
    idle.get("/whoami").await?;
    let mut thinking = Connection::open(origin.addr()).await?;
    thinking
        .send(b"GET /slow/60000 HTTP/1.1\r\nHost: x\r\n\r\n")
        .await?;
    until(|| origin.log().len() == 2).await;
    assert_eq!((origin.connections(), origin.accepted()), (2, 2));
    origin.close_idle();
    assert!(idle.closed().await?);
    drop(idle);
    until(|| origin.connections() == 1).await;
    drop(thinking);
    until(|| origin.connections() == 0).await;
    let mut last = Connection::open(origin.addr()).await?;
    last.get("/whoami").await?;
    drop(origin);
    assert!(last.closed().await?);
    Ok(())
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the condition never came true"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
