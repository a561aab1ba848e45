//! `limit_req` and `limit_conn` with their zones.

use crate::limit::rate::Rate;

use super::super::error::Result;
use super::super::model::{
    ConnectionLimit, LimitAnswer, LimitZone, Limits, RequestLimit, ZoneIndex, ZoneUse,
};
use super::super::parse::Directive;
use super::super::value;
use super::log::severity;
use super::{Builder, Level};

/// Eight pages, as nginx has it.
const ZONE_BYTES_MIN: u64 = 8 * 4096;

const REQ_ZONE: &str = "limit_req_zone";
const CONN_ZONE: &str = "limit_conn_zone";

/// What says which status, which level of the log, and whether it is a dry run.
type AnswerNames = [&'static str; 3];

const OF_REQUESTS: AnswerNames = [
    "limit_req_status",
    "limit_req_log_level",
    "limit_req_dry_run",
];
const OF_CONNECTIONS: AnswerNames = [
    "limit_conn_status",
    "limit_conn_log_level",
    "limit_conn_dry_run",
];

impl Builder<'_> {
    /// All zones, before anything that names them.
    pub(super) fn limit_zones(&mut self, level: Level<'_>) -> Result<()> {
        for directive in level.0 {
            let counts = match &directive.name[..] {
                REQ_ZONE => false,
                CONN_ZONE => true,
                _ => continue,
            };
            let zone = self.limit_zone(directive, counts)?;
            self.http.limit_zones.push(zone);
        }
        Ok(())
    }

    fn limit_zone(&self, directive: &Directive, counts: bool) -> Result<LimitZone> {
        let key_text = directive.args[0].clone();
        let key = self.template(directive, &key_text)?;
        let mut zone = None;
        let mut rate = Rate::per_second(1);
        for parameter in &directive.args[1..] {
            match parameter.split_once('=') {
                Some(("zone", text)) => zone = Some(zone_size(directive, parameter, text)?),
                Some(("rate", text)) if !counts => {
                    rate = parse_rate(text)
                        .ok_or_else(|| directive.error(format!("invalid rate \"{parameter}\"")))?;
                }
                _ => return Err(directive.invalid_parameter(parameter)),
            }
        }
        let Some((name, bytes)) = zone.filter(|(name, _)| !name.is_empty()) else {
            return Err(must_have_zone(directive));
        };
        if let Some(known) = self.http.limit_zones.iter().find(|zone| zone.name == name) {
            if known.kind.counts() != counts {
                return Err(different_use(directive, name));
            }
            if known.bytes != bytes {
                let message = format!(
                    "the size {bytes} of shared memory zone \"{name}\" conflicts with already declared size {}",
                    known.bytes
                );
                return Err(directive.error(message));
            }
            let message = format!(
                "{} \"{name}\" is already bound to key \"{}\"",
                directive.name, known.key_text
            );
            return Err(directive.error(message));
        }
        Ok(LimitZone {
            name: name.to_owned(),
            bytes,
            key_text,
            key,
            kind: match counts {
                true => ZoneUse::Connections,
                false => ZoneUse::Requests(rate),
            },
        })
    }

    /// The limits of a block; its own lists take the place of the inherited ones.
    pub(super) fn limits(&self, level: Level<'_>, limits: &mut Limits) -> Result<()> {
        let requests = &mut limits.requests;
        if level.has("limit_req") {
            requests.limits.clear();
        }
        for directive in level.all("limit_req") {
            let limit = self.limit_req(directive)?;
            if requests.limits.iter().any(|other| other.zone == limit.zone) {
                return Err(directive.error_of("is duplicate"));
            }
            requests.limits.push(limit);
        }
        answer(level, OF_REQUESTS, &mut requests.answer)?;
        let connections = &mut limits.connections;
        if level.has("limit_conn") {
            connections.limits.clear();
        }
        for directive in level.all("limit_conn") {
            let zone = self.zone_named(directive, &directive.args[0], true)?;
            let mut others = connections.limits.iter();
            if others.any(|other| other.zone == zone) {
                return Err(directive.error_of("is duplicate"));
            }
            let number = positive(&directive.args[1]).ok_or_else(|| {
                let text = &directive.args[1];
                directive.error(format!("invalid number of connections \"{text}\""))
            })?;
            if number > 65_535 {
                return Err(directive.error("connection limit must be less 65536"));
            }
            let limit = ConnectionLimit { zone, number };
            connections.limits.push(limit);
        }
        answer(level, OF_CONNECTIONS, &mut connections.answer)
    }

    fn limit_req(&self, directive: &Directive) -> Result<RequestLimit> {
        let mut zone = None;
        let (mut burst, mut undelayed) = (0, 0);
        for parameter in &directive.args {
            let invalid = |what| directive.error(format!("invalid {what} value \"{parameter}\""));
            match parameter.split_once('=') {
                Some(("zone", name)) => zone = Some(self.zone_named(directive, name, false)?),
                Some(("burst", text)) => burst = positive(text).ok_or_else(|| invalid("burst"))?,
                Some(("delay", text)) => {
                    undelayed = positive(text).ok_or_else(|| invalid("delay"))?;
                }
                None if parameter == "nodelay" => undelayed = u64::MAX,
                _ => return Err(directive.invalid_parameter(parameter)),
            }
        }
        Ok(RequestLimit {
            zone: zone.ok_or_else(|| must_have_zone(directive))?,
            burst: burst.saturating_mul(1000),
            undelayed: undelayed.saturating_mul(1000),
        })
    }

    fn zone_named(&self, directive: &Directive, name: &str, counts: bool) -> Result<ZoneIndex> {
        let mut zones = self.http.limit_zones.iter();
        let found = zones
            .position(|zone| zone.name == name)
            .ok_or_else(|| directive.error(format!("zero size shared memory zone \"{name}\"")))?;
        if self.http.limit_zones[found].kind.counts() != counts {
            return Err(different_use(directive, name));
        }
        Ok(found)
    }
}

