//! A made-up virtual machine in a made-up memory, and a layout that fits it.

use super::super::layout::{Blob, Frame, Heaps, Layout, Method, Methods, Place, Scopes, Source};
use crate::code_path::reader::memory::ReadAt;

/// First address of the memory.
pub const BASE: u64 = 0x10_0000;
/// How large it is.
pub const SIZE: usize = 0x3_0000;
/// Where the code is.
pub const CODE: u64 = BASE + 0x1_0000;
/// Where the stack is.
pub const STACK: u64 = BASE + 0x2_8000;
/// Where the instructions of the compiled method begin.
pub const COMPILED: u64 = CODE + 0x10 + 0x100;
/// Where the instructions of the interpreter begin.
pub const INTERPRETER: u64 = CODE + 0x800 + 0x10 + 0x100;
/// The method `crawl`, into which `fetch` was inlined, which follows.
pub const CRAWL: u64 = BASE + 0x2000;
/// The byte code of `crawl`.
pub const CRAWL_CODE: u64 = BASE + 0x3000 + 0x20;

const MAP: u64 = BASE + 0x1000;
const CONSTANTS: u64 = BASE + 0x4000;
const CLASS: u64 = BASE + 0x5000;

/// The memory.
#[derive(Clone)]
pub struct Image(pub Vec<u8>);

impl ReadAt for Image {
    fn read_at(&self, buffer: &mut [u8], address: u64) -> bool {
        let start = address
            .checked_sub(BASE)
            .and_then(|start| usize::try_from(start).ok());
        let found = start.and_then(|start| self.0.get(start..start.checked_add(buffer.len())?));
        found.map(|found| buffer.copy_from_slice(found)).is_some()
    }
}

impl Image {
    /// One in which all is as it should be.
    pub fn new() -> Self {
        let mut image = Self(vec![0; SIZE]);
        image.put(BASE, &(BASE + 0x100).to_le_bytes());
        image.words(BASE + 0x100, &[CODE, CODE + 0x8000, MAP, 7]);
        image.put(MAP + 0x20, &[0xff; 0x80]);
        image.compiled();
        image.blob(CODE + 0x800, "Interpreter", 0);
        image.names();
        image
    }

    /// Puts bytes somewhere.
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = (address - BASE) as usize;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts words somewhere.
    pub fn words(&mut self, address: u64, words: &[u64]) {
        for (at, word) in (address..).step_by(8).zip(words) {
            self.put(at, &word.to_le_bytes());
        }
    }

    fn halves(&mut self, address: u64, halves: &[u32]) {
        for (at, half) in (address..).step_by(4).zip(halves) {
            self.put(at, &half.to_le_bytes());
        }
    }

    /// A piece of code of 0x400 bytes, and what stands before it.
    fn blob(&mut self, block: u64, name: &str, frame_size: u32) {
        let blob = block + 0x10;
        let text = block + 0x3f0;
        self.put(block + 8, &[1]);
        self.put(text, name.as_bytes());
        self.words(blob, &[text]);
        self.halves(blob + 8, &[0x400, frame_size]);
        self.words(blob + 16, &[blob + 0x100, blob + 0x200]);
        let segment = MAP + ((block - CODE) >> 7);
        self.put(segment, &[0, 1, 2, 3, 4, 5, 6, 7]);
    }

    fn compiled(&mut self) {
        let blob = CODE + 0x10;
        self.blob(CODE, "nmethod", 4);
        self.words(blob + 32, &[CRAWL]);
        // Number of the compilation, places, what follows them, methods.
        self.halves(blob + 40, &[77, 0x200, 0x220, 0x280]);
        self.words(blob + 56, &[blob + 0x300]);
        let places = [[u32::MAX, 0], [0x10, 1], [0x20, 4], [0x7fff_ffff, 0]];
        self.halves(blob + 0x200, places.as_flattened());
        self.words(blob + 0x280, &[CRAWL, CRAWL + 0x20]);
        // In crawl at 4; in fetch at 2, in crawl at 4.
        self.put(blob + 0x301, &[0, 1, 5]);
        self.put(blob + 0x304, &[1, 2, 3]);
    }

    fn names(&mut self) {
        for (number, line) in [(0, 40), (1, 50)] {
            let constant = BASE + 0x3000 + number * 0x100;
            self.words(CRAWL + number * 0x20 + 8, &[constant]);
            self.words(constant + 8, &[CONSTANTS]);
            self.put(constant + 16, &[number as u8 + 1, 0, 8, 0, 1]);
            // From 0 on this line, from 4 on the next one.
            self.put(constant + 0x28, &[0xff, 0, 2 * line, 4 << 3 | 1, 0]);
        }
        self.words(CONSTANTS + 8, &[CLASS, 5]);
        self.put(CONSTANTS + 20, &[3, 0]);
        self.words(CLASS + 8, &[CONSTANTS]);
        let texts = ["", "crawl", "fetch", "Crawler.java", "com/acme/Crawler"];
        for (number, text) in (0..).zip(texts) {
            let symbol = BASE + 0x6000 + number * 0x40;
            self.put(symbol, &[text.len() as u8, 0]);
            self.put(symbol + 2, text.as_bytes());
            self.words(CONSTANTS + 0x20 + number * 8, &[symbol]);
        }
        self.words(CLASS + 16, &[BASE + 0x6000 + 4 * 0x40]);
    }
}

/// The layout that fits it.
pub fn layout() -> Layout {
    Layout {
        heaps: Heaps {
            only: Some(BASE),
            array: None,
            count: 0,
            first: 0,
            start: 0,
            end: 8,
            map: 16,
            segment: 24,
            header: 0x10,
            used: 8,
        },
        blob: Blob {
            name: 0,
            size: 8,
            begin: Place::Pointer(16),
            end: Place::Pointer(24),
            frame_size: 12,
            method: 32,
            compilation: 40,
            deoptimized: Vec::new(),
            original: None,
        },
        method: Method {
            constant: 8,
            constants: 8,
            name: 16,
            code_size: 18,
            flags: 20,
            has_lines: 1,
            size: 0x20,
            holder: 8,
            length: 16,
            constants_size: 0x20,
            constants_of_class: 8,
            class_name: 16,
            source: Some(Source::Constants(20)),
            name_length: 0,
            name_bytes: 2,
        },
        scopes: Some(Scopes {
            apart: None,
            places: 44,
            places_end: 48,
            data: Place::Pointer(56),
            methods: Methods::InBlob(52),
            place_size: 8,
            place_code: 0,
            place_scope: 4,
        }),
        frame: Frame {
            entry_return: None,
            sender: -1,
            is_old: false,
        },
        left_out: 0,
    }
}
