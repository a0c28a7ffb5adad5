//! What can happen to a hub and its topics.

use proptest::prelude::*;

use crate::topic::REPLAY_EVENTS_MAX;

/// Keys that meet often: two jobs of two users.
pub(super) const TARGETS: [&str; 2] = ["/jobs/1", "/jobs/2"];
pub(super) const COOKIES: [&str; 2] = ["a", "b"];

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Subscribe {
        target: usize,
        cookie: usize,
        id: Claim,
    },
    /// Somebody leaves; which, modulo those who are there.
    Leave(usize),
    /// Somebody reads all there is.
    Read(usize),
    /// A source publishes so many events.
    Publish(usize, usize),
    Trouble(usize),
    Confirm(usize),
    Finish(usize),
    Gone(usize),
    Refuse(usize),
    Unsettle(usize),
    /// The app turns away whose credentials are used.
    Deny(usize),
    /// Everybody leaves.
    Drain,
    Wait(u64),
}

/// With which `Last-Event-ID` somebody comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claim {
    Nothing,
    /// One that nobody ever gave.
    Unknown,
    /// That of the event so many before the newest of what is asked for, seen or not.
    Back(u64),
    /// The last one that somebody saw, of whatever topic.
    Of(usize),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let any_one = 0_usize..8;
    prop_oneof![
        6 => (0..TARGETS.len(), 0..COOKIES.len(), claim())
            .prop_map(|(target, cookie, id)| Step::Subscribe { target, cookie, id }),
        4 => any_one.clone().prop_map(Step::Leave),
        6 => any_one.clone().prop_map(Step::Read),
        6 => (any_one.clone(), 1_usize..4).prop_map(|(who, count)| Step::Publish(who, count)),
        1 => any_one.clone().prop_map(|who| Step::Publish(who, REPLAY_EVENTS_MAX + 1)),
        1 => any_one.clone().prop_map(Step::Trouble),
        1 => any_one.clone().prop_map(Step::Confirm),
        1 => any_one.clone().prop_map(Step::Finish),
        1 => any_one.clone().prop_map(Step::Gone),
        1 => any_one.clone().prop_map(Step::Refuse),
        1 => any_one.clone().prop_map(Step::Unsettle),
        1 => any_one.prop_map(Step::Deny),
        1 => Just(Step::Drain),
        2 => (1_u64..8).prop_map(Step::Wait),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        3 => Just(Claim::Nothing),
        1 => Just(Claim::Unknown),
        3 => (0_u64..4).prop_map(Claim::Back),
        1 => Just(Claim::Back(REPLAY_EVENTS_MAX as u64)),
        2 => (0_usize..8).prop_map(Claim::Of),
    ]
}
