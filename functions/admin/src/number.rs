//! Parses bounded whole numbers in request bodies.

use referrals::lambda::http::problem::Problem;

/// Returns the number of this name, which must be from 1 to `most`, or the default if it is missing. JSON has only one
/// number type, so 20.0 is accepted as 20.
pub(crate) fn within(name: &str, given: Option<f64>, default: u32, most: u32) -> Result<u32, Problem> {
    let Some(given) = given else { return Ok(default) };
    let is_it = |whole: &u32| f64::from(*whole).total_cmp(&given).is_eq();
    (1..=most).find(is_it).ok_or_else(|| Problem::invalid(format!("{name}: expected a whole number from 1 to {most}")))
}
