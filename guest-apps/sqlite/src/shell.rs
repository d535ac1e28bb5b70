//! What one client talks to: the `sqlite3` shell, as far as it makes sense over a network.
//!
//! ```text
//! bytes ─> lines ─> a statement up to its `;`  ─> SQLite, row by row ─> Printer ─> Output
//!                └> a command with a point
//! ```
//! It reads no further while a statement runs, and a statement stops between two rows while the client does not take what was
//! printed. Prompts are the `sqlite3` shell's, one for each line; its words for errors too. An error ends what else the client has
//! sent before the statement's last `;`, as there.
//!
//! All of it lies in a class, so a session goes on at a takeover as its connection does: in its transaction, in the middle of a result.
//! A client that was cut off leaves nothing behind: its transaction is rolled back.

mod backup;
mod command;
mod complete;
mod output;
mod printer;

use core::ffi::CStr;
use core::fmt::Write;
use core::time::Duration;

use allocator_api2::vec::Vec;
use hs_core::class::Class;
use hs_core::platform::{Files, Instant, Machine};

use self::backup::{Backup, BackupError};
use self::command::Command;
use self::complete::Complete;
pub use self::output::Output;
use self::printer::Printer;
pub use self::printer::{Mode, SAMPLE_BYTES, SAMPLE_ROWS};
use crate::engine::{Connection, Engine, EngineError, SqlError, Statement, Step, VALUE_BYTES_MAX};

/// Longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = VALUE_BYTES_MAX;
/// Bytes of a client's that are read ahead.
pub const INPUT_BYTES: usize = 8 << 10;
/// How long a statement may keep SQLite at work.
pub const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

const PROMPT: &str = "sqlite> ";
const PROMPT_MORE: &str = "   ...> ";

const TABLES: &CStr = c"SELECT name FROM (SELECT type, name FROM sqlite_schema UNION ALL SELECT type, name FROM sqlite_temp_schema) \
    WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite^_%' ESCAPE '^' AND name LIKE ?1 ORDER BY name";
const SCHEMA: &CStr = c"SELECT sql FROM (SELECT sql, name, tbl_name FROM sqlite_schema UNION ALL SELECT sql, name, tbl_name FROM sqlite_temp_schema) \
    WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite^_%' ESCAPE '^' AND tbl_name LIKE ?1";

/// What a session does beyond SQLite.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The clock.
    pub machine: &'a dyn Machine,
    /// Where backups go, if there is a disk.
    pub files: Option<&'a dyn Files>,
}

impl core::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// How the rows of what runs are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rows {
    Table,
    Names,
    Schema,
}

#[derive(Debug)]
struct Running {
    statement: Statement,
    rows: Rows,
    used: Duration,
}

/// What a session can do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Wait for the client's next bytes.
    Input,
    /// Wait until the client has taken some of the output.
    Room,
    /// Go on.
    More,
    /// Nothing: the client has said good-bye.
    Leave,
}

/// A client's session.
#[derive(Debug)]
pub struct Session {
    // First what uses the connection.
    running: Option<Running>,
    backup: Option<Backup>,
    connection: Connection,
    /// What has arrived and was not looked at.
    input: Vec<u8, Class>,
    /// The statements so far; while they are executed, with a zero at the end.
    sql: Vec<u8, Class>,
    complete: Complete,
    /// Where in `sql` the next statement to be executed begins, if it is complete.
    next: Option<usize>,
    /// A line that is too long is skipped to its end.
    is_skipping: bool,
    is_leaving: bool,
    printer: Printer,
    output: Output,
}

impl Session {
    /// A session with a connection of its own, in `memory`.
    ///
    /// # Errors
    /// There is no memory for one.
    pub fn new(engine: &Engine, memory: Class) -> Result<Self, EngineError> {
        let connection = engine.connect()?;
        let mut session = Self {
            running: None,
            backup: None,
            connection,
            input: Vec::new_in(memory),
            sql: Vec::new_in(memory),
            complete: Complete::new(),
            next: None,
            is_skipping: false,
            is_leaving: false,
            printer: Printer::new(memory),
            output: Output::new(memory),
        };
        let no_memory = |_| EngineError { code: 7 };
        session.input.try_reserve_exact(INPUT_BYTES).map_err(no_memory)?;
        session.output.put_str(PROMPT);
        Ok(session)
    }

    /// What is to be sent.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How many of the client's bytes it takes now.
    pub fn room(&self) -> usize {
        INPUT_BYTES - self.input.len()
    }

