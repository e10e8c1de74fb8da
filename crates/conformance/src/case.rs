//! [`Case`]: one test of some statements.

use std::pin::Pin;

use whimbrel_codec::ProtocolVersion;

use crate::context::Context;
use crate::statement::Statement;
use crate::verdict::Outcome;

/// One test: what it is called, where it runs, what it shows, and how.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The name of its function, which says what is expected.
    pub name: &'static str,
    /// The module it is in, which says what it is about.
    pub module: &'static str,
    /// The versions it runs in.
    pub versions: &'static [ProtocolVersion],
    /// The full ids of the statements it shows.
    pub statements: &'static [&'static str],
    /// Runs it.
    pub run: fn(Context) -> CaseFuture,
}

impl Case {
    /// Every case of this crate, in the order of its source.
    pub fn all() -> impl Iterator<Item = &'static Case> {
        crate::cases::TABLES.iter().copied().flatten()
    }

    /// The ids of the statements that a run in `version` shows.
    pub fn shows(&self, version: ProtocolVersion) -> impl Iterator<Item = &'static str> {
        let runs = self.versions.contains(&version);
        let ids = self.statements.iter().copied();
        ids.filter(move |id| {
            runs && Statement::find(id).is_some_and(|statement| statement.belongs_to(version))
        })
    }
}

/// A case under way.
pub type CaseFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Declares a case: the function, the versions it runs in, the statements it shows.
macro_rules! case {
    ($name:ident, [$($version:ident),+ $(,)?], [$($id:literal),+ $(,)?]) => {
        $crate::case::Case {
            name: stringify!($name),
            module: module_path!(),
            versions: &[$(whimbrel_codec::ProtocolVersion::$version),+],
            statements: &[$($id),+],
            run: |context| Box::pin($name(context)),
        }
    };
}

pub(crate) use case;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_shows_something_in_each_of_its_versions() {
        let mut names = HashSet::new();
        for case in Case::all() {
            let name = (case.module, case.name);
            assert!(names.insert(name), "{name:?} is there twice");
            for id in case.statements {
                let statement = Statement::find(id);
                let statement = statement.unwrap_or_else(|| panic!("{name:?}: no statement {id}"));
                assert!(
                    statement.not_visible().is_none(),
                    "{name:?} shows {id}, which is in not-visible.tsv"
                );
                let shown = case.versions.iter().any(|v| statement.belongs_to(*v));
                assert!(shown, "{name:?} does not run in the version of {id}");
            }
            for version in case.versions {
                assert!(
                    case.shows(*version).next().is_some(),
                    "{name:?} shows nothing in {version}"
                );
            }
        }
        assert!(!names.is_empty());
    }
}
