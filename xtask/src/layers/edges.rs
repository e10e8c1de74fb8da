//! Dependencies between packages against the table of layers.

use super::{
    Violation,
    rules::{Layer, Reach, TEST_EDGES, ThirdParty},
};
use crate::metadata::{Dependency, Kind, Package};

/// Every dependency that the table does not allow.
///
/// Tests may also use what lies further below: a dev-dependency is allowed on anything that can be
/// reached from the package through allowed edges, on what is listed for it in [`TEST_EDGES`], and on any
/// third-party crate.
pub(super) fn check(packages: &[Package], layers: &[Layer]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in packages {
        let Some(layer) = find(layers, &package.name) else {
            violations.push(Violation {
                place: package.name.clone(),
                rule: "every package has its place in the table of layers".to_owned(),
                mend: "add it to LAYERS in xtask/src/layers/rules.rs, and to the design's table"
                    .to_owned(),
            });
            continue;
        };
        for dependency in &package.dependencies {
            let is_ours = packages
                .iter()
                .any(|package| package.name == dependency.name);
            let violation = if is_ours {
                check_edge(layers, layer, dependency)
            } else {
                check_third_party(layer, dependency)
            };
            violations.extend(violation);
        }
    }
    violations
}

fn check_edge(layers: &[Layer], layer: &Layer, dependency: &Dependency) -> Option<Violation> {
    let is_allowed = match dependency.kind {
        Some(Kind::Dev) => {
            // A crate may name itself to turn its features on for its tests.
            dependency.name == layer.package
                || reaches(layers, layer, &dependency.name)
                || TEST_EDGES.contains(&(layer.package, dependency.name.as_str()))
        }
        None | Some(Kind::Build) => is_edge(layer, &dependency.name),
    };
    if is_allowed {
        return None;
    }
    let allowed = match layer.reach {
        Reach::Any => "anything".to_owned(),
        Reach::Only([]) => "no other package of the workspace".to_owned(),
        Reach::Only(packages) => packages.join(", "),
    };
    Some(Violation {
        place: format!("{} -> {}", layer.package, dependency.name),
        rule: format!("{} may depend on {allowed}", layer.package),
        mend: format!(
            "remove {} from its manifest and use what the layer below re-exports, or move the code up",
            dependency.name
        ),
    })
}

fn check_third_party(layer: &Layer, dependency: &Dependency) -> Option<Violation> {
    let allowed = layer.third_party?;
    if dependency.kind == Some(Kind::Dev) {
        return None;
    }
    let is_allowed = allowed.iter().any(|allowed| match allowed {
        ThirdParty::Always(name) => *name == dependency.name,
        ThirdParty::Optional(name) => *name == dependency.name && dependency.optional,
    });
    if is_allowed {
        return None;
    }
    let names: Vec<String> = allowed
        .iter()
        .map(|allowed| match allowed {
            ThirdParty::Always(name) => (*name).to_owned(),
            ThirdParty::Optional(name) => format!("{name} (optional)"),
        })
        .collect();
    Some(Violation {
        place: format!("{} -> {}", layer.package, dependency.name),
        rule: format!("{} is pure and may depend on {} only", layer.package, names.join(", ")),
        mend: "do it with std, or do it in a crate that is not pure; a crate without clock, socket, thread or \
               randomness may be added to LAYERS in xtask/src/layers/rules.rs and docs/dependencies.md"
            .to_owned(),
    })
}

fn find<'a>(layers: &'a [Layer], package: &str) -> Option<&'a Layer> {
    layers.iter().find(|layer| layer.package == package)
}

fn is_edge(layer: &Layer, package: &str) -> bool {
    match layer.reach {
        Reach::Any => true,
        Reach::Only(packages) => packages.contains(&package),
    }
}

