//! The rows of one metric, bounded.

use std::collections::BTreeMap;

use super::{Labels, OTHER, ROWS, Row};
use crate::plain::plain_within;

/// Most bytes of the value of a label.
const LABEL_BYTES: usize = 200;

/// How rows with the same labels, and those that are left out, become one.
#[derive(Clone, Copy)]
enum Joined {
    Sum,
    Most,
    Least,
}

/// The rows of one metric: those that come first, and one for all others.
pub(super) struct Rows {
    joined: Joined,
    rows: Vec<Row>,
    places: BTreeMap<Labels, usize>,
    other: Option<Row>,
}

impl Rows {
    /// No row yet. Those with the same labels are added up.
    pub fn new() -> Self {
        Self::joined(Joined::Sum)
    }

    /// Of rows with the same labels the greatest number counts.
    pub fn most() -> Self {
        Self::joined(Joined::Most)
    }

    /// Of rows with the same labels the smallest number counts.
    pub fn least() -> Self {
        Self::joined(Joined::Least)
    }

    /// One row without labels.
    pub fn one(value: f64) -> Self {
        Self::of(Some(value))
    }

    /// One row without labels, or none.
    pub fn of(value: Option<f64>) -> Self {
        let mut rows = Self::new();
        if let Some(value) = value {
            rows.add(Labels::new(), value);
        }
        rows
    }

    fn joined(joined: Joined) -> Self {
        Self {
            joined,
            rows: Vec::new(),
            places: BTreeMap::new(),
            other: None,
        }
    }

    /// Adds a row. The first ones keep their labels.
    pub fn add(&mut self, labels: Labels, value: f64) {
        let labels: Labels = labels
            .into_iter()
            .map(|(name, value)| (name, plain_within(&value, LABEL_BYTES).into_owned()))
            .collect();
        if let Some(place) = self.places.get(&labels) {
            self.joined.join(&mut self.rows[*place].value, value);
        } else if self.rows.len() < ROWS {
            self.places.insert(labels.clone(), self.rows.len());
            self.rows.push(Row { labels, value });
        } else {
            match &mut self.other {
                Some(other) => self.joined.join(&mut other.value, value),
                None => {
                    let names = labels.into_keys();
                    let labels = names.map(|name| (name, OTHER.to_owned())).collect();
                    self.other = Some(Row { labels, value });
                }
            }
        }
    }

    pub fn finish(self) -> Vec<Row> {
        self.rows.into_iter().chain(self.other).collect()
    }
}

impl Joined {
    fn join(self, known: &mut f64, value: f64) {
        *known = match self {
            Self::Sum => *known + value,
            Self::Most => known.max(value),
            Self::Least => known.min(value),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: impl ToString) -> Labels {
        [("process", value.to_string())].into()
    }

    #[test]
    fn rows_beyond_the_bound_become_one() {
        let mut rows = Rows::new();
        for number in 0..ROWS + 10 {
            rows.add(label(number), 2.0);
        }
        let rows = rows.finish();
        assert_eq!(rows.len(), ROWS + 1);
        assert_eq!(rows[ROWS].labels, label(OTHER));
        assert_eq!(rows[ROWS].value, 20.0);
    }

    #[test]
    fn rows_with_the_same_labels_are_one() {
        for (mut rows, expected) in [
            (Rows::new(), 7.0),
            (Rows::most(), 4.0),
            (Rows::least(), 3.0),
        ] {
            rows.add(label("a"), 3.0);
            rows.add(label("a"), 4.0);
            let rows = rows.finish();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].value, expected);
        }
    }

    #[test]
    fn a_name_that_is_hostile_or_endless_is_neither_afterwards() {
        let mut rows = Rows::new();
        rows.add(label("a\nb\u{202e}"), 1.0);
        rows.add(label("ü".repeat(10_000)), 1.0);
        let rows = rows.finish();
        assert_eq!(rows[0].labels["process"], "a\\x0ab\\u{202e}");
        let long = &rows[1].labels["process"];
        assert!(long.len() <= LABEL_BYTES && long.ends_with("ü…"), "{long}");
    }
}
