//! Whole numbers in a body, within bounds.

use referrals::http::problem::Problem;

/// The number of this name from 1 to `most`, or what it is when it is left out. JSON has one kind of number, so 20.0 is
/// as whole as 20.
pub(crate) fn within(name: &str, given: Option<f64>, default: u32, most: u32) -> Result<u32, Problem> {
    let Some(given) = given else { return Ok(default) };
    let is_it = |whole: &u32| f64::from(*whole).total_cmp(&given).is_eq();
    (1..=most).find(is_it).ok_or_else(|| Problem::invalid(format!("{name}: expected a whole number from 1 to {most}")))
}
