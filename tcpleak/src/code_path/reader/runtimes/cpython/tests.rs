//! Chains of made-up interpreters, and of interpreters that lie.

use super::*;
use crate::code_path::reader::{
    memory::ReadAt,
    runtimes::{Link as Frame, made_up::images},
};

/// Bytes at an address; zeroes around it.
struct Bytes(u64, Vec<u8>);

impl ReadAt for Bytes {
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
        for (index, byte) in buffer.iter_mut().enumerate() {
            let inside = (address + index as u64).checked_sub(self.0);
            *byte = inside
                .and_then(|inside| self.1.get(usize::try_from(inside).ok()?))
                .copied()
                .unwrap_or_default();
        }
        true
    }
}

fn interpreter(minor: u64) -> Python {
    let layout = Layout::of_version(minor);
    Python {
        plan: layout.plan(0x1000),
        evaluates: 0x100..0x200,
        interpreter: 0..0x1000,
        codes: Codes::new(0x7000),
        layout,
        stack: Following::default(),
    }
}

fn run(names: &[&str]) -> Vec<ManagedFrame> {
    let frame = |name: &&str| ManagedFrame {
        function: Some((*name).to_owned()),
        ..ManagedFrame::default()
    };
    names.iter().map(frame).collect()
}

/// A stack whose frames are 0x100 bytes each: `e` evaluates, `i` is of the interpreter.
fn following(runs: &[(&[&str], Option<u64>)], frames: &str) -> Following {
    let run = |(names, inside): &(&[&str], Option<u64>)| Run {
        frames: run(names),
        inside: *inside,
    };
    let frame = |(number, letter): (usize, char)| StackFrame {
        sp: 0x100 * number as u64,
        part: match letter {
            'e' => Part::Evaluates,
            'i' => Part::Interpreter,
            _ => Part::Other,
        },
    };
    Following {
        known: true,
        runs: runs.iter().map(run).collect(),
        frames: frames.chars().enumerate().map(frame).collect(),
    }
}

#[test]
fn functions_take_the_place_of_what_evaluates_them() {
    let runs: &[(&[&str], _)] = &[(&["get", "fetch"], None), (&["main"], None)];
    let rest = following(runs, "..ie.i.e.i").rest();
    let expected = [
        (3, run(&["get", "fetch"])),
        (7, run(&["main"])),
        (2, Vec::new()),
        (5, Vec::new()),
    ];
    assert_eq!(
        rest.managed, expected,
        "what lies below the outermost stays"
    );
    assert_eq!(rest.behind, []);
    assert_eq!(rest.unreadable, None);
}

#[test]
fn what_evaluates_is_told_by_what_lies_in_its_frame() {
    let runs: &[(&[&str], _)] = &[(&["get"], Some(0x340)), (&["main"], Some(0x6ff))];
    let rest = following(runs, "..iiiiii").rest();
    let expected = [(3, run(&["get"])), (6, run(&["main"]))];
    assert_eq!(
        rest.managed[..2],
        expected,
        "a part of it that lies elsewhere"
    );
    assert_eq!(rest.managed.len(), 5);
}

#[test]
fn functions_without_a_place_are_not_lost() {
    let runs: &[(&[&str], _)] = &[(&["get"], None), (&["fetch"], None), (&["main"], None)];
    let rest = following(runs, "...e").rest();
    assert_eq!(rest.managed, [(3, run(&["get", "fetch", "main"]))]);
    let all = run(&["get", "fetch", "main"]);
    assert_eq!(following(runs, ".").rest().behind, all);
    assert_eq!(following(runs, ".i.").rest().managed, [(1, all)]);
    let rest = following(&runs[..1], "...e.e").rest();
    assert_eq!(
        rest.managed,
        [(3, run(&["get"]))],
        "the second one stays what it is"
    );
    let lie: &[(&[&str], _)] = &[(&["get"], Some(0x150)), (&["main"], Some(u64::MAX))];
    let rest = following(lie, "...e").rest();
    assert_eq!(rest.managed, [(3, run(&["get", "main"]))]);
}

#[test]
fn a_chain_that_nobody_followed_is_said_to_be_missing() {
    let unknown = |frames| Following {
        known: false,
        ..following(&[], frames)
    };
    assert!(unknown("..e").rest().unreadable.is_some());
    assert_eq!(
        unknown("..i").rest(),
        Rest::default(),
        "no function of Python runs"
    );
    assert_eq!(following(&[], "..e").rest(), Rest::default());
}

