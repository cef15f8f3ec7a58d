//! Whose code a file of JavaScript is.

/// Whether a function of this file is the program's own: it is not built in, not Node's and not of a
/// package that was installed.
pub fn is_own(file: Option<&str>) -> bool {
    let is_foreign = |file: &str| {
        // Node 14 and before name their own files without `node:`, and no file has a name without a slash.
        file.starts_with("node:")
            || file.starts_with("internal/")
            || file.contains("/node_modules/")
    };
    file.is_some_and(|file| !file.is_empty() && !is_foreign(file))
}

/// The path of a file that may be given as an address, as those of modules are.
pub fn plain_path(file: String) -> String {
    match file.strip_prefix("file://") {
        Some(path) if path.starts_with('/') && !path.contains('%') => path.to_owned(),
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_or_installed_is_not_own() {
        for own in [
            "/srv/app/crawler.js",
            "file:///srv/app/crawler.mjs",
            "[eval]",
        ] {
            assert!(is_own(Some(own)), "{own}");
        }
        let installed = "/srv/app/node_modules/axios/lib/axios.js";
        for foreign in [
            "node:net",
            "node:internal/timers",
            "internal/timers.js",
            installed,
            "",
        ] {
            assert!(!is_own(Some(foreign)), "{foreign}");
        }
        assert!(!is_own(None));
    }

    #[test]
    fn a_module_is_shown_by_its_path() {
        assert_eq!(plain_path("file:///srv/a.mjs".into()), "/srv/a.mjs");
        assert_eq!(
            plain_path("file:///srv/a%20b.mjs".into()),
            "file:///srv/a%20b.mjs"
        );
        assert_eq!(plain_path("/srv/a.js".into()), "/srv/a.js");
    }
}