    /// Takes the client's bytes, at most [`room`](Self::room) of them.
    pub fn feed(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room());
        self.input.extend_from_slice(bytes);
    }

    /// Whether a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// The end of a session whose client has gone. After a takeover (`surroundings` is `None`) its files are gone too.
    pub fn end(mut self, engine: &Engine, surroundings: Option<Surroundings<'_>>) {
        let Some(backup) = self.backup.take() else { return };
        match surroundings.and_then(|surroundings| surroundings.files) {
            Some(files) => {
                if let Err(error) = backup.end(engine, files) {
                    log::warn!("a backup that its client has left: {error}");
                }
            }
            None => backup.abandon(engine),
        }
    }

    /// After a takeover, for a client whose connection goes on: nobody knows the file of a backup under way, so that begins again.
    pub fn resume(&mut self, engine: &Engine, surroundings: Surroundings<'_>) {
        let Some(backup) = self.backup.take() else { return };
        match backup.begin_again(engine, surroundings.files) {
            Ok(backup) => self.backup = Some(backup),
            Err(error) => {
                self.refuse_backup(error);
                self.finish();
            }
        }
    }

    /// Works until `until`, or until there is nothing more to do now.
    pub fn work(&mut self, engine: &Engine, surroundings: Surroundings<'_>, until: Instant) -> Next {
        loop {
            if self.is_leaving {
                return Next::Leave;
            }
            if self.output.is_enough() {
                return Next::Room;
            }
            let now = surroundings.machine.now();
            if now >= until {
                return Next::More;
            }
            if self.backup.is_some() {
                self.go_on_with_backup(engine, surroundings);
            } else if self.running.is_some() {
                self.step(now, surroundings.machine);
            } else if let Some(at) = self.next {
                self.prepare(at);
            } else if !self.take_line(engine, surroundings) {
                return Next::Input;
            }
        }
    }

    /// Takes a line, if there is a whole one.
    fn take_line(&mut self, engine: &Engine, surroundings: Surroundings<'_>) -> bool {
        let end = self.input.iter().position(|byte| *byte == b'\n');
        let Some(end) = end else {
            // A line may be longer than what is read ahead.
            if self.input.len() == INPUT_BYTES {
                let len = self.input.len();
                self.take_piece(len);
                self.input.clear();
                return true;
            }
            return false;
        };
        let is_command = self.sql.is_empty() && !self.is_skipping && self.input.first() == Some(&b'.');
        if is_command {
            let mut line = [0; INPUT_BYTES];
            line[..end].copy_from_slice(&self.input[..end]);
            self.input.drain(..=end);
            self.command(&line[..end], engine, surroundings);
            return true;
        }
        self.take_piece(end + 1);
        self.input.drain(..=end);
        if core::mem::take(&mut self.is_skipping) {
            let _ = writeln!(
                self.output,
                "Error: a statement has at most {STATEMENT_BYTES_MAX} bytes; this one was dropped"
            );
            self.finish();
        } else if self.complete.is_blank() {
            self.finish();
        } else if self.complete.is_complete() {
            self.execute();
        } else {
            self.output.put_str(PROMPT_MORE);
        }
        true
    }

    /// Appends the first bytes of the input to the statement.
    fn take_piece(&mut self, len: usize) {
        if self.is_skipping {
            return;
        }
        // One more for the zero at the end.
        let fits = self.sql.len() + len < STATEMENT_BYTES_MAX && self.sql.try_reserve(len + 1).is_ok();
        if !fits {
            self.is_skipping = true;
            return;
        }
        let start = self.sql.len();
        // A zero would end the statement for SQLite.
        self.sql
            .extend(self.input[..len].iter().copied().filter(|byte| *byte != 0));
        self.complete.feed(&self.sql[start..]);
        // Telnet's line ends.
        if self.sql.ends_with(b"\r\n") {
            self.sql.truncate(self.sql.len() - 2);
            self.sql.push(b'\n');
        }
    }

    fn execute(&mut self) {
        self.sql.push(0);
        self.next = Some(0);
    }

    /// Ready for the next statement.
    fn finish(&mut self) {
        self.next = None;
        self.sql.clear();
        self.sql.shrink_to(INPUT_BYTES);
        self.complete = Complete::new();
        self.output.put_str(PROMPT);
    }

    fn prepare(&mut self, at: usize) {
        let Ok(sql) = CStr::from_bytes_with_nul(&self.sql[at..]) else {
            return self.finish();
        };
        match self.connection.prepare(sql) {
            Ok((Some(statement), used)) => {
                self.next = Some(at + used);
                self.run(statement, Rows::Table);
            }
            Ok((None, _)) => self.finish(),
            Err(error) => {
                report(&mut self.output, "Parse error", &error, sql.to_bytes());
                self.finish();
            }
        }
    }

    fn run(&mut self, statement: Statement, rows: Rows) {
        self.printer.begin(statement.columns());
        self.running = Some(Running {
            statement,
            rows,
            used: Duration::ZERO,
        });
    }

    fn step(&mut self, now: Instant, machine: &dyn Machine) {
        let Some(running) = &mut self.running else { return };
        let ends = now + STATEMENT_LIMIT.saturating_sub(running.used);
        let stepped = running.statement.step(ends);
        running.used += machine.now().since(now);
        let shown = match stepped {
            Ok(Step::Row) => match running.rows {
                Rows::Table => self.printer.row(&mut running.statement, &mut self.output),
                Rows::Names => self.printer.name(&mut running.statement, &mut self.output),
                Rows::Schema => {
                    self.output.put(running.statement.text(0).unwrap_or(&[]));
                    self.output.put_str(";\n");
                    Ok(())
                }
            },
            Ok(Step::Done) => {
                match running.rows {
                    Rows::Table => self.printer.end(&mut self.output),
                    Rows::Names => self.printer.names(&mut self.output),
                    Rows::Schema => {}
                }
                self.running = None;
                if self.next.is_none() {
                    self.finish();
                }
                return;
            }
            Err(error) => {
                // What was printed before it stays.
                if running.rows == Rows::Table {
                    self.printer.end(&mut self.output);
                }
                self.running = None;
                report(&mut self.output, "Runtime error", &error, &[]);
                return self.finish();
            }
        };
        if shown.is_err() {
            self.running = None;
            self.output.put_str("Error: out of memory\n");
            self.finish();
        }
    }

    fn command(&mut self, line: &[u8], engine: &Engine, surroundings: Surroundings<'_>) {
        match command::parse(line) {
            Ok(Command::Help) => self.output.put_str(command::HELP),
            Ok(Command::Mode(mode)) => self.printer.mode = mode,
            Ok(Command::Headers(headers)) => self.printer.headers = headers,
            Ok(Command::Tables(pattern)) => return self.list(TABLES, pattern, Rows::Names),
            Ok(Command::Schema(pattern)) => return self.list(SCHEMA, pattern, Rows::Schema),
            Ok(Command::Quit) => {
                self.is_leaving = true;
                return;
            }
            Ok(Command::Backup(file)) => match Backup::begin(engine, surroundings.files, file) {
                Ok(backup) => {
                    self.backup = Some(backup);
                    return;
                }
                Err(error) => self.refuse_backup(error),
            },
            Err(error) => {
                let _ = writeln!(self.output, "{error}");
            }
        }
        self.finish();
    }

    fn list(&mut self, sql: &CStr, pattern: &str, rows: Rows) {
        let prepared = self.connection.prepare(sql);
        match prepared {
            Ok((Some(statement), _)) if statement.bind(1, pattern).is_ok() => self.run(statement, rows),
            Ok(_) => {
                self.output.put_str("Error: out of memory\n");
                self.finish();
            }
            Err(error) => {
                report(&mut self.output, "Error", &error, &[]);
                self.finish();
            }
        }
    }

    fn go_on_with_backup(&mut self, engine: &Engine, surroundings: Surroundings<'_>) {
        let (Some(mut backup), Some(files)) = (self.backup.take(), surroundings.files) else {
            return;
        };
        let ended = match backup.go_on(engine, files) {
            Ok(false) => {
                self.backup = Some(backup);
                return;
            }
            Ok(true) => backup.end(engine, files),
            Err(error) => {
                // The first error is the one to tell of.
                let _ = backup.end(engine, files);
                Err(error)
            }
        };
        if let Err(error) = ended {
            self.refuse_backup(error);
        }
        self.finish();
    }

    fn refuse_backup(&mut self, error: BackupError) {
        let _ = writeln!(self.output, "Error: cannot write the backup: {error}");
    }
}

