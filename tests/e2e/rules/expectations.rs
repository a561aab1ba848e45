//! Rule 28: `Expect: 100-continue`, and nothing else.

use super::{Passed, Refused, Stand, arrives, front, get};
use crate::messages::origin;
use crate::peer::{Peer, Server};

#[test]
fn rule_28_expectations() {
    let stand = Stand::new("");
    let table: Vec<Refused> = [
        "Expect: 200-ok\r\n",
        "Expect:\r\n",
        "Expect: 100-continue, x\r\n",
        "Expect: x, 100-continue\r\n",
        "Expect: 100-continue, 100-continue\r\n",
        "Expect: 100-continue;q=1\r\n",
        "Expect: 100 continue\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\n",
        "Expect: 100-continue\r\nexpect: x\r\n",
    ]
    .into_iter()
    .flat_map(|fields| {
        let old = format!("GET / HTTP/1.0\r\n{fields}\r\n").into();
        [(get(fields), 417, "expectation"), (old, 417, "expectation")]
    })
    // 1.0 knows no 100, so that asking twice asks for nothing either
    .filter(|(request, ..)| {
        !request.starts_with(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\nExpect: 100-continue")
    })
    .collect();
    stand.refuses(&table);
    let table: Vec<Passed> = vec![
        (
            get("Expect: 100-continue\r\n"),
            arrives("Expect: 100-continue\r\n"),
        ),
        (
            get("eXpect:\t100-CONTINUE \r\n"),
            arrives("eXpect:\t100-CONTINUE \r\n"),
        ),
        (get("Expect-CT: x\r\n"), arrives("Expect-CT: x\r\n")),
        (
            b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n".to_vec(),
            arrives(""),
        ),
    ];
    stand.passes(&table);
}

#[test]
fn rule_28_a_body_waits_for_the_server_s_100() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client
        .send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n");
    let mut upstream = server.accept();
    assert!(upstream.head().has("Expect: 100-Continue"));
    assert_eq!(client.so_far(), "", "the front does not say 100 itself");
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.head().text, "HTTP/1.1 100 Continue");
    client.send("hello");
    assert_eq!(upstream.take(5), b"hello");
    upstream.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().status(), 201);
    // The connections go on.
    client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(upstream.head().line(), "GET /next HTTP/1.1");
}

#[test]
fn rule_28_a_final_answer_in_place_of_100_ends_the_connection() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client
        .send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.answer();
    assert_eq!(answer.text(), "no");
    assert_eq!(answer.head.field("connection"), Some("close"));
    // Nobody can tell whether five bytes that come now are the body.
    client.ends();
    upstream.ends();
}

#[test]
fn rule_28_a_client_that_does_not_wait_keeps_its_connection() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("PUT /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.head().status(), 100);
    assert!(client.answer().text().contains("body-bytes: 5"));
    assert_eq!(client.get("/whoami").text(), "anonymous");
}
