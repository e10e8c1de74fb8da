//! `whimbrel serve`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use whimbrel_broker::{Broker, ListenOptions, StartError, Stopped};

use crate::cli::{LogLevel, ServeArguments};
use crate::deny::DeniedFilters;
use crate::descriptors;
use crate::failure::{Chain, Failure};
use crate::store;

/// Runs the broker until a signal ends it.
pub(crate) fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let options = listen_options(arguments)?;
    start_log(arguments.log);
    descriptors::raise_limit(arguments.connection.connections);
    if arguments.storage.in_memory {
        tracing::info!("state is in memory: it is lost when the broker stops");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(format!("cannot start: {error}")))?;
    runtime.block_on(run(arguments, options))
}

async fn run(arguments: &ServeArguments, options: ListenOptions) -> Result<(), Failure> {
    let signal = signal();
    let mut signal = pin!(
        signal.map_err(|error| Failure::Runtime(format!("cannot wait for signals: {error}")))?
    );
    let mut builder = Broker::builder().config(arguments.broker_config());
    let data_dir = &arguments.storage.data_dir;
    if !arguments.storage.in_memory {
        builder = builder.data_dir(data_dir);
    }
    let denied = &arguments.features.deny_subscribe;
    if !denied.is_empty() {
        let filters = denied.iter().map(|filter| filter.0.clone()).collect();
        builder = builder.authorizer(DeniedFilters(filters));
    }
    for address in &arguments.listen {
        builder = builder.listen_with(address.clone(), options);
    }
    let broker = tokio::select! {
        broker = builder.start() => broker.map_err(|error| describe(error, data_dir))?,
        name = &mut signal => {
            // To read back what is stored may take long; nothing is half done that a start could not do again.
            tracing::info!(signal = name, "stopping before the start is done");
            return Ok(());
        }
    };
    if matches!(arguments.log, LogLevel::Error | LogLevel::Warn) {
        // At other levels the log says it, or nothing is to be said.
        for address in broker.local_addrs() {
            // Without a standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "listening on tcp://{address}");
        }
    }
    let stopped = tokio::select! {
        name = &mut signal => {
            tracing::info!(signal = name, "stopping");
            broker.shutdown().await
        }
        stopped = broker.stopped() => stopped,
    };
    match stopped {
        Stopped::Orderly => Ok(()),
        Stopped::Failed => Err(Failure::Runtime(
            "the broker stopped because something failed: the log says what; if it was a panic, please report it"
                .to_owned(),
        )),
    }
}

fn listen_options(arguments: &ServeArguments) -> Result<ListenOptions, Failure> {
    let tcp = &arguments.tcp;
    let mut options = ListenOptions::default();
    options.backlog = tcp.backlog;
    options.stream.keepalive = tcp.tcp_keepalive.0;
    options.stream.user_timeout =
        (tcp.tcp_user_timeout > 0).then(|| Duration::from_secs(u64::from(tcp.tcp_user_timeout)));
    let validated = options.stream.validate();
    validated.map_err(|error| Failure::Usage(error.to_string()))?;
    if tcp.backlog == 0 {
        return Err(Failure::Usage("--backlog: use 1 or more".to_owned()));
    }
    Ok(options)
}

fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would complain to standard error too, and panic where nobody reads that any more.
        .log_internal_errors(false)
        .init();
}

/// What went wrong at the start, and what to do about it.
fn describe(error: StartError, data_dir: &Path) -> Failure {
    match error {
        StartError::Store { source } => store::refused(&source, data_dir),
        StartError::Journal { source } => Failure::Runtime(format!(
            "cannot read back what {0} has: {1}; whimbrel store check --data-dir {0} tells how much is wrong, and \
             whimbrel store salvage writes what can be read into another folder",
            data_dir.display(),
            Chain(&source)
        )),
        StartError::AnonymousBeyondLoopback { address } => Failure::Usage(format!(
            "{address} can be reached from other machines and everybody would be let in; add \
             --allow-anonymous if that is meant, or listen on tcp://127.0.0.1:{}",
            address.port()
        )),
        StartError::Listen { address, source } => {
            let (what, advice) = match source.kind() {
                io::ErrorKind::AddrInUse => (
                    "address in use".to_owned(),
                    "stop the other server or choose another port with --listen",
                ),
                io::ErrorKind::PermissionDenied => (
                    "permission denied".to_owned(),
                    "choose a port above 1023 with --listen",
                ),
                io::ErrorKind::AddrNotAvailable => (
                    "this machine has no such address".to_owned(),
                    "choose another one with --listen",
                ),
                _ => (source.to_string(), "choose another address with --listen"),
            };
            Failure::Runtime(format!("cannot listen on {address}: {what}; {advice}"))
        }
        StartError::Resolve { address, source } => Failure::Runtime(format!(
            "cannot look up {address}: {source}; check the host name given with --listen"
        )),
        StartError::Thread { source } => Failure::Runtime(format!(
            "cannot start a thread: {source}; try fewer with --shards"
        )),
        error => Failure::Runtime(format!("cannot start: {error}")),
    }
}

/// The name of the first signal that is to end the broker.
#[cfg(unix)]
fn signal() -> io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

/// The name of the first signal that is to end the broker.
#[cfg(not(unix))]
fn signal() -> io::Result<impl Future<Output = &'static str>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        "Ctrl-C"
    })
}
