//! The lines that begin with a point.

use core::fmt;

use super::printer::Mode;

/// What such a line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command<'a> {
    Help,
    Tables(&'a str),
    Schema(&'a str),
    Mode(Mode),
    Headers(bool),
    Backup(&'a str),
    Quit,
}

/// Why it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CommandError<'a> {
    Unknown(&'a str),
    Usage(&'static str),
    Mode(&'a str),
    NotText,
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // In the words of the `sqlite3` shell.
            CommandError::Unknown(name) => write!(
                f,
                "Error: unknown command or invalid arguments:  \"{name}\". Enter \".help\" for help"
            ),
            CommandError::Usage(usage) => write!(f, "Usage: {usage}"),
            CommandError::Mode(name) => {
                write!(f, "Error: mode should be one of:")?;
                for (index, mode) in Mode::ALL.into_iter().enumerate() {
                    write!(f, "{} {}", if index == 0 { "" } else { "," }, mode.name())?;
                }
                write!(f, "; not \"{name}\"")
            }
            CommandError::NotText => f.write_str("Error: the command is not UTF-8"),
        }
    }
}

/// The answer to `.help`.
pub(crate) const HELP: &str = "\
.backup FILE           Write the database into FILE on the disk (a name of 8.3 letters)
.headers on|off        Show or hide the names of columns
.help                  Show this text
.mode MODE             How rows are shown: table, box, column, csv, list
.quit                  Leave; an open transaction is rolled back
.schema ?PATTERN?      Show the CREATE statements that match PATTERN
.tables ?PATTERN?      List the names of tables that match PATTERN
";

/// What matches everything.
const ANY: &str = "%";

/// Reads a line that begins with a point.
///
/// # Errors
/// See [`CommandError`].
pub(crate) fn parse(line: &[u8]) -> Result<Command<'_>, CommandError<'_>> {
    let line = core::str::from_utf8(line).map_err(|_| CommandError::NotText)?;
    let mut words = line.trim().trim_start_matches('.').split_ascii_whitespace();
    let name = words.next().unwrap_or("");
    let argument = words.next().map(unquoted);
    let has_more = words.next().is_some();
    match (name, argument, has_more) {
        ("help", _, _) => Ok(Command::Help),
        ("quit" | "exit", None, false) => Ok(Command::Quit),
        ("tables", _, false) => Ok(Command::Tables(argument.unwrap_or(ANY))),
        ("schema", _, false) => Ok(Command::Schema(argument.unwrap_or(ANY))),
        ("mode", Some(name), false) => {
            let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
            mode.map(Command::Mode).ok_or(CommandError::Mode(name))
        }
        ("headers" | "header", Some("on"), false) => Ok(Command::Headers(true)),
        ("headers" | "header", Some("off"), false) => Ok(Command::Headers(false)),
        ("backup", Some(file), false) => Ok(Command::Backup(file)),
        ("tables", _, _) => Err(CommandError::Usage(".tables ?PATTERN?")),
        ("schema", _, _) => Err(CommandError::Usage(".schema ?PATTERN?")),
        ("mode", _, _) => Err(CommandError::Usage(".mode table|box|column|csv|list")),
        ("headers" | "header", _, _) => Err(CommandError::Usage(".headers on|off")),
        ("backup", _, _) => Err(CommandError::Usage(".backup FILE")),
        _ => Err(CommandError::Unknown(name)),
    }
}

fn unquoted(word: &str) -> &str {
    for quote in ['\'', '"'] {
        if let Some(inner) = word.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_others_refused_by_name() {
        for (line, command) in [
            (".help", Command::Help),
            (".quit", Command::Quit),
            (".tables", Command::Tables("%")),
            (".tables 'a%'", Command::Tables("a%")),
            (".schema t", Command::Schema("t")),
            (".mode csv", Command::Mode(Mode::Csv)),
            (".headers off", Command::Headers(false)),
            (".backup \"A.DB\"", Command::Backup("A.DB")),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
        for (line, error) in [
            (".x y", CommandError::Unknown("x")),
            (".", CommandError::Unknown("")),
            (".mode", CommandError::Usage(".mode table|box|column|csv|list")),
            (".mode html", CommandError::Mode("html")),
            (".headers maybe", CommandError::Usage(".headers on|off")),
            (".backup", CommandError::Usage(".backup FILE")),
            (".tables a b", CommandError::Usage(".tables ?PATTERN?")),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(error), "{line}");
        }
        assert_eq!(parse(b".tables \xff"), Err(CommandError::NotText));
    }
}
