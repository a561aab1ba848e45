//! The http context.

use super::super::error::Result;
use super::super::model::Main;
use super::super::parse::Directive;
use super::scope::Scope;
use super::{Builder, Level};

impl Builder<'_> {
    /// Builds everything in the order in which things name each other, whatever the order they stand in.
    pub(super) fn http(&mut self, directive: &Directive, main: &Main) -> Result<()> {
        let level = Level(&directive.children);
        self.collect_variables(level.0)?;
        self.maps(level)?;
        self.log_formats(directive)?;
        self.upstreams(level)?;
        self.limit_zones(level)?;
        let scope = self.scope(&Scope::new(main.error_logs.clone()), level)?;
        let mut names = Vec::new();
        let mut drafts = Vec::new();
        for server in level.all("server") {
            names.push(self.server(server, &scope, &mut drafts)?);
        }
        self.share_buffers();
        self.listeners(drafts, &names)
    }
}
