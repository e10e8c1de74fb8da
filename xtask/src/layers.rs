//! `cargo xtask layers`: the shape of the workspace, checked.

mod edges;
mod listed;
mod rules;
mod sources;

use std::{fmt, fs};

use crate::{Outcome, metadata::Metadata, rust_files::rust_files};

/// Checks the workspace that cargo finds, and lists every violation.
pub(crate) fn run() -> Outcome {
    let metadata = Metadata::read()?;
    let mut violations = edges::check(&metadata.packages, rules::LAYERS);
    let page = fs::read_to_string(metadata.workspace_root.join(listed::PAGE))?;
    violations.extend(listed::check(&metadata.packages, &page));
    let mut files_read = 0;
    for package in &metadata.packages {
        let is_pure = rules::LAYERS
            .iter()
            .any(|layer| layer.package == package.name && layer.third_party.is_some());
        if !is_pure {
            continue;
        }
        let folder = package
            .manifest_path
            .parent()
            .ok_or("a manifest path without a folder")?;
        for file in rust_files(&folder.join("src"))? {
            violations.extend(sources::check(
                &file,
                &fs::read_to_string(&file)?,
                rules::FORBIDDEN,
            ));
            files_read += 1;
        }
    }
    if violations.is_empty() {
        let packages = metadata.packages.len();
        println!(
            "layers: {packages} packages and {files_read} files of pure crates keep the rules"
        );
        return Ok(());
    }
    for violation in &violations {
        eprintln!("{violation}\n");
    }
    Err(format!("{} violations of the layers", violations.len()).into())
}

/// One broken rule: where, which, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    place: String,
    rule: String,
    mend: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n  rule: {}\n  mend: {}",
            self.place, self.rule, self.mend
        )
    }
}
