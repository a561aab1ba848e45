//! Rules 21 to 27: bodies of requests, and what is behind them.

use super::{CHUNKED, NEXT, Stand, shown};

use crate::peer::{Peer, assert_same};

/// A body that breaks a rule, and the status and the word of its refusal.
type Broken = (String, u16, &'static str);

/// Each of these is refused wherever it shows: in what comes with the head, behind a piece that went on already, behind an
/// early answer, and in a body that the front itself reads and drops. Never does the server see an end of the body, or what
/// is behind it.
#[track_caller]
fn refuses_bodies(table: &[Broken]) {
    let stand = Stand::new("client_max_body_size 0; location /own { return 200 ours; }");
    for (broken, status, word) in table {
        let shown = shown(broken.as_bytes());
        let rest = format!("{broken}0\r\n\r\n{NEXT}");

        let before = stand.refusals().len();
        let mut client = Peer::connect(stand.front.addr(0));
        client.send(format!("{CHUNKED}{rest}"));
        stand.is_refused(&mut client, *status, &shown);
        // The connection was there already.
        assert_eq!(stand.server.accept().rest(), b"", "{shown}");
        stand.logged_once(before, word, &shown);

        let before = stand.refusals().len();
        let mut client = Peer::connect(stand.front.addr(0));
        client.send(format!("{CHUNKED}3\r\nabc\r\n"));
        let mut upstream = stand.server.accept();
        upstream.head();
        assert_eq!(upstream.take(8), b"3\r\nabc\r\n");
        client.send(&rest);
        stand.is_refused(&mut client, *status, &shown);
        never_ends(&mut upstream, &shown);
        stand.logged_once(before, word, &shown);

        let before = stand.refusals().len();
        let mut client = Peer::connect(stand.front.addr(0));
        client.send(format!("{CHUNKED}3\r\nabc\r\n"));
        let mut upstream = stand.server.accept();
        upstream.head();
        upstream.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!(client.answer().text(), "no");
        assert_eq!(upstream.take(8), b"3\r\nabc\r\n");
        client.send(&rest);
        client.ends();
        never_ends(&mut upstream, &shown);
        stand.logged_once(before, word, &shown);

        let before = stand.refusals().len();
        let mut client = Peer::connect(stand.front.addr(0));
        let own = CHUNKED.replace("POST / ", "POST /own ");
        client.send(format!("{own}{rest}"));
        stand.is_refused(&mut client, 200, &shown);
        stand.logged_once(before, word, &shown);
        stand.server.was_left_alone();
    }
    stand.nothing_was_smuggled();
}

/// What the server gets before its connection ends is no end of a body, and nothing behind one.
#[track_caller]
fn never_ends(upstream: &mut Peer, shown: &str) {
    let got = String::from_utf8_lossy(&upstream.rest()).into_owned();
    assert!(
        !got.contains("0\r\n\r\n") && !got.contains("smuggled"),
        "{shown}: {got:?}"
    );
}

/// Bodies in chunks, and the data that the server gets.
#[track_caller]
fn passes_bodies(table: &[(&str, &str)]) {
    let stand = Stand::new("client_max_body_size 0;");
    for (chunks, data) in table {
        let mut client = Peer::connect(stand.front.addr(0));
        client.send(format!("{CHUNKED}{chunks}{NEXT}"));
        let mut upstream = stand.server.accept();
        let head = upstream.head();
        assert!(head.has("Transfer-Encoding: chunked"), "{}", head.text);
        // Only plain sizes, and no trailer.
        assert_same(&upstream.chunked().data, data.as_bytes(), chunks);
        assert_eq!(upstream.so_far(), "", "{chunks:?}");
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.answer().status(), 204, "{chunks:?}");
        // What is behind it is the next request, whole.
        assert_eq!(upstream.head().line(), "GET /smuggled HTTP/1.1");
        upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().status(), 204, "{chunks:?}");
    }
    assert_eq!(stand.refusals(), [""; 0]);
}

