//! Every third-party crate has its line in `docs/dependencies.md`.

use std::collections::BTreeSet;

use super::Violation;
use crate::metadata::Package;

/// Where the list is, below the workspace's root.
pub(super) const PAGE: &str = "docs/dependencies.md";

/// The direct dependencies of `packages` that `page`, the text of [`PAGE`], has no row for.
pub(super) fn check(packages: &[Package], page: &str) -> Vec<Violation> {
    let listed: BTreeSet<&str> = page.lines().filter_map(crate_of_row).collect();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let used: BTreeSet<&str> = packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .map(|dependency| dependency.name.as_str())
        .filter(|name| !ours.contains(name))
        .collect();
    used.difference(&listed)
        .map(|name| Violation {
            place: (*name).to_owned(),
            rule: format!("every third-party crate has a row in {PAGE}"),
            mend: "add why it is needed, its size and who keeps it, or do without it".to_owned(),
        })
        .collect()
}

/// The name in the first cell of a row such as "| `bytes` | topic | ...".
fn crate_of_row(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("| `")?.split_once("` |")?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    #[test]
    fn crate_without_a_row_is_named_once() {
        let dependency = |name: &str| Dependency {
            name: name.to_owned(),
            kind: None,
            optional: false,
        };
        let package = |name: &str, dependencies: &[&str]| Package {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(|name| dependency(name)).collect(),
            ..Package::default()
        };
        let packages = [
            package("a", &["bytes", "left-pad"]),
            package("b", &["a", "left-pad"]),
        ];
        let page = "A word on `left-pad`.\n| `bytes` | a | why | 10 k | tokio-rs |\n";
        let names: Vec<String> = check(&packages, page)
            .into_iter()
            .map(|violation| violation.place)
            .collect();
        assert_eq!(names, ["left-pad"]);
    }
}
