//! What any [`Journal`] has to do, as tests.
//!
//! A test takes a [`Fixture`], which opens the same journal again and again, as a broker does that starts after the one
//! before it ended. [`journal_suite`](crate::journal_suite) makes a `#[test]` of each; [`Model`] says what a journal
//! has to tell after any records.

mod cases;
mod model;
mod records;
mod told;

use whimbrel_broker_core::Journal;

pub use self::cases::*;
pub use self::model::Model;
pub use self::records::*;
pub use self::told::Told;

/// A journal that is opened more than once.
pub trait Fixture {
    /// Opens the journal with all that was committed; the one that was given before has been dropped.
    fn open(&mut self) -> Box<dyn Journal>;
}

/// Makes a test of each case of the suite, on the fixture that the expression gives.
#[macro_export]
macro_rules! journal_suite {
    ($fixture:expr) => {
        $crate::journal_suite! { $fixture;
            a_new_journal_is_empty,
            every_record_is_told_again,
            a_start_is_counted,
            a_batch_that_is_committed_twice_changes_nothing,
            what_ends_takes_everything_along,
            a_message_goes_with_its_last_holder,
            done_by_others_changes_nothing,
            messages_are_told_by_ascending_position,
            a_message_that_comes_and_goes_in_one_batch_is_not_stored,
            a_queue_reads_its_messages_back,
            a_message_that_is_not_there_can_not_be_read,
            a_group_that_is_done_is_no_holder_after_a_start,
            an_unreleased_message_stays_known_to_who_had_it,
            a_released_message_is_known_no_more,
            two_wills_of_one_session_are_both_kept,
            what_a_window_says_is_done_is_not_told,
            the_highest_numbers_are_told_also_of_what_ended,
            a_message_in_the_place_of_one_that_nobody_needs_is_kept,
            ended_queues_are_swept_in_steps,
            retained_messages_are_the_last_ones,
            large_messages_are_kept,
            figures_count
        }
    };
    ($fixture:expr; $($case:ident),+) => {
        $(#[test]
        fn $case() {
            $crate::suite::$case(&mut $fixture);
        })+
    };
}
