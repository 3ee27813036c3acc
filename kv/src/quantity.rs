//! Quantities as files that people write have them: a number with its unit, so that nobody has to guess which one is meant.
//!
//! Both types read and write as text, and what is no such text is refused with an example of what would be.

mod length;
mod size;

pub use length::{Length, NoLength};
pub use size::{NoSize, Size};
