//! Runs one fixed scene without sockets, clock or chance, for callgrind to count: `cargo xtask instructions`.
//!
//! `instructions` prints the scenes' names; `instructions NAME` runs one and prints how many operations and
//! allocations were within [`counted`](whimbrel_benches::counted). Each scene does what its criterion benchmark times, and fails where the work
//! does not give what it should.

mod codec;
mod core;
mod session;
mod topic;

use std::alloc::System;
use std::{env, process::ExitCode};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use whimbrel_benches::counted_allocations;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Something that is done over and over.
struct Scene {
    name: String,
    /// Returns the number of operations counted.
    run: Box<dyn FnOnce() -> usize>,
}

impl Scene {
    fn new(name: impl Into<String>, run: impl FnOnce() -> usize + 'static) -> Scene {
        Scene {
            name: name.into(),
            run: Box::new(run),
        }
    }
}

fn main() -> ExitCode {
    let mut scenes = codec::scenes();
    scenes.extend(topic::scenes());
    scenes.extend(session::scenes());
    scenes.extend(core::scenes());
    let Some(name) = env::args().nth(1) else {
        for scene in scenes {
            println!("{}", scene.name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(scene) = scenes.into_iter().find(|scene| scene.name == name) else {
        eprintln!("error: there is no scene '{name}'; without an argument all are listed");
        return ExitCode::from(2);
    };
    let operations = (scene.run)();
    println!("{operations} {}", counted_allocations());
    ExitCode::SUCCESS
}
