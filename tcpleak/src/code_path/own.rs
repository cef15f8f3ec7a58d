//! Which frames are the program's own.
//!
//! A code path mostly runs through code that nobody at fault wrote: the C library, the standard
//! library, an async runtime. The frames of the program itself are what a reader looks for. The
//! rules go by where the code lies, where its source lies and what it is called; they are a guess
//! where a program links everything into one file without debug information, and then lean
//! towards "own".

use crate::report::Frame;

/// Directories of libraries that come with the system.
const SYSTEM_LIBRARIES: [&str; 6] = [
    "/lib/",
    "/lib32/",
    "/lib64/",
    "/usr/lib/",
    "/usr/lib32/",
    "/usr/lib64/",
];

/// Parts of the paths of libraries that belong to a language's installation or package manager.
const LANGUAGE_LIBRARIES: [&str; 7] = [
    "/lib-dynload/",
    "/site-packages/",
    "/dist-packages/",
    "/node_modules/",
    "/jvm/",
    "/jdk",
    "/jre/",
];

/// Libraries that are nobody's own wherever they lie (bundled, in a container, in a store).
const RUNTIME_LIBRARIES: [&str; 14] = [
    "ld-linux",
    "ld-musl",
    "libc.",
    "libc-",
    "libpthread",
    "libstdc++",
    "libc++",
    "libgcc_s",
    "libm.",
    "libssl",
    "libcrypto",
    "libjvm",
    "libpython",
    "libuv",
];

/// Executables whose own code is an interpreter, not the program that runs in it.
const INTERPRETERS: [&str; 8] = [
    "python", "pypy", "node", "java", "ruby", "perl", "php", "beam.smp",
];

/// Parts of the paths of source files that were not written for this program.
const FOREIGN_SOURCES: [&str; 14] = [
    "/rustc/",
    "/registry/src/",
    "/.cargo/git/checkouts/",
    "/rust/library/",
    "/library/std/src/",
    "/library/core/src/",
    "/library/alloc/src/",
    "/vendor/",
    "/pkg/mod/",
    "/go/src/runtime/",
    "/go/src/net/",
    "/usr/include/",
    "/csu/",
    "/sysdeps/",
];

/// First parts of the names of functions in standard libraries and common network libraries.
const FOREIGN_PATHS: [&str; 38] = [
    "std",
    "core",
    "alloc",
    "__rustc",
    "tokio",
    "tokio_util",
    "tokio_rustls",
    "mio",
    "hyper",
    "hyper_util",
    "reqwest",
    "h2",
    "h3",
    "quinn",
    "tower",
    "tower_http",
    "axum",
    "tonic",
    "actix_web",
    "futures",
    "futures_util",
    "futures_core",
    "futures_executor",
    "async_std",
    "async_io",
    "smol",
    "socket2",
    "rustix",
    "libc",
    "rustls",
    "native_tls",
    "openssl",
    "ureq",
    "curl",
    "__gnu_cxx",
    "__cxxabiv1",
    "boost",
    "asio",
];

/// Packages of Go's standard library that lie on the way to a socket.
const GO_PACKAGES: [&str; 16] = [
    "runtime", "net", "internal", "syscall", "crypto", "context", "sync", "io", "bufio", "os",
    "time", "reflect", "vendor", "database", "encoding", "testing",
];

/// C functions that start programs and threads, or wrap system calls.
const C_RUNTIME: [&str; 22] = [
    "start_thread",
    "clone",
    "clone3",
    "thread_start",
    "connect",
    "accept",
    "accept4",
    "read",
    "write",
    "readv",
    "writev",
    "recv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "send",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "syscall",
    "socket",
    "close",
];

/// Whether code is the program's own.
///
/// `main` says that `module`, the file that holds the code, is the executable of the process; the
/// other arguments are as in [`crate::report::Frame`].
pub fn is_own(
    function: Option<&str>,
    file: Option<&str>,
    module: Option<&str>,
    main: bool,
) -> bool {
    let Some(module) = module else { return false };
    is_own_module(module, main)
        && !file.is_some_and(is_foreign_source)
        && !function.is_some_and(is_foreign_function)
}

