//! [`Worker`]: one thread and its share of the clients.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;
use whimbrel_session::codec::Connect;

use crate::error::{Gone, RunError};
use crate::link::{Link, SCRATCH_BYTES};
use crate::meter::Meter;
use crate::options::{Options, Scenario};
use crate::payload::{HEADER_BYTES, Template};
use crate::shared::{Phase, Shared};
use crate::{
    churn, filters, idle, offline, process, publisher, retained, store, storm, subscriber,
};

/// What the clients of one thread share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) scratch: RefCell<Vec<u8>>,
    pub(crate) payload: RefCell<Template>,
    pub(crate) meter: RefCell<Meter>,
    /// One for each connection that may be under way.
    pub(crate) connecting: Semaphore,
}

/// What a thread has to say at its end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) meter: Meter,
    /// CPU time for each second of the time that was measured; `None` where the system does not tell.
    pub(crate) busy: Option<f64>,
}

impl Worker {
    /// Runs the clients of thread `index` until the run is over.
    pub(crate) fn run(shared: Arc<Shared>, index: usize) -> Result<Outcome, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(RunError::Thread)?;
        let options = &shared.options;
        let (size, in_parallel) = match &options.scenario {
            Scenario::Messages(messages) => (messages.size, options.connecting_max),
            Scenario::Retained(retained) => (retained.size, options.connecting_max),
            Scenario::Offline(offline) => (offline.size, options.connecting_max),
            Scenario::Connect(storm) => (HEADER_BYTES, storm.parallelism as usize),
            Scenario::Idle(_) => (HEADER_BYTES, options.connecting_max),
        };
        let threads = options.threads;
        let own_share = in_parallel / threads + usize::from(index < in_parallel % threads);
        let worker = Rc::new(Self {
            payload: RefCell::new(Template::new(size, options.seed)),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            meter: RefCell::new(Meter::new()),
            connecting: Semaphore::new(own_share.max(1)),
            index,
            shared,
        });
        let busy = LocalSet::new().block_on(&runtime, Self::serve(&worker));
        let mut meter = worker.meter.borrow_mut();
        Ok(Outcome {
            meter: std::mem::replace(&mut meter, Meter::new()),
            busy,
        })
    }

    async fn serve(worker: &Rc<Self>) -> Option<f64> {
        let mut tasks = JoinSet::new();
        worker.spawn_clients(&mut tasks);
        let mut phase = worker.shared.phase.subscribe();
        let clock = worker.shared.clock;
        let (mut begin, mut end) = (None, None);
        loop {
            let now = *phase.borrow_and_update();
            if now >= Phase::Measuring && begin.is_none() {
                begin = Some((clock.elapsed(), process::thread_cpu()));
            }
            if now >= Phase::Draining && end.is_none() {
                end = Some((clock.elapsed(), process::thread_cpu()));
            }
            if now == Phase::Closing || phase.changed().await.is_err() {
                break;
            }
        }
        let join = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        };
        // Who does not end in time is dropped with the set; all that was found is in the meter.
        let _ = timeout(CLOSE_TIMEOUT, join).await;
        let ((from, cpu_from), (to, cpu_to)) = (begin?, end?);
        let wall = to.saturating_sub(from).as_secs_f64();
        let cpu = cpu_to?.saturating_sub(cpu_from?).as_secs_f64();
        (wall > 0.0).then(|| cpu / wall)
    }

    fn spawn_clients(self: &Rc<Self>, tasks: &mut JoinSet<()>) {
        let options = &self.shared.options;
        match &options.scenario {
            Scenario::Connect(_) => {
                tasks.spawn_local(storm::storm(Rc::clone(self)));
            }
            Scenario::Idle(idle) => {
                for number in self.share(options, idle.clients) {
                    tasks.spawn_local(idle::hold(Rc::clone(self), number));
                }
            }
            Scenario::Messages(messages) => {
                for number in self.share(options, messages.subscribers) {
                    if self.shared.spread.is_some() {
                        tasks.spawn_local(filters::subscribe(Rc::clone(self), number));
                    } else {
                        tasks.spawn_local(subscriber::subscribe(Rc::clone(self), number));
                    }
                }
                for number in self.share(options, messages.publishers) {
                    tasks.spawn_local(publisher::publish(Rc::clone(self), number));
                }
                if let Some(rate) = messages.churn
                    && self.index == 0
                {
                    tasks.spawn_local(churn::churn(Rc::clone(self), rate));
                }
            }
            Scenario::Retained(retained) => {
                for number in self.share(options, retained.subscribers) {
                    tasks.spawn_local(retained::fetch(Rc::clone(self), number));
                }
                for number in self.share(options, retained.publishers) {
                    tasks.spawn_local(store::publish(Rc::clone(self), number));
                }
            }
            Scenario::Offline(offline) => {
                for number in self.share(options, offline.sessions) {
                    tasks.spawn_local(offline::come_back(Rc::clone(self), number));
                }
                for number in self.share(options, offline.publishers) {
                    tasks.spawn_local(store::publish(Rc::clone(self), number));
                }
            }
        }
    }

    /// This thread's part of so many clients.
    fn share(&self, options: &Options, clients: u32) -> impl Iterator<Item = u32> + use<> {
        let first = u32::try_from(self.index).unwrap_or(u32::MAX);
        (first..clients).step_by(options.threads)
    }

    /// Connects a client of a run that needs all of its clients: without this one, the run is over.
    pub(crate) async fn connect(&self, kind: char, number: u32) -> Option<Link> {
        self.connect_with(self.shared.connect(kind, number)).await
    }

    /// The same with a CONNECT of the client's own.
    pub(crate) async fn connect_with(&self, connect: Connect) -> Option<Link> {
        let _permit = self.connecting.acquire().await.ok()?;
        let client = connect.client_id.clone();
        let from = self.shared.clock.nanos();
        match self.open(connect, from).await {
            Ok(link) => Some(link),
            Err(gone) => {
                self.shared.fail(client.to_string(), gone);
                None
            }
        }
    }

    /// Connects a client, and measures it from a time.
    pub(crate) async fn open(&self, connect: Connect, from: u64) -> Result<Link, Gone> {
        let shared = &*self.shared;
        let link = Link::open(&shared.link, connect, shared.clock, &self.scratch).await?;
        let to = shared.clock.nanos();
        let mut meter = self.meter.borrow_mut();
        meter.connect.note(from, to);
        meter.last_arrival = meter.last_arrival.max(to);
        shared.live.connected.fetch_add(1, Relaxed);
        Ok(link)
    }

    /// A client has lost its connection in the middle of the run.
    pub(crate) fn lost(&self, client: &str, gone: &Gone) {
        self.shared.live.lost.fetch_add(1, Relaxed);
        let findings = &mut self.meter.borrow_mut().findings;
        findings.lost_connections += 1;
        findings.example(|| format!("{client} lost its connection: {}", chain(gone)));
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Longer than a client needs to say that it goes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
