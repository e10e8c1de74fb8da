//! Planted bugs are the broker's alone: clients are made of the same session crate, and are to
//! keep to the standard.

/// While it lives, no planted bug is in force. Nothing at all in a normal build.
#[derive(Debug)]
pub(crate) struct Honest {
    #[cfg(mutants)]
    active: Option<whimbrel_broker_core::mutants::Mutant>,
}

impl Honest {
    pub(crate) fn begin() -> Self {
        Self {
            #[cfg(mutants)]
            active: whimbrel_broker_core::mutants::suspend(),
        }
    }
}

#[cfg(mutants)]
impl Drop for Honest {
    fn drop(&mut self) {
        whimbrel_broker_core::mutants::activate(self.active);
    }
}
