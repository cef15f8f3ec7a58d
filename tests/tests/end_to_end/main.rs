//! tcpleak, end to end: real programs leak real connections on the running kernel, and the real
//! tcpleak watches them. One file per story.
//!
//! The tests need root and the right to load kernel programs; without, they fail and say so. They
//! run side by side, so each watches nothing but its own programs.

mod harness;

mod accept_leak;
mod address_reuse;
mod bad_arguments;
mod broken_pipe;
mod connect_leak;
mod control_characters;
mod crawler;
mod curl;
mod dead_descriptor;
mod doctor;
mod end_of_watching;
mod ended_process;
mod exit_codes;
mod filters;
mod growth;
mod half_close;
mod in_flight;
mod inherited;
mod ipv6;
mod json_schema;
mod killed;
mod mptcp;
mod network_namespace;
mod nginx;
mod node;
mod non_blocking;
mod not_root;
mod older_than_tracer;
mod output_file;
mod peers_context;
mod python;
mod snapshot;
mod stalled_reader;
mod thousands;
mod threads;
mod tidy_pool;
mod told_apart;
mod two_at_once;
mod unaccepted;
mod unread_data;
