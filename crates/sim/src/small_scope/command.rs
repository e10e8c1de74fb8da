//! `whimbrel-sim --exhaustive`.

use std::process::ExitCode;

use super::{Exploration, Scope, Suite};

/// Runs the explorations that the command line asks for; `None` if it asks for none.
///
/// `--exhaustive` explores the scopes of every change, `--exhaustive --scope full` larger ones too,
/// and `--exhaustive --scope NAME` one. Fails if a rule is broken, and tells how.
#[must_use]
pub fn exhaustive(arguments: &[String]) -> Option<ExitCode> {
    let (first, rest) = arguments.split_first()?;
    if first != "--exhaustive" {
        return None;
    }
    let scopes = match rest {
        [] => Scope::suite(Suite::Change),
        [flag, name] if flag == "--scope" => match name.as_str() {
            "full" => Scope::suite(Suite::Full),
            name => Scope::named(name).into_iter().collect(),
        },
        _ => Vec::new(),
    };
    if scopes.is_empty() {
        eprintln!("{USAGE}");
        for scope in Scope::all() {
            eprintln!("  {}", scope.name());
        }
        return Some(ExitCode::from(2));
    }
    // A panic is told as a finding, once.
    std::panic::set_hook(Box::new(|_| {}));
    Some(explore_all(&scopes))
}

fn explore_all(scopes: &[Scope]) -> ExitCode {
    println!("| scope | states | transitions | terminal states | longest path | seconds |");
    println!("|---|---|---|---|---|---|");
    let mut violations = 0_u32;
    let mut all = Total::default();
    for scope in scopes {
        let seen = scope.explore();
        print_row(scope.name(), &seen);
        all.add(&seen);
        if let Some(violation) = seen.violation {
            violations += 1;
            let violation = scope.shortest_violation().unwrap_or(violation);
            println!("\n{}:\n{violation}\n", scope.name());
        }
    }
    println!(
        "\n{} states, {} transitions, {:.0} s, {violations} violations",
        all.states, all.transitions, all.seconds
    );
    if violations > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[derive(Debug, Default)]
struct Total {
    states: u64,
    transitions: u64,
    seconds: f64,
}

impl Total {
    fn add(&mut self, seen: &Exploration) {
        self.states += seen.states;
        self.transitions += seen.transitions;
        self.seconds += seen.elapsed.as_secs_f64();
    }
}

fn print_row(name: &str, seen: &Exploration) {
    println!(
        "| {name} | {} | {} | {} | {} | {:.1} |",
        seen.states,
        seen.transitions,
        seen.terminal_states,
        seen.depth,
        seen.elapsed.as_secs_f64()
    );
}

const USAGE: &str = "usage: whimbrel-sim --exhaustive [--scope full | --scope NAME]

  explores every order of events in worlds of two clients and two messages, by default those
  that take less than a minute; NAME is one of:";
