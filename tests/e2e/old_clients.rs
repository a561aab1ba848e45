//! Clients that speak HTTP/1.0: what the front has to say for them, and how they see that an answer is not whole.

use crate::front::Front;
use crate::peer::{Peer, Server};

fn front(server: &Server, location: &str) -> Front {
    Front::start(&format!(
        "upstream origin {{ server {}; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://origin; {location} }} }}",
        server.addr()
    ))
}

#[test]
fn rule_34_an_unframed_body_that_is_cut_ends_in_a_reset() {
    let server = Server::bind();
    let front = front(&server, "");
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send("GET / HTTP/1.0\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(answer);
        upstream.finish();
        let rest = client.try_rest();
        assert!(rest.is_err(), "{answer:?} looks complete: {rest:?}");
    }
}

#[test]
fn a_request_without_host_gets_one() {
    let server = Server::bind();
    // `$host` is the server's name where the client gave none, and this one has none either.
    let front = front(&server, "proxy_set_header Host $host;");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.0\r\n\r\n");
    let head = server.accept().head();
    assert_eq!(head.line(), "GET / HTTP/1.1");
    assert_eq!(head.fields("host").collect::<Vec<_>>(), ["origin"]);
}
