//! Set-ups that are broken as those in the field are.

use std::fs;

use super::parts::{Probe, Scripted};
use super::{BOTH, NEGOTIATE, NTLM, front, origin};
use crate::front::Front;
use crate::nginx::Nginx;
use crate::prefix::free_address;
use crate::tls::binding;
use crate::tls::pki::Pki;

const FORGOTTEN: &str = "the login is not kept on one connection: its second leg is answered as if there had been no first";
const REFUSED: &str = "the login is refused, 401 after its last leg";

#[test]
fn each_request_on_a_server_connection_of_its_own() {
    for schemes in [BOTH, NEGOTIATE] {
        let origin = origin("A", schemes);
        let nginx = Nginx::before(&[origin.addr()], "", "");
        let url = nginx.url("/");
        let probed = Probe::new(&url).alice().finds(&[FORGOTTEN]);
        // It is seen without the password, so that the account cannot be locked by it.
        assert!(!probed.text.contains("message 3"), "{}", probed.text);
        Probe::new(&url).finds(&[FORGOTTEN]);
    }
}

#[test]
fn server_connections_that_are_shared() {
    let origin = origin("A", BOTH);
    let nginx = Nginx::before(&[origin.addr()], "keepalive 16;", "");
    let probed = Probe::new(&nginx.url("/"))
        .alice()
        .finds(&["UNSAFE: logins are inherited: of "]);
    assert!(
        probed.text.contains(", message 3: 200, logged in"),
        "{}",
        probed.text
    );
}

#[test]
fn legs_that_go_to_two_servers() {
    let origins = [origin("MAIL1", NTLM), origin("MAIL2", NTLM)];
    let nginx = Nginx::before(&[origins[0].addr(), origins[1].addr()], "", "");
    let probed = Probe::new(&nginx.url("/"))
        .alice()
        .finds(&["the login is not kept on one connection: two challenges on one connection came from two servers, EXAMPLE\\MAIL"]);
    assert!(probed.text.contains("MAIL1") && probed.text.contains("MAIL2"));
}

#[test]
fn a_server_behind_to_compare_with_tells_the_front_s_faults_from_the_password() {
    let origin = origin("A", NTLM);
    let nginx = Nginx::before(&[origin.addr()], "", "");
    let behind = format!("http://{}", origin.addr());
    // With NTLM alone, nothing shows whether legs stay together.
    let probed = Probe::new(&nginx.url("/")).alice().finds(&[REFUSED]);
    let doubt = "or its legs do not arrive on one connection";
    assert!(probed.text.contains(doubt), "{}", probed.text);
    assert!(
        probed.text.contains("--behind https://SERVER"),
        "{}",
        probed.text
    );
    Probe::new(&nginx.url("/")).alice().behind(&behind).finds(&[
        "the front breaks the login: the same name and password are taken by the server behind.",
    ]);
    let wrong = Probe::new(&nginx.url("/")).user("EXAMPLE\\alice", "mistyped");
    let probed = wrong.behind(&behind).finds(&[REFUSED]);
    assert!(!probed.text.contains(doubt), "{}", probed.text);
    // One that cannot be asked leaves what was known before.
    let nobody = free_address();
    let unreached = format!("http://{nobody}");
    let probed = Probe::new(&nginx.url("/"))
        .alice()
        .behind(&unreached)
        .finds(&[REFUSED]);
    let note = format!(
        "Note: the server behind could not be compared: {nobody} cannot be reached (111: Connection refused)"
    );
    assert!(probed.text.contains(&note), "{}", probed.text);
}

#[test]
fn a_front_that_closes_between_the_legs() {
    for schemes in [BOTH, NTLM] {
        let origin = origin("A", schemes);
        let nginx = Nginx::before(&[origin.addr()], "", "keepalive_timeout 0;");
        Probe::new(&nginx.url("/")).alice().finds(&[
            "the login is not kept on one connection: the answer to its first leg closes the connection",
        ]);
    }
}

