//! Names of functions and files: demangled and bounded, whatever the executable says.

use std::fmt::{self, Write};

use cpp_demangle::DemangleOptions;

use crate::plain::head;

/// Most bytes of a name that are kept.
pub const NAME_BYTES: usize = 1024;
/// Longest symbol that is demangled; a longer one is kept as it is.
const MANGLED_BYTES: usize = 16 * 1024;

/// Turns a symbol into the name that its source has: Rust without hashes, C++ without parameters.
/// A short symbol can stand for gigabytes of text, so the text is cut while it is written.
pub fn demangle(symbol: &str) -> String {
    if symbol.len() > MANGLED_BYTES {
        return clip(symbol);
    }
    let mut name = Bounded(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        // An error means that the room is used up: the name is cut, not wrong.
        let _ = write!(name, "{rust:#}");
    } else if let Ok(cpp) = cpp_demangle::Symbol::new(symbol) {
        let options = DemangleOptions::new().no_params().no_return_type();
        let _ = cpp.structured_demangle(&mut name, &options);
    }
    if name.0.is_empty() {
        clip(symbol)
    } else {
        name.0
    }
}

/// Cuts text to [`NAME_BYTES`].
pub fn clip(text: &str) -> String {
    head(text, NAME_BYTES).to_owned()
}

/// Text that refuses to grow beyond [`NAME_BYTES`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = NAME_BYTES - self.0.len();
        let head = head(text, room);
        self.0.push_str(head);
        if head.len() < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        assert_eq!(demangle("main"), "main");
        assert_eq!(
            demangle("_ZN3std3net3tcp9TcpStream7connect17h0123456789abcdefE"),
            "std::net::tcp::TcpStream::connect"
        );
        assert_eq!(
            demangle("_RNvNtCs1234_7mycrate3foo3bar"),
            "mycrate::foo::bar"
        );
        assert_eq!(demangle("_ZN4Pool4takeEi"), "Pool::take");
        assert_eq!(
            demangle("net/http.(*Transport).dial"),
            "net/http.(*Transport).dial"
        );
        assert_eq!(demangle("_ZN"), "_ZN", "broken names are kept");
        assert_eq!(demangle(""), "");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(clip("short"), "short");
        let long = format!("x{}", "é".repeat(NAME_BYTES));
        assert_eq!(
            clip(&long),
            format!("x{}", "é".repeat((NAME_BYTES - 1) / 2))
        );
        assert_eq!(
            demangle(&"f".repeat(MANGLED_BYTES + 1)),
            "f".repeat(NAME_BYTES)
        );
    }

    #[test]
    fn a_symbol_that_unfolds_without_end_is_cut() {
        // Pair<Pair<...>, Pair<...>>: each level holds the one before it twice.
        let mut symbol = String::from("_Z1fI1a4PairIS0_S0_E");
        for level in "23456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars() {
            symbol.push_str(&format!("S1_IS{level}_S{level}_E"));
        }
        symbol.push_str("Evv");
        let name = demangle(&symbol);
        assert!(
            name.starts_with("f<a, Pair<a, a>, Pair<Pair<a, a>, Pair<a, a> >"),
            "{name}"
        );
        assert_eq!(name.len(), NAME_BYTES);
    }
}