fn reaches(layers: &[Layer], from: &Layer, package: &str) -> bool {
    let Reach::Only(direct) = from.reach else {
        return true;
    };
    // The table has no cycle (a test holds it to that), so the walk ends.
    let mut below: Vec<&str> = direct.to_vec();
    while let Some(name) = below.pop() {
        if name == package {
            return true;
        }
        if let Some(Layer {
            reach: Reach::Only(next),
            ..
        }) = find(layers, name)
        {
            below.extend(*next);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::rules::LAYERS;

    fn package(name: &str, dependencies: Vec<Dependency>) -> Package {
        Package {
            name: name.to_owned(),
            dependencies,
            ..Package::default()
        }
    }

    fn dependency(name: &str, kind: Option<Kind>) -> Dependency {
        Dependency {
            name: name.to_owned(),
            kind,
            optional: false,
        }
    }

    /// The whole table as a workspace with exactly the edges it allows.
    fn workspace() -> Vec<Package> {
        LAYERS
            .iter()
            .map(|layer| {
                let mut dependencies = Vec::new();
                if let Reach::Only(edges) = layer.reach {
                    dependencies.extend(edges.iter().map(|name| dependency(name, None)));
                }
                for third_party in layer.third_party.unwrap_or_default() {
                    dependencies.push(match third_party {
                        ThirdParty::Always(name) => dependency(name, None),
                        ThirdParty::Optional(name) => Dependency {
                            name: (*name).to_owned(),
                            kind: None,
                            optional: true,
                        },
                    });
                }
                package(layer.package, dependencies)
            })
            .collect()
    }

    fn planted(package: &str, dependency: Dependency) -> Vec<String> {
        let mut workspace = workspace();
        let target = workspace
            .iter_mut()
            .find(|candidate| candidate.name == package)
            .unwrap();
        target.dependencies.push(dependency);
        check(&workspace, LAYERS)
            .into_iter()
            .map(|violation| violation.place)
            .collect()
    }

    #[test]
    fn workspace_of_the_table_is_clean() {
        assert_eq!(check(&workspace(), LAYERS), []);
    }

    #[test]
    fn table_names_known_packages_from_lower_to_higher() {
        for (index, layer) in LAYERS.iter().enumerate() {
            let Reach::Only(edges) = layer.reach else {
                continue;
            };
            for edge in edges {
                let below = LAYERS[..index].iter().any(|layer| layer.package == *edge);
                assert!(below, "{} -> {edge} does not point down", layer.package);
            }
        }
    }

    #[test]
    fn planted_edges_fail() {
        for (from, to) in [
            ("whimbrel-topic", "whimbrel-codec"),
            ("whimbrel-codec", "whimbrel-session"),
            ("whimbrel-session", "whimbrel-topic"),
            ("whimbrel-session", "whimbrel-net"),
            ("whimbrel-broker-core", "whimbrel-codec"),
            ("whimbrel-broker-core", "whimbrel-store"),
            ("whimbrel-net", "whimbrel-topic"),
            ("whimbrel-broker", "whimbrel-client"),
            ("whimbrel-conformance", "whimbrel-broker"),
            ("whimbrel-sim", "whimbrel-broker"),
            ("xtask", "whimbrel-topic"),
        ] {
            assert_eq!(
                planted(from, dependency(to, None)),
                [format!("{from} -> {to}")]
            );
            assert_eq!(
                planted(from, dependency(to, Some(Kind::Build))),
                [format!("{from} -> {to}")]
            );
        }
    }

    #[test]
    fn tests_may_reach_further_down_but_never_up_or_aside() {
        assert!(
            planted(
                "whimbrel-broker",
                dependency("whimbrel-codec", Some(Kind::Dev))
            )
            .is_empty()
        );
        assert!(
            planted(
                "whimbrel-broker-core",
                dependency("whimbrel-topic", Some(Kind::Dev))
            )
            .is_empty()
        );
        assert!(
            planted(
                "whimbrel-codec",
                dependency("whimbrel-codec", Some(Kind::Dev))
            )
            .is_empty()
        );
        for (from, to) in [
            ("whimbrel-codec", "whimbrel-session"),
            ("whimbrel-session", "whimbrel-net"),
            ("whimbrel-net", "whimbrel-topic"),
        ] {
            assert_eq!(
                planted(from, dependency(to, Some(Kind::Dev))),
                [format!("{from} -> {to}")]
            );
        }
    }

    #[test]
    fn edges_of_tests_are_no_edges_of_the_crate_and_make_no_circle() {
        for (from, to) in TEST_EDGES {
            assert!(planted(from, dependency(to, Some(Kind::Dev))).is_empty());
            assert_eq!(
                planted(from, dependency(to, None)),
                [format!("{from} -> {to}")]
            );
            let target = find(LAYERS, to).unwrap();
            assert!(!reaches(LAYERS, target, from), "{from} -> {to} -> {from}");
        }
    }

    #[test]
    fn pure_crates_refuse_every_third_party_crate_they_do_not_list() {
        let pure = LAYERS.iter().filter(|layer| layer.third_party.is_some());
        assert_eq!(pure.clone().count(), 4);
        for layer in pure {
            for name in [
                "tokio",
                "mio",
                "socket2",
                "async-std",
                "futures",
                "rand",
                "getrandom",
            ] {
                assert_eq!(
                    planted(layer.package, dependency(name, None)),
                    [format!("{} -> {name}", layer.package)]
                );
                assert!(planted(layer.package, dependency(name, Some(Kind::Dev))).is_empty());
            }
        }
        assert!(planted("whimbrel-net", dependency("tokio", None)).is_empty());
    }

    #[test]
    fn tokio_util_is_allowed_in_codec_only_behind_a_feature() {
        let mandatory = planted("whimbrel-codec", dependency("tokio-util", None));
        assert_eq!(mandatory, ["whimbrel-codec -> tokio-util"]);
    }

    #[test]
    fn package_outside_the_table_fails() {
        let mut workspace = workspace();
        workspace.push(package("whimbrel-misc", Vec::new()));
        let violations = check(&workspace, LAYERS);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].place, "whimbrel-misc");
    }

    #[test]
    fn violation_names_the_rule_and_how_to_mend_it() {
        let mut workspace = workspace();
        workspace[2]
            .dependencies
            .push(dependency("whimbrel-net", None));
        let text = check(&workspace, LAYERS)[0].to_string();
        assert!(
            text.contains("rule: whimbrel-session may depend on whimbrel-codec"),
            "{text}"
        );
        assert!(
            text.contains("mend: remove whimbrel-net from its manifest"),
            "{text}"
        );
    }
}
