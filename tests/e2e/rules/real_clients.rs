//! Heads as real clients send them: none of the rules may refuse one, and each arrives as it came.

use super::{Stand, line};
use crate::peer::Peer;

/// Request line and fields, a line each; behind an empty line the body.
const REQUESTS: &[&str] = &[
    // Outlook, MAPI over HTTP
    r#"POST /mapi/emsmdb/?MailboxId=0f2c3a1e-9d1b-4f5e-8a77-3c0d4f0d6c11@contoso.com HTTP/1.1
Cache-Control: no-cache
Connection: Keep-Alive
Pragma: no-cache
Content-Type: application/mapi-http
Accept: application/mapi-http
Authorization: Negotiate TlRMTVNTUAABAAAAl4II4gAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==
Cookie: MapiRouting=UlVNOjQ5; MapiContext=MAPIAAAAAKy; MapiSequence=2-aGJ==
User-Agent: Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.14326; Pro)
X-MS-CookieUri-Requested: t
X-FeatureVersion: 1
Client-Request-Id: {3A2E7F0E-25B0-4C45-8F6A-3D57A2B7A2E1}
X-ClientInfo: {2EF33C39-49C8-421C-B876-CDF7F2AC3AA0}:123
X-RequestId: {E2EA6C1C-E61B-49E9-9CFB-38184F907552}:123456
X-RequestType: Execute
X-ClientApplication: Outlook/16.0.14326.20404
X-AnchorMailbox: alice@contoso.com
X-User-Identity: alice@contoso.com
Content-Length: 5
Host: mail.contoso.com

hello"#,
    // Outlook, RPC over HTTP: two requests that never end
    r#"RPC_IN_DATA /rpc/rpcproxy.dll?0f2c3a1e-9d1b-4f5e-8a77-3c0d4f0d6c11@contoso.com:6001 HTTP/1.1
Cache-Control: no-cache
Connection: Keep-Alive
Pragma: no-cache
Accept: application/rpc
Cookie: OutlookSession="{9C9EAE07-1B4F-4D0C-9D2D-6D9E6A0B1B7A}"
User-Agent: MSRPC
Content-Length: 1073741824
Host: mail.contoso.com
Pragma: ResourceTypeUuid=44e265dd-7daf-42cd-8560-3cdb6e7a2729
Pragma: SessionId=8d7f4e1a-0b0c-4c1f-a5a3-6b8e8a8d5a61
Authorization: NTLM TlRMTVNTUAADAAAAGAAYAJwAAAA=

"#,
    r#"RPC_OUT_DATA /rpc/rpcproxy.dll?mail:6004 HTTP/1.1
Accept: application/rpc
User-Agent: MSRPC
Content-Length: 76
Host: mail.contoso.com
Connection: Keep-Alive
Pragma: no-cache
Authorization: NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAFASgKAAAADw==

"#,
    // Outlook, Autodiscover and the address book (BITS)
    r#"POST /autodiscover/autodiscover.xml HTTP/1.1
Connection: Keep-Alive
Content-Type: text/xml
User-Agent: Microsoft Office/15.0 (Windows NT 6.1; Microsoft Outlook 15.0.5249; Pro)
X-MapiHttpCapability: 1
Depth: 0
X-User-Identity: alice@contoso.com
Content-Length: 5
Host: autodiscover.contoso.com

<xml>"#,
    r#"GET /autodiscover/autodiscover.json/v1.0/alice%40contoso.com?Protocol=Autodiscoverv1&RedirectCount=1 HTTP/1.1
Accept: application/json
User-Agent: Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)
Accept-Encoding: gzip, deflate
Host: autodiscover.contoso.com
Connection: Keep-Alive

"#,
    r#"GET /OAB/2d5d9b8c-27b4-4e0c-9a63-2f1f5b0e6e44/oab.xml HTTP/1.1
Accept: */*
Accept-Encoding: identity
If-Unmodified-Since: Tue, 19 Nov 2024 05:02:11 GMT
Range: bytes=0-8191
User-Agent: Microsoft BITS/7.8
Host: mail.contoso.com
Connection: Keep-Alive

"#,
    // Exchange ActiveSync: the user with a backslash, raw and encoded, and the packed query
    r#"POST /Microsoft-Server-ActiveSync?User=CONTOSO%5Calice&DeviceId=0OKL8QJ5ML0AF7VMIC5Q3A6V4K&DeviceType=iPhone&Cmd=Ping HTTP/1.1
Host: mail.contoso.com
Accept: */*
Content-Type: application/vnd.ms-sync.wbxml
Authorization: Basic Q09OVE9TT1xhbGljZTp3b25kZXJsYW5k
MS-ASProtocolVersion: 14.1
Accept-Language: en-us
Accept-Encoding: gzip, deflate
X-MS-PolicyKey: 3942919513
User-Agent: Apple-iPhone14C2/2104.52
Content-Length: 5
Connection: keep-alive

