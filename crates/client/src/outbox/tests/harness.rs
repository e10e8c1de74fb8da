//! An outbox beside its model, on a disk that can fail.

use super::super::faulty::{Crash, FaultyDisk};
use super::super::{AppendError, Durability, Outbox, OutboxError, OutboxOptions, Record};
use super::model::Model;
use super::open_with;

#[derive(Debug)]
pub(super) struct Harness {
    pub(super) disk: FaultyDisk,
    pub(super) outbox: Outbox,
    pub(super) model: Model,
    options: OutboxOptions,
    /// What a loss of power may leave: the model when it was synced last, and after each batch since.
    pub(super) since_sync: Vec<Model>,
}

impl Harness {
    pub(super) fn new(options: OutboxOptions) -> Self {
        Self::on(FaultyDisk::default(), options).expect("a new outbox")
    }

    pub(super) fn on(disk: FaultyDisk, options: OutboxOptions) -> Result<Self, OutboxError> {
        let (outbox, restored) = open_with(&disk, options)?;
        let model = Model::of(&restored);
        Ok(Self {
            disk,
            outbox,
            since_sync: vec![model.clone()],
            model,
            options,
        })
    }

    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), AppendError> {
        self.outbox.append(records)?;
        for record in records {
            self.model.record(record);
        }
        self.since_sync.push(self.model.clone());
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), OutboxError> {
        self.outbox.sync()?;
        if self.options.durability == Durability::Sync {
            self.since_sync = vec![self.model.clone()];
        }
        Ok(())
    }

    pub(super) fn maintain(&mut self) -> Result<bool, OutboxError> {
        let is_new = self.outbox.maintain()?;
        if is_new {
            self.since_sync = vec![self.model.clone()];
        }
        Ok(is_new)
    }

    /// Ends the process or the machine, and opens what is left: it has to be what the model allows.
    pub(super) fn crash(self, crash: Crash) -> Self {
        let reopened = Self::on(self.disk.after(crash), self.options);
        let reopened = reopened.unwrap_or_else(|error| panic!("after {crash:?}: {error}"));
        let allowed = match crash {
            Crash::Process => &self.since_sync[self.since_sync.len() - 1..],
            Crash::PowerLost | Crash::PowerLostKeeping(_) => &self.since_sync[..],
        };
        assert!(
            allowed
                .iter()
                .any(|model| model.restorable() == reopened.model),
            "after {crash:?} there is {:#?}, none of {allowed:#?}",
            reopened.model
        );
        // The model keeps the bodies that the file does not.
        reopened
    }
}
