//! The front's own answers, with nginx's plain pages.

/// The reason phrase of a status, as nginx words it; empty for one that it does not know.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 | 494..=497 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Time-out",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        // nginx knows neither 417 nor 431; the words are the registry's
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

/// The status that goes over the wire for one of nginx's own (494 to 497 are 400 with a page of their own); every other
/// one is itself.
pub fn wire_status(status: u16) -> u16 {
    match status {
        494..=497 => 400,
        status => status,
    }
}

/// Appends nginx's plain page for an error or redirect status to `out`; `server` is the word under the rule.
/// Statuses without a page (200, 204, 304 …) append nothing.
pub fn page(status: u16, server: &str, out: &mut Vec<u8>) {
    let wire_status = wire_status(status);
    let phrase = match status {
        304 => "",
        302 => "Found",
        301..=599 => reason(status),
        _ => "",
    };
    if phrase.is_empty() {
        return;
    }
    let heading = format!("{wire_status} {phrase}");
    let (title, detail) = match detail(status) {
        Some(detail) => (
            format!("{wire_status} {detail}"),
            format!("<center>{detail}</center>\r\n"),
        ),
        None => (heading.clone(), String::new()),
    };
    let page = format!(
        "<html>\r\n\
         <head><title>{title}</title></head>\r\n\
         <body>\r\n\
         <center><h1>{heading}</h1></center>\r\n\
         {detail}\
         <hr><center>{server}</center>\r\n\
         </body>\r\n\
         </html>\r\n"
    );
    out.extend_from_slice(page.as_bytes());
}

/// What nginx says below the heading, and in the title in place of the phrase.
fn detail(status: u16) -> Option<&'static str> {
    match status {
        431 | 494 => Some("Request Header Or Cookie Too Large"),
        495 => Some("The SSL certificate error"),
        496 => Some("No required SSL certificate was sent"),
        497 => Some("The plain HTTP request was sent to HTTPS port"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::refusal::Refusal;

    fn page_of(status: u16) -> String {
        let mut out = Vec::new();
        page(status, "ntlmfront", &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn pages_are_nginx_s() {
        assert_eq!(
            page_of(404),
            "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
             <center><h1>404 Not Found</h1></center>\r\n<hr><center>ntlmfront</center>\r\n</body>\r\n</html>\r\n"
        );
        assert_eq!(
            page_of(494),
            "<html>\r\n<head><title>400 Request Header Or Cookie Too Large</title></head>\r\n<body>\r\n\
             <center><h1>400 Bad Request</h1></center>\r\n\
             <center>Request Header Or Cookie Too Large</center>\r\n\
             <hr><center>ntlmfront</center>\r\n</body>\r\n</html>\r\n"
        );
        assert!(page_of(302).contains("<h1>302 Found</h1>"));
        assert_eq!(reason(302), "Moved Temporarily");
        for without_page in [0, 100, 200, 204, 206, 300, 304, 399, 499, 599, u16::MAX] {
            assert_eq!(page_of(without_page), "", "{without_page}");
        }
    }

    #[test]
    fn every_refusal_has_a_page() {
        for refusal in Refusal::ALL {
            let heading = format!("<h1>{} ", refusal.status());
            assert!(page_of(refusal.status()).contains(&heading), "{refusal:?}");
        }
    }
}
