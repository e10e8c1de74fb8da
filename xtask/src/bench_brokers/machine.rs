//! [`Machine`]: where and when something was measured, and what else went on there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde::{Deserialize, Serialize};

/// Where, when and of what state of the tree results are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
    pub(super) system: String,
    /// In UTC.
    pub(super) date: String,
    /// Short, with a plus where the tree had changes beside it.
    pub(super) commit: String,
}

impl Machine {
    /// This one, now; what the system does not tell is said to be unknown.
    pub(super) fn here(workspace: &Path) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kilobytes = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| {
            let number = text.split_whitespace().next()?;
            number.parse::<u64>().ok()
        });
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kilobytes.unwrap_or(0) * 1_024,
            system: said(Command::new("uname").arg("-sr")).unwrap_or_else(unknown),
            date: said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M"]))
                .unwrap_or_else(unknown),
            commit: commit(workspace).unwrap_or_else(unknown),
        }
    }
}

/// What all processors of this machine have done up to a moment, in ticks of the system's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// By all processes.
    busy: u64,
    /// Busy or not.
    all: u64,
    /// By processes that this one has started and that have ended.
    own: u64,
}

impl Work {
    /// Up to now; nothing where the system does not tell.
    pub(super) fn so_far() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/stat"), &read("/proc/self/stat"))
    }

    fn of(stat: &str, own: &str) -> Self {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
        let ticks = line.unwrap_or_default().split_whitespace();
        let ticks: Vec<u64> = ticks.filter_map(|tick| tick.parse().ok()).collect();
        // User, nice, system, idle, waiting, interrupts of two kinds, stolen; guests are in the first two.
        let of = |indexes: &[usize]| indexes.iter().filter_map(|&index| ticks.get(index)).sum();
        let fields = own.rsplit_once(')').map_or("", |(_, fields)| fields);
        let children = fields.split_whitespace().skip(CHILDREN_AFTER_NAME).take(2);
        Self {
            busy: of(&[0, 1, 2, 5, 6]),
            all: of(&[0, 1, 2, 3, 4, 5, 6, 7]),
            own: children.filter_map(|tick| tick.parse::<u64>().ok()).sum(),
        }
    }

    /// The share of the machine that others took since `before`.
    pub(super) fn others_since(self, before: Self) -> Option<f64> {
        let busy = self.busy.checked_sub(before.busy)?;
        let all = self.all.checked_sub(before.all).filter(|&all| all > 0)?;
        let own = self.own.checked_sub(before.own)?;
        Some(busy.saturating_sub(own) as f64 / all as f64)
    }
}

/// What stands behind a name and a colon.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start().strip_prefix(':')?.trim().to_owned())
}

fn commit(workspace: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(workspace).args(arguments);
        command
    };
    let commit = said(&mut git(&["rev-parse", "--short", "HEAD"]))?;
    let is_changed = said(&mut git(&["status", "--porcelain", "--untracked-files=no"])).is_some();
    Some(if is_changed { commit + "+" } else { commit })
}

/// What a command says that ends well, if it says something.
fn said(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Fields between the name and `cutime`, see proc_pid_stat(5).
const CHILDREN_AFTER_NAME: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t: a b\n";
        assert_eq!(
            field(text, "model name").as_deref(),
            Some("Some CPU @ 2 GHz")
        );
        assert_eq!(field(text, "bogomips"), None);
    }

    #[test]
    fn what_others_took_is_what_own_processes_did_not() {
        let own =
            |children: u64| format!("1 (x task) S 1 2 3 4 5 6 7 8 9 10 11 12 {children} 0 0 0");
        let before = Work::of("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1\n", &own(50));
        let after = Work::of("cpu  180 0 140 880 0 0 0 0 0 0\ncpu0 1\n", &own(130));
        // Of 200 ticks 120 were busy, and 80 of these with what was measured.
        assert_eq!(after.others_since(before), Some(0.2));
        assert_eq!(before.others_since(before), None);
        assert_eq!(before.others_since(after), None);
    }
}
