//! `tcpleak doctor`.

use crate::harness::run;

#[test]
fn the_doctor_proves_that_it_finds_a_leak_of_its_own() {
    let finished = run(&["doctor"]);
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(
        finished.stdout.contains("found after"),
        "{}",
        finished.stdout
    );
    assert!(
        finished.stdout.contains("open_and_forget"),
        "{}",
        finished.stdout
    );
    assert!(
        !finished.stdout.contains("NOT FOUND"),
        "{}",
        finished.stdout
    );
}

#[test]
fn the_doctor_says_which_rights_are_kept_and_has_no_others_for_its_proof() {
    let finished = run(&["doctor"]);
    let text = &finished.stdout;
    assert_eq!(finished.code(), 0, "{text}");
    for kept in ["65534", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"] {
        assert!(text.contains(kept), "no {kept}: {text}");
    }
    assert!(!text.contains("NOT GIVEN UP"), "{text}");
}

#[test]
fn the_doctor_says_which_hook_does_what() {
    let finished = run(&["doctor"]);
    let text = &finished.stdout;
    let kernel = rustix::system::uname();
    assert!(
        text.contains(&*kernel.release().to_string_lossy()),
        "{text}"
    );
    for word in ["hooks", "accept"] {
        assert!(text.contains(word), "no {word}: {text}");
    }
}
