//! The limit of open files: each connection takes one.

/// Raises the soft limit to the hard one, which needs no privilege.
#[cfg(unix)]
pub(crate) fn raise_limit(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let after = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted,
        // macOS refuses what is above its own, lower limit.
        Err(_) => before,
    };
    let Some(files) = after.current else {
        return;
    };
    tracing::debug!(files, "open files are limited");
    let needed = (connections as u64).saturating_add(OTHER_FILES);
    if files < needed {
        tracing::info!(
            files,
            connections,
            "fewer open files than connections are allowed: raise the limit with ulimit -n"
        );
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_limit(_connections: usize) {}

/// Listeners, runtimes and what the process was started with.
#[cfg(unix)]
const OTHER_FILES: u64 = 256;
