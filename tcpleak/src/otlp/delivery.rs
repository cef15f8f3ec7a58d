//! Whether the collector takes what is sent: said when it changes, and not each time.
//!
//! Pure.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::plain::plain;

/// What was said last.
#[derive(Debug, Default)]
pub struct Delivery {
    fails: AtomicBool,
}

impl Delivery {
    /// What is to be said of a request, with the reason when it failed.
    pub fn note(&self, result: Result<(), &str>) -> Option<String> {
        let failed = self.fails.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(reason) if !failed => Some(format!(
                "the collector does not take what is sent, and it is tried again: {}",
                plain(reason)
            )),
            Ok(()) if failed => Some("the collector takes what is sent again".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_once_until_all_is_well() {
        let delivery = Delivery::default();
        assert_eq!(delivery.note(Ok(())), None);
        let said = delivery.note(Err("refused\x1b[2J")).unwrap();
        assert!(said.ends_with("refused\\x1b[2J"), "{said}");
        assert_eq!(delivery.note(Err("status 500")), None);
        assert!(delivery.note(Ok(())).unwrap().ends_with("again"));
        assert_eq!(delivery.note(Ok(())), None);
        assert!(delivery.note(Err("refused")).is_some());
    }
}
