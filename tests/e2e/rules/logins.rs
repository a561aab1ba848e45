//! What every rule is for: nothing that is refused reaches the connection that somebody is logged in on.

use super::{CHUNKED, NEXT, Stand, get, post, shown};
use crate::peer::Peer;

#[test]
fn rules_keep_what_is_refused_off_a_login() {
    let stand = Stand::new("ntlm;");
    for (refused, status, word, got) in [
        (get("Content-Length: 5, 5\r\n"), 400, "length_repeated", ""),
        (
            post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
            400,
            "length_and_coding",
            "",
        ),
        (
            b"GET / HTTP/1.1\nHost: test\n\n".to_vec(),
            400,
            "bare_lf",
            "",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            505,
            "http2_preface",
            "",
        ),
        (
            get("Authorization: NTLM a\r\nAuthorization: NTLM b\r\n"),
            400,
            "authorization_repeated",
            "",
        ),
        (
            b"GET /%00 HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
            400,
            "path_byte",
            "",
        ),
        (
            format!("{CHUNKED}5\nhello\r\n0\r\n\r\n").into(),
            400,
            "chunk_size",
            "",
        ),
        (
            format!("{CHUNKED}5\r\nhello").into(),
            400,
            "chunk_end",
            "5\r\nhello\r\n",
        ),
    ] {
        let shown = shown(&refused);
        let before = stand.refusals().len();
        let mut client = Peer::connect(stand.front.addr(0));
        client.send(get("Authorization: NTLM TlRMTVNTUAABAAAA\r\n"));
        let mut upstream = stand.server.accept();
        upstream.head();
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.answer().text(), "ok", "{shown}");
        client.send(&refused);
        if !got.is_empty() {
            upstream.head();
            assert_eq!(upstream.take(got.len()), got.as_bytes(), "{shown}");
        }
        client.send(NEXT);
        stand.is_refused(&mut client, status, &shown);
        // The login ends with what was refused on it.
        assert_eq!(upstream.rest(), b"", "{shown}");
        stand.logged_once(before, word, &shown);
        stand.server.was_left_alone();
    }
    stand.nothing_was_smuggled();
}
