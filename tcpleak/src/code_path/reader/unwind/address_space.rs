//! Walks along the stacks of one process.

use std::{collections::HashMap, ops::Range, sync::Arc};

use tcpleak_ebpf::BELOW_STACK;

use super::{
    End, Guide, RawFrame, Unwound, arch,
    code::{Code, Mapped},
    image::Image,
    plain::Cache,
    registers::Registers,
    rule::Rule,
    stack::Stack,
    table::Context,
};

/// Most frames of a walk.
const MOST_FRAMES: usize = 512;
/// Most frames whose rules are remembered.
const REMEMBERED: usize = 4096;

/// The code of one process image, and what was found out about it while following its stacks.
#[derive(Default)]
pub struct AddressSpace {
    code: Code,
    rules: HashMap<RawFrame, Rule>,
    context: Box<Context>,
    cache: Cache,
}

/// A frame that was found.
struct Caller {
    frame: RawFrame,
    guessed: bool,
}

/// Why a walk does not go on.
struct Stop {
    end: End,
    outside: Option<u64>,
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self { end, outside: None }
    }
}

impl AddressSpace {
    /// A process without any code.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an executable mapping of a file, in place of what was at its addresses before. Every
    /// executable mapping has to be known: a walk ends where it leaves them.
    pub fn map(&mut self, addresses: Range<u64>, file_offset: u64, image: &Arc<Image>) {
        let mapped = Mapped::new(&addresses, file_offset, image);
        self.add(addresses, mapped);
    }

    /// Adds executable memory that belongs to no file, or to one that cannot be read. Its code is
    /// followed by frame pointers.
    pub fn map_anonymous(&mut self, addresses: Range<u64>) {
        self.add(addresses, None);
    }

    fn add(&mut self, addresses: Range<u64>, mapped: Option<Mapped>) {
        self.code.add(addresses, mapped);
        self.rules.clear();
    }

    /// Follows a stack from the innermost frame outwards. `stack` is a copy of it that begins at
    /// [`BELOW_STACK`] bytes below the stack pointer and may end anywhere. The guide is asked first.
    pub fn unwind(
        &mut self,
        mut registers: Registers,
        stack: &[u8],
        guide: &mut impl Guide,
    ) -> Unwound {
        let mut stack = Stack::new(registers.sp.wrapping_sub(BELOW_STACK), stack);
        let mut frame = RawFrame {
            address: registers.pc,
            is_return: false,
        };
        let mut frames = Vec::with_capacity(32);
        let mut guessed = false;
        let Stop { end, outside } = loop {
            frames.push(frame);
            let described = !matches!(self.rule(frame), Rule::Guess(_));
            let number = frames.len() - 1;
            let known = guide.caller(number, frame, described, &registers, &mut stack);
            match self.caller(frame, &mut registers, &mut stack, known) {
                Ok(_) if frames.len() == MOST_FRAMES => break End::TooMany.into(),
                Ok(caller) => {
                    guessed |= caller.guessed;
                    // Nothing called a signal trampoline: it is gone to as if it had.
                    if let Some(trampoline) = frames.last_mut().filter(|_| !caller.frame.is_return)
                    {
                        trampoline.is_return = false;
                    }
                    frame = caller.frame;
                }
                Err(_) if self.is_start(frame) => break End::Root.into(),
                Err(stop) => break stop,
            }
        };
        Unwound {
            frames,
            end,
            outside,
            depth: stack.depth(),
            guessed,
        }
    }

