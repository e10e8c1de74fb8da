//! [`LazyBox`]: what most of its owners never have.

use std::fmt;

/// A value that takes memory of its own once it is first changed, and a pointer until then.
///
/// Unchanged and emptied are the same to whoever looks: it prints like the default of `T` while there is none.
pub(crate) struct LazyBox<T>(Option<Box<T>>);

impl<T: Default> LazyBox<T> {
    /// The value, unless it is the default that nobody has changed.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The value to take something out of.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The value to put something in.
    pub(crate) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// Gives its memory back if `is_unused` says that it is as it was at first.
    pub(crate) fn release_if(&mut self, is_unused: impl FnOnce(&T) -> bool) {
        self.0.take_if(|value| is_unused(value));
    }
}

impl<T> Default for LazyBox<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default + fmt::Debug> fmt::Debug for LazyBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => T::default().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptied_is_the_same_as_never_filled_and_gives_its_memory_back() {
        let mut lazy = LazyBox::<Vec<u8>>::default();
        let untouched = format!("{lazy:?}");
        lazy.make().push(1);
        assert_ne!(format!("{lazy:?}"), untouched);
        lazy.release_if(Vec::is_empty);
        assert_eq!(lazy.get(), Some(&vec![1]), "it holds something");
        lazy.get_mut().expect("it holds something").clear();
        assert_eq!(format!("{lazy:?}"), untouched);
        lazy.release_if(Vec::is_empty);
        assert_eq!(lazy.get(), None);
    }

    #[test]
    fn a_lazy_box_is_a_pointer() {
        assert_eq!(size_of::<LazyBox<[u64; 8]>>(), size_of::<usize>());
    }
}