hello"#,
    r#"POST /Microsoft-Server-ActiveSync?User=CONTOSO\alice&DeviceId=androidc259148960&DeviceType=Android&Cmd=FolderSync HTTP/1.1
User-Agent: Android-SAMSUNG-SM-G998B/101.120000
MS-ASProtocolVersion: 12.1
X-MS-PolicyKey: 0
Connection: keep-alive
Content-Type: application/vnd.ms-sync.wbxml
Content-Length: 0
Host: mail.contoso.com:443

"#,
    r#"OPTIONS /Microsoft-Server-ActiveSync?jAkHBBCYnHIgNf/QjgKuGm1p0TQAAAAAC0FuZHJvaWQ= HTTP/1.1
Host: mail.contoso.com
Content-Length: 0
User-Agent: TouchDown(MSRPC)/8.1.00052/

"#,
    // Exchange Web Services, from .NET and from macOS
    r#"POST /EWS/Exchange.asmx HTTP/1.1
Content-Type: text/xml; charset=utf-8
Accept: text/xml
User-Agent: ExchangeServicesClient/15.00.0913.015
Accept-Encoding: gzip,deflate
X-EWS-TargetVersion: 2.0
SOAPAction: "http://schemas.microsoft.com/exchange/services/2006/messages/GetFolder"
Authorization: NTLM TlRMTVNTUAABAAAAl4II4gAAAAAAAAAAAAAAAAAAAAAKAKo/AAAADw==
Host: mail.contoso.com
Content-Length: 5
Expect: 100-continue
Connection: Keep-Alive

hello"#,
    r#"POST /EWS/Exchange.asmx HTTP/1.1
Host: mail.contoso.com
Accept: */*
Content-Type: text/xml; charset=utf-8
Depth: 0
User-Agent: MacOutlook/16.77.23091003 (Intel x64 Mac OS X 13.5)
Accept-Language: de-DE
Accept-Encoding: gzip, deflate, br
Authorization: Negotiate YIIGhgYJKoZIhvcSAQICAQBuggZ1MIIGcaADAgEFoQMCAQ6iBwMFACAAAACjggT+
Connection: keep-alive
Transfer-Encoding: chunked

5
hello
0

"#,
    // Remote PowerShell
    r#"POST /powershell?serializationLevel=Full;ExchClientVer=15.2.792.15;clientApplication=EMC;PSVersion=5.1 HTTP/1.1
Connection: Keep-Alive
Content-Type: application/soap+xml;charset=UTF-8
Authorization: Kerberos YIILBgYJKoZIhvcSAQICAQBuggr1MIIK8aADAgEFoQMCAQ6iBwMFACAAAACj
User-Agent: Microsoft WinRM Client
WSMANIDENTIFY: unauthenticated
Content-Length: 0
Host: mail.contoso.com

"#,
    // curl
    r#"GET /owa/ HTTP/1.1
Host: mail.contoso.com:8080
Authorization: NTLM TlRMTVNTUAABAAAABoIIAAAAAAAAAAAAAAAAAAAAAAA=
User-Agent: curl/7.88.1
Accept: */*

"#,
    r#"PUT /dav/report.pdf HTTP/1.1
Host: mail.contoso.com
User-Agent: curl/8.5.0
Accept: */*
Transfer-Encoding: chunked
Expect: 100-continue

5
hello
0

"#,
    r#"GET http://intranet/sites/it/Shared%20Documents/Forms/AllItems.aspx?RootFolder=%2Fsites%2Fit HTTP/1.1
Host: intranet
User-Agent: curl/8.5.0
Accept: */*
Proxy-Connection: Keep-Alive

"#,
    // browsers
    r#"GET /owa/?ae=Folder&t=IPF.Note&a=&id=LgAAAADNb%2fRb HTTP/1.1
Host: mail.contoso.com
Connection: keep-alive
Cache-Control: max-age=0
sec-ch-ua: "Google Chrome";v="123", "Not:A-Brand";v="8", "Chromium";v="123"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Windows"
Upgrade-Insecure-Requests: 1
User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/123.0.0.0 Safari/537.36
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7
Sec-Fetch-Site: none
Sec-Fetch-Mode: navigate
Sec-Fetch-User: ?1
Sec-Fetch-Dest: document
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7
Cookie: ClientId=0A; OutlookSession=6d2f; PBack=0; X-OWA-CANARY=Zk_1.; json={"a":[1,2],"b":"c d"}; empty=

"#,
    r#"GET /sites/it/_layouts/15/start.aspx HTTP/1.1
