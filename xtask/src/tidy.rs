//! Style rules that no other tool checks, over all committed files.
//!
//! A file is one idea and fits in a head; `unsafe` stays in its rooms and says why; each file says what it
//! is for; and nothing tells of the machine on which it was written.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command::{command, read, root};

/// Longest source file.
const LINES_MAX: usize = 600;
/// Longest file of nothing but tests.
const TEST_LINES_MAX: usize = 900;
/// Where `unsafe` may stand: a directory (with its slash) or a file. The kernel's tests count as kernel.
const UNSAFE_ROOMS: [&str; 11] = [
    "kernel/",
    "guest-apps/ktest/",
    "guest-apps/sqlite/src/engine.rs",
    "guest-apps/sqlite/src/engine/",
    "hs-core/src/raw.rs",
    "hs-core/src/raw/",
    "hs-net/src/raw.rs",
    "hs-net/src/raw/",
    "benches/host/src/pool.rs",
    "benches/peers/src/sys.rs",
    "benches/peers/src/sys/",
];
/// What would tell of a machine or of its registry. In two parts each: this file is checked too.
const MACHINE_MARKS: [(&str, &str); 5] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("artif", "actory"),
    (".cargo/reg", "istry"),
];

/// Checks all committed files.
///
/// # Errors
/// A rule is broken; the message lists every place.
pub(crate) fn check() -> Result<()> {
    let listed = read(command("git").current_dir(root()).args(["ls-files", "-z"]))?;
    let mut faults = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        // Deleted but not committed yet, or not text.
        let Ok(text) = std::fs::read_to_string(root().join(name)) else {
            continue;
        };
        faults.extend(faults_of(name, &text));
    }
    if !faults.is_empty() {
        bail!(
            "{} breaches of the style rules:\n{}",
            faults.len(),
            faults.join("\n")
        );
    }
    Ok(())
}

/// Every breach in the file `name`, a line each.
fn faults_of(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (front, back) in MACHINE_MARKS {
            if line.contains(&format!("{front}{back}")) {
                faults.push(format!(
                    "{name}:{}: speaks of a machine: {front}{back}",
                    number + 1
                ));
            }
        }
    }
    if Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "rs")
    {
        faults.extend(rust_faults(name, text));
    }
    faults
}

fn rust_faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // A sibling file of tests is for what its module is for, and is read test by test.
    let is_sibling = name.ends_with("/tests.rs") || name.ends_with("_tests.rs");
    let lines_max = if is_sibling || name.contains("/tests/") {
        TEST_LINES_MAX
    } else {
        LINES_MAX
    };
    let count = text.lines().count();
    if count > lines_max {
        faults.push(format!(
            "{name}: {count} lines; a file is one idea, in at most {lines_max}"
        ));
    }
    if !is_sibling && !text.starts_with("//!") {
        faults.push(format!("{name}:1: begins without words on what it is for (//!)"));
    }
    let lines = split(text);
    let has_room = UNSAFE_ROOMS
        .iter()
        .any(|room| name == *room || (room.ends_with('/') && name.starts_with(room)));
    for (number, line) in lines.iter().enumerate() {
        let Some(after) = after_unsafe(&line.code) else {
            continue;
        };
        if !has_room {
            faults.push(format!(
                "{name}:{}: unsafe outside of its rooms ({})",
                number + 1,
                UNSAFE_ROOMS.join(", ")
            ));
        } else if asks_for_reason(after, lines.get(number + 1)) && !has_reason(&lines, number) {
            faults.push(format!("{name}:{}: unsafe without a SAFETY comment", number + 1));
        }
    }
    faults
}

/// A line of source, taken apart. What stands in strings is in neither part.
#[derive(Default)]
struct SourceLine {
    code: String,
    comment: String,
}

/// What follows the keyword `unsafe` in `code`, if it is there.
fn after_unsafe(code: &str) -> Option<&str> {
    const WORD: &str = "unsafe";
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(WORD).find_map(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + WORD.len()..]);
        (!before.ends_with(is_part) && !after.starts_with(is_part)).then_some(after.trim_start())
    })
}

/// Whether this use is a block or an implementation. (A function's duty is to document, attributes name no act.)
fn asks_for_reason(after: &str, next: Option<&SourceLine>) -> bool {
    let after = if after.is_empty() {
        next.map_or("", |line| line.code.trim_start())
    } else {
        after
    };
    after.starts_with('{') || after.starts_with("impl")
}

/// Whether a SAFETY comment stands on line `number` or belongs to the statement that it is part of.
fn has_reason(lines: &[SourceLine], number: usize) -> bool {
    if lines[number].comment.contains("SAFETY:") {
        return true;
    }
    for line in lines[..number].iter().rev() {
        if line.comment.contains("SAFETY:") {
            return true;
        }
        let code = line.code.trim();
        let blank = code.is_empty() && line.comment.is_empty();
        // The statement before this one.
        if blank || code.ends_with(';') || code.ends_with('}') {
            return false;
        }
    }
    false
}

