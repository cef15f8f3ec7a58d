//! Builds programs, stops them, and unwinds their stacks.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use memmap2::Mmap;
use object::{Object, ObjectSymbol, SymbolKind};
use tcpleak_ebpf::BELOW_STACK;
use tempfile::TempDir;

use super::super::{AddressSpace, Image, Registers, Unwound};

const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of stack that are copied.
pub const COPIED: usize = 32 << 10;

/// A directory with what was built in it.
pub struct Fixture {
    pub directory: TempDir,
}

impl Fixture {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A directory with these files.
pub fn fixture(files: &[(&str, &str)]) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    Fixture { directory }
}

/// Runs a compiler there. Its arguments are divided by blanks.
pub fn build(fixture: &Fixture, command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(&fixture.directory)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {message}");
}

/// A running program; it ends with the value.
pub struct Program {
    child: Child,
    pub path: PathBuf,
    traced: i32,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // A traced thread is only gone once its tracer has seen that.
        if self.traced != self.id() {
            let mut status = 0;
            // SAFETY: `status` is a place for the number that waitpid returns.
            unsafe { libc::waitpid(self.traced, &raw mut status, libc::__WALL) };
        }
        let _ = self.child.wait();
    }
}

/// A mapping of code.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    pub path: String,
}

/// A thread that stands still.
pub struct Stopped {
    pub registers: Registers,
    pub stack: Vec<u8>,
    pub mappings: Vec<Mapping>,
}

impl Program {
    /// Starts a program and waits until it says which thread is to be looked at.
    pub fn start(fixture: &Fixture, name: &str) -> (Self, i32) {
        let path = fixture.path(name);
        let mut child = Command::new(&path)
            .current_dir(&fixture.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let thread = line.trim().parse();
        let traced = child.id() as i32;
        let program = Self {
            child,
            path,
            traced,
        };
        (
            program,
            thread.unwrap_or_else(|_| panic!("{name} said {line:?}")),
        )
    }

    /// Starts a program and stops the thread that it names, once that waits in a system call.
    pub fn stopped(fixture: &Fixture, name: &str) -> (Self, Stopped) {
        let (mut program, thread) = Self::start(fixture, name);
        let status = format!("/proc/{}/task/{thread}/stat", program.child.id());
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&status).unwrap().contains(") S ") {
            assert!(Instant::now() < deadline, "{name} does not come to rest");
            sleep(Duration::from_millis(5));
        }
        let stopped = program.stop(thread);
        (program, stopped)
    }

    /// Stops a thread, whatever it is doing.
    pub fn stop(&mut self, thread: i32) -> Stopped {
        trace(libc::PTRACE_SEIZE, thread, 0);
        self.traced = thread;
        trace(libc::PTRACE_INTERRUPT, thread, 0);
        wait_for(thread);
        self.look(thread)
    }

    /// The process.
    pub fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// Gives a program that reads its input something to read.
    pub fn feed(&mut self) {
        let mut input = self.child.stdin.take().unwrap();
        input.write_all(b"go on\n").unwrap();
    }

    /// What a traced thread that stands still is doing.
    pub fn look(&self, thread: i32) -> Stopped {
        let registers = registers(thread);
        Stopped {
            registers,
            stack: self.stack(registers.sp - BELOW_STACK),
            mappings: self.mappings(),
        }
    }

    /// The stack from an address on, as far as there is any.
    pub fn stack(&self, start: u64) -> Vec<u8> {
        let memory = File::open(format!("/proc/{}/mem", self.child.id())).unwrap();
        let mut stack = vec![0; COPIED];
        let mut copied = 0;
        while copied < COPIED {
            match memory.read_at(&mut stack[copied..], start + copied as u64) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => copied += bytes,
            }
        }
        stack.truncate(copied);
        stack
    }

    pub fn mappings(&self) -> Vec<Mapping> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.id())).unwrap();
        maps.lines().filter_map(mapping).collect()
    }

    /// The code of the program.
    pub fn address_space(&self, mappings: &[Mapping]) -> AddressSpace {
        self.address_space_with(mappings, |_| ())
    }

    /// The code of the program, whose own file was changed for the unwinder.
    pub fn address_space_with(
        &self,
        mappings: &[Mapping],
        change: impl Fn(&mut Vec<u8>),
    ) -> AddressSpace {
        let mut space = AddressSpace::new();
        for mapping in mappings {
            let addresses = mapping.start..mapping.end;
            match self.image(mapping, &change) {
                Some(image) => space.map(addresses, mapping.offset, &image),
                None => space.map_anonymous(addresses),
            }
        }
        space
    }

    fn image(&self, mapping: &Mapping, change: impl Fn(&mut Vec<u8>)) -> Option<Arc<Image>> {
        match mapping.path.as_str() {
            "[vdso]" => Image::vdso(),
            path if Path::new(path) == self.path => {
                let mut bytes = fs::read(path).unwrap();
                change(&mut bytes);
                Image::parse(bytes.into())
            }
            path if path.starts_with('/') => Image::parse(map(Path::new(path)).into()),
            _ => None,
        }
    }

    /// Names of the program's own functions in a stack, innermost first.
    pub fn names(&self, stopped: &Stopped, unwound: &Unwound) -> Vec<String> {
        let own = |mapping: &&Mapping| Path::new(&mapping.path) == self.path;
        names(stopped, unwound, own)
    }
}

