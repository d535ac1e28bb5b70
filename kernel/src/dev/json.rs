//! JSON without the heap, for the last event of a guest that has panicked: `serde_json` writes all others.

use core::fmt::{self, Write};

/// Writes [`Event::Exit`](hs_core::event::Event::Exit) as a line without its newline.
///
/// # Errors
/// Those of `out`.
pub fn write_exit(out: &mut dyn Write, why: &dyn fmt::Display) -> fmt::Result {
    out.write_str(r#"{"event":"exit","why":""#)?;
    write!(Escaped(out), "{why}")?;
    out.write_str(r#""}"#)
}

/// Writes text as the inside of a JSON string.
struct Escaped<'a>(&'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| match char {
            '"' => self.0.write_str("\\\""),
            '\\' => self.0.write_str("\\\\"),
            '\n' => self.0.write_str("\\n"),
            '\0'..='\u{1f}' => write!(self.0, "\\u{:04x}", u32::from(char)),
            _ => self.0.write_char(char),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use hs_core::event::Event;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn serde_json_reads_it_back(why in any::<String>()) {
            let mut line = String::new();
            write_exit(&mut line, &why).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), Event::Exit { why });
        }
    }
}
