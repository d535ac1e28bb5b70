//! Sessions against expected words; the long script, whose output the guest's must equal.

use std::fs;
use std::path::PathBuf;
use std::string::String;
use std::sync::atomic::Ordering;
use std::vec::Vec as StdVec;

use hs_core::class::ClassId;
use hs_core::host;
use hs_core::platform::{FileError, FileHandle};
use hs_core::registry::descriptor::{FileMode, FilePath};
use hs_core::sync::machine;

use super::*;

const FOREVER: Instant = Instant::from_micros(u64::MAX);

fn with_engine(test: impl FnOnce(&Engine, Class)) {
    let _session = host::Session::start(60_000);
    let heap = Class::create(ClassId(1), 1 << 20).unwrap();
    let data = Class::create(ClassId(2), 1 << 20).unwrap();
    let engine = Engine::start(heap, 64 << 20, data, 32 << 20).unwrap();
    test(&engine, heap);
}

fn surroundings() -> Surroundings<'static> {
    Surroundings {
        machine: machine(),
        files: None,
    }
}

/// Has the session take `text` in pieces of `piece_len`, and the client everything it says at once.
fn say_in_pieces(engine: &Engine, session: &mut Session, text: &str, piece_len: usize) -> String {
    let mut said = StdVec::new();
    let mut rest = text.as_bytes();
    loop {
        let next = session.work(engine, surroundings(), FOREVER);
        said.extend_from_slice(session.output().pending());
        let len = session.output().pending().len();
        session.output().advance(len);
        match next {
            Next::Leave => break,
            Next::Input if rest.is_empty() => break,
            Next::Input => {
                let count = piece_len.min(session.room()).min(rest.len());
                session.feed(&rest[..count]);
                rest = &rest[count..];
            }
            Next::Room | Next::More => {}
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn say(engine: &Engine, session: &mut Session, text: &str) -> String {
    say_in_pieces(engine, session, text, usize::MAX)
}

fn dialogue(text: &str) -> String {
    let mut said = String::new();
    with_engine(|engine, heap| {
        let mut session = Session::new(engine, heap).unwrap();
        said = say(engine, &mut session, text);
    });
    said
}

#[test]
fn a_statement_goes_up_to_its_semicolon_over_lines() {
    assert_eq!(
        dialogue("SELECT 1 AS one,\r\n 'a;b' AS two\n;\n"),
        "sqlite>    ...>    ...> \
         +-----+-----+\n| one | two |\n+-----+-----+\n|   1 | a;b |\n+-----+-----+\nsqlite> "
    );
    assert_eq!(dialogue("\n-- nothing\n  \n"), "sqlite> sqlite> sqlite> sqlite> ");
    assert_eq!(
        dialogue(".mode list\n.headers off\nSELECT 1; SELECT 2;\n.quit\nSELECT 3;\n"),
        "sqlite> sqlite> sqlite> 1\n2\nsqlite> "
    );
}

#[test]
fn rows_are_shown_in_every_mode() {
    let rows = "SELECT 1 AS n, 'two words' AS t, NULL AS z UNION ALL SELECT 22.5, 'é' || char(10) || 'x' || char(27), '\"q\",';\n";
    let shown = |mode: &str| {
        let said = dialogue(&std::format!(".mode {mode}\n{rows}"));
        said.replace("sqlite> ", "")
    };
    assert_eq!(
        shown("table"),
        "+------+-----------+------+\n|  n   |     t     |  z   |\n+------+-----------+------+\n\
         |    1 | two words |      |\n| 22.5 | é         | \"q\", |\n|      | x^[       |      |\n\
         +------+-----------+------+\n"
    );
    assert_eq!(
        shown("box"),
        "┌──────┬───────────┬──────┐\n│  n   │     t     │  z   │\n├──────┼───────────┼──────┤\n\
         │    1 │ two words │      │\n│ 22.5 │ é         │ \"q\", │\n│      │ x^[       │      │\n\
         └──────┴───────────┴──────┘\n"
    );
    assert_eq!(
        shown("column"),
        "n     t          z\n----  ---------  ----\n   1  two words  \n22.5  é          \"q\",\n      x^[        \n"
    );
    assert_eq!(
        shown("csv"),
        "n,t,z\r\n1,\"two words\",\r\n22.5,\"é\nx\u{1b}\",\"\"\"q\"\",\"\r\n"
    );
    assert_eq!(shown("list"), "n|t|z\n1|two words|\n22.5|é\nx\u{1b}|\"q\",\n");
}

#[test]
fn errors_are_worded_as_the_shell_of_sqlite_does() {
    assert_eq!(
        dialogue("SELECT 1 FRM t;\n"),
        "sqlite> Parse error: near \"t\": syntax error\n  SELECT 1 FRM t;\n               ^--- error here\nsqlite> "
    );
    assert_eq!(
        dialogue("SELECT * FROM nowhere; SELECT 1;\n"),
        "sqlite> Parse error: no such table: nowhere\nsqlite> "
    );
    assert_eq!(
        dialogue("CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), (1);\n"),
        "sqlite> Runtime error: UNIQUE constraint failed: t.a (19)\nsqlite> "
    );
    assert_eq!(
        dialogue(".mode html\n.nothing\n"),
        "sqlite> Error: mode should be one of: table, box, column, csv, list; not \"html\"\n\
         sqlite> Error: unknown command or invalid arguments:  \"nothing\". Enter \".help\" for help\nsqlite> "
    );
    assert!(dialogue(".help\n").contains(".schema ?PATTERN?"));
    assert_eq!(
        dialogue(".backup A.DB\n"),
        "sqlite> Error: cannot write the backup: this machine has no disk\nsqlite> "
    );
}

#[test]
fn tables_and_schema_are_listed() {
    let said = dialogue(
        "CREATE TABLE b (x); CREATE TABLE a (y); CREATE VIEW v AS SELECT 1; CREATE INDEX i ON a (y);\n\
         .tables\n.tables a%\n.schema a\n.schema nothing\n",
    );
    assert_eq!(
        said,
        "sqlite> sqlite> a  b  v\nsqlite> a\nsqlite> CREATE TABLE a (y);\nCREATE INDEX i ON a (y);\nsqlite> sqlite> "
    );
}

#[test]
fn what_is_too_long_is_dropped_and_the_next_line_is_whole() {
    let text = std::format!("SELECT '{}';\nSELECT 7 AS n;\n", "x".repeat(STATEMENT_BYTES_MAX));
    let said = dialogue(&text);
    assert!(
        said.starts_with("sqlite> Error: a statement has at most 1048576 bytes; this one was dropped\n"),
        "{}",
        &said[..80.min(said.len())]
    );
    assert!(said.contains("| 7 |"), "{said}");
}

#[test]
fn a_result_streams_and_stops_while_nobody_takes_it() {
    with_engine(|engine, heap| {
        let mut session = Session::new(engine, heap).unwrap();
        session.feed(
            b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, 'row' AS text FROM n;\n",
        );
        assert_eq!(session.work(engine, surroundings(), FOREVER), Next::Room);
        let held = session.output().pending().len();
        assert!(held < 3 * SAMPLE_BYTES, "{held} bytes are held");
        assert_eq!(session.work(engine, surroundings(), FOREVER), Next::Room);
        assert_eq!(session.output().pending().len(), held);
        let said = say(engine, &mut session, "");
        assert_eq!(said.matches("row").count(), 20_000);
        assert!(said.ends_with("sqlite> "));
    });
}

/// A disk for one file.
#[derive(Default)]
struct Disk(std::sync::Mutex<StdVec<u8>>, std::sync::atomic::AtomicUsize);

impl Files for Disk {
    fn mount(&self) -> Result<(), FileError> {
        Ok(())
    }

    fn open(&self, path: &FilePath, _: FileMode) -> Result<FileHandle, FileError> {
        assert_eq!(path.as_str(), "COPY.DB");
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(FileHandle(7))
    }

    fn exists(&self, path: &FilePath) -> Result<bool, FileError> {
        Ok(path.as_str() == "COPY.DB")
    }

    fn close(&self, _: FileHandle) -> Result<(), FileError> {
        self.1.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    fn read_at(&self, _: FileHandle, _: u64, _: &mut [u8]) -> Result<usize, FileError> {
        Err(FileError::WrongMode)
    }

    fn write_at(&self, _: FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let (mut file, at) = (self.0.lock().unwrap(), offset as usize);
        assert!(at <= file.len(), "a hole");
        let end = file.len().max(at + bytes.len());
        file.resize(end, 0);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn len_bytes(&self, _: FileHandle) -> Result<u64, FileError> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn truncate(&self, _: FileHandle, len_bytes: u64) -> Result<(), FileError> {
        self.0.lock().unwrap().truncate(len_bytes as usize);
        Ok(())
    }

    fn sync(&self, _: FileHandle) -> Result<(), FileError> {
        Ok(())
    }

    fn remove(&self, path: &FilePath) -> Result<(), FileError> {
        Err(FileError::NotFound(*path))
    }
}

#[test]
fn a_backup_is_the_database_file_and_no_writer_comes_between() {
    with_engine(|engine, heap| {
        let disk = Disk(std::vec![1; 1 << 20].into(), 0.into());
        let surroundings = Surroundings {
            files: Some(&disk),
            ..surroundings()
        };
        let (mut one, mut two) = (
            Session::new(engine, heap).unwrap(),
            Session::new(engine, heap).unwrap(),
        );
        let fill =
            "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                    SELECT i, printf('%030d', i) FROM n;\n";
        say(engine, &mut one, fill);
        two.feed(b".backup copy.db\n");
        // As far as the file and its lock.
        assert!(two.take_line(engine, surroundings) && two.backup.is_some());
        two.go_on_with_backup(engine, surroundings);
        assert!(
            disk.0.lock().unwrap().iter().take(100).all(|byte| *byte == 0),
            "half a backup is no database"
        );
        let refused = say(engine, &mut one, "DELETE FROM t;\n");
        assert!(refused.contains("database is locked"), "{refused}");
        assert_eq!(two.work(engine, surroundings, FOREVER), Next::Input);
        assert_eq!(two.output().pending(), b"sqlite> sqlite> ");
        let copy = disk.0.lock().unwrap().clone();
        let mut original = std::vec![0; engine.volume(|volume| volume.len_bytes())];
        engine.volume(|volume| volume.read(0, &mut original));
        assert!(original.starts_with(b"SQLite format 3\0") && copy == original);
        assert_eq!(disk.1.load(Ordering::Relaxed), 0, "the file is closed");
        let done = say(engine, &mut one, "DELETE FROM t;\n");
        assert!(!done.contains("error"), "{done}");
        // Another machine does not know the file that was open.
        two.feed(b".backup COPY.DB\n");
        assert!(two.take_line(engine, surroundings));
        two.go_on_with_backup(engine, surroundings);
        disk.1.store(0, Ordering::Relaxed);
        two.resume(engine, surroundings);
        let refused = say(engine, &mut one, "INSERT INTO t VALUES (1, 2);\n");
        assert!(refused.contains("database is locked"), "{refused}");
        let said = two.output().pending().len();
        assert_eq!(two.work(engine, surroundings, FOREVER), Next::Input);
        assert_eq!(two.output().pending()[said..], *b"sqlite> ");
        let copy = disk.0.lock().unwrap().clone();
        let mut original = std::vec![0; engine.volume(|volume| volume.len_bytes())];
        engine.volume(|volume| volume.read(0, &mut original));
        assert!(copy == original && disk.1.load(Ordering::Relaxed) == 0);
        // One that its client leaves is closed, too.
        two.feed(b".backup COPY.DB\n");
        assert!(two.take_line(engine, surroundings));
        two.end(engine, Some(surroundings));
        assert_eq!(disk.1.load(Ordering::Relaxed), 0, "the file is closed");
        let done = say(engine, &mut one, "DROP TABLE t;\n");
        assert!(!done.contains("error"), "{done}");
    });
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The guest's output is held against the same file (`cargo xtask test`, step pair-sqlite). To write it anew after a change of
/// the script, run this test with `WRITE_GOLDEN=1`, and read the difference.
#[test]
fn the_script_says_what_is_written_down() {
    let sql = fs::read_to_string(script("script.sql")).unwrap();
    let path = script("script.out");
    for piece_len in [usize::MAX, 7] {
        let mut said = String::new();
        with_engine(|engine, heap| {
            let mut session = Session::new(engine, heap).unwrap();
            said = say_in_pieces(engine, &mut session, &sql, piece_len);
        });
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            fs::write(&path, &said).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        let difference = said
            .lines()
            .zip(expected.lines())
            .find(|(said, expected)| said != expected);
        assert_eq!(difference, None);
        assert_eq!(said.len(), expected.len());
    }
}

#[test]
fn the_script_is_long_enough() {
    let sql = fs::read_to_string(script("script.sql")).unwrap();
    let mut complete = Complete::new();
    let mut statements = 0;
    for line in sql.lines().filter(|line| !line.starts_with('.')) {
        complete.feed(line.as_bytes());
        complete.feed(b"\n");
        if complete.is_complete() {
            statements += 1;
            complete = Complete::new();
        }
    }
    assert!(statements >= 300, "{statements} statements");
}
