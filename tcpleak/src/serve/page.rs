//! The live page: one document with everything in it, and the policy under which a browser shows it.
//!
//! Pure. The page itself is in `page/`: a style sheet and scripts that share one scope, without a framework and
//! without anything from elsewhere. It asks for `report.json` and `history.json` beside it.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");

/// What is said of a group: words without a document.
const WORDS: [&str; 3] = [
    include_str!("page/words.js"),
    include_str!("page/verdicts.js"),
    include_str!("page/sentences.js"),
];

/// What is shown.
const VIEWS: [&str; 7] = [
    include_str!("page/elements.js"),
    include_str!("page/code_paths.js"),
    include_str!("page/plot.js"),
    include_str!("page/group.js"),
    include_str!("page/flame.js"),
    include_str!("page/host.js"),
    include_str!("page/main.js"),
];

/// The page.
pub struct Page {
    /// The document.
    pub html: String,
    /// The header `Content-Security-Policy`: this style and this script, data from here, and nothing else. Text that a
    /// program under observation chose can be no script, whatever it holds.
    pub content_security_policy: String,
}

/// The page.
pub fn page() -> &'static Page {
    static PAGE: LazyLock<Page> = LazyLock::new(|| assemble(STYLE, &script()));
    &PAGE
}

fn script() -> String {
    [&WORDS[..], &VIEWS].concat().join("\n")
}

fn assemble(style: &str, script: &str) -> Page {
    let policy = [
        "default-src 'none'".to_owned(),
        format!("script-src '{}'", hash(script)),
        format!("style-src '{}'", hash(style)),
        "connect-src 'self'".to_owned(),
        // The icon.
        "img-src data:".to_owned(),
        "base-uri 'none'".to_owned(),
        "form-action 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
        // Nothing makes elements of text, not even by mistake.
        "require-trusted-types-for 'script'".to_owned(),
        "trusted-types 'none'".to_owned(),
    ];
    let html = HTML
        .replace("{{style}}", style)
        .replace("{{script}}", script);
    Page {
        html,
        content_security_policy: policy.join("; "),
    }
}

/// The hash of an inline script or style, as a policy names it.
fn hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source)))
}

#[cfg(test)]
#[path = "page/tests.rs"]
mod tests;