/// Takes back what the rules for single frames cannot know: below Rust's start code lies a `main` that
/// the compiler made.
pub fn disown_start_code(frames: &mut [Frame]) {
    let is = |frame: &Frame, name: &str| frame.function.as_deref() == Some(name);
    let start = frames
        .iter()
        .rposition(|frame| is(frame, "std::rt::lang_start"));
    for frame in frames.iter_mut().skip(start.unwrap_or(usize::MAX)) {
        if is(frame, "main") {
            frame.own = false;
        }
    }
}

/// Whether any code of a file is the program's own, by where the file lies and what it is called.
pub fn is_own_module(module: &str, main: bool) -> bool {
    let name = module.rsplit('/').next().unwrap_or(module);
    let starts = |prefix: &&str| name.starts_with(*prefix);
    if main {
        return !INTERPRETERS.iter().any(starts);
    }
    // Names like `[vdso]` stand for no file.
    module.starts_with('/')
        && !SYSTEM_LIBRARIES
            .iter()
            .any(|directory| module.starts_with(directory))
        && !LANGUAGE_LIBRARIES.iter().any(|part| module.contains(part))
        && !RUNTIME_LIBRARIES.iter().any(starts)
}

fn is_foreign_source(file: &str) -> bool {
    FOREIGN_SOURCES.iter().any(|part| file.contains(part))
        // Go, wherever it is installed.
        || file.contains("/lib/go") && file.contains("/src/")
}

fn is_foreign_function(function: &str) -> bool {
    // Two underscores and `_start` are reserved for the implementation of C.
    if function.starts_with("__") || function == "_start" || C_RUNTIME.contains(&function) {
        return true;
    }
    let path = owner(function);
    if let Some((first, _)) = path.split_once("::") {
        return FOREIGN_PATHS.contains(&first);
    }
    // Go: `net/http.(*Transport).dial`, `runtime.goexit`; the program's packages have a dot in
    // their first part, or are called `main`.
    let first = path.split(['/', '.']).next().unwrap_or(path);
    path.len() > first.len() && GO_PACKAGES.contains(&first)
}

