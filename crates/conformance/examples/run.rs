//! Runs every case against a broker: `cargo run -p whimbrel-conformance --example run -- mqtt://127.0.0.1:1883`.

use std::process::ExitCode;

use whimbrel_conformance::{RunOptions, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let target = std::env::args().nth(1);
    let target = target
        .as_deref()
        .unwrap_or("mqtt://127.0.0.1:1883")
        .parse()?;
    let report = run(&target, &RunOptions::default(), |progress| {
        eprintln!("{}/{} {}", progress.done, progress.total, progress.case);
    })
    .await?;
    println!("{report}");
    Ok(ExitCode::from(u8::from(report.has_failures())))
}
