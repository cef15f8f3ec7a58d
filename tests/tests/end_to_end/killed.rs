//! tcpleak leaves nothing behind in the kernel.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Fixture, KernelObjects, Tracer, wait_until};

/// A tcpleak with all of its hooks, and what it has in the kernel.
fn watch(fixture: &Fixture) -> (Tracer, KernelObjects) {
    let tracer = Tracer::watch(&["--pid", &fixture.pid_text(), "--accept-stacks"]);
    let objects = KernelObjects::of(tracer.pid());
    for kind in ["prog_id", "map_id", "link_id"] {
        assert!(
            objects.count(kind) > 0,
            "tcpleak has no {kind}: {objects:?}"
        );
    }
    assert_eq!(
        objects.alive().len(),
        objects.total(),
        "tcpleak has things that are not there"
    );
    (tracer, objects)
}

#[test]
fn nothing_stays_in_the_kernel_after_sigkill() {
    let listener = Fixture::start(&["listen", "127.0.0.1:0"]);
    let (tracer, objects) = watch(&listener);
    let pid = i32::try_from(tracer.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::KILL).expect("tcpleak runs");
    wait_until("the kernel lets go of what tcpleak loaded", || {
        objects.alive().is_empty()
    });
}

#[test]
fn nothing_stays_in_the_kernel_after_an_orderly_end() {
    let listener = Fixture::start(&["listen", "127.0.0.1:0"]);
    let (tracer, objects) = watch(&listener);
    assert_eq!(tracer.interrupt().code, 0);
    wait_until("the kernel lets go of what tcpleak loaded", || {
        objects.alive().is_empty()
    });
}
