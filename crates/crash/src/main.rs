//! The judges as commands.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use whimbrel_crash::Account;

use self::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let account = Account::new();
    let outcome = cli.run(&account);
    for (violation, count) in account.counts() {
        println!("{violation:?}: {count}");
    }
    if let Err(failure) = outcome {
        eprintln!("error: {}", failure.in_full());
        return ExitCode::from(2);
    }
    if account.is_clean() {
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}
