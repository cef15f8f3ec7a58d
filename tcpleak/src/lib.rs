//! tcpleak finds TCP connections whose peer is gone and that nobody closes, and names the code
//! that opened them.
//!
//! Data flows one way: [`probe`] surveys the kernel, [`tracker`] follows connections from survey to
//! survey, [`judge`] says what the evidence means, [`descriptors`] and [`ports`] when these run out,
//! [`grouping`] makes the [`report`], and [`output`] renders it. All but the first and the last are
//! pure: time is an argument. [`app`] wires them together.

pub mod alike;
pub mod app;
pub mod btf;
pub mod case;
pub mod cli;
pub mod code_path;
pub mod confine;
pub mod descriptors;
pub mod doctor;
pub mod evidence;
pub mod family;
pub mod findings;
pub mod governor;
pub mod grouping;
pub mod growth;
pub mod health;
pub mod history;
pub mod identity;
pub mod judge;
pub mod line;
pub mod lock;
pub mod message;
pub mod metrics;
pub mod news;
pub mod observer;
pub mod on_leak;
pub mod otlp;
pub mod output;
pub mod plain;
pub mod ports;
pub mod probe;
pub mod process;
pub mod report;
pub mod rights;
pub mod run;
pub mod select;
pub mod serve;
pub mod survey;
pub mod title;
pub mod tracker;
pub mod trend;