#[test]
fn a_wrong_password() {
    let origin = origin("A", BOTH);
    let front = front(&[origin.addr()], "");
    for (before, user) in ["EXAMPLE\\alice", "EXAMPLE\\nobody", "OTHER\\alice"]
        .into_iter()
        .enumerate()
    {
        let probe = Probe::new(&front.url("/")).user(user, "mistyped");
        let probed = probe.finds(&[REFUSED]);
        for other in ["do not arrive", "Extended Protection", "--behind"] {
            assert!(!probed.text.contains(other), "{}", probed.text);
        }
        // One try, so that a probe locks nobody out.
        let log = front.error_log_with("login failed: ", before + 1);
        assert_eq!(log.matches("login failed: ").count(), before + 1, "{log}");
    }
}

#[test]
fn another_certificate_than_the_server_s() {
    let mut pki = Pki::new();
    pki.add("inside", &["mail.test"]);
    let trusted = ["inside.pem", "mail.pem"].map(|name| pki.path(name));
    let trusted = trusted.map(|path| fs::read_to_string(path).unwrap());
    let ca = pki.write("trusted.pem", &trusted.concat());
    for policy in ["accept", "require"] {
        let origin = binding::Origin::start_that(&pki, "mail", policy);
        let http = binding::configuration(&pki, "inside", origin.addr, "");
        let front = Front::start(&http);
        let to = |front: &Front| {
            let url = format!("https://{}/", front.addr(0));
            Probe::new(&url).trusting(&ca)
        };
        let probe = || to(&front);
        let behind = format!("https://{}", origin.addr);
        let told = probe().alice().run();
        match policy {
            "accept" => probe().alice().finds(&["channel binding mismatch: a login that is bound to the certificate shown here is refused, and one that is bound to none is taken."]),
            _ => probe().alice().finds(&[REFUSED]),
        };
        assert!(told.text.contains("Extended Protection"), "{}", told.text);
        probe().alice().behind(&behind).finds(&["channel binding mismatch: only a login that is bound to the certificate of the server behind (CN="]);
        // It is the password, and two tries find that out.
        let front = Front::start(&http);
        let probe = || to(&front).user("EXAMPLE\\alice", "mistyped");
        let failed = |number| {
            let line = "login failed: scheme ntlm, ntlm messages 1 3";
            front.error_log_with(line, number).matches(line).count()
        };
        let probed = probe().behind(&behind).finds(&[REFUSED]);
        assert!(
            !probed.text.contains("Extended Protection"),
            "{}",
            probed.text
        );
        assert_eq!(failed(1), 1, "and one at the server itself");
        probe().finds(&[REFUSED]);
        assert_eq!(failed(3), 3);
    }
}

#[test]
fn tls_that_ends_at_the_front_before_a_server_that_insists() {
    let pki = Pki::new();
    let origin = binding::Origin::start_that(&pki, "mail", "require");
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0; location / {{ ntlm; proxy_pass https://{}; }} }}",
        origin.addr,
    ));
    let behind = format!("https://{}", origin.addr);
    let probe = || Probe::new(&front.url("/")).alice().behind(&behind);
    let mismatch = "channel binding mismatch: only a login that is bound to the certificate of the server behind";
    probe().trusting(&pki.path("mail.pem")).finds(&[mismatch]);
    probe().insecure().finds(&[mismatch]);
    // Somebody in between would get the login.
    let probed = probe().finds(&[REFUSED]);
    let note = "Note: the server behind could not be compared: nobody that this machine trusts stands behind the certificate; no login was tried: ";
    assert!(probed.text.contains(note), "{}", probed.text);
    assert_eq!(probed.text.matches("message 3").count(), 1);
}

#[test]
fn fields_that_do_not_come_through() {
    let origin = origin("A", BOTH);
    for (location, problem) in [
        (
            "proxy_hide_header WWW-Authenticate;",
            "401 comes without WWW-Authenticate",
        ),
        (
            "proxy_set_header Authorization \"\";",
            "NTLM is offered, but its first message is answered as if no credentials had come.",
        ),
    ] {
        let nginx = Nginx::before(&[origin.addr()], "", location);
        Probe::new(&nginx.url("/")).alice().finds(&[problem]);
    }
}

#[test]
fn other_schemes() {
    let nginx = Nginx::start(
        "server { listen ADDR; location / { auth_basic \"mail, NTLM\"; auth_basic_user_file /dev/null; } }",
    );
    Probe::new(&nginx.url("/"))
        .alice()
        .finds(&["wrong scheme: only Basic is offered, neither NTLM nor Negotiate."]);
    let bearer = Scripted::saying(
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"x\", Basic\r\nContent-Length: 0\r\n\r\n",
    );
    Probe::new(&bearer.url()).finds(&["wrong scheme: only Bearer, Basic is offered"]);
    // Nothing but Kerberos inside, and no word about what it wants instead.
    let kerberos = Scripted::saying(
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",
    );
    let problem =
        "wrong scheme: Negotiate is offered without NTLM inside, so that only Kerberos logs in.";
    Probe::new(&kerberos.url()).alice().finds(&[problem]);
}

