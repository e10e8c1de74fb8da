//! One scene under callgrind, and its profile read.

use std::{fs, path::Path, process::Command};

use super::table::{Cost, Milli};

/// Runs a scene, and leaves its profile in `folder`.
///
/// # Errors
/// A message for the developer.
pub(super) fn count(program: &Path, folder: &Path, scene: &str) -> Result<Cost, String> {
    let profile = folder.join(format!("{}.out", scene.replace('/', ".")));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--compress-strings=no"])
        .arg("--compress-pos=no")
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(scene);
    let output = valgrind
        .output()
        .map_err(|error| format!("valgrind: {error}; scripts/install-tools installs it"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("it ended with {}:\n{told}", output.status));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let (operations, allocations) = printed
        .trim()
        .split_once(' ')
        .and_then(|(operations, allocations)| {
            Some((operations.parse().ok()?, allocations.parse().ok()?))
        })
        .ok_or_else(|| format!("it printed '{printed}', not how much it did"))?;
    let text = fs::read(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let instructions = instructions(&String::from_utf8_lossy(&text), &program.to_string_lossy());
    if instructions == 0 {
        return Err(format!("nothing was collected in {COUNTED}:\n{told}"));
    }
    Ok(Cost {
        instructions: Milli::share(instructions, operations),
        allocations: Milli::share(allocations, operations),
    })
}

/// Instructions of the object `program`, and of no other.
///
/// What the C library does is left out: which of its copies of `memcpy` runs depends on the CPU, and how many
/// instructions `malloc` takes on its version. The format is described in valgrind's manual.
fn instructions(profile: &str, program: &str) -> u64 {
    let mut instructions = 0;
    let mut is_in_program = false;
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_in_program = object == program;
        } else if line.starts_with("calls=") {
            // What the called function cost, which is counted where it stands itself.
            lines.next();
        } else if line.starts_with(|first: char| first.is_ascii_digit()) && is_in_program {
            // A line of the source, and what it cost.
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
            instructions += cost.unwrap_or(0);
        }
    }
    instructions
}

/// The function of the scenes' program within which is counted.
const COUNTED: &str = "*whimbrel_counted*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_instructions_are_counted() {
        let profile = "\
version: 1
events: Ir
summary: 5000

ob=/target/release/instructions
fl=core.rs
fn=decode
10 5
11 7
cob=/lib/libc.so.6
cfi=malloc.c
cfn=malloc
calls=3 40
11 300
cfn=other
calls=9 50
12 900
12 1

ob=/lib/libc.so.6
fl=malloc.c
fn=malloc
40 100

ob=/target/release/instructions
fn=other
50 20

totals: 5000
";
        let program = "/target/release/instructions";
        assert_eq!(instructions(profile, program), 5 + 7 + 1 + 20);
        assert_eq!(instructions(profile, "/lib/libc.so.6"), 100);
    }
}
