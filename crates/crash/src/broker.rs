//! A broker as a process: [`BrokerCommand`] and [`RunningBroker`].

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Failure, process, wait};

/// How a broker is started: words with `{port}`, `{dir}` and `{shards}` in them.
#[derive(Clone, Debug)]
pub struct BrokerCommand {
    words: Vec<String>,
    /// A configuration file that is written to `{dir}/broker.conf` before each start.
    configuration: Option<String>,
}

impl BrokerCommand {
    /// Takes a command line apart at its spaces.
    ///
    /// # Errors
    ///
    /// [`Failure::Command`] when it can't start a broker on a port and a directory.
    pub fn parse(line: &str) -> Result<Self, Failure> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() || !line.contains("{port}") || !line.contains("{dir}") {
            return Err(Failure::Command(line.to_owned()));
        }
        Ok(Self {
            words,
            configuration: None,
        })
    }

    /// A broker of this workspace, that keeps more in a queue than any run here queues.
    #[must_use]
    pub fn whimbrel(program: &Path, arguments: &[&str]) -> Self {
        let mut words = vec![program.to_string_lossy().into_owned()];
        let fixed = [
            "serve",
            "--listen",
            "tcp://127.0.0.1:{port}",
            "--data-dir",
            "{dir}",
            "--shards",
            "{shards}",
            "--queue-messages",
            "20000000",
            "--queue-bytes",
            "64G",
            "--queue-total-bytes",
            "64G",
        ];
        words.extend(fixed.iter().chain(arguments).map(|&word| word.to_owned()));
        Self {
            words,
            configuration: None,
        }
    }

    /// A broker of this workspace without a store.
    #[must_use]
    pub fn whimbrel_in_memory(program: &Path) -> Self {
        let program = program.to_string_lossy().into_owned();
        let arguments = [
            "serve",
            "--listen",
            "tcp://127.0.0.1:{port}",
            "--in-memory",
            "--shards",
            "{shards}",
        ];
        let arguments = arguments.map(str::to_owned);
        Self {
            words: [program].into_iter().chain(arguments).collect(),
            configuration: None,
        }
    }

    /// Debian's mosquitto with persistence, saving at this interval, without limits of its queues.
    #[must_use]
    pub fn mosquitto(autosave_secs: u32) -> Self {
        let path = Path::new("/usr/sbin/mosquitto");
        let program = if path.exists() {
            path.to_string_lossy().into_owned()
        } else {
            "mosquitto".to_owned()
        };
        let configuration = format!(
            "listener {{port}} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
            persistence_location {{dir}}/\nautosave_interval {autosave_secs}\nmax_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 1000\n"
        );
        Self {
            words: vec![program, "-c".to_owned(), "{dir}/broker.conf".to_owned()],
            configuration: Some(configuration),
        }
    }

    /// The same broker under another program, as `strace`.
    #[must_use]
    pub fn under(mut self, outer: &[String]) -> Self {
        self.words.splice(0..0, outer.iter().cloned());
        self
    }

    /// With further arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.words
            .extend(arguments.iter().map(|&word| word.to_owned()));
        self
    }

    /// Starts it without waiting until it listens.
    pub(crate) fn spawn(&self, place: &Place, shards: u8) -> Result<RunningBroker, Failure> {
        fs::create_dir_all(&place.data_dir)
            .map_err(Failure::system("could not make the data directory"))?;
        let fill_in = |text: &str| {
            text.replace("{port}", &place.port.to_string())
                .replace("{dir}", &place.data_dir.to_string_lossy())
                .replace("{shards}", &shards.to_string())
        };
        if let Some(configuration) = &self.configuration {
            let path = place.data_dir.join("broker.conf");
            fs::write(&path, fill_in(configuration)).map_err(Failure::system(
                "could not write the broker's configuration",
            ))?;
        }
        let words: Vec<String> = self.words.iter().map(|word| fill_in(word)).collect();
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| Failure::Command(String::new()))?;
        let log = open_log(&place.log)?;
        let errors = log
            .try_clone()
            .map_err(Failure::system("could not open the broker's log"))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| Failure::Start {
                program: program.clone(),
                source,
            })?;
        Ok(RunningBroker {
            child,
            place: place.clone(),
            started: Instant::now(),
        })
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, place: &Place, shards: u8) -> Result<RunningBroker, Failure> {
        let mut broker = self.spawn(place, shards)?;
        broker.wait_until_listening(START_TIMEOUT)?;
        Ok(broker)
    }
}

/// Where a broker runs: its port, its data, and the log of all its starts.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
}

impl Place {
    /// A free port, and `data` and `broker.log` in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).map_err(Failure::system("could not make the run's folder"))?;
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = bound.map_err(Failure::system("found no free port"))?;
        Ok(Self {
            port: address.port(),
            data_dir: folder.join("data"),
            log: folder.join("broker.log"),
        })
    }

    /// The end of the log.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct RunningBroker {
    child: Child,
    place: Place,
    started: Instant,
}

impl RunningBroker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.place.port
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Waits until it takes a connection. Returns how long it took from the start.
    pub(crate) fn wait_until_listening(&mut self, timeout: Duration) -> Result<Duration, Failure> {
        let address = (Ipv4Addr::LOCALHOST, self.place.port);
        let outcome = wait::poll(timeout, || {
            if TcpStream::connect(address).is_ok() {
                return Some(Ok(()));
            }
            match self.child.try_wait() {
                Ok(Some(status)) => Some(Err(format!("it ended with {status}"))),
                Ok(None) => None,
                Err(error) => Some(Err(error.to_string())),
            }
        });
        let not_listening = |why| Failure::NotListening {
            why,
            log: self.place.log.display().to_string(),
            tail: self.place.log_tail(),
        };
        match outcome {
            Some(Ok(())) => Ok(self.started.elapsed()),
            Some(Err(why)) => Err(not_listening(why)),
            None => Err(not_listening(format!("nothing in {timeout:?}"))),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(status.to_string())
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.kill_now()
    }

    /// SIGTERM, and waits for the end; SIGKILL when that takes too long.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        process::signal(self.pid(), "TERM")?;
        if wait::poll(STOP_TIMEOUT, || self.ended()).is_some() {
            return Ok(());
        }
        self.kill_now()?;
        Err(Failure::Other(format!(
            "the broker did not stop in {STOP_TIMEOUT:?}"
        )))
    }

    fn kill_now(&mut self) -> Result<(), Failure> {
        // A tracer that is killed lets go of what it traces.
        for child in process::children(self.pid()) {
            // It may have ended by itself.
            let _ = process::signal(child, "KILL");
        }
        // An error says that it is dead already.
        let _ = self.child.kill();
        let ended = self.child.wait();
        ended.map_err(Failure::system("could not wait for the broker's end"))?;
        Ok(())
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        // Nothing is left to be told about it.
        let _ = self.kill_now();
    }
}

fn open_log(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(Failure::system("could not open the broker's log"))
}

/// Recovery of whatever a run leaves, on a busy machine, in a debug build.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const LOG_TAIL_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_needs_a_port_and_a_directory() {
        assert!(BrokerCommand::parse("broker -p {port} -d {dir}").is_ok());
        for line in ["", "broker", "broker -p {port}", "broker -d {dir}"] {
            assert!(matches!(
                BrokerCommand::parse(line),
                Err(Failure::Command(_))
            ));
        }
    }
}