    /// The frame that called this one, whose registers `registers` become.
    fn caller(
        &mut self,
        frame: RawFrame,
        registers: &mut Registers,
        stack: &mut Stack<'_>,
        known: Option<Registers>,
    ) -> Result<Caller, Stop> {
        self.inside(frame)?;
        if let Some(caller) = known {
            return self.known_caller(registers, caller);
        }
        let rule = remembered(&mut self.rules, frame, || {
            Rule::find(frame, &self.code, &mut self.context)
        });
        if let Rule::Outermost = rule {
            return Err(End::Root.into());
        }
        let Some(mut caller) = rule.caller(frame, registers, stack, &self.code, &mut self.cache)
        else {
            return Err(match stack.too_short() {
                true => End::StackTooDeep.into(),
                false => End::Lost.into(),
            });
        };
        let interrupted = rule.leads_to_interrupted();
        let guessed = matches!(rule, Rule::Guess(_));
        caller.pc = arch::plain_address(caller.pc, self.code.highest());
        if caller.pc == 0 {
            return Err(End::Unproven.into());
        }
        let may_stand = interrupted || !frame.is_return && arch::CALL_LEAVES_STACK_ALONE;
        // A signal handler may have a stack of its own, and that may lie anywhere.
        if !interrupted && caller.sp < registers.sp || !may_stand && caller.sp == registers.sp {
            return Err(End::Lost.into());
        }
        let next = RawFrame {
            address: caller.pc,
            is_return: !interrupted,
        };
        self.inside(next)?;
        let by_frame_pointer = guessed && caller.sp == registers.fp.wrapping_add(16);
        if arch::CALL_LEAVES_STACK_ALONE && by_frame_pointer {
            caller.sp = self.stack_pointer(next, &caller).unwrap_or(caller.sp);
        }
        *registers = caller;
        Ok(Caller {
            frame: next,
            guessed,
        })
    }

    fn rule(&mut self, frame: RawFrame) -> &Rule {
        remembered(&mut self.rules, frame, || {
            Rule::find(frame, &self.code, &mut self.context)
        })
    }

    /// A caller that the guide knows. It must lie further out, as any caller.
    fn known_caller(&self, registers: &mut Registers, caller: Registers) -> Result<Caller, Stop> {
        if caller.pc == 0 {
            return Err(End::Unproven.into());
        }
        if caller.sp <= registers.sp {
            return Err(End::Lost.into());
        }
        let frame = RawFrame {
            address: caller.pc,
            is_return: true,
        };
        self.inside(frame)?;
        *registers = caller;
        Ok(Caller {
            frame,
            guessed: false,
        })
    }

    /// The files whose code it is, by ascending address; one for each mapping.
    pub fn mapped(&self) -> impl Iterator<Item = &Mapped> {
        self.code.all_mapped()
    }

    /// The stack pointer of a frame that was reached by the frame pointer of the one it called. Where a
    /// frame may reach beyond what its frame pointer leads to, that step gives only a lower bound; but
    /// unwind information says where the caller's frame pointer is saved, and it is saved where the
    /// frame's own points to.
    fn stack_pointer(&mut self, frame: RawFrame, registers: &Registers) -> Option<u64> {
        let instruction = frame.instruction();
        let mapped = self.code.mapped(instruction)?;
        let place = mapped.own_address(instruction);
        let (_, row) = mapped.image.row(place, &mut self.context)?;
        row.stack_pointer_by(registers.fp)
            .filter(|sp| *sp >= registers.sp)
    }

    fn inside(&self, frame: RawFrame) -> Result<(), Stop> {
        match self.code.contains(frame.instruction()) {
            true => Ok(()),
            false => Err(Stop {
                end: End::Lost,
                outside: Some(frame.address),
            }),
        }
    }

    /// Whether a frame is the function that a program begins with.
    fn is_start(&self, frame: RawFrame) -> bool {
        let instruction = frame.instruction();
        self.code
            .mapped(instruction)
            .is_some_and(|mapped| mapped.image.is_start(mapped.own_address(instruction)))
    }
}

/// The rule for a frame, found once.
fn remembered(
    rules: &mut HashMap<RawFrame, Rule>,
    frame: RawFrame,
    find: impl FnOnce() -> Rule,
) -> &Rule {
    if rules.len() >= REMEMBERED && !rules.contains_key(&frame) {
        rules.clear();
    }
    rules.entry(frame).or_insert_with(find)
}
