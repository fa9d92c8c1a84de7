//! Shrinking: reduces a failing history to the shortest one that still fails.

use crate::{
    faults::{Faults, Strike},
    plan::Plan,
};

/// A history that can be run again: its plan and its faults.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) strikes: Vec<Strike>,
}

impl Case {
    pub(crate) fn faults(&self) -> Faults {
        Faults::only(self.strikes.clone())
    }

    /// Removes faults and steps one at a time, as long as the history still `fails`.
    pub(crate) fn shrunk(self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut shortest = self;
        loop {
            let shorter = shortest.shorter().find(|shorter| fails(shorter));
            match shorter {
                Some(shorter) => shortest = shorter,
                None => return shortest,
            }
        }
    }

    fn shorter(&self) -> impl Iterator<Item = Self> {
        let without_fault = (0..self.strikes.len()).map(|at| {
            let mut case = self.clone();
            case.strikes.remove(at);
            case
        });
        let without_step = (0..self.plan.steps.len()).map(|at| {
            let mut case = self.clone();
            case.plan.steps.remove(at);
            case
        });
        let without_skew =
            self.plan.skew.map(|_| Self { plan: Plan { skew: None, ..self.plan.clone() }, ..self.clone() });
        without_fault.collect::<Vec<_>>().into_iter().chain(without_step.collect::<Vec<_>>()).chain(without_skew)
    }
}