/// Names of the functions in a stack that lie in some mappings.
pub fn names(
    stopped: &Stopped,
    unwound: &Unwound,
    wanted: impl Fn(&&Mapping) -> bool,
) -> Vec<String> {
    let name = |frame: &super::super::RawFrame| {
        let address = frame.instruction();
        let mapping = find(&stopped.mappings, address).filter(&wanted)?;
        Some(function(mapping, address).unwrap_or_else(|| "?".to_owned()))
    };
    unwound.frames.iter().filter_map(name).collect()
}

pub fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    (mappings.iter()).find(|mapping| (mapping.start..mapping.end).contains(&address))
}

fn function(mapping: &Mapping, address: u64) -> Option<String> {
    let bytes = map(Path::new(&mapping.path));
    let file = object::File::parse(&*bytes).ok()?;
    let image = Image::parse(map(Path::new(&mapping.path)).into())?;
    let address = image.address(address - mapping.start + mapping.offset)?;
    let mut symbols: Vec<_> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.address() <= address)
        .collect();
    symbols.sort_by_key(|symbol| symbol.address());
    let nearest = symbols.last()?;
    let inside = address - nearest.address();
    (inside < nearest.size().max(64)).then(|| nearest.name().unwrap().to_owned())
}

pub fn map(path: &Path) -> Mmap {
    // SAFETY: the files of a test do not change while it runs.
    unsafe { Mmap::map(&File::open(path).unwrap()) }.unwrap()
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    fields.next().filter(|rights| rights.contains('x'))?;
    let offset = fields.next()?;
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    Some(Mapping {
        start: number(start),
        end: number(end),
        offset: number(offset),
        path: fields.nth(2).unwrap_or_default().to_owned(),
    })
}

/// A request to the kernel about a thread; the test's own thread traces it.
pub fn trace(request: libc::c_uint, thread: i32, data: usize) {
    // SAFETY: these requests take numbers, or memory of the size they fill.
    let result = unsafe { libc::ptrace(request, thread, 0, data) };
    let error = std::io::Error::last_os_error();
    assert_eq!(result, 0, "ptrace request {request}: {error}");
}

/// Waits until a traced thread stands still.
pub fn wait_for(thread: i32) {
    let mut status = 0;
    // SAFETY: `status` is a place for the number that waitpid returns.
    let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    assert_eq!(found, thread);
    assert!(libc::WIFSTOPPED(status), "status {status:#x}");
}

#[cfg(target_arch = "x86_64")]
fn registers(thread: i32) -> Registers {
    // SAFETY: plain numbers for which zeros are valid.
    let mut all: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    trace(libc::PTRACE_GETREGS, thread, &raw mut all as usize);
    Registers {
        pc: all.rip,
        sp: all.rsp,
        fp: all.rbp,
        lr: 0,
    }
}

#[cfg(target_arch = "aarch64")]
fn registers(thread: i32) -> Registers {
    let mut all = [0_u64; 34];
    let mut place = libc::iovec {
        iov_base: all.as_mut_ptr().cast(),
        iov_len: size_of_val(&all),
    };
    // SAFETY: the kernel fills the memory that `place` describes with the general registers.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET,
            thread,
            libc::NT_PRSTATUS,
            &raw mut place,
        )
    };
    assert_eq!(result, 0);
    Registers {
        pc: all[32],
        sp: all[31],
        fp: all[29],
        lr: all[30],
    }
}
