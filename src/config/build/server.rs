//! `server` and `location` blocks.

use super::super::error::Result;
use super::super::location::Locations;
use super::super::model::{Action, FiguresForm, Location, LocationIndex, Redirect, Return, Server};
use super::super::parse::Directive;
use super::super::pattern::Pattern;
use super::super::template::{Part, Template};
use super::super::value;
use super::super::variable::{UserVariable, Variable};
use super::listen::{Draft, Names};
use super::proxy::Pass;
use super::scope::Scope;
use super::{Builder, Level};

/// What a `location` says of the paths it is for.
struct Path<'a> {
    kind: Kind,
    /// The path, the regular expression or the name with its `@`.
    text: &'a str,
}

enum Kind {
    Exact,
    Prefix { stops: bool },
    Regex(Pattern),
    Named,
}

/// `set` directives in order.
type Sets = Vec<(UserVariable, Template)>;

/// What a `location` within another has to fit into.
type Outer<'a> = Option<&'a Path<'a>>;

impl Builder<'_> {
    /// Builds a server, adds it to its listening addresses, and returns its names.
    pub(super) fn server(
        &mut self,
        directive: &Directive,
        outer: &Scope,
        drafts: &mut Vec<Draft>,
    ) -> Result<Names> {
        let level = Level(&directive.children);
        let server = self.http.servers.len();
        self.listens(level, server, drafts)?;
        let names = self.server_names(level)?;
        let scope = self.scope(outer, level)?;
        let action = own_action(level)?;
        let first = self.http.locations.len();
        let root = self.push_location(&scope, String::new(), "", action, None);
        let (sets, returns) = self.rewrites(level)?;
        let locations = self.locations(level, &scope, None)?;
        self.http.servers.push(Server {
            name: names.first(level),
            root,
            locations,
            sets,
            returns,
            head: scope.head,
            header_timeout: scope.header_timeout,
            tls: scope.tls.settings(directive)?,
            all_locations: first..self.http.locations.len(),
        });
        Ok(names)
    }

    /// Builds the locations of a block, nested ones included.
    fn locations(
        &mut self,
        level: Level<'_>,
        scope: &Scope,
        outer: Outer<'_>,
    ) -> Result<Locations> {
        let mut locations = Locations::default();
        // Paths ending with a slash that are passed on: without the slash they are redirected, as nginx does.
        let mut directories: Vec<(&str, Scope)> = Vec::new();
        for directive in level.all("location") {
            let path = self.path_of(directive)?;
            check_nesting(directive, &path, outer)?;
            let inner = self.scope(scope, Level(&directive.children))?;
            let nested = self.locations(Level(&directive.children), &inner, Some(&path))?;
            let index = self.location(directive, &path, &inner)?;
            let passes = matches!(self.http.locations[index].action, Action::Proxy(_));
            let text = path.text;
            let new = match path.kind {
                Kind::Exact => locations.insert_exact(text, index),
                Kind::Prefix { stops } => locations.insert_prefix(text, stops, index, nested),
                // Nothing leads to a named location but `error_page` and `try_files`, which there are not.
                Kind::Named => continue,
                Kind::Regex(pattern) => {
                    locations.insert_regex(pattern, index, nested);
                    continue;
                }
            };
            if !new {
                return Err(directive.error(format!("duplicate location \"{text}\"")));
            }
            if let Some(without) = text.strip_suffix('/')
                && passes
                && !without.is_empty()
            {
                directories.push((without, inner));
            }
        }
        for (path, scope) in directories {
            if !locations.has(path) {
                let index = self.slash_redirect(path, &scope);
                locations.insert_exact(path, index);
            }
        }
        Ok(locations)
    }

    /// Reads what a `location` is for.
    fn path_of<'d>(&self, directive: &'d Directive) -> Result<Path<'d>> {
        let (modifier, text) = match &directive.args[..] {
            [modifier, text] => (&modifier[..], &text[..]),
            args => {
                let text = &args[0][..];
                let modifier = ["=", "^~", "~*", "~", ""];
                let modifier = modifier.into_iter().find(|m| text.starts_with(m));
                let modifier = modifier.unwrap_or_default();
                (modifier, &text[modifier.len()..])
            }
        };
        let kind = match modifier {
            "=" => Kind::Exact,
            "^~" => Kind::Prefix { stops: true },
            "~" => Kind::Regex(self.pattern(directive, text, false)?),
            "~*" => Kind::Regex(self.pattern(directive, text, true)?),
            "" if text.starts_with('@') => Kind::Named,
            "" => Kind::Prefix { stops: false },
            _ => {
                let message = format!("invalid location modifier \"{modifier}\"");
                return Err(directive.error(message));
            }
        };
        Ok(Path { kind, text })
    }

    fn location(
        &mut self,
        directive: &Directive,
        path: &Path<'_>,
        scope: &Scope,
    ) -> Result<LocationIndex> {
        let level = Level(&directive.children);
        let prefix = match path.kind {
            Kind::Exact | Kind::Prefix { .. } => path.text,
            Kind::Regex(_) | Kind::Named => "",
        };
        let (sets, returns) = self.rewrites(level)?;
        let pass = match level.one("proxy_pass") {
            Some(directive) => {
                let pass = self.pass(directive, prefix, &scope.proxy.tls)?;
                self.warn_of_lost_logins(directive, &scope.proxy, &pass);
                Some(pass)
            }
            None => None,
        };
        let (pass, redirect) = match pass {
            Some(Pass { pass, redirect }) => (Some(pass), redirect),
            None => (None, None),
        };
        let action = match (returns, pass) {
            (Some(answer), _) => Action::Return(answer),
            (None, Some(pass)) => Action::Proxy(pass),
            (None, None) => own_action(level)?,
        };
        let name = directive.args.join(" ");
        let index = self.push_location(scope, name, prefix, action, redirect);
        self.http.locations[index].sets = sets;
        Ok(index)
    }

    /// A location that sends `/owa` to `/owa/`.
    fn slash_redirect(&mut self, path: &str, scope: &Scope) -> LocationIndex {
        let target = Template {
            parts: vec![
                Part::Literal(format!("{path}/")),
                Part::Variable(Variable::IsArgs),
                Part::Variable(Variable::Args),
            ],
        };
        let action = Action::Return(Return {
            status: 301,
            text: Some(target),
        });
        self.push_location(scope, format!("= {path}"), path, action, None)
    }

    fn push_location(
        &mut self,
        scope: &Scope,
        name: String,
        prefix: &str,
        action: Action,
        redirect: Option<Redirect>,
    ) -> LocationIndex {
        self.http.locations.push(Location {
            name,
            prefix: prefix.as_bytes().to_vec(),
            sets: Vec::new(),
            action,
            access: scope.access.clone(),
            real_ip: scope.real_ip.clone(),
            limits: (!scope.limits.is_empty()).then(|| Box::new(scope.limits.clone())),
            access_logs: scope.access_logs.clone(),
            error_logs: scope.error_logs.clone(),
            client: scope.client.clone(),
            add_headers: scope.add_headers.clone(),
            proxy: scope.proxy.settings(redirect),
        });
        self.http.locations.len() - 1
    }

    /// The `set` directives of a block up to its first `return`, and that.
    fn rewrites(&self, level: Level<'_>) -> Result<(Sets, Option<Return>)> {
        let mut sets = Vec::new();
        for directive in level.0 {
            match &directive.name[..] {
                "set" => {
                    let name = directive.args[0].trim_start_matches('$');
                    let value = self.template(directive, &directive.args[1])?;
                    if let Some(Variable::User(variable)) = self.variable(name) {
                        sets.push((variable, value));
                    }
                }
                "return" => return Ok((sets, Some(self.returns(directive)?))),
                _ => {}
            }
        }
        Ok((sets, None))
    }

    fn returns(&self, directive: &Directive) -> Result<Return> {
        let first = &directive.args[0];
        let text = directive.args.get(1);
        let status = value::number(first).filter(|&status| status <= 999);
        let (status, text) = match (status, text) {
            (Some(status), text) => (status as u16, text),
            (None, None)
                if ["http://", "https://", "$scheme"]
                    .iter()
                    .any(|start| first.starts_with(start)) =>
            {
                (302, Some(first))
            }
            (None, _) => {
                return Err(directive.error(format!("invalid return code \"{first}\"")));
            }
        };
        let text = text
            .map(|text| self.template(directive, text))
            .transpose()?;
        Ok(Return { status, text })
    }
}

