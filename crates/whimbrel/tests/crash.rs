//! The binary, killed under load and started again: a short run of what `scripts/crash` does at length.
#![cfg(unix)]

use std::path::Path;
use std::time::Duration;

use whimbrel_crash::crash::{self, CrashPlan, Death, QosMix};
use whimbrel_crash::{Account, BrokerCommand};

#[test]
fn nothing_acknowledged_is_lost_when_the_broker_is_killed() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash");
    // What an earlier run left is no part of this one.
    let _ = std::fs::remove_dir_all(&folder);
    let program = Path::new(env!("CARGO_BIN_EXE_whimbrel"));
    let plan = CrashPlan {
        broker: BrokerCommand::whimbrel(program, &[]),
        folder: folder.clone(),
        rounds: 3,
        qos: QosMix::Both,
        seed: 5,
        online: true,
        offline: true,
        payload_max: 100_000,
        messages_max: 300,
        load_max: Duration::from_millis(700),
        death: Death::Kill,
    };
    let account = Account::new();
    let report = crash::run(&plan, &account).unwrap_or_else(|error| panic!("{}", error.in_full()));
    assert!(account.is_clean(), "{:#?}", account.texts());
    assert_eq!(report.kills, 3);
    assert!(report.acknowledged > 0);
    // Kept when something is wrong.
    std::fs::remove_dir_all(folder).expect("the broker has stopped");
}
