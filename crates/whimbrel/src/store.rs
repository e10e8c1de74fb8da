//! `whimbrel store`: looks at, copies or rescues what a stopped broker has kept.

use std::path::Path;

use whimbrel_store::OpenError;

use crate::failure::{Chain, Failure};

/// Why a store can't be opened, and what to do about it.
pub(crate) fn refused(error: &OpenError, data_dir: &Path) -> Failure {
    let data_dir = data_dir.display();
    Failure::Runtime(match error {
        OpenError::Locked { .. } => format!(
            "{data_dir} is in use by another process: stop that one, or choose another folder with --data-dir"
        ),
        OpenError::Damaged { detail } => format!(
            "the store in {data_dir} is damaged: {detail}; whimbrel store check --data-dir {data_dir} tells how much, and \
             whimbrel store salvage writes what can be read into another folder"
        ),
        error => format!("cannot open the store in {data_dir}: {}", Chain(error)),
    })
}
