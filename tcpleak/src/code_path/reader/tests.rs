use std::{fs, io::Write, thread};

use super::*;

/// A reader in a thread of the test, which is asked over a real socket.
struct Asked(UnixStream);

impl Asked {
    fn start() -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        thread::spawn(move || serve(&there));
        Self(here)
    }

    fn ask(&self, request: &Request, file: Option<&File>) -> Answer {
        message::send(&self.0, request, file).unwrap();
        message::receive(&self.0).unwrap().unwrap().0
    }
}

#[inline(never)]
fn a_function_of_this_program() -> u64 {
    std::hint::black_box(7)
}

/// Where an address of this program lies in its file.
fn offset_in_file(address: u64) -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    maps.lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = fields[0].split_once('-').unwrap();
            let (start, end) = (number(start), number(end));
            (start..end)
                .contains(&address)
                .then(|| address - start + number(fields[2]))
        })
        .unwrap()
}

#[test]
fn a_place_in_a_file_is_named_with_its_line() {
    assert_eq!(a_function_of_this_program(), 7);
    let asked = Asked::start();
    let program = File::open("/proc/self/exe").unwrap();
    let Answer::File(wanted) = asked.ask(&Request::File(1), Some(&program)) else {
        panic!("it is a file");
    };
    assert!(wanted.has_debug_information && wanted.has_symbols);
    let offset = offset_in_file(a_function_of_this_program as *const () as u64);
    let places = vec![Place::File(1, offset), Place::File(2, offset)];
    let Answer::Named(named) = asked.ask(&Request::Name(places), None) else {
        panic!("places are named");
    };
    let function = named[0].functions.last().unwrap();
    let name = function.function.as_deref().unwrap();
    assert!(name.ends_with("::a_function_of_this_program"), "{name}");
    assert!(
        function
            .file
            .as_deref()
            .unwrap()
            .ends_with("reader/tests.rs")
    );
    assert_eq!(named[1], NamedPlace::default(), "that file was not given");
}

#[test]
fn a_file_that_is_not_the_debug_information_is_refused() {
    let asked = Asked::start();
    let program = File::open("/proc/self/exe").unwrap();
    asked.ask(&Request::File(1), Some(&program));
    let mut other = tempfile::tempfile().unwrap();
    other.write_all(b"something else").unwrap();
    let answer = asked.ask(&Request::DebugFile(1), Some(&other));
    assert_eq!(answer, Answer::DebugFile(None));
    let answer = asked.ask(&Request::DebugFile(1), Some(&program));
    assert!(
        matches!(answer, Answer::DebugFile(Some(_))),
        "it has the same build id: {answer:?}"
    );
}

#[test]
fn code_compiled_at_run_time_is_named_by_its_perf_map() {
    let asked = Asked::start();
    let mut map = tempfile::tempfile().unwrap();
    map.write_all(b"0x1000 0x20 handle_request\n").unwrap();
    asked.ask(&Request::PerfMap(3), Some(&map));
    let places = vec![Place::Memory(3, 0x101f), Place::Memory(3, 0x1020)];
    let Answer::Named(named) = asked.ask(&Request::Name(places), None) else {
        panic!("places are named");
    };
    let name = named[0].functions[0].function.as_deref();
    assert_eq!(name, Some("handle_request"));
    assert_eq!(named[1], NamedPlace::default());
}

#[test]
fn the_code_that_the_kernel_lends_is_named() {
    let asked = Asked::start();
    let vdso = Image::vdso().expect("this kernel has a vDSO");
    let symbols = object::File::parse(&**vdso.bytes()).unwrap();
    use object::{Object, ObjectSymbol};
    let symbol = symbols
        .dynamic_symbols()
        .find(|symbol| symbol.name() == Ok("__vdso_clock_gettime"))
        .unwrap();
    let Answer::Named(named) = asked.ask(&Request::Name(vec![Place::Vdso(symbol.address())]), None)
    else {
        panic!("places are named");
    };
    let name = named[0].functions[0].function.as_deref().unwrap();
    assert!(name.ends_with("clock_gettime"), "{name}");
}

#[test]
fn what_was_not_given_is_not_known() {
    let asked = Asked::start();
    let unwind = Request::Unwind(9, Registers::default(), vec![0; 64], Chain::default());
    assert_eq!(asked.ask(&unwind, None), Answer::Done);
    assert_eq!(
        asked.ask(&Request::File(1), None),
        Answer::File(Wanted::default())
    );
    assert_eq!(asked.ask(&Request::ForgetFile(1), None), Answer::Done);
}