Host: intranet
User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:124.0) Gecko/20100101 Firefox/124.0
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8
Accept-Language: de,en-US;q=0.7,en;q=0.3
Accept-Encoding: gzip, deflate
DNT: 1
Connection: keep-alive
Upgrade-Insecure-Requests: 1
TE: trailers
Priority: u=0, i

"#,
    r#"POST /_vti_bin/client.svc/ProcessQuery HTTP/1.1
Accept: */*
Content-Type: text/xml
X-RequestDigest: 0x2F1A,19 Nov 2024 05:02:11 -0000
X-Requested-With: XMLHttpRequest
Referer: http://intranet/sites/it/SitePages/Home.aspx?a={b}|c
Accept-Language: en-US,en;q=0.5
UA-CPU: AMD64
Accept-Encoding: gzip, deflate
User-Agent: Mozilla/5.0 (Windows NT 6.3; WOW64; Trident/7.0; rv:11.0) like Gecko
Host: intranet
Content-Length: 5
Connection: Keep-Alive
Cache-Control: no-cache

hello"#,
    // WebDAV: the Windows redirector and Office
    r#"PROPFIND /sites/it/Shared%20Documents HTTP/1.1
Connection: Keep-Alive
User-Agent: Microsoft-WebDAV-MiniRedir/10.0.19045
Depth: 1
translate: f
Content-Length: 0
Host: intranet

"#,
    r#"LOCK /sites/it/Shared%20Documents/plan.docx HTTP/1.1
Cache-Control: no-cache
Connection: Keep-Alive
Pragma: no-cache
Content-Type: text/xml; charset="utf-8"
User-Agent: Microsoft Office Word 2014
Depth: 0
Timeout: Second-3600, Infinite
If: (<opaquelocktoken:{a1b2c3d4-0001-0002-0003-0123456789ab}20241119T050211Z>)
X-Office-Major-Version: 16
X-MS-CookieUri-Requested: t
X-FeatureVersion: 1
X-MSGETWEBURL: t
X-IDCRL_ACCEPTED: t
Content-Length: 5
Host: intranet

<xml>"#,
    r#"MOVE /sites/it/Shared%20Documents/Entw%C3%BCrfe/a'b(1)!.docx HTTP/1.1
Connection: Keep-Alive
User-Agent: Microsoft-WebDAV-MiniRedir/10.0.22631
Destination: http://intranet/sites/it/Shared%20Documents/b%20%26%20c.docx
Overwrite: F
translate: f
Lock-Token: <opaquelocktoken:{a1b2c3d4-0001-0002-0003-0123456789ab}20241119T050211Z>
Content-Length: 0
Host: intranet

"#,
    r#"HEAD /sites/it/Shared%20Documents/plan.docx HTTP/1.1
Connection: Keep-Alive
Authorization: Bearer
User-Agent: Microsoft Office Existence Discovery
X-Office-Major-Version: 16
Host: intranet

"#,
    r#"OPTIONS /sites/it/ HTTP/1.1
Connection: Keep-Alive
User-Agent: Microsoft Office Protocol Discovery
X-MS-CookieUri-Requested: t
X-IDCRL_ACCEPTED: t
Host: intranet

"#,
    r#"POST /sites/it/_vti_bin/_vti_aut/author.dll HTTP/1.1
Connection: Keep-Alive
Content-Type: application/x-www-form-urlencoded
X-Vermeer-Content-Type: application/x-www-form-urlencoded
Accept: auth/sicily
MIME-Version: 1.0
User-Agent: MSFrontPage/15.0
Content-Length: 5
Host: intranet

hello"#,
    // git and Git LFS, for Azure DevOps Server
    r#"GET /tfs/DefaultCollection/My%20Project/_git/repo/info/refs?service=git-upload-pack HTTP/1.1
Host: tfs.contoso.com:8080
Authorization: Negotiate YIIG/AYGKwYBBQUCoIIG8DCCBuygMDAuBgkqhkiC9xIBAgIGCSqGSIb3EgECAgYKKwYBBAGCNwICHg==
User-Agent: git/2.43.0.windows.1
Accept: */*
Accept-Encoding: deflate, gzip, br, zstd
Accept-Language: de-DE, *;q=0.9
Pragma: no-cache
Git-Protocol: version=2

"#,
    r#"POST /tfs/DefaultCollection/_git/repo/git-receive-pack HTTP/1.1
Host: tfs.contoso.com:8080
User-Agent: git/2.43.0.windows.1
Content-Type: application/x-git-receive-pack-request
Accept: application/x-git-receive-pack-result
Transfer-Encoding: chunked

5
hello
0

"#,
    r#"POST /tfs/DefaultCollection/_git/repo/info/lfs/objects/batch HTTP/1.1
