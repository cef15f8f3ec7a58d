use super::*;

mod damaged;
mod fixture;
mod go_programs;
mod programs;
mod separate;

use fixture::{Fixture, functions};
