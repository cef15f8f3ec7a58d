//! A process between two execs: which files its code comes from, and where they lie.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::PathBuf,
};

use super::{
    ChainOf, CodeLayout, Plan,
    files::CodeFile,
    maps::{Mapping, Mappings},
    reader::unwind::RawFrame,
};
use crate::{process, survey::ProcessId};

/// Most pieces that code may be said to lie in.
const RANGES: usize = tcpleak_ebpf::CODE_RANGES;
/// Largest piece of stack that tells paths apart.
const WHOLE_STACK: u32 = tcpleak_ebpf::STACK_BYTES as u32;
/// The window grows by so many bytes, so that it settles soon.
const WINDOW_STEP: u32 = 1024;
/// Most mappings of code that are looked at; what lies in others stays unknown.
const MAPPINGS: usize = 4096;

/// Tells images apart: the process, and the start of its first stack.
pub type ImageKey = (ProcessId, u64);

/// A process between two execs.
#[derive(Debug)]
pub struct Image {
    /// The process.
    pub process: ProcessId,
    /// Start of its first stack.
    pub start_stack: u64,
    /// Pages of code at the time of the last look.
    pub code_pages: u64,
    /// The program that it runs.
    pub executable: PathBuf,
    /// Its code.
    pub mappings: Mappings,
    /// Its memory, as long as it lasts; none when it may not be read.
    pub memory: Option<File>,
    window: u32,
    asked_elsewhere: bool,
    told: Option<CodeLayout>,
    told_plan: Option<Plan>,
}

impl Image {
    /// Looks at a process. Fails when it has ended or become another program since.
    pub fn look(process: ProcessId, start_stack: u64, code_pages: u64) -> io::Result<Self> {
        let pid = process.pid;
        let executable = fs::read_link(format!("/proc/{pid}/exe"))?;
        let mut mappings = Mappings::read(pid)?;
        mappings.truncate(MAPPINGS);
        let memory = File::open(format!("/proc/{pid}/mem")).ok();
        // Last: everything above is about this very image, unless it changed in between.
        if !process::is_image(pid, process.start_ns, start_stack) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            process,
            start_stack,
            code_pages,
            executable,
            mappings,
            memory,
            window: 0,
            asked_elsewhere: false,
            told: None,
            told_plan: None,
        })
    }

    /// Whether it is still there to be looked at.
    pub fn is_current(&self) -> bool {
        process::is_image(self.process.pid, self.process.start_ns, self.start_stack)
    }

    /// Which code a frame is at: the file, by device and inode number, and where in it. None where there is
    /// no code.
    pub fn code_at(&self, frame: RawFrame) -> Option<((u32, u32), u64, u64)> {
        let address = frame.instruction();
        let mapping = self.mappings.find(address)?;
        let place = (address - mapping.start).wrapping_add(mapping.offset);
        Some((mapping.device, mapping.inode, place))
    }

    /// Opens the file behind each mapping that has one.
    pub fn open_files(&self) -> impl Iterator<Item = (&Mapping, io::Result<CodeFile>)> {
        self.mappings
            .iter()
            .filter(|mapping| mapping.inode != 0)
            .map(|mapping| (mapping, CodeFile::of_mapping(self.process.pid, mapping)))
    }

    /// Takes over what a later look saw.
    pub fn renew(&mut self, seen: Self) {
        *self = Self {
            window: self.window,
            asked_elsewhere: self.asked_elsewhere,
            told: self.told.take(),
            told_plan: self.told_plan,
            ..seen
        };
    }

    /// Takes note of how the frames of an interpreter are followed. Returns what the kernel needs to know
    /// when that has changed, or when the kernel did not know it.
    pub fn learn_plan(&mut self, plan: Option<Plan>, known: bool) -> Option<ChainOf> {
        let plan = plan?;
        let told = self.told_plan.replace(plan) == Some(plan);
        (!told || !known).then_some(ChainOf {
            pid: self.process.pid,
            image: self.start_stack,
            plan,
        })
    }

    /// Takes note that who asks for a connection may be on another stack than the one that opens it.
    pub fn is_asked_elsewhere(&mut self) {
        self.asked_elsewhere = true;
    }

    /// Takes note of how deep a stack was unwound; none when the copy was not deep enough. Returns
    /// what the kernel needs to know when that has changed.
    pub fn learn(&mut self, depth: Option<u32>) -> Option<CodeLayout> {
        let needed = depth.map_or(WHOLE_STACK, |depth| {
            depth
                .checked_next_multiple_of(WINDOW_STEP)
                .unwrap_or(WHOLE_STACK)
                .min(WHOLE_STACK)
        });
        self.window = self.window.max(needed);
        let layout = CodeLayout {
            pid: self.process.pid,
            image: self.start_stack,
            code_pages: self.code_pages,
            window: self.window,
            asked_elsewhere: self.asked_elsewhere,
            ranges: pieces(
                self.mappings
                    .iter()
                    .map(|mapping| (mapping.start..mapping.end, mapping.files_before)),
            ),
        };
        let changed = self.told.as_ref() != Some(&layout);
        changed.then(|| self.told.insert(layout).clone())
    }
}

