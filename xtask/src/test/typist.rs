//! Who sits at the console of a test: does what the lines that are shown ask for.

use anyhow::{Result, bail};

/// What a line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// To type this.
    Type(Vec<u8>),
    /// To press the power button.
    PressPower,
}

/// Reads what is shown, in pieces of any length.
#[derive(Default)]
pub(super) struct Typist {
    line: Vec<u8>,
}

impl Typist {
    /// Reads on, and returns what is asked for.
    ///
    /// # Errors
    /// A line asks for nothing that is known.
    pub(super) fn read(&mut self, shown: &[u8]) -> Result<Vec<Deed>> {
        let mut deeds = Vec::new();
        for byte in shown {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                deeds.push(deed(&String::from_utf8_lossy(&line))?);
            } else {
                self.line.push(*byte);
            }
        }
        Ok(deeds)
    }
}

fn deed(line: &str) -> Result<Deed> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let typed = match word {
        "echo" => format!("{rest}\n"),
        "length" => {
            let (expected, text) = rest.split_once(' ').unwrap_or((rest, ""));
            if expected == text.len().to_string() {
                "ok\n".into()
            } else {
                format!("{}\n", text.len())
            }
        }
        "interrupt" => "\x03".into(),
        "power" => return Ok(Deed::PressPower),
        _ => bail!("the console shows {line:?}, which asks for nothing that is known"),
    };
    Ok(Deed::Type(typed.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_pieces_of_any_length() {
        let shown = b"echo ab c\nlength 3 abc\nlength 3 ab\ninterrupt\npower\n";
        let typed = |text: &str| Deed::Type(text.into());
        let expected = [
            typed("ab c\n"),
            typed("ok\n"),
            typed("2\n"),
            typed("\x03"),
            Deed::PressPower,
        ];
        for len in 1..shown.len() {
            let mut typist = Typist::default();
            let deeds: Vec<Deed> = shown
                .chunks(len)
                .flat_map(|piece| typist.read(piece).unwrap())
                .collect();
            assert_eq!(deeds, expected, "in pieces of {len}");
        }
        assert!(Typist::default().read(b"dance\n").is_err());
    }
}
