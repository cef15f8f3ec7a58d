//! The files of `deploy/`, each checked by the tool that reads it in earnest. They start nothing and need
//! no root; a tool that is missing fails the tests.

mod dashboard;
mod kubernetes;
mod prometheus;
mod systemd;
mod tools;
