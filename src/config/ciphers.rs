//! The cipher suites that there are, and how OpenSSL's lists choose among them.

/// A cipher suite, by its number in IANA's registry.
pub type Suite = u16;

/// TLS 1.2: number and OpenSSL's name, the preferred ones first. Others have no forward secrecy or no authenticated encryption.
const TLS12: [(Suite, &str); 6] = [
    (0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (0xc030, "ECDHE-RSA-AES256-GCM-SHA384"),
    (0xc02f, "ECDHE-RSA-AES128-GCM-SHA256"),
    (0xcca8, "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// TLS 1.3: number and name, which is everybody's.
const TLS13: [(Suite, &str); 3] = [
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
];

/// What clients offer besides, and no one agrees to.
const OTHERS: [(Suite, &str); 23] = [
    (0x00ff, "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"),
    (0x009e, "DHE-RSA-AES128-GCM-SHA256"),
    (0x009f, "DHE-RSA-AES256-GCM-SHA384"),
    (0xccaa, "DHE-RSA-CHACHA20-POLY1305"),
    (0x0067, "DHE-RSA-AES128-SHA256"),
    (0x006b, "DHE-RSA-AES256-SHA256"),
    (0x0033, "DHE-RSA-AES128-SHA"),
    (0x0039, "DHE-RSA-AES256-SHA"),
    (0xc023, "ECDHE-ECDSA-AES128-SHA256"),
    (0xc024, "ECDHE-ECDSA-AES256-SHA384"),
    (0xc027, "ECDHE-RSA-AES128-SHA256"),
    (0xc028, "ECDHE-RSA-AES256-SHA384"),
    (0xc009, "ECDHE-ECDSA-AES128-SHA"),
    (0xc00a, "ECDHE-ECDSA-AES256-SHA"),
    (0xc013, "ECDHE-RSA-AES128-SHA"),
    (0xc014, "ECDHE-RSA-AES256-SHA"),
    (0x009c, "AES128-GCM-SHA256"),
    (0x009d, "AES256-GCM-SHA384"),
    (0x003c, "AES128-SHA256"),
    (0x003d, "AES256-SHA256"),
    (0x002f, "AES128-SHA"),
    (0x0035, "AES256-SHA"),
    (0x000a, "DES-CBC3-SHA"),
];

/// All suites of TLS 1.2.
pub(super) fn all_tls12() -> Vec<Suite> {
    TLS12.map(|(suite, _)| suite).to_vec()
}

/// All suites of TLS 1.3.
pub(super) fn all_tls13() -> Vec<Suite> {
    TLS13.map(|(suite, _)| suite).to_vec()
}

/// What OpenSSL calls a suite, of those that are common.
pub fn name(suite: Suite) -> Option<&'static str> {
    let mut known = TLS12.iter().chain(&TLS13).chain(&OTHERS);
    let (_, name) = known.find(|(number, _)| *number == suite)?;
    Some(name)
}

/// Reads OpenSSL's list of suites of TLS 1.2 (openssl-ciphers(1)): names in their order, `!name` and `-name` without it, words such as
/// `HIGH` for groups of them. With the suites, names that stand for none of those that there are.
pub(super) fn parse_list(list: &str) -> (Vec<Suite>, Vec<&str>) {
    let mut chosen: Vec<Suite> = Vec::new();
    let mut unknown = Vec::new();
    let words = list.split([':', ',', ' ']).filter(|word| !word.is_empty());
    let mut banned: Vec<Suite> = Vec::new();
    for word in words {
        let (sign, word) = match word.strip_prefix(['!', '-', '+']) {
            Some(rest) => (word.as_bytes()[0], rest),
            None => (b' ', word),
        };
        // `@STRENGTH`, `@SECLEVEL=2`: the suites that there are have one strength.
        if word.starts_with('@') {
            continue;
        }
        let meant = meant_by(word);
        if meant.is_empty() && sign == b' ' {
            unknown.push(word);
        }
        match sign {
            b'!' => banned.extend(&meant),
            b'+' => {
                let (moved, stay): (Vec<Suite>, _) =
                    chosen.iter().partition(|suite| meant.contains(suite));
                chosen = stay;
                chosen.extend(moved);
                continue;
            }
            b'-' => {}
            _ => {
                let new = meant.iter().filter(|suite| !chosen.contains(suite));
                let new: Vec<Suite> = new.copied().collect();
                chosen.extend(new);
                continue;
            }
        }
        chosen.retain(|suite| !meant.contains(suite));
    }
    chosen.retain(|suite| !banned.contains(suite));
    (chosen, unknown)
}

/// Reads a list of suites of TLS 1.3. With the suites, names that stand for none.
pub(super) fn parse_tls13(list: &str) -> (Vec<Suite>, Vec<&str>) {
    let mut chosen = Vec::new();
    let mut unknown = Vec::new();
    for word in list.split(':').filter(|word| !word.is_empty()) {
        match TLS13.iter().find(|(_, name)| *name == word) {
            Some((suite, _)) if chosen.contains(suite) => {}
            Some((suite, _)) => chosen.push(*suite),
            None => unknown.push(word),
        }
    }
    (chosen, unknown)
}

/// The suites of TLS 1.2 that a word means: `ECDHE+AESGCM` those that all its parts mean.
fn meant_by(word: &str) -> Vec<Suite> {
    let has = |name: &str, part: &str| match part {
        "ALL" | "DEFAULT" | "HIGH" | "COMPLEMENTOFALL" | "TLSv1.2" | "ECDHE" | "EECDH"
        | "kECDHE" | "kEECDH" | "AEAD" | "FIPS" => true,
        "aRSA" | "RSA" => name.contains("-RSA-") && part == "aRSA",
        "aECDSA" | "ECDSA" => name.contains("-ECDSA-"),
        "AES" | "AESGCM" => name.contains("AES"),
        "AES128" => name.contains("AES128"),
        "AES256" => name.contains("AES256"),
        "CHACHA20" => name.contains("CHACHA20"),
        "SHA256" => name.ends_with("SHA256"),
        "SHA384" => name.ends_with("SHA384"),
        whole => name == whole,
    };
    let all_parts = |name: &str| word.split('+').all(|part| has(name, part));
    let meant = TLS12.iter().filter(|(_, name)| all_parts(name));
    meant.map(|(suite, _)| *suite).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_openssl() {
        let names = |list: &str| -> String {
            let (chosen, unknown) = parse_list(list);
            let chosen: Vec<&str> = chosen.into_iter().filter_map(name).collect();
            format!("{} | {}", chosen.join(" "), unknown.join(" "))
        };
        let everything = all_tls12()
            .into_iter()
            .filter_map(name)
            .collect::<Vec<_>>()
            .join(" ");
        for list in [
            "HIGH:!aNULL:!MD5",
            "DEFAULT",
            "ALL:!RC4:@STRENGTH",
            "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE",
        ] {
            let (chosen, unknown) = parse_list(list);
            assert_eq!((chosen.len(), unknown.len()), (6, 0), "{list}");
        }
        assert_eq!(names("HIGH:!aNULL:!MD5"), format!("{everything} | "));
        for (list, expected) in [
            (
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES128-GCM-SHA256 | ",
            ),
            (
                "DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:AES128-SHA",
                "ECDHE-RSA-AES256-GCM-SHA384 | DHE-RSA-AES128-GCM-SHA256 AES128-SHA",
            ),
            (
                "HIGH:!AES256:!aECDSA",
                "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-CHACHA20-POLY1305 | ",
            ),
            ("!CHACHA20:CHACHA20", " | "),
            (
                "CHACHA20:-CHACHA20:ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-RSA-CHACHA20-POLY1305 | ",
            ),
            (
                "AES128:+ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES128-GCM-SHA256 | ",
            ),
            ("", " | "),
        ] {
            assert_eq!(names(list), expected, "{list}");
        }
    }

    #[test]
    fn suites_of_tls_13() {
        assert_eq!(
            parse_tls13("TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256"),
            (vec![0x1301], vec!["TLS_AES_128_CCM_SHA256"])
        );
        assert_eq!(name(0x1303), Some("TLS_CHACHA20_POLY1305_SHA256"));
        assert_eq!(name(0x0005), None);
    }
}
