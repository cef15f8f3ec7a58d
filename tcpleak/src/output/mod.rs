//! The outputs: each renders a [`Report`] and knows nothing else.
//!
//! [`text`] is for people, [`json`] and [`ndjson`] are for programs, [`junit`] and [`github`] for what
//! shows the results of tests. A [`Reporter`] sends the right
//! one to its [`destination`].

mod changes;
pub mod destination;
pub mod github;
pub mod json;
pub mod junit;
pub mod ndjson;
pub mod openmetrics;
mod reporter;
pub mod text;

#[cfg(test)]
pub(crate) mod samples;

pub use changes::{Change, changes};
pub use reporter::{Reporter, View};

#[cfg(doc)]
use crate::report::Report;