/// Reads the directives called `names`.
fn answer(level: Level<'_>, names: AnswerNames, answer: &mut LimitAnswer) -> Result<()> {
    let [status, log_level, dry_run] = names;
    level.set(status, &mut answer.status, |directive| {
        let status = value::number(&directive.args[0]);
        let status = status.ok_or_else(|| directive.error_of("invalid number"))?;
        if !(400..=599).contains(&status) {
            return Err(directive.error("value must be between 400 and 599"));
        }
        Ok(status as u16)
    })?;
    level.set(log_level, &mut answer.level, |directive| {
        let word = &directive.args[0];
        let level =
            severity(word).filter(|_| matches!(&word[..], "info" | "notice" | "warn" | "error"));
        level.ok_or_else(|| directive.error(format!("invalid value \"{word}\"")))
    })?;
    level.set(dry_run, &mut answer.dry_run, Directive::flag)
}

/// `NAME:SIZE`
fn zone_size<'a>(
    directive: &Directive,
    parameter: &str,
    text: &'a str,
) -> Result<(&'a str, usize)> {
    let invalid = || directive.error(format!("invalid zone size \"{parameter}\""));
    let (name, size) = text.split_once(':').ok_or_else(invalid)?;
    let bytes = value::size(size).ok_or_else(invalid)?;
    if bytes < ZONE_BYTES_MIN {
        return Err(directive.error(format!("zone \"{parameter}\" is too small")));
    }
    Ok((name, usize::try_from(bytes).map_err(|_| invalid())?))
}

/// `10r/s`, `30r/m`; without a unit it is a second, as nginx takes it.
fn parse_rate(text: &str) -> Option<Rate> {
    if let Some(number) = text.strip_suffix("r/m") {
        return positive(number).map(Rate::per_minute);
    }
    positive(text.strip_suffix("r/s").unwrap_or(text)).map(Rate::per_second)
}

fn positive(text: &str) -> Option<u64> {
    value::number(text).filter(|number| (1..=i64::MAX as u64).contains(number))
}

fn must_have_zone(directive: &Directive) -> super::Error {
    let name = &directive.name;
    directive.error(format!("\"{name}\" must have \"zone\" parameter"))
}

fn different_use(directive: &Directive, name: &str) -> super::Error {
    directive.error(format!(
        "the shared memory zone \"{name}\" is already declared for a different use"
    ))
}