/// Cuts what stands before the path of a Rust function: `<&mut app::Pool as core::Drop>::drop`
/// belongs to `app`.
fn owner(function: &str) -> &str {
    let mut rest = function;
    loop {
        let cut = ["<", "&", "*const ", "*mut ", "mut ", "dyn ", "(", "["]
            .iter()
            .find_map(|prefix| rest.strip_prefix(prefix));
        match cut {
            Some(shorter) => rest = shorter,
            None => return rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "/srv/app/crawler";

    fn in_main(function: &str, file: &str) -> bool {
        let file = Some(file).filter(|file| !file.is_empty());
        is_own(Some(function), file, Some(APP), true)
    }

    #[test]
    fn functions_of_the_executable_are_own() {
        assert!(in_main("main", ""));
        assert!(in_main(
            "crawler::fetch::open",
            "/home/me/crawler/src/fetch.rs"
        ));
        assert!(in_main("fetch_page", "src/fetch.c"));
        assert!(in_main("Pool::take", "pool.cpp"));
        assert!(in_main(
            "<crawler::Fetch as core::future::future::Future>::poll",
            ""
        ));
        assert!(in_main("<&mut crawler::Fetch as std::io::Read>::read", ""));
        assert!(in_main("stdin_reader", ""));
        assert!(in_main("connect_all", ""));
        assert!(
            is_own(None, None, Some(APP), true),
            "a stripped program's code is its own"
        );
    }

    #[test]
    fn go_functions_go_by_their_package() {
        assert!(in_main("main.leak", ""));
        assert!(in_main("main.main.func1", ""));
        assert!(in_main("github.com/acme/crawler/fetch.(*Pool).Get", ""));
        assert!(in_main("network.Dial", ""));
        assert!(!in_main("net/http.(*Transport).dial", ""));
        assert!(!in_main("net.(*sysDialer).dialTCP", ""));
        assert!(!in_main("internal/poll.(*FD).Connect", ""));
        assert!(!in_main("runtime.goexit.abi0", ""));
        assert!(!in_main(
            "gorm.io/gorm.Open",
            "/home/dev/go/pkg/mod/gorm.io/gorm@v1.25.0/gorm.go"
        ));
        assert!(!in_main("sort.Sort", "/usr/local/go/src/runtime/sort.go"));
        assert!(!in_main("sort.Sort", "/usr/lib/go-1.22/src/sort/sort.go"));
    }

    #[test]
    fn standard_and_vendored_code_in_the_executable_is_not_own() {
        assert!(!in_main("std::net::tcp::TcpStream::connect", ""));
        assert!(!in_main(
            "<std::net::tcp::TcpStream as std::io::Read>::read",
            ""
        ));
        assert!(!in_main(
            "<alloc::boxed::Box<dyn core::ops::FnOnce()> as core::ops::FnOnce>::call",
            ""
        ));
        assert!(!in_main("tokio::runtime::task::harness::poll", ""));
        assert!(!in_main("__libc_start_main_impl", "../csu/libc-start.c"));
        assert!(!in_main("_start", ""));
        assert!(!in_main("start_thread", ""));
        assert!(!in_main("connect", ""));
        let registry =
            "/usr/local/cargo/registry/src/mirror-1949cf8c6b5b557f/rare-1.0.0/src/lib.rs";
        assert!(!in_main("rare::open", registry));
        assert!(!in_main(
            "call_once<F>",
            "/rustc/5980761/library/core/src/ops/function.rs"
        ));
        assert!(!in_main(
            "dial",
            "/build/app/vendor/github.com/lib/pq/conn.go"
        ));
    }

    #[test]
    fn system_libraries_are_not_own_and_plugins_are() {
        let library = |module| is_own(Some("work"), None, Some(module), false);
        assert!(!library("/usr/lib/x86_64-linux-gnu/libcurl.so.4.8.0"));
        assert!(!library("/lib64/ld-linux-x86-64.so.2"));
        assert!(!library("/nix/store/abc-glibc-2.39/lib/libc.so.6"));
        assert!(!library("/opt/app/lib/libstdc++.so.6"));
        assert!(!library(
            "/home/me/.pyenv/versions/3.11.7/lib/python3.11/lib-dynload/_ssl.so"
        ));
        assert!(!library("[vdso]"));
        assert!(library("/opt/app/plugins/libfetch.so"));
        assert!(library("/srv/app/libcrawler.so (deleted)"));
        assert!(!is_own(Some("work"), None, None, true), "code in no file");
    }

    #[test]
    fn the_main_that_rust_makes_is_not_own() {
        let frame = |function: &str| Frame {
            function: Some(function.to_owned()),
            own: true,
            ..super::super::unknown_frame(None)
        };
        let mut frames = ["main", "app::main", "std::rt::lang_start", "main"].map(frame);
        disown_start_code(&mut frames);
        assert_eq!(frames.map(|frame| frame.own), [true, true, true, false]);
        let mut frames = ["crawl", "main"].map(frame);
        disown_start_code(&mut frames);
        assert!(frames.iter().all(|frame| frame.own), "a C program's main");
    }

    #[test]
    fn an_interpreter_is_not_the_program_it_runs() {
        let main = |module| is_own(Some("_PyEval_EvalFrameDefault"), None, Some(module), true);
        assert!(!main("/usr/bin/python3.11"));
        assert!(!main("/opt/node-v20/bin/node"));
        assert!(main("/usr/sbin/nginx"));
    }
}
