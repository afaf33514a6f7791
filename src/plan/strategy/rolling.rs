//! Rolling: pods of the focus replace the others in batches, never below the floor, never above the ceiling.

use super::super::Draft;
use super::super::replicas::{Moves, Roll};
use super::Course;

pub(super) fn advance(d: &Draft, course: &Course) -> Moves {
    roll(d, course).next()
}

pub(super) fn hold(d: &Draft, course: &Course) -> Moves {
    roll(d, course).hold()
}

fn roll<'a>(d: &'a Draft, course: &'a Course) -> Roll<'a> {
    Roll {
        world: d.world,
        focus: course.focus,
        reference: course.reference,
        replicas: d.goal.replicas,
        surge: d.goal.surge,
        unavailable: d.goal.unavailable,
        cautious: course.cautious,
    }
}
