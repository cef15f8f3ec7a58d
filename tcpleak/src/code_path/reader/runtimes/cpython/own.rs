//! Which Python code is the program's own.

/// Directories of installed packages.
const PACKAGES: [&str; 2] = ["/site-packages/", "/dist-packages/"];

/// Whether a function is the program's own, by the path of its source: not of an installed package, not
/// of the standard library, and not of what is built into the interpreter.
pub fn is_own(file: &str) -> bool {
    !file.starts_with("<frozen ")
        && !PACKAGES.iter().any(|part| file.contains(part))
        && !is_standard(file)
}

/// `…/lib/python3.N/…`, also in an archive.
fn is_standard(file: &str) -> bool {
    ["/lib/python3", "/lib64/python3", "/lib/pypy3"]
        .iter()
        .any(|part| {
            let Some((_, rest)) = file.split_once(part) else {
                return false;
            };
            // The version, then a file of the library.
            let version = rest.find(['/', '.', 'z']).unwrap_or(rest.len());
            rest[version..].contains('/') || rest.contains(".zip")
        })
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn what_the_program_brings_is_its_own() {
        for own in [
            "/srv/app/crawl.py",
            "crawl.py",
            "<string>",
            "<stdin>",
            "/home/me/python3/pool.py",
        ] {
            assert!(is_own(own), "{own}");
        }
    }

    #[test]
    fn libraries_are_not_its_own() {
        for library in [
            "/usr/lib/python3.11/http/client.py",
            "/usr/lib/python3/dist-packages/requests/sessions.py",
            "/opt/python/3.12/lib/python3.12/socket.py",
            "/srv/app/.venv/lib/python3.13/site-packages/httpx/_client.py",
            "/usr/lib64/python3.9/socket.py",
            "<frozen importlib._bootstrap>",
        ] {
            assert!(!is_own(library), "{library}");
        }
    }
}
