//! One line of an answer to `stats`.

use std::fmt::{Display, Write};

pub(super) fn stat(text: &mut String, name: &str, value: impl Display) {
    // Writing to a String cannot fail.
    let _ = write!(text, "STAT {name} {value}\r\n");
}