/// Takes Rust source apart into code and comments, line by line.
fn split(text: &str) -> Vec<SourceLine> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Code,
        LineComment,
        BlockComment(usize),
        /// A string that ends at a quote, unless escaped.
        Text,
        /// A raw string that ends at a quote and so many hashes.
        Raw(usize),
    }
    let letters: Vec<char> = text.chars().collect();
    let mut lines = vec![SourceLine::default()];
    let (mut state, mut at) = (State::Code, 0);
    while at < letters.len() {
        let letter = letters[at];
        let next = letters.get(at + 1).copied();
        if letter == '\n' {
            lines.push(SourceLine::default());
            if state == State::LineComment {
                state = State::Code;
            }
            at += 1;
            continue;
        }
        let line = lines.last_mut().expect("there is always one");
        match state {
            State::LineComment => line.comment.push(letter),
            State::BlockComment(depth) => {
                line.comment.push(letter);
                match (letter, next) {
                    ('*', Some('/')) => {
                        at += 1;
                        state = if depth == 1 {
                            State::Code
                        } else {
                            State::BlockComment(depth - 1)
                        };
                    }
                    ('/', Some('*')) => {
                        at += 1;
                        state = State::BlockComment(depth + 1);
                    }
                    _ => {}
                }
            }
            State::Text => match letter {
                // What is escaped ends nothing; an escaped line end is still one.
                '\\' if next != Some('\n') => at += 1,
                '"' => state = State::Code,
                _ => {}
            },
            State::Raw(hashes) => {
                if letter == '"'
                    && letters[at + 1..]
                        .iter()
                        .take(hashes)
                        .filter(|c| **c == '#')
                        .count()
                        == hashes
                {
                    at += hashes;
                    state = State::Code;
                }
            }
            State::Code => match (letter, next) {
                ('/', Some('/')) => state = State::LineComment,
                ('/', Some('*')) => {
                    at += 1;
                    state = State::BlockComment(1);
                }
                ('"', _) => state = State::Text,
                ('r', Some('"' | '#'))
                    if !line
                        .code
                        .ends_with(|c: char| c.is_alphanumeric() && c != 'b' && c != 'c') =>
                {
                    let hashes = letters[at + 1..].iter().take_while(|c| **c == '#').count();
                    if letters.get(at + 1 + hashes) == Some(&'"') {
                        at += 1 + hashes;
                        state = State::Raw(hashes);
                    } else {
                        line.code.push(letter);
                    }
                }
                // A character, not a lifetime.
                ('\'', Some('\\')) => {
                    at += letters[at + 3..]
                        .iter()
                        .take(8)
                        .position(|c| *c == '\'')
                        .map_or(0, |end| end + 3)
                }
                ('\'', Some(_)) if letters.get(at + 2) == Some(&'\'') => at += 2,
                _ => line.code.push(letter),
            },
        }
        at += 1;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, text: &str) -> String {
        faults_of(name, text).join("\n")
    }

    #[test]
    fn sound_files_pass() {
        let text = "//! Words.\n\nfn f() {\n    // SAFETY: because.\n    unsafe { g() }\n}\n";
        assert_eq!(faults("kernel/src/x.rs", text), "");
        assert_eq!(
            faults(
                "xtask/src/x.rs",
                "//! Of unsafe.\n#![forbid(unsafe_code)]\nconst S: &str = \"unsafe {\";\n"
            ),
            ""
        );
        assert_eq!(faults("README.md", "cargo xtask test\n"), "");
    }

    #[test]
    fn planted_breaches_are_found() {
        let bare = "//! Words.\nfn f() {\n    let a = 1;\n    unsafe { g() }\n}\n";
        assert!(faults("kernel/src/x.rs", bare).contains("kernel/src/x.rs:4: unsafe without"));
        assert!(faults("hs-net/src/x.rs", bare).contains("hs-net/src/x.rs:4: unsafe outside"));
        let of_another = "//! Words.\n// SAFETY: of f.\nunsafe impl A for B {}\n\nunsafe impl A for C {}\n";
        assert!(faults("kernel/src/x.rs", of_another).contains(":5: unsafe without"));
        assert!(faults("kernel/src/x.rs", "fn f() {}\n").contains(":1: begins without"));
        assert_eq!(faults("kernel/src/x_tests.rs", "fn f() {}\n"), "");
        let long = format!("//! Words.\n{}", "\n".repeat(LINES_MAX));
        assert!(faults("kernel/src/x.rs", &long).contains("601 lines"));
        assert_eq!(faults("kernel/src/x_tests.rs", &long), "");
        assert!(faults("kernel/src/x_tests.rs", &"\n".repeat(TEST_LINES_MAX + 1)).contains("901 lines"));
        for (front, back) in MACHINE_MARKS {
            assert!(
                faults("any/file", &format!("see {front}{back}x\n"))
                    .contains("any/file:1: speaks of a machine")
            );
        }
    }

    #[test]
    fn strings_characters_and_comments_are_no_code() {
        let code = |text: &str| {
            split(text)
                .iter()
                .map(|line| line.code.clone())
                .collect::<Vec<_>>()
                .join("|")
        };
        assert_eq!(
            code("a(\"unsafe \\\" {\") /* unsafe /* { */ x */ b // unsafe\nc"),
            "a()  b |c"
        );
        assert_eq!(
            code("r#\"unsafe \" {\"# d '\"' e '\\'' f &'a g"),
            " d  e  f &'a g"
        );
        assert_eq!(code("'\\u{1F600}' h \"two\nlines\" i"), " h | i");
    }
}