/// What a server or location answers itself.
fn own_action(level: Level<'_>) -> Result<Action> {
    let own = [
        ("stub_status", FiguresForm::StubStatus),
        ("metrics", FiguresForm::Metrics),
        ("status", FiguresForm::Status),
    ];
    let mut found = own.into_iter().filter(|(name, _)| level.has(name));
    let Some((first, shown)) = found.next() else {
        return Ok(Action::NotFound);
    };
    match found.find_map(|(name, _)| level.one(name)) {
        Some(other) => Err(other.error_of(&format!("is not allowed beside \"{first}\""))),
        None => Ok(Action::Show(shown)),
    }
}

fn check_nesting(directive: &Directive, path: &Path<'_>, outer: Outer<'_>) -> Result<()> {
    let Some(outer) = outer else { return Ok(()) };
    let (text, around) = (path.text, outer.text);
    let message = match (&path.kind, &outer.kind) {
        (_, Kind::Exact) => {
            format!("location \"{text}\" cannot be inside the exact location \"{around}\"")
        }
        (_, Kind::Named) => {
            format!("location \"{text}\" cannot be inside the named location \"{around}\"")
        }
        (Kind::Named, _) => {
            format!("named location \"{text}\" can be on the server level only")
        }
        (Kind::Exact | Kind::Prefix { .. }, Kind::Prefix { .. } | Kind::Regex(_))
            if !text.starts_with(around) =>
        {
            format!("location \"{text}\" is outside location \"{around}\"")
        }
        _ => return Ok(()),
    };
    Err(directive.error(message))
}
