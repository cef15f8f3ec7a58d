//! tcpleak, end to end: real programs leak real connections on the running kernel, and the real
//! tcpleak watches them. One file per story.
//!
//! The tests need root and the right to load kernel programs; without, they fail and say so. They
//! run side by side, so each watches nothing but its own programs.

mod harness;

mod accept_leak;
mod address_reuse;
mod backends;
mod bad_arguments;
mod broken_pipe;
mod budget;
mod c_program;
mod captures;
mod connect_leak;
mod container;
mod control_characters;
mod cpp_program;
mod crawler;
mod curl;
mod dead_descriptor;
mod descriptors;
mod doctor;
mod end_of_watching;
mod ended_process;
mod exit_codes;
mod filters;
mod frame_pointers;
mod go_program;
// Where Go keeps arguments is known for this machine only.
#[cfg(target_arch = "x86_64")]
mod go_requests;
mod growth;
mod half_close;
mod half_dead;
mod handlers;
mod hostile_files;
mod in_flight;
mod inherited;
mod io_uring;
mod ipv6;
mod java;
mod java_without_tables;
mod json_schema;
mod killed;
mod last_use;
mod mptcp;
mod network_namespace;
mod nginx;
mod node;
mod non_blocking;
mod not_root;
mod older_than_tracer;
mod on_leak;
mod otlp;
mod output_file;
mod own_root;
mod peers_context;
mod perf;
mod perf_map;
mod plugin;
mod ports;
mod python;
mod python_functions;
mod races_at_start;
mod reader;
mod replaced_program;
mod ruby;
mod run_command;
mod run_leaks;
mod run_outputs;
mod run_tests;
mod rust_program;
mod serve;
mod serve_page;
mod signal_handler;
mod snapshot;
mod sock_diag;
mod stalled_reader;
mod static_program;
mod thousands;
mod threads;
mod tidy_pool;
mod time_wait;
mod told_apart;
mod two_at_once;
mod unaccepted;
mod unread_data;
