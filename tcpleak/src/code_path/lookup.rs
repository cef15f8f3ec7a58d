//! From addresses to names, one path at a time. Blocking, and bound to one thread.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use blazesym::symbolize::{
    Builder, CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};

use super::{
    RawPath, Resolved,
    elf::{self, CodeFile, Identity, Layout, Readable},
    maps::{Mapping, Mappings},
    name::{clip, demangle},
    own, root, unknown_frame,
};
use crate::{
    process,
    report::{Frame, Incomplete},
};

/// Most frames of a path, inlined ones included.
const FRAMES: usize = 256;
/// How many files are kept open and indexed before everything is dropped and read anew.
const FILES: usize = 256;
/// How many unpacked bytes are kept before everything is dropped and read anew.
const UNPACKED_BYTES: u64 = 1 << 30;

/// Names addresses, and remembers the files it has read.
pub struct Lookup {
    symbolizer: Symbolizer,
    layouts: HashMap<Identity, Rc<Layout>>,
    unpacked: u64,
}

impl Lookup {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            // Symbols are demangled here, where their length is bounded.
            symbolizer: Builder::default().enable_demangling(false).build(),
            layouts: HashMap::new(),
            unpacked: 0,
        }
    }

    /// Names the frames of a path. Without the very process that it was captured from, nothing is
    /// known but its length.
    pub fn resolve(&mut self, path: &RawPath) -> Resolved {
        if self.layouts.len() > FILES || self.unpacked > UNPACKED_BYTES {
            *self = Self::new();
        }
        let alive = || process::is_alive(path.pid, path.start_ns);
        if !alive() {
            return Resolved::unknown(path);
        }
        let Ok(process) = Process::read(path.pid) else {
            return Resolved::unknown(path);
        };
        let mut files = HashMap::new();
        let mut frames = Vec::new();
        for (index, address) in path.frames.iter().enumerate() {
            // A return address lies behind its call, maybe in the next line or function.
            let address = if index == 0 {
                *address
            } else {
                address.saturating_sub(1)
            };
            match process.mappings.find(address) {
                Some(mapping) => self.frames(&process, mapping, address, &mut files, &mut frames),
                None => frames.push(unknown_frame(None)),
            }
        }
        // If the process ended in between, another one may have been read.
        if !alive() {
            return Resolved::unknown(path);
        }
        let truncated = path.truncated || frames.len() > FRAMES;
        frames.truncate(FRAMES);
        let incomplete = match truncated {
            true => Some(Incomplete::StackTooDeep),
            false => Some(Incomplete::Unproven),
        };
        Resolved {
            incomplete: incomplete.filter(|_| !root::is_complete(&frames, truncated)),
            frames,
        }
    }

    /// Adds the frames of one address: the functions inlined there, then the one that holds it.
    fn frames(
        &mut self,
        process: &Process,
        mapping: &Mapping,
        address: u64,
        files: &mut HashMap<u64, Option<CodeFile>>,
        frames: &mut Vec<Frame>,
    ) {
        let module = Some(clip(&mapping.path.to_string_lossy())).filter(|path| !path.is_empty());
        let main = mapping.path == process.executable;
        let file = files
            .entry(mapping.start)
            .or_insert_with(|| match mapping.inode {
                0 => None,
                _ => CodeFile::find(process.pid, mapping).ok(),
            });
        let before = frames.len();
        if let Some(file) = file
            && let Some(layout) = self.layout(file)
            && let Some(address) = layout.address(address - mapping.start + mapping.offset)
        {
            frames.extend(self.name(file, &layout, address));
        }
        if frames.len() == before {
            frames.push(unknown_frame(None));
        }
        for frame in &mut frames[before..] {
            frame.module.clone_from(&module);
            let (function, file) = (frame.function.as_deref(), frame.file.as_deref());
            frame.own = own::is_own(function, file, module.as_deref(), main);
        }
    }

    fn layout(&mut self, file: &CodeFile) -> Option<Rc<Layout>> {
        if let Some(layout) = self.layouts.get(&file.identity()) {
            return Some(Rc::clone(layout));
        }
        let layout = Rc::new(Layout::of(&file.map().ok()?));
        self.unpacked += layout.unpacked;
        self.layouts.insert(file.identity(), Rc::clone(&layout));
        Some(layout)
    }

    /// Names an address of a file by the best that is there: the system's debug information, the
    /// file's own, its symbols, the functions that it exports.
    fn name(&self, file: &CodeFile, layout: &Layout, address: u64) -> Vec<Frame> {
        let own = file.path();
        let sources = [
            layout.debug_file.as_deref().map(|path| (path, true)),
            Some((&*own, true)).filter(|_| layout.readable == Readable::DebugInformation),
            Some((&*own, false)).filter(|_| layout.readable != Readable::Nothing),
        ];
        for (path, debug_information) in sources.into_iter().flatten() {
            let Some(symbol) = self.symbol(path, debug_information, address) else {
                continue;
            };
            let mut frames = functions(&symbol);
            // Debug information may name a function without its module or class: `connect` where
            // the symbol says `crawler::http::connect`.
            if debug_information
                && let Some(linked) = self.symbol(path, false, address)
                && let Some(outermost) = frames.last_mut()
            {
                outermost.function = Some(demangle(&linked.name)).filter(|name| !name.is_empty());
            }
            return frames;
        }
        let exported = file
            .map()
            .ok()
            .and_then(|bytes| elf::exported_function(&bytes, address));
        exported
            .map(|symbol| function(&symbol, None, false))
            .into_iter()
            .collect()
    }

    fn symbol(&self, path: &Path, debug_information: bool, address: u64) -> Option<Sym<'_>> {
        let mut elf = Elf::new(path);
        elf.debug_syms = debug_information;
        match self
            .symbolizer
            .symbolize_single(&Source::Elf(elf), Input::VirtOffset(address))
        {
            Ok(Symbolized::Sym(symbol)) => Some(symbol),
            Ok(Symbolized::Unknown(_)) | Err(_) => None,
        }
    }
}

/// Where the code of a process lies.
struct Process {
    pid: u32,
    executable: PathBuf,
    mappings: Mappings,
}

impl Process {
    fn read(pid: u32) -> io::Result<Self> {
        let executable = fs::read_link(format!("/proc/{pid}/exe"))?;
        Ok(Self {
            pid,
            executable,
            mappings: Mappings::read(pid)?,
        })
    }
}

/// The functions at an address, innermost first.
fn functions(symbol: &Sym<'_>) -> Vec<Frame> {
    let inlined = symbol.inlined.iter().rev().take(FRAMES);
    let inlined = inlined.map(|inner| function(&inner.name, inner.code_info.as_ref(), true));
    inlined
        .chain([function(&symbol.name, symbol.code_info.as_deref(), false)])
        .collect()
}

fn function(symbol: &str, place: Option<&CodeInfo<'_>>, inlined: bool) -> Frame {
    Frame {
        function: Some(demangle(symbol)).filter(|name| !name.is_empty()),
        file: place.map(|place| clip(&place.to_path().to_string_lossy())),
        line: place.and_then(|place| place.line).filter(|line| *line != 0),
        inlined,
        ..unknown_frame(None)
    }
}

#[cfg(test)]
mod tests;
