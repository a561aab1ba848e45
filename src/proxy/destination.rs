//! Where `proxy_pass` sends a request: the group, and what becomes of the target.

use std::rc::Rc;

use crate::config::model::{Level, PassTarget, ProxyPass};
use crate::http::refusal::Refusal;
use crate::http::rewrite::Target;
use crate::http::target::raw_prefix_len;
use crate::observe::escape::Escaped;

use super::forward::{Finished, Forward};
use super::request::Request;
use super::upstream::Group;

/// What becomes of the target, owned.
pub(super) enum Replaced {
    Nothing,
    Prefix(usize, Vec<u8>),
    Whole(Vec<u8>),
}

impl Replaced {
    /// The same, for the rewriting of the head.
    pub(super) fn target(&self) -> Target<'_> {
        match self {
            Self::Nothing => Target::AsItCame,
            Self::Prefix(prefix, with) => Target::ReplacePrefix {
                prefix: *prefix,
                with,
            },
            Self::Whole(whole) => Target::Whole(whole),
        }
    }
}

impl Forward<'_> {
    /// The group that `proxy_pass` names, and what becomes of the target.
    pub(super) fn destination(
        &self,
        request: &Request,
        pass: &ProxyPass,
    ) -> Result<(Rc<Group>, Replaced), Finished> {
        let template = match &pass.target {
            PassTarget::Group(index) => {
                let group = self.client.settings.group(*index);
                let replaced = match &pass.uri {
                    Some(uri) if !self.location.prefix.is_empty() => {
                        let path = request.head.path.of(&request.bytes);
                        let prefix = raw_prefix_len(path, &self.location.prefix)
                            .ok_or(Finished::Refuse(Refusal::PathPrefix))?;
                        Replaced::Prefix(prefix, uri.clone().into_bytes())
                    }
                    _ => Replaced::Nothing,
                };
                return Ok((group, replaced));
            }
            PassTarget::Variable(template) => template,
        };
        let mut url = Vec::new();
        template.render(&self.client.view(request), &mut url);
        let Some(rest) = url.strip_prefix(b"http://") else {
            self.client.log(
                Level::Error,
                request,
                format_args!("invalid URL prefix in \"{}\"", Escaped(without_user(&url))),
            );
            return Err(Finished::Answer(500));
        };
        let split = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let (name, uri) = rest.split_at(split);
        let found = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.client.worker.groups.named(self.client.settings, name));
        let Some(group) = found else {
            let name = Escaped(without_user(name));
            self.client.log(
                Level::Error,
                request,
                format_args!("no resolver defined to resolve {name}"),
            );
            return Err(Finished::Answer(502));
        };
        let replaced = if uri.is_empty() {
            Replaced::Nothing
        } else {
            Replaced::Whole(uri.to_vec())
        };
        Ok((group, replaced))
    }
}

/// A URL, or its authority, without the user and the password that may stand in it.
fn without_user(url: &[u8]) -> &[u8] {
    url.rsplit(|&byte| byte == b'@').next().unwrap_or(url)
}
