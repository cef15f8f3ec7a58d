//! tcpleak leaves nothing behind in the kernel.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Fixture, KernelObjects, Server, Tracer, wait_until};

fn tracer_of_something() -> (Tracer, KernelObjects) {
    let server = Server::start();
    let client = Fixture::start(&["connect", &server.address(), "1"]);
    let tracer = Tracer::watch(&["--pid", &client.pid_text(), "--accept-stacks"]);
    let objects = KernelObjects::of(tracer.pid());
    for kind in ["prog_id", "map_id", "link_id"] {
        assert!(objects.count(kind) > 0, "tcpleak has no {kind}: {objects:?}");
    }
    (tracer, objects)
}

#[test]
fn nothing_stays_in_the_kernel_after_sigkill() {
    let (tracer, objects) = tracer_of_something();
    assert_eq!(objects.alive().len(), objects.total(), "some are gone before the kill");
    let pid = i32::try_from(tracer.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::KILL).expect("tcpleak runs");
    wait_until("the kernel lets go of what tcpleak loaded", || objects.alive().is_empty());
}

#[test]
fn nothing_stays_in_the_kernel_after_an_orderly_end() {
    let (tracer, objects) = tracer_of_something();
    assert_eq!(tracer.interrupt().code, 0);
    wait_until("the kernel lets go of what tcpleak loaded", || objects.alive().is_empty());
}
