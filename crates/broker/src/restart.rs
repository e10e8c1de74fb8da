//! What a broker begins with when there is a journal: read back once, before anything listens.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use whimbrel_broker_core::{CoreConfig, Index, Journal, Recovery, Shard, ShardStats};

use crate::clock::Clock;
use crate::config::Durability;
use crate::error::StartError;

/// Opens a journal. It may block.
pub(crate) type OpenJournal =
    Box<dyn FnOnce(Durability) -> Result<Box<dyn Journal>, StartError> + Send>;

/// What was there.
pub(crate) struct Restarted {
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) core: Arc<CoreConfig>,
    pub(crate) index: Index,
    pub(crate) clock: Clock,
    /// They have something to do: records, messages for each other.
    pub(crate) shards: Vec<Shard>,
}

/// Opens the journal and reads it back, on a thread that may block.
pub(crate) async fn restart(
    open_journal: OpenJournal,
    durability: Durability,
    core: CoreConfig,
) -> Result<Restarted, StartError> {
    let (reply, restarted) = oneshot::channel();
    std::thread::Builder::new()
        .name("whimbrel-restart".to_owned())
        .spawn(move || {
            // Nobody waits any more: then the broker is not to be.
            let _ = reply.send(read_back(open_journal, durability, core));
        })
        .map_err(|source| StartError::Thread { source })?;
    restarted.await.map_err(|_| StartError::Stopped)?
}

fn read_back(
    open_journal: OpenJournal,
    durability: Durability,
    mut core: CoreConfig,
) -> Result<Restarted, StartError> {
    let began = Instant::now();
    let mut journal = open_journal(durability)?;
    core.incarnation = journal.incarnation();
    let core = Arc::new(core);
    let clock = Clock::start();
    let index = Index::new(core.seed, &core.limits).journaled();
    let mut recovery = Recovery::new(&core, &index, clock.now());
    let replay = journal.replay(&mut |item| recovery.apply(item))?;
    recovery.told(clock.now());
    let shards = recovery.finish()?;
    let mut found = ShardStats::default();
    for shard in &shards {
        found.merge(&shard.stats());
    }
    tracing::info!(
        sessions = found.sessions,
        subscriptions = found.subscriptions,
        queued_messages = found.queued_messages,
        retained_messages = index.retained_messages(),
        items = replay.items,
        incarnation = core.incarnation,
        milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "what was stored is read back"
    );
    Ok(Restarted {
        journal,
        core,
        index,
        clock,
        shards,
    })
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Shard>();
};