Host: tfs.contoso.com:8080
Accept: application/vnd.git-lfs+json
Content-Length: 5
Content-Type: application/vnd.git-lfs+json; charset=utf-8
User-Agent: git-lfs/3.4.1 (GitHub; windows amd64; go 1.21.5; git 0898dcbc)

{"a"}"#,
    r#"POST /tfs/DefaultCollection/_apis/distributedtask/pools/1/sessions HTTP/1.1
Accept: application/json; api-version=5.1-preview.1
User-Agent: VSServices/16.170.30907.2 (NetStandard; Microsoft Windows 10.0.17763) vstest.console/3.220.5
X-TFS-FedAuthRedirect: Suppress
X-TFS-Session: 5a0c7b2e-2b57-4f43-9a6c-3b5a8c6a2f10
X-VSS-Agent: VSS: 5a0c7b2e
X-VSS-E2EID: 5a0c7b2e-2b57-4f43-9a6c-3b5a8c6a2f10
Accept-Language: en-US
Content-Type: application/json; charset=utf-8; api-version=5.1-preview.1
Content-Length: 5
Host: tfs.contoso.com:8080

{"a"}"#,
    // other programs
    r#"GET /EWS/Services.wsdl HTTP/1.1
User-Agent: Java/17.0.10
Host: mail.contoso.com
Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2
Connection: keep-alive

"#,
    r#"GET / HTTP/1.1
User-Agent: Wget/1.21.3
Accept: */*
Accept-Encoding: identity
Host: mail.contoso.com
Connection: Keep-Alive

"#,
    r#"GET /owa/healthcheck.htm HTTP/1.0
Host: mail.contoso.com
User-Agent: ApacheBench/2.3
Accept: */*

"#,
    r#"OPTIONS /owa/healthcheck.htm HTTP/1.0

"#,
];

/// Lines that end here: hop-by-hop ones, `Host`, which is the server's, and a name of Office's with an underscore.
const NOT_PASSED: [&str; 7] = [
    "Connection:",
    "Host:",
    "Keep-Alive:",
    "Proxy-Connection:",
    "TE:",
    "Transfer-Encoding:",
    "X-IDCRL_ACCEPTED:",
];

/// What the server sees of a request: its fields in their order and case, and behind them those of the front.
fn arrives(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").expect("a whole head");
    let passes = |line: &&str| {
        let is_ours = |name: &&str| line.starts_with(name);
        !NOT_PASSED.iter().any(is_ours)
    };
    let mut lines: Vec<&str> = head.split("\r\n").filter(passes).collect();
    if head.contains("Transfer-Encoding: chunked") {
        lines.push("Transfer-Encoding: chunked");
    }
    lines.push("Host: origin");
    let head = lines.join("\r\n").replace("HTTP/1.0\r\n", "HTTP/1.1\r\n");
    format!("{head}\r\n\r\n{body}").replace("GET http://intranet/", "GET /")
}

#[test]
fn rules_refuse_no_real_client() {
    let table: Vec<_> = REQUESTS
        .iter()
        .map(|request| {
            let request = request.replace('\n', "\r\n");
            let wanted = match request.starts_with("OPTIONS /owa/healthcheck.htm HTTP/1.0") {
                true => "OPTIONS /owa/healthcheck.htm HTTP/1.1\r\nHost: origin\r\n\r\n".to_owned(),
                false => arrives(&request),
            };
            (request.into_bytes(), wanted.into_bytes())
        })
        .collect();
    Stand::new("client_max_body_size 0;").passes(&table);
}

#[test]
fn rules_allow_the_bytes_that_old_browsers_send() {
    let stand = Stand::new("");
    // Internet Explorer sends the query of a link in the page's own encoding.
    let mut request = b"GET /search.aspx?q=M\xfcller HTTP/1.1\r\nHost: test\r\n".to_vec();
    let mut wanted = b"GET /search.aspx?q=M\xfcller HTTP/1.1\r\n".to_vec();
    let referer = b"Referer: http://test/search.aspx?q=\xc4rger\r\n";
    request.extend_from_slice(&[referer, &b"\r\n"[..]].concat());
    wanted.extend_from_slice(&[referer, &b"Host: origin\r\n\r\n"[..]].concat());
    stand.passes(&[(request, wanted)]);
    // And an empty line behind the body of a POST, before the next request.
    let mut client = Peer::connect(stand.front.addr(0));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello\r\n");
    let mut upstream = stand.server.accept();
    upstream.head();
    assert_eq!(upstream.take(5), b"hello");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.answer().status(), 204);
    client.send(line("GET /next HTTP/1.1"));
    assert_eq!(upstream.head().line(), "GET /next HTTP/1.1");
}
