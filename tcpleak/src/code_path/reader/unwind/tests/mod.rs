//! Real programs, stopped somewhere, and their stacks.

mod hostile;
mod languages;
mod layouts;
mod programs;
mod signals;
mod stepping;

use programs::{Program, Stopped, build, fixture};
