//! A table as one client sees it: without dry-run policies, where it does not know of such.

use std::sync::Arc;

use crate::xds::resource::Resource;
use crate::xds::table::{Since, Table, Whole};

/// What one client is shown of a table.
#[derive(Clone, Copy)]
pub(in crate::xds::session) struct Shown<'a> {
    pub(in crate::xds::session) table: &'a Table,
    /// Dry-run policies are shown.
    pub(in crate::xds::session) dry_run: bool,
}

impl<'a> Shown<'a> {
    pub(in crate::xds::session) fn get(self, name: &str) -> Option<&'a Arc<Resource>> {
        self.table.get(name).filter(|resource| self.shows(resource))
    }

    pub(in crate::xds::session) fn sequence(self) -> u64 {
        self.table.sequence()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.table.iter().filter(move |resource| self.shows(resource))
    }

    /// Everything, shared by all clients that are shown the same.
    pub(super) fn whole(self) -> Arc<Whole> {
        self.table.whole(self.dry_run)
    }

    /// Only addresses have aliases, nodes and services, and they are always shown.
    pub(super) fn by_alias(self, alias: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.table.by_alias(alias)
    }

    pub(super) fn by_node(self, node: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.table.by_node(node)
    }

    pub(super) fn by_service(self, service: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.table.by_service(service)
    }

    /// What changed and what was removed after `base`, which had this sequence; what is shown no longer counts as
    /// removed.
    pub(super) fn since(self, sequence: u64, base: Option<Shown<'_>>) -> Option<Since> {
        let Since { changed, mut removed } = self.table.since(sequence)?;
        let (changed, hidden): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|resource| self.shows(resource));
        let hidden = hidden.into_iter().map(|resource| resource.name.clone());
        removed.extend(hidden.filter(|name| base.is_none_or(|base| base.get(name).is_some())));
        Some(Since { changed, removed })
    }

    fn shows(self, resource: &Resource) -> bool {
        self.dry_run || !resource.is_dry_run
    }
}
