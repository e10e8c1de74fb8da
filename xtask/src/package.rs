//! `cargo xtask package`: every publishable crate as a registry would get it.

use std::{error::Error, fmt::Write, fs, path::Path, process::Command};

use crate::{
    Outcome,
    metadata::{Metadata, Package, cargo},
};

/// Checks the metadata of every publishable crate, packages all, and builds each from its archive.
///
/// The archives are unpacked into a workspace of their own, where each is built alone, with its
/// default and with all of its features: what a crate has only thanks to a sibling's features, or
/// from outside its archive, is missing there. Cargo's own verification is not used, because it
/// takes unpublished siblings from its cache by version, and so checks against what the last run
/// packaged.
pub(crate) fn run() -> Outcome {
    let metadata = Metadata::read()?;
    let publishable: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| package.is_publishable())
        .collect();
    let mut complaints = Vec::new();
    for package in &publishable {
        complaints.extend(missing(package, Path::is_file)?);
    }
    if !complaints.is_empty() {
        return Err(format!("incomplete manifests:\n  {}", complaints.join("\n  ")).into());
    }

    let mut package = cargo();
    // A check before the commit is worth more than one after it, hence --allow-dirty.
    package.args(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    for member in &publishable {
        package.args(["--package", &member.name]);
    }
    succeed(&mut package)?;

    let folder = metadata.target_directory.join("package-check");
    unpack(
        &publishable,
        &metadata.target_directory.join("package"),
        &folder,
    )?;
    for member in &publishable {
        for features in [&[][..], &["--all-features"][..]] {
            let mut check = cargo();
            check
                .current_dir(&folder)
                .env("CARGO_TARGET_DIR", folder.join("target"));
            succeed(
                check
                    .args(["check", "--quiet", "--package", &member.name])
                    .args(features),
            )?;
        }
    }
    println!(
        "package: {} crates are complete and build alone from their archives",
        publishable.len()
    );
    Ok(())
}

/// Makes `folder` a workspace of the archives in `archives`, each standing in for the registry's
/// crate of its name.
fn unpack(packages: &[&Package], archives: &Path, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let mut members = String::new();
    let mut patches = String::new();
    for package in packages {
        let name = format!("{}-{}", package.name, package.version);
        let unpacked = folder.join(&name);
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked)?;
        }
        let archive = archives.join(format!("{name}.crate"));
        succeed(
            Command::new("tar")
                .arg("-xzf")
                .arg(archive)
                .arg("-C")
                .arg(folder),
        )?;
        writeln!(members, "    {name:?},")?;
        writeln!(patches, "{} = {{ path = {name:?} }}", package.name)?;
    }
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\n{members}]\n\n[patch.crates-io]\n{patches}"
    );
    Ok(fs::write(folder.join("Cargo.toml"), manifest)?)
}

fn succeed(command: &mut Command) -> Outcome {
    if command.status()?.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed").into())
    }
}

/// What the manifest of `package` lacks for somebody who finds it alone on a registry.
fn missing(
    package: &Package,
    is_file: impl Fn(&Path) -> bool,
) -> Result<Vec<String>, Box<dyn Error>> {
    let folder = package
        .manifest_path
        .parent()
        .ok_or("a manifest path without a folder")?;
    let readme = package.readme.as_ref().map(|readme| folder.join(readme));
    let is_text =
        |field: &Option<String>| field.as_ref().is_some_and(|text| !text.trim().is_empty());
    let rules = [
        (is_text(&package.description), "description is missing"),
        (is_text(&package.license), "license is missing"),
        (is_text(&package.repository), "repository is missing"),
        (is_text(&package.rust_version), "rust-version is missing"),
        // The registry's own bound is five.
        (
            (1..=5).contains(&package.keywords.len()),
            "keywords must be one to five",
        ),
        (
            (1..=5).contains(&package.categories.len()),
            "categories must be one to five",
        ),
        (
            readme.is_some_and(|readme| is_file(&readme)),
            "readme is missing or names no file",
        ),
        (
            LICENCES.iter().all(|name| is_file(&folder.join(name))),
            "LICENSE-APACHE and LICENSE-MIT must be beside it",
        ),
    ];
    let broken = rules.iter().filter(|(is_kept, _)| !is_kept);
    Ok(broken
        .map(|(_, complaint)| format!("{}: {complaint}", package.name))
        .collect())
}

const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Package {
        let text = |text: &str| Some(text.to_owned());
        Package {
            name: "whimbrel-x".to_owned(),
            manifest_path: "/w/crates/x/Cargo.toml".into(),
            description: text("what it is"),
            license: text("MIT OR Apache-2.0"),
            repository: text("https://example.com/x"),
            readme: Some("README.md".into()),
            rust_version: text("1.88"),
            keywords: vec!["mqtt".to_owned()],
            categories: vec!["network-programming".to_owned()],
            ..Package::default()
        }
    }

    fn complaints(package: &Package) -> Vec<String> {
        missing(package, |path| path.starts_with("/w/crates/x")).unwrap()
    }

    #[test]
    fn complete_manifest_has_no_complaint() {
        assert_eq!(complaints(&complete()), Vec::<String>::new());
    }

    #[test]
    fn each_missing_field_is_named() {
        for (package, complaint) in [
            (
                Package {
                    description: None,
                    ..complete()
                },
                "description is missing",
            ),
            (
                Package {
                    license: Some(" ".to_owned()),
                    ..complete()
                },
                "license is missing",
            ),
            (
                Package {
                    repository: None,
                    ..complete()
                },
                "repository is missing",
            ),
            (
                Package {
                    rust_version: None,
                    ..complete()
                },
                "rust-version is missing",
            ),
            (
                Package {
                    keywords: Vec::new(),
                    ..complete()
                },
                "keywords must be one to five",
            ),
            (
                Package {
                    keywords: vec![String::new(); 6],
                    ..complete()
                },
                "keywords must be one to five",
            ),
            (
                Package {
                    categories: Vec::new(),
                    ..complete()
                },
                "categories must be one to five",
            ),
            (
                Package {
                    readme: None,
                    ..complete()
                },
                "readme is missing or names no file",
            ),
        ] {
            assert_eq!(complaints(&package), [format!("whimbrel-x: {complaint}")]);
        }
    }

    #[test]
    fn readme_and_licences_must_exist() {
        let found = missing(&complete(), |_| false).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn package_with_no_registry_is_not_publishable() {
        assert!(complete().is_publishable());
        assert!(
            !Package {
                publish: Some(Vec::new()),
                ..complete()
            }
            .is_publishable()
        );
    }
}
