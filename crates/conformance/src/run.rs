//! [`run`]: all cases against one broker, and what they found.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use whimbrel_codec::{Packet, ProtocolVersion, ReasonCode};

use crate::case::Case;
use crate::client::{Client, Message};
use crate::context::{Announced, Context, SESSION_EXPIRY_SECS};
use crate::link::{Event, Link};
use crate::report::{CaseReport, Report, Section};
use crate::statement::Statement;
use crate::target::Target;
use crate::timing::Timing;
use crate::verdict::{Failure, Outcome, Stop, Verdict};

/// What to run, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// The versions, in the order of the report.
    pub versions: Vec<ProtocolVersion>,
    /// Only the cases that show one of these statements, named with or without prefix; all when empty.
    pub only: Vec<String>,
    /// How many cases run at once.
    pub concurrency: usize,
    /// How long to wait; measured when absent.
    pub timing: Option<Timing>,
    /// In which order the cases start.
    pub order: Order,
    /// What the broker has to show before the first case.
    pub probe: Probe,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            versions: vec![
                ProtocolVersion::V31,
                ProtocolVersion::V311,
                ProtocolVersion::V5,
            ],
            only: Vec::new(),
            concurrency: CONCURRENCY,
            timing: None,
            order: Order::Declared,
            probe: Probe::Required,
        }
    }
}

/// In which order the cases start. Verdicts do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are declared.
    Declared,
    /// The other way round.
    Reversed,
}

/// What the broker has to show before the first case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// That it accepts a plain CONNECT in at least one version. Versions it does not accept are skipped.
    Required,
    /// Nothing: every case runs, against assumed abilities if need be. For tests of this instrument.
    BestEffort,
}

/// One step of a run, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The version of the case that just ended.
    pub version: ProtocolVersion,
    /// The case that just ended.
    pub case: &'static str,
    /// Cases that have ended, over all versions.
    pub done: usize,
    /// Cases in all, over all versions.
    pub total: usize,
    /// Cases that have failed so far.
    pub failed: usize,
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RunError {
    /// No statement has this id.
    #[error("no statement has the id {id}; see the list of statements for those there are")]
    UnknownStatement {
        /// What was asked for.
        id: String,
    },
    /// No case shows this statement in the versions asked for.
    #[error("no case shows {id} in the versions asked for; {reason}")]
    NoCase {
        /// What was asked for.
        id: String,
        /// Why there may be none.
        reason: String,
    },
    /// There is no TCP connection to the broker.
    #[error("cannot reach {target}: {reason}; start the broker, or check host, port and firewall")]
    Unreachable {
        /// The broker.
        target: String,
        /// The system's words.
        reason: String,
    },
    /// Something listens there, but it accepts a plain CONNECT in none of the versions asked for.
    #[error(
        "{target} does not serve MQTT: {reason}; check the port, or give credentials as in mqtt://user:password@host"
    )]
    NotServed {
        /// The broker.
        target: String,
        /// What it did in each version.
        reason: String,
    },
}

