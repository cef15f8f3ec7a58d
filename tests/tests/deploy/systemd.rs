//! The systemd unit.

use std::{collections::BTreeSet, env};

use crate::tools::{installed, options, options_of_serve, run, temporary, text};

const UNIT: &str = "deploy/systemd/tcpleak.service";

/// What `systemd-analyze security` may say at most, 100 being a unit without any protection. What is left is
/// what tcpleak is for: the processes and the network of the host.
const EXPOSURE: &str = "22";

/// The values of a setting, wherever it stands.
fn setting(unit: &str, name: &str) -> BTreeSet<String> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(setting, _)| *setting == name)
        .flat_map(|(_, values)| values.split_whitespace())
        .map(str::to_owned)
        .collect()
}

/// What systemd thinks of a unit, whose program is one that exists.
fn verify(unit: &str) -> String {
    let program = env::current_exe().expect("the test knows its own path");
    let program = program.to_str().expect("the path is UTF-8");
    let unit = temporary(&unit.replace("/usr/bin/tcpleak", program), ".service");
    let said = run(installed("systemd-analyze", "systemd")
        .args(["verify", "--man=no"])
        .arg(unit.path()));
    match said.content {
        true => said.words,
        false => format!("refused\n{}", said.words),
    }
}

#[test]
fn systemd_takes_the_unit_without_a_remark() {
    let unit = text(UNIT);
    assert_eq!(verify(&unit), "");
    let misspelled = unit.replace("NoNewPrivileges", "NoNewPriviledges");
    assert!(verify(&misspelled).contains("NoNewPriviledges"));
}

#[test]
fn the_unit_is_exposed_no_more_than_it_must_be() {
    let analyze = |threshold: &str| {
        let mut command = installed("systemd-analyze", "systemd");
        let threshold = format!("--threshold={threshold}");
        run(command
            .args(["security", "--no-pager", "--offline=yes", &threshold])
            .arg(crate::tools::file(UNIT)))
    };
    let said = analyze(EXPOSURE);
    assert!(said.content, "{}", said.words);
    assert!(!analyze("5").content, "a threshold is kept to");
}

#[test]
fn the_unit_starts_tcpleak_as_tcpleak_can_be_started() {
    let unit = text(UNIT);
    let command: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStart="))
        .collect();
    let [command] = command[..] else {
        panic!("one command, not {command:?}");
    };
    assert!(command.starts_with("/usr/bin/tcpleak serve"), "{command}");
    let known = options_of_serve();
    assert!(options(command).is_subset(&known), "{command}: {known:?}");
}

#[test]
fn the_unit_has_the_rights_that_the_documentation_explains_and_can_have_no_others() {
    let unit = text(UNIT);
    let rights = setting(&unit, "AmbientCapabilities");
    assert_eq!(setting(&unit, "CapabilityBoundingSet"), rights);
    let document = text("docs/deploy.md");
    for right in &rights {
        assert!(document.contains(&format!("| `{right}` |")), "{right}");
    }
    let pod = crate::kubernetes::rights();
    let pod: BTreeSet<String> = pod.iter().map(|right| format!("CAP_{right}")).collect();
    // What it takes in a pod, where it cannot be started as another user than root.
    let become_nobody = ["CAP_SETUID", "CAP_SETGID"].map(str::to_owned);
    let expected: BTreeSet<String> = rights.iter().cloned().chain(become_nobody).collect();
    assert_eq!(pod, expected);
}