#[test]
fn paths_that_ask_for_no_login() {
    let origin = ntlm_origin::Origin::start(ntlm_origin::OriginOptions::default()).unwrap();
    let front = front(&[origin.addr()], "");
    Probe::new(&front.url("/whoami"))
        .alice()
        .finds(&["nothing asks for a login here: a request without credentials is answered 200."]);
    let probed = Probe::new(&front.url("/redirect"))
        .alice()
        .finds(&["nothing asks for a login here: it redirects to "]);
    assert!(
        probed.text.contains("ntlmfront --probe '"),
        "{}",
        probed.text
    );
    for (status, problem) in [
        (503, "a request without credentials is answered 503"),
        (429, "a request without credentials is answered 429"),
        (407, "a forward proxy answers"),
    ] {
        let path = format!("/status/{status}");
        Probe::new(&front.url(&path)).alice().finds(&[problem]);
    }
}

#[test]
fn nobody_there() {
    let nobody = free_address();
    for scheme in ["http", "https"] {
        let problem = format!("{nobody} cannot be reached (111: Connection refused).");
        Probe::new(&format!("{scheme}://{nobody}/"))
            .alice()
            .finds(&[&problem]);
    }
    Probe::new("http://nobody.invalid/").finds(&["the name has no address ("]);
    // A front whose server is gone.
    let front = front(&[nobody], "");
    let problem = "a request without credentials is answered 502";
    Probe::new(&front.url("/")).alice().finds(&[problem]);
}

#[test]
fn certificates_that_clients_do_not_take() {
    let mut pki = Pki::new();
    pki.add_expired("expired");
    pki.add("other", &["other.test"]);
    let origin = origin("A", BOTH);
    let listen = |shows: &str| {
        format!(
            "server {{ listen 127.0.0.1:0 ssl; {} location / {{ proxy_pass http://mail; }} }}",
            pki.directives(shows)
        )
    };
    let front = Front::start(&format!(
        "upstream mail {{ server {}; ntlm; }} {} {}",
        origin.addr(),
        listen("mail"),
        listen("expired"),
    ));
    let url = |nth| format!("https://{}/", front.addr(nth));
    let named = format!("https://localhost:{}/", front.addr(0).port());
    for (url, trusted, problem) in [
        (
            url(0),
            "other",
            "nobody that this machine trusts stands behind the certificate.",
        ),
        (named, "mail", "the certificate is for another name."),
        (url(1), "expired", "the certificate has expired on 20"),
    ] {
        let trusted = pki.path(&format!("{trusted}.pem"));
        let probe = || Probe::new(&url).trusting(&trusted);
        // Whoever is in between gets nothing that he could use, and what needs no password is looked at.
        let probed = probe().alice().finds(&[problem]);
        for said in ["challenge of EXAMPLE\\A\n", "login       not tried\n"] {
            assert!(probed.text.contains(said), "{}", probed.text);
        }
        assert!(!probed.text.contains("message 3"), "{}", probed.text);
        let note = "Note: no login was tried: whoever shows such a certificate may be ";
        assert!(probed.text.contains(note), "{}", probed.text);
        let probed = probe().alice().insecure().finds(&[problem]);
        assert!(probed.text.contains("both logged in"), "{}", probed.text);
    }
}

#[test]
fn tls_where_none_is_expected_and_the_other_way_round() {
    let pki = Pki::new();
    let origin = origin("A", BOTH);
    let plain = front(&[origin.addr()], "");
    Probe::new(&format!("https://{}/", plain.addr(0))).finds(&["no TLS is spoken here."]);
    let tls = Front::start(&format!(
        "server {{ listen 127.0.0.1:0 ssl; {} location / {{ proxy_pass http://{}; }} }}",
        pki.directives("mail"),
        origin.addr(),
    ));
    Probe::new(&tls.url("/")).finds(&["a request without credentials is answered 400"]);
}
