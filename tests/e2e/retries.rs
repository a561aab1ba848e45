//! What becomes of a request whose server does not answer, and of the server.

use ntlm_origin::client::Connection;
use ntlm_origin::{Origin, OriginOptions};

use crate::front::Front;

fn origins() -> [Origin; 2] {
    ["one", "two"].map(|name| {
        let options = OriginOptions {
            name: name.into(),
            ..OriginOptions::default()
        };
        Origin::start(options).expect("an origin")
    })
}

#[tokio::test]
async fn a_timeout_on_a_used_connection_to_the_only_server_is_a_timeout() {
    let [origin, _] = origins();
    let front = Front::start(&format!(
        "upstream mail {{ server {}; keepalive 4; }}
         server {{
             listen 127.0.0.1:0;
             location / {{ proxy_pass http://mail; proxy_read_timeout 200ms; }}
         }}",
        origin.addr(),
    ));
    let mut client = Connection::open(front.addr(0)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.get("/whoami").await.unwrap().status, 200);
    }
    assert_eq!(origin.accepted(), 1, "the connection is used again");
    assert_eq!(client.get("/slow/60000").await.unwrap().status, 504);
    assert!(!front.error_log().contains("no live upstreams"));
}

#[tokio::test]
async fn a_closed_connection_that_was_pooled_is_replaced_even_with_one_try() {
    let [origin, _] = origins();
    let front = Front::start(&format!(
        "upstream mail {{ server {}; keepalive 4; }}
         server {{
             listen 127.0.0.1:0;
             location / {{ proxy_pass http://mail; proxy_next_upstream_tries 1; }}
         }}",
        origin.addr(),
    ));
    let mut client = Connection::open(front.addr(0)).await.unwrap();
    assert_eq!(client.get("/whoami").await.unwrap().status, 200);
    // The pooled connection is closed for this request, and so is the one that replaces it.
    assert_eq!(client.get("/drop").await.unwrap().status, 502);
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn servers_that_close_used_pins_stay_in_use() {
    let origins = origins();
    let alice = OriginOptions::default().users[0].clone();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "upstream mail {{ server {}; server {}; ntlm; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
            origins[0].addr(),
            origins[1].addr(),
        ),
    );
    let mut servers = Vec::new();
    for _ in 0..2 {
        let mut client = Connection::open(front.addr(0)).await.unwrap();
        let login = client.login_ntlm("/private/whoami", &alice).await.unwrap();
        servers.extend(login.headers.first("x-server").map(str::to_owned));
        // The client knows how to repeat.
        assert!(client.get("/drop").await.is_err());
    }
    servers.sort();
    assert_eq!(servers, ["one", "two"]);
    let mut client = Connection::open(front.addr(0)).await.unwrap();
    assert_eq!(client.get("/whoami").await.unwrap().status, 200);
    assert!(!front.error_log().contains("temporarily disabled"));
}