/// Joins ascending ranges until only a few are left. What lies between them is taken for code then,
/// so those gaps stay that have the most room for data: what is in a gap and belongs to files, which
/// is said for the gap before each range, is no such room.
fn pieces(ranges: impl Iterator<Item = (Range<u64>, u64)>) -> Vec<Range<u64>> {
    // What is in the kernel's half (the old vsyscall page) is no place to return to.
    let ranges: Vec<_> = ranges.filter(|(range, _)| range.end < 1 << 63).collect();
    let room = |last_end: u64, (range, files): &(Range<u64>, u64)| {
        range.start.saturating_sub(last_end).saturating_sub(*files)
    };
    let mut rooms: Vec<u64> = ranges
        .windows(2)
        .map(|pair| room(pair[0].0.end, &pair[1]))
        .collect();
    rooms.sort_unstable_by(|left, right| right.cmp(left));
    let joined = rooms.get(RANGES - 1).copied();
    let mut left = RANGES - 1;
    let mut result: Vec<Range<u64>> = Vec::new();
    for next in ranges {
        match result.last_mut() {
            Some(last) => {
                let room = room(last.end, &next);
                let wide = joined.is_none_or(|joined| room > joined);
                if wide && left > 0 {
                    left -= 1;
                    result.push(next.0);
                } else {
                    last.end = last.end.max(next.0.end);
                }
            }
            None => result.push(next.0),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_described_by_a_few_pieces_with_the_widest_gaps_between() {
        let pieces = |ranges: &[Range<u64>]| pieces(ranges.iter().map(|range| (range.clone(), 0)));
        let ranges = [
            10..20,
            22..30,
            1000..1010,
            1011..1020,
            5000..5001,
            9000..9100,
        ];
        assert_eq!(
            pieces(&ranges),
            [10..30, 1000..1020, 5000..5001, 9000..9100]
        );
        let even: Vec<_> = (0..100).map(|n| n * 10..n * 10 + 5).collect();
        let found = pieces(&even);
        assert!(found.len() <= RANGES, "{found:?}");
        assert_eq!((found[0].start, found.last().unwrap().end), (0, 995));
        assert_eq!(pieces(&[]), []);
    }

    #[test]
    fn gaps_that_files_fill_are_taken_for_code_before_those_with_room_for_data() {
        let ranges = [
            (10..20, 0),
            // A wide gap with the constants of a library in it.
            (1000..1100, 970),
            // A narrower one where the program keeps its data.
            (1300..1400, 0),
            (5000..5010, 0),
            (9000..9010, 0),
        ];
        assert_eq!(
            pieces(ranges.into_iter()),
            [10..1100, 1300..1400, 5000..5010, 9000..9010]
        );
    }

    #[test]
    fn the_kernel_is_told_what_it_does_not_know() {
        let process = ProcessId {
            pid: std::process::id(),
            start_ns: 0,
        };
        let image = |code_pages| Image {
            process,
            start_stack: 0,
            code_pages,
            executable: PathBuf::new(),
            mappings: Mappings::read(process.pid).unwrap(),
            memory: None,
            window: 0,
            asked_elsewhere: false,
            told: None,
            told_plan: None,
        };
        let mut known = image(7);
        let window = |layout: Option<CodeLayout>| layout.map(|layout| layout.window);
        assert_eq!(window(known.learn(Some(1500))), Some(2048));
        assert_eq!(window(known.learn(Some(700))), None, "it is within");
        assert_eq!(window(known.learn(None)), Some(WHOLE_STACK));
        known.renew(image(8));
        let layout = known.learn(Some(1)).expect("a library was loaded");
        assert_eq!((layout.window, layout.code_pages), (WHOLE_STACK, 8));
    }
}
