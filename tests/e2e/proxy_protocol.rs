//! PROXY headers, as others send them and as others read them.

use std::net::TcpListener;

use crate::front::Front;
use crate::haproxy::HaProxy;
use crate::nginx::Nginx;
use crate::peer::{Peer, Server};
use crate::tls::client_certificates::curl;
use crate::tls::pki::Pki;

/// A header of version 2.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a length").to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        block,
    ]
    .concat()
}

/// Its block for TCP over IPv4.
fn ipv4(source: [u8; 4], port: u16) -> Vec<u8> {
    let [from, to] = [port, 443].map(u16::to_be_bytes);
    [&source[..], &[10, 0, 0, 1], &from, &to].concat()
}

#[test]
fn the_proxy_protocol_says_who_the_client_is() {
    let server = Server::bind();
    let front = Front::start(&format!(
        "upstream origin {{ server {}; }}
         proxy_set_header X-Proxy $proxy_protocol_addr:$proxy_protocol_port>$proxy_protocol_server_addr:$proxy_protocol_server_port;
         proxy_set_header X-Client $remote_addr:$remote_port;
         server {{ listen 127.0.0.1:0 proxy_protocol; location / {{ proxy_pass http://origin; }}
                   location /real {{ set_real_ip_from 127.0.0.0/8; real_ip_header proxy_protocol; proxy_pass http://origin; }} }}",
        server.addr()
    ));
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec();
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec();
    for (header, proxied, real) in [
        (v1, "192.0.2.7:4711>10.0.0.1:443", "192.0.2.7:4711"),
        (v6, "2001:db8::7:4711>2001:db8::1:443", "2001:db8::7:4711"),
        (
            v2(0x21, 0x11, &ipv4([192, 0, 2, 8], 4712)),
            "192.0.2.8:4712>10.0.0.1:443",
            "192.0.2.8:4712",
        ),
    ] {
        for path in ["/", "/real"] {
            let mut client = Peer::connect(front.addr(0));
            // In pieces, and the request right behind it.
            client.send(&header[..7]);
            client.send(
                [
                    &header[7..],
                    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes(),
                ]
                .concat(),
            );
            let head = server.accept().head();
            assert_eq!(head.field("x-proxy"), Some(proxied));
            let itself = client.local_addr().to_string();
            let wanted = if path == "/" { &itself } else { real };
            assert_eq!(head.field("x-client"), Some(wanted));
        }
    }
    // A health check of the balancer itself.
    let mut client = Peer::connect(front.addr(0));
    client.send("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(server.accept().head().field("x-proxy"), Some(":>:"));
    // Without a header, or with a broken one: closed, and nothing goes upstream.
    for broken in [
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "PROXY TCP4 1.2.3.4 x y z\r\n",
        "\r\n\r\n\0\r\nQUIT\nxxxxxxxx",
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(broken);
        client.ends();
    }
    server.was_left_alone();
    let log = front.error_log_with("broken header", 3);
    assert_eq!(log.matches("broken header").count(), 3);
}

/// Addresses, what has none, and what comes behind them.
#[test]
fn headers_are_read_as_nginx_reads_them() {
    let server = "location / { return 200 \"$proxy_protocol_addr $proxy_protocol_port \
                  $proxy_protocol_server_addr $proxy_protocol_server_port\"; }";
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0 proxy_protocol; {server} }}"
    ));
    let nginx = Nginx::start(&format!(
        "server {{ listen ADDR proxy_protocol; {server} }}"
    ));
    let ipv4 = ipv4([192, 0, 2, 8], 4712);
    let ip = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let ipv6 = [&ip(1)[..], &ip(2), &ipv4[8..]].concat();
    let tlvs = |block: &[u8]| [block, b"\x02\0\x09mail.test\xea\0\0"].concat();
    for header in [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 0\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(),
        v2(0x21, 0x11, &ipv4),
        v2(0x21, 0x11, &tlvs(&ipv4)),
        v2(0x21, 0x21, &ipv6),
        v2(0x21, 0x21, &tlvs(&ipv6)),
        v2(0x21, 0x12, &ipv4),
        v2(0x21, 0x10, &ipv4),
        v2(0x21, 0x00, b""),
        v2(0x21, 0x00, &tlvs(b"")),
        v2(0x21, 0x31, &[b'/'; 216]),
        v2(0x20, 0x00, b""),
        v2(0x20, 0x11, &tlvs(&ipv4)),
    ] {
        let request = [&header[..], b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"].concat();
        let [ours, theirs] = [front.addr(0), nginx.addr].map(|addr| {
            let mut client = Peer::connect(addr);
            client.send(&request);
            client.answer().text()
        });
        assert_eq!(ours, theirs, "{header:?}");
    }
    // And refused by both: no header, another version, addresses cut short.
    for header in [
        b"GET / HTTP/1.0\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
        v2(0x31, 0x11, &ipv4),
        v2(0x21, 0x11, &ipv4[1..]),
        v2(0x21, 0x21, &ipv6[1..]),
    ] {
        for addr in [front.addr(0), nginx.addr] {
            let mut client = Peer::connect(addr);
            client.send([&header[..], b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"].concat());
            client.ends();
        }
    }
}

#[test]
fn type_length_values_are_variables() {
    let names = [
        "alpn",
        "authority",
        "unique_id",
        "netns",
        "ssl_verify",
        "ssl_cn",
        "0xEA",
        "ssl_0x21",
    ];
    let text: Vec<String> = names
        .iter()
        .map(|name| format!("$proxy_protocol_tlv_{name}"))
        .collect();
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0 proxy_protocol; location / {{ return 200 '{}'; }}
                   location /added {{ add_header X-Id $proxy_protocol_tlv_unique_id; return 200; }} }}",
        text.join("|")
    ));
    let ask = |tlvs: &[u8], path: &str| {
        let block = [&ipv4([192, 0, 2, 8], 4712)[..], tlvs].concat();
        let mut client = Peer::connect(front.addr(0));
        // Byte by byte, as far as it is a header.
        for byte in v2(0x21, 0x11, &block) {
            client.send([byte]);
        }
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client
    };
    let tlvs = b"\x01\0\x08http/1.1\x02\0\x09mail.test\x05\0\x02id\x30\0\x04blue\
                 \x20\0\x17\x07\0\0\0\x13\x21\0\x07TLSv1.2\x22\0\x05alice\xea\0\x01x";
    assert_eq!(
        ask(tlvs, "/").answer().text(),
        "http/1.1|mail.test|id|blue|19|alice|x|TLSv1.2"
    );
    assert_eq!(ask(b"", "/").answer().text(), "|||||||");
    // Values may be any bytes: none of them becomes another field.
    let answer = ask(b"\x05\0\x0aid\r\nX-B: 1", "/added").answer();
    assert_eq!((answer.status(), answer.head.field("x-b")), (200, None));
    assert_eq!(answer.head.field("x-id"), None);
    // A checksum that is wrong, and lengths that are.
    let broken: [&[u8]; 4] = [
        b"\x03\0\x04\0\0\0\0",
        b"\x01\0\x09http/1.1",
        b"\x01\0",
        b"\x01",
    ];
    for (before, broken) in broken.into_iter().enumerate() {
        let block = [&ipv4([192, 0, 2, 8], 4712)[..], broken].concat();
        let mut client = Peer::connect(front.addr(0));
        client.send(v2(0x21, 0x11, &block));
        client.ends();
        front.error_log_with("broken header", before + 1);
    }
}

/// HAProxy ends TLS, says all it can of it, and in fields of the request what its own words for it are.
#[test]
fn haproxy_s_type_length_values_are_what_it_says_they_are() {
    let pki = Pki::new();
    pki.authority("people").sign(&pki, "good", 1, 400);
    pki.authority("others").sign(&pki, "stranger", 2, 400);
    let read = |name: &str| std::fs::read_to_string(pki.path(name)).expect("a file");
    let mail = pki.write("both.pem", &(read("mail.pem") + &read("mail.key")));
    let names = [
        "alpn",
        "authority",
        "unique_id",
        "ssl_version",
        "ssl_cipher",
        "ssl_verify",
        "ssl_cn",
        "ssl_sig_alg",
        "ssl_key_alg",
    ];
    let text = |prefix: &str| -> String {
        names
            .iter()
            .map(|name| format!("{name}=${prefix}{name}\n"))
            .collect()
    };
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0 proxy_protocol; return 200 '{}---\n{}'; }}",
        text("proxy_protocol_tlv_"),
        text("http_x_"),
    ));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let _balancer = HaProxy::start(
        &format!(
            "global
                 stats socket SOCKET level admin
             defaults
                 mode http
                 timeout connect 10s
                 timeout client 60s
                 timeout server 60s
             frontend mail
                 bind fd@3 ssl crt {} ca-file {} verify optional ca-ignore-err all crt-ignore-err all alpn http/1.1
                 unique-id-format %[uuid()]
                 http-request set-header X-Alpn %[ssl_fc_alpn]
                 http-request set-header X-Authority %[ssl_fc_sni]
                 http-request set-header X-Unique-Id %[unique-id]
                 http-request set-header X-Ssl-Version %[ssl_fc_protocol]
                 http-request set-header X-Ssl-Cipher %[ssl_fc_cipher]
                 http-request set-header X-Ssl-Verify %[ssl_c_verify]
                 http-request set-header X-Ssl-Cn %[ssl_c_s_dn(CN)] if {{ ssl_c_used }}
                 http-request set-header X-Ssl-Sig-Alg %[ssl_f_sig_alg]
                 http-request set-header X-Ssl-Key-Alg EC256
                 default_backend fronts
             backend fronts
                 server a {} send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id\n",
            mail.display(),
            pki.path("people-root.pem").display(),
            front.addr(0)
        ),
        listener,
    );
    for (who, verify) in [("nobody", "0"), ("good", "0"), ("stranger", "21")] {
        for arguments in [&["--tlsv1.3"][..], &["--tls-max", "1.2"], &["--no-alpn"]] {
            let text = curl(&pki, addr, who, arguments);
            let (theirs, said) = text.split_once("---\n").expect("both");
            assert_eq!(theirs, said, "{who} {arguments:?}");
            assert!(theirs.contains("\nauthority=mail.test\n"), "{text}");
            assert!(
                theirs.contains(&format!("\nssl_verify={verify}\n")),
                "{text}"
            );
        }
    }
    assert!(!front.error_log().contains("broken header"));
}
