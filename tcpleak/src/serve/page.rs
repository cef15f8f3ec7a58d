//! The page.

/// The page and its policy.
pub struct Page {
    /// Document.
    pub html: String,
    /// Policy.
    pub content_security_policy: String,
}

/// The page.
pub fn page() -> &'static Page {
    static PAGE: std::sync::LazyLock<Page> = std::sync::LazyLock::new(|| Page {
        html: "<!doctype html>".into(),
        content_security_policy: "default-src 'none'".into(),
    });
    &PAGE
}