/// Runs the cases against `target` and reports on every statement. `progress` is called after each case.
///
/// # Errors
/// When an id is unknown, or the broker can't be reached or serves nobody.
///
/// # Panics
/// When a case does: that is a defect of this crate.
pub async fn run(
    target: &Target,
    options: &RunOptions,
    mut progress: impl FnMut(&Progress),
) -> Result<Report, RunError> {
    let start = Instant::now();
    let only = only_ids(options)?;
    let runner = Runner {
        target: Arc::new(target.clone()),
        token: run_token(),
    };
    let mut probed = Vec::new();
    for version in &options.versions {
        probed.push((
            *version,
            runner
                .probe(*version, options.timing.unwrap_or_default())
                .await,
        ));
    }
    if options.probe == Probe::Required {
        require_service(target, &probed)?;
    }
    let latency = probed.iter().filter_map(|(_, probed)| probed.as_ref().ok());
    let latency = latency.map(|found| found.latency).max();
    let measured = latency.map_or_else(Timing::default, Timing::for_latency);
    let timing = options.timing.unwrap_or(measured);

    let mut sections = Vec::new();
    let mut jobs = Vec::new();
    for (version, found) in probed {
        let served = found.is_ok() || options.probe == Probe::BestEffort;
        let refusal = found.as_ref().err().map(ToString::to_string);
        let announced = Arc::new(found.map_or_else(|_| Announced::default(), |f| f.announced));
        if served {
            jobs.extend(jobs_of(version, &announced, only.as_deref()));
        }
        sections.push((version, announced, refusal.filter(|_| !served)));
    }
    if options.order == Order::Reversed {
        jobs.reverse();
    }
    let results = runner
        .run_all(jobs, timing, options.concurrency, start, &mut progress)
        .await;
    let sections = sections.into_iter().map(|(version, announced, refusal)| {
        let cases = results.iter().filter(|result| result.version == version);
        let cases = cases.map(|result| result.report.clone()).collect();
        Section::new(version, &announced, refusal, cases, only.as_deref())
    });
    Ok(Report::new(
        target.to_string(),
        sections.collect(),
        start.elapsed(),
    ))
}

/// The full ids meant by `only`, `None` for all.
fn only_ids(options: &RunOptions) -> Result<Option<Vec<&'static str>>, RunError> {
    if options.only.is_empty() {
        return Ok(None);
    }
    let mut ids = Vec::new();
    for text in &options.only {
        let meant = Statement::matching(text);
        if meant.is_empty() {
            return Err(RunError::UnknownStatement { id: text.clone() });
        }
        let shown = |statement: &&Statement| {
            let versions = options.versions.iter();
            let shows = |version: &ProtocolVersion| {
                Case::all().any(|case| case.shows(*version).any(|id| id == statement.id))
            };
            versions.copied().any(|version| shows(&version))
        };
        if !meant.iter().any(shown) {
            let reason = meant.iter().find_map(|statement| statement.not_visible());
            let reason = reason.map_or_else(
                || "try another --version".to_owned(),
                |reason| format!("it {reason}"),
            );
            let id = text.clone();
            return Err(RunError::NoCase { id, reason });
        }
        ids.extend(meant.into_iter().map(|statement| statement.id.as_str()));
    }
    Ok(Some(ids))
}

fn require_service(
    target: &Target,
    probed: &[(ProtocolVersion, Result<Found, ProbeError>)],
) -> Result<(), RunError> {
    if probed.iter().any(|(_, found)| found.is_ok()) {
        return Ok(());
    }
    let target = target.to_string();
    let mut reasons = Vec::new();
    for (version, found) in probed {
        match found {
            Err(ProbeError::Unreachable { reason }) => {
                let reason = reason.clone();
                return Err(RunError::Unreachable { target, reason });
            }
            Err(ProbeError::Refused { reason }) => reasons.push(format!("in {version} {reason}")),
            Ok(_) => {}
        }
    }
    let reason = reasons.join(", ");
    Err(RunError::NotServed { target, reason })
}

