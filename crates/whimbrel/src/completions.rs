//! `whimbrel completions` and `whimbrel man`: what belongs into the folders of shells and of man.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::failure::Failure;

#[derive(Args, Debug)]
#[command(disable_version_flag = true)]
pub(crate) struct CompletionsArguments {
    /// The shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Args, Debug)]
#[command(disable_version_flag = true)]
pub(crate) struct ManArguments {
    /// Write a page for each command into this folder [default: the first page to standard output]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the script with which a shell completes the command line.
pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), NAME, &mut script);
    print(&script)
}

/// Prints the man page, or writes all of them.
pub(crate) fn man(arguments: &ManArguments) -> Result<(), Failure> {
    match &arguments.out {
        Some(folder) => {
            let unwritable = |error| {
                let folder = folder.display();
                Failure::Usage(format!("--out: cannot write to {folder}: {error}"))
            };
            fs::create_dir_all(folder).map_err(unwritable)?;
            clap_mangen::generate_to(Cli::command(), folder).map_err(unwritable)
        }
        None => {
            let mut page = Vec::new();
            let rendered = Man::new(Cli::command()).render(&mut page);
            rendered
                .map_err(|error| Failure::Runtime(format!("cannot write the page: {error}")))?;
            print(&page)
        }
    }
}

/// Writes to standard output; a reader that has gone, as `head` does, is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Runtime(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

const NAME: &str = "whimbrel";