#[test]
fn frames_are_parted_where_another_one_evaluates() {
    let memory = Memory::new(&());
    let parts = |minor: u64, kinds: &[u64]| -> Vec<usize> {
        let links = kinds.iter().map(|kind| Frame {
            kind: *kind,
            ..Frame::default()
        });
        let chain = Chain {
            known: true,
            links: links.collect(),
        };
        let runs = interpreter(minor).runs(&chain, &memory);
        runs.iter().map(|run| run.frames.len()).collect()
    };
    assert_eq!(parts(9, &[0, 0, 0]), [1, 1, 1]);
    let entry = 1 << 32;
    assert_eq!(parts(11, &[0, entry, 0, 0, entry]), [2, 3]);
    let between = 3 << 48;
    assert_eq!(parts(12, &[0, 0, between, 1 << 48, between]), [2, 1]);
    assert_eq!(parts(12, &[0, 0]), [2], "a chain that was cut off");
}

#[test]
fn a_plan_has_what_a_frame_is_read_by() {
    for minor in 8..=12 {
        let plan = Layout::of_version(minor).plan(0x1000);
        let words = [plan.code, plan.at, plan.kind, plan.next];
        assert!(
            words.iter().all(|word| (word + 1) * 8 <= plan.span),
            "{plan:?}"
        );
        assert!(plan.span as usize <= tcpleak_ebpf::LINK_SPAN, "{plan:?}");
    }
}

#[test]
fn naming_what_made_up_memory_holds_ends() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in images(1000) {
        // Small numbers and pointers into the image itself are what leads furthest.
        let mut image: Vec<u8> = Vec::new();
        for _ in 0..1024 {
            let word = match next() % 4 {
                0 => next(),
                1 => next() % 64,
                2 => 0x7000,
                _ => 0x1000 + next() % 0x2000,
            };
            image.extend_from_slice(&word.to_le_bytes());
        }
        let bytes = Bytes(0x1000, image);
        let links = (0..next() % 200).map(|_| Frame {
            address: next(),
            code: 0x1000 + next() % 0x2000 / 8 * 8,
            at: next() >> (next() % 64),
            kind: next(),
        });
        let chain = Chain {
            known: true,
            links: links.collect(),
        };
        let mut python = interpreter(8 + next() % 5);
        python.begin(&chain, &Memory::new(&bytes));
        let rest = python.end();
        assert!(rest.behind.len() <= chain.links.len());
        let _ = Layout::told(14, &Memory::new(&bytes), 0x1000);
    }
}

#[test]
fn what_an_interpreter_tells_of_itself_is_found_and_checked() {
    // As 3.13 has it, and with parts as much longer as they were made in 3.14.
    for more in [0, 1] {
        let mut words = vec![0_u64; 96];
        words[0] = u64::from_le_bytes(*b"xdebugpy");
        words[5] = 632;
        words[6] = 0x10000;
        words[8] = 7264;
        words[9] = 7344;
        for (index, word) in words.iter_mut().enumerate().take(19 + more).skip(10) {
            *word = 7000 + index as u64 * 3;
        }
        let thread = 19 + more;
        words[thread..thread + 9].copy_from_slice(&[720, 0, 8, 16, 72, 152, 160, 300, 40]);
        let frame = thread + 9;
        words[frame..frame + 6].copy_from_slice(&[88, 8, 0, 56, 80, 70]);
        let code = frame + 6 + more;
        words[frame + 6] = 64;
        words[code..code + 10].copy_from_slice(&[208, 112, 120, 128, 136, 68, 52, 96, 104, 200]);
        let read = |words: &[u64]| {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Layout::told(13, &Memory::new(&Bytes(0x1000, bytes)), 0x1000)
        };
        let layout = read(&words).expect("it tells");
        let plan = layout.plan(0x1000);
        assert_eq!(
            (plan.lists, plan.next_list, plan.threads),
            (0x1000 + 632, 7264, 7344)
        );
        assert_eq!(
            (plan.next_thread, plan.thread_pointer, plan.innermost),
            (8, 152, 72)
        );
        assert_eq!((plan.code, plan.at, plan.kind, plan.next), (0, 7, 8, 1));
        assert_eq!((layout.code.name, layout.code.instructions), (128, 200));

        words[2] = 1;
        assert!(read(&words).unwrap_err().contains("without a global lock"));
        words[2] = 0;
        words[frame + 3] = 1 << 20;
        assert!(read(&words).is_err(), "no frame is that large");
    }
}