fn jobs_of(
    version: ProtocolVersion,
    announced: &Arc<Announced>,
    only: Option<&[&'static str]>,
) -> Vec<Job> {
    let wanted = |case: &&Case| {
        case.versions.contains(&version)
            && only.is_none_or(|only| case.shows(version).any(|id| only.contains(&id)))
    };
    let cases = Case::all().filter(wanted);
    cases
        .map(|case| Job {
            case,
            version,
            announced: Arc::clone(announced),
        })
        .collect()
}

struct Job {
    case: &'static Case,
    version: ProtocolVersion,
    announced: Arc<Announced>,
}

struct JobResult {
    version: ProtocolVersion,
    report: CaseReport,
}

struct Found {
    announced: Announced,
    latency: Duration,
}

#[derive(Debug, Error)]
enum ProbeError {
    #[error("there is no connection: {reason}")]
    Unreachable { reason: String },
    #[error("{reason}")]
    Refused { reason: String },
}

struct Runner {
    target: Arc<Target>,
    token: String,
}

impl Runner {
    fn context(
        &self,
        version: ProtocolVersion,
        announced: &Arc<Announced>,
        timing: Timing,
        number: usize,
    ) -> Context {
        let token = format!("{}{}", self.token, base36(number, 3));
        let target = Arc::clone(&self.target);
        Context::new(target, version, Arc::clone(announced), timing, token)
    }

    /// Asks the broker what it can do and how fast it answers.
    async fn probe(&self, version: ProtocolVersion, timing: Timing) -> Result<Found, ProbeError> {
        let context = self.context(
            version,
            &Arc::default(),
            timing,
            usize::from(version.level()),
        );
        let mut link = Link::open(&context, "probe").await.map_err(|stop| {
            let reason = match stop {
                Stop::Fail(failure) => failure.received,
                Stop::Skip(reason) => reason,
            };
            ProbeError::Unreachable { reason }
        })?;
        let options = Client::options(&context, "probe").session_expiry_secs(SESSION_EXPIRY_SECS);
        let refused = |reason: String| ProbeError::Refused { reason };
        let sent = link.send(&options.packet()).await;
        sent.map_err(|_| refused("it does not read".to_owned()))?;
        let connack = match link.next(timing.answer).await {
            Event::Packet(Packet::ConnAck(connack)) if connack.reason == ReasonCode::Success => {
                connack
            }
            Event::Packet(Packet::ConnAck(connack)) => {
                return Err(refused(format!(
                    "it answers CONNECT with {}",
                    connack.reason
                )));
            }
            Event::Packet(packet) => {
                let packet = packet.packet_type();
                return Err(refused(format!("it answers CONNECT with {packet}")));
            }
            Event::Illegal { error, .. } => {
                return Err(refused(format!("it answers CONNECT with no MQTT: {error}")));
            }
            Event::Closed => return Err(refused("it hangs up on CONNECT".to_owned())),
            Event::Silence => return Err(refused("it does not answer CONNECT".to_owned())),
        };
        let mut latency = Duration::ZERO;
        for _ in 0..PINGS {
            let start = Instant::now();
            // A broker that does not answer is for the cases to fail.
            if link.expect_alive().await.is_err() {
                break;
            }
            latency = latency.max(start.elapsed());
        }
        self.clear(&context).await;
        let announced = Announced::new(connack.properties, SESSION_EXPIRY_SECS);
        Ok(Found { announced, latency })
    }

    async fn run_all(
        &self,
        jobs: Vec<Job>,
        timing: Timing,
        concurrency: usize,
        start: Instant,
        progress: &mut impl FnMut(&Progress),
    ) -> Vec<JobResult> {
        let total = jobs.len();
        let permits = Arc::new(Semaphore::new(concurrency.clamp(1, CONCURRENCY_MAX)));
        let mut tasks = JoinSet::new();
        for (index, job) in jobs.into_iter().enumerate() {
            let number = index + PROBE_NUMBERS;
            let context = self.context(job.version, &job.announced, timing, number);
            let permits = Arc::clone(&permits);
            let run_end = start + timing.run;
            let place = place_of(job.case);
            tasks.spawn(async move {
                // The semaphore is never closed; were it, the case would only run at once.
                let _permit = permits.acquire_owned().await;
                let began = Instant::now();
                let left = run_end.saturating_duration_since(began);
                let verdict = run_case(&context, job.case, left).await;
                let report = CaseReport {
                    name: job.case.name,
                    module: job.case.module,
                    statements: job.case.shows(job.version).collect(),
                    transcript: match &verdict {
                        Verdict::Fail(_) => context.transcript().lines(),
                        _ => Vec::new(),
                    },
                    verdict,
                    millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                };
                let version = job.version;
                (place, JobResult { version, report }, context)
            });
        }
        let mut results = Vec::with_capacity(total);
        let mut contexts = Vec::with_capacity(total);
        let mut failed = 0;
        while let Some(joined) = tasks.join_next().await {
            let (place, result, context) = match joined {
                Ok(ended) => ended,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            failed += usize::from(matches!(result.report.verdict, Verdict::Fail(_)));
            contexts.push(context);
            progress(&Progress {
                version: result.version,
                case: result.report.name,
                done: contexts.len(),
                total,
                failed,
            });
            results.push((place, result));
        }
        // Cases are cleared away at the end, and at once, so that a broker that answers nothing costs its time once.
        let mut clearing = JoinSet::new();
        for context in contexts {
            let runner = Runner {
                target: Arc::clone(&self.target),
                token: self.token.clone(),
            };
            let permits = Arc::clone(&permits);
            clearing.spawn(async move {
                let _permit = permits.acquire_owned().await;
                runner.clear(&context).await;
            });
        }
        // What is left after that time belongs to a broker that does not answer; no verdict depends on it.
        let _ = timeout(CLEAR_MAX, clearing.join_all()).await;
        results.sort_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Ends the sessions and deletes the retained messages that a case has left.
    async fn clear(&self, context: &Context) {
        let (client_ids, topics) = {
            let mut leftovers = context.leftovers();
            (
                std::mem::take(&mut leftovers.client_ids),
                std::mem::take(&mut leftovers.topics),
            )
        };
        for client_id in client_ids {
            let options =
                Client::options(context, "").with(|connect| connect.client_id = client_id);
            if let Ok(client) = options.connect().await {
                let _ = client.disconnect().await;
            }
        }
        if topics.is_empty() {
            return;
        }
        let Ok(mut client) = Client::connect(context, "clear").await else {
            return;
        };
        for topic in topics {
            let _ = client.publish(&Message::new(&topic, "").retained()).await;
        }
        let _ = client.disconnect().await;
    }
}

/// Where a case stands in the source.
fn place_of(case: &'static Case) -> usize {
    let place = Case::all().position(|other| std::ptr::eq(other, case));
    place.unwrap_or(usize::MAX)
}

async fn run_case(context: &Context, case: &Case, left: Duration) -> Verdict {
    if left.is_zero() {
        return Verdict::Fail(Failure {
            sent: "nothing".to_owned(),
            expected: "a run within its time".to_owned(),
            received: "the time was over before this case could start".to_owned(),
        });
    }
    let bound = context.timing().case.min(left);
    let outcome: Outcome = match timeout(bound, (case.run)(context.clone())).await {
        Ok(outcome) => outcome,
        Err(_) => Err(context.fail(
            "the case at its end in time",
            format!("it was not, after {} s", bound.as_secs()),
        )),
    };
    outcome.into()
}

/// Six letters and digits that no other run has, near enough.
fn run_token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.map_or(0, |now| now.as_millis());
    let mixed = millis.wrapping_mul(1_000_003) ^ u128::from(std::process::id()).rotate_left(13);
    base36(usize::try_from(mixed % 2_176_782_336).unwrap_or(0), 6)
}

fn base36(mut number: usize, digits: usize) -> String {
    let mut text = vec!['0'; digits];
    for place in text.iter_mut().rev() {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        *place = char::from_digit(digit, 36).unwrap_or('0');
        number /= 36;
    }
    text.into_iter().collect()
}

/// So many connections or more, brokers of every size take.
const CONCURRENCY: usize = 32;
const CONCURRENCY_MAX: usize = 512;
/// Contexts of the probes have the numbers below it, one for each protocol level.
const PROBE_NUMBERS: usize = 8;
const PINGS: usize = 5;
const CLEAR_MAX: Duration = Duration::from_secs(5);