/// An error in the `sqlite3` shell's words, with the place in `sql` if it is known.
fn report(output: &mut Output, kind: &str, error: &SqlError, sql: &[u8]) {
    let _ = write!(output, "{kind}: {}", error.message);
    if error.code > 1 {
        let _ = write!(output, " ({})", error.code);
    }
    output.put(b"\n");
    let sql = sql.trim_ascii_end();
    let Some(at) = error.at.filter(|at| *at < sql.len()) else {
        return;
    };
    // As much of the statement as fits on a line, the place in it.
    const BEFORE: usize = 50;
    const LINE: usize = 78;
    let mut start = at.saturating_sub(BEFORE);
    while start > 0 && is_inside_character(sql, start) {
        start += 1;
    }
    let mut end = sql.len().min(start + LINE);
    while is_inside_character(sql, end) {
        end -= 1;
    }
    output.put(b"  ");
    for byte in &sql[start..end] {
        output.put(&[if byte.is_ascii_control() { b' ' } else { *byte }]);
    }
    output.put(b"\n  ");
    let column = at - start;
    if column < 25 {
        output.repeat(" ", column);
        output.put_str("^--- error here\n");
    } else {
        output.repeat(" ", column - "error here ---".len());
        output.put_str("error here ---^\n");
    }
}

fn is_inside_character(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80)
}

#[cfg(test)]
mod tests;