#[test]
fn rule_21_chunk_sizes() {
    let mut table: Vec<Broken> = [
        "g\r\n",
        "\r\n",
        " \r\n",
        ";a\r\n",
        " 5\r\nhello\r\n",
        "\t5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\t\r\nhello\r\n",
        "5 ;a\r\nhello\r\n",
        "5\x0b\r\nhello\r\n",
        "5\0\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "-0\r\n",
        "0x5\r\nhello\r\n",
        "5h\r\nhello\r\n",
        "5,\r\nhello\r\n",
        "5_\r\nhello\r\n",
        "\"5\"\r\nhello\r\n",
        "5.0\r\nhello\r\n",
        "\u{665}\r\nhello\r\n",
        "00000000000000005\r\nhello\r\n",
        "00000000000000000\r\n",
        "10000000000000005\r\nhello\r\n",
        "ffffffffffffffff\r\n",
        "8000000000000000\r\n",
        "5\nhello\r\n",
        "5\rhello\r\n",
        "5\r\rhello\r\n",
        "\n5\r\nhello\r\n",
    ]
    .into_iter()
    .map(|broken| (broken.to_owned(), 400, "chunk_size"))
    .collect();
    for broken in [
        "5;\r\nhello\r\n",
        "5;;a\r\nhello\r\n",
        "5;a=\r\nhello\r\n",
        "5;=a\r\nhello\r\n",
        "5;a b\r\nhello\r\n",
        "5;a=b c\r\nhello\r\n",
        "5;a=\"b\r\nhello\r\n",
        "5;a=\"b\"c\r\nhello\r\n",
        "5;a=\"b\\\r\nhello\r\n",
        "5;a=\x01\r\nhello\r\n",
        "5;a=\"\x7f\"\r\nhello\r\n",
        "5;a=b \r\nhello\r\n",
        "5;a(b)\r\nhello\r\n",
        "5;a\nhello\r\n",
        "5;a=\"b\n\"\r\nhello\r\n",
        "5;a=\"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n\"\r\nhello\r\n",
    ] {
        table.push((broken.to_owned(), 400, "chunk_extension"));
    }
    table.push(("5;a\rb\r\nhello\r\n".to_owned(), 400, "chunk_size"));
    let extension = |bytes: usize| format!(";{}", "a".repeat(bytes - 1));
    let too_large = "chunk_extensions_too_large";
    table.push((format!("5{}\r\nhello\r\n", extension(4097)), 400, too_large));
    table.push((
        format!("1{}\r\nx\r\n", extension(410)).repeat(10),
        400,
        too_large,
    ));
    refuses_bodies(&table);
    let largest = format!("5{}\r\nhello\r\n0\r\n\r\n", extension(4096));
    let spread = format!("1{}\r\nx\r\n", extension(409)).repeat(10) + "0\r\n\r\n";
    passes_bodies(&[
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        (
            "0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n",
            "hello",
        ),
        (
            "A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n",
            "0123456789abcdefghij",
        ),
        ("5;a\r\nhello\r\n0;b\r\n\r\n", "hello"),
        ("5;a=b;c=\"d\\\"e;f\";g\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5; a = b ; c\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5;a=\"\u{fc}\t\"\r\nhello\r\n0\r\n\r\n", "hello"),
        (&largest, "hello"),
        (&spread, "xxxxxxxxxx"),
    ]);
}

#[test]
fn rule_22_the_end_of_a_chunk() {
    let table: Vec<Broken> = [
        "5\r\nhelloX\r\n",
        "5\r\nhello\n",
        "5\r\nhello\r",
        "5\r\nhello\r\r\n",
        "5\r\nhello\n\r\n",
        "5\r\nhello \r\n",
        "4\r\nhello\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello5\r\nhello\r\n",
    ]
    .into_iter()
    .map(|broken| (broken.to_owned(), 400, "chunk_end"))
    .collect();
    refuses_bodies(&table);
    passes_bodies(&[
        ("7\r\nhel\r\nlo\r\n0\r\n\r\n", "hel\r\nlo"),
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
    ]);
}

#[test]
fn rule_23_trailers() {
    let mut table: Vec<Broken> = [
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\t: y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n folded\r\n\r\n",
        "0\r\nX: a\0b\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\n\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\n\n",
        "0\r\n\rX: y\r\n\r\n",
        "0\r\nX Y: z\r\n\r\n",
        "0\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n",
    ]
    .into_iter()
    .map(|broken| (broken.to_owned(), 400, "trailer"))
    .collect();
    let field = |bytes: usize| format!("X: {}\r\n", "y".repeat(bytes - 3));
    for trailers in [field(8193), field(1025).repeat(8)] {
        table.push((format!("0\r\n{trailers}\r\n"), 431, "trailers_too_large"));
    }
    refuses_bodies(&table);
    let largest = format!("0\r\n{}\r\n", field(1024).repeat(8));
    passes_bodies(&[
        ("5\r\nhello\r\n0\r\nX: y\r\n\r\n", "hello"),
        (
            "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: other\r\n\
             Authorization: NTLM x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n",
            "",
        ),
        ("0\r\nX:\r\nY::\u{e9}\r\n\r\n", ""),
        (&largest, ""),
    ]);
}
