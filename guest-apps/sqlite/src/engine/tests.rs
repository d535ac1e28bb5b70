//! SQLite on a class: that everything it needs is there, and comes back to where it was taken from.

use alloc::ffi::CString;
use std::string::String;
use std::vec::Vec;

use hs_core::class::{Class, ClassId};
use hs_core::host::Session;
use hs_core::platform::Instant;

use super::*;

fn forever() -> Instant {
    Instant::from_micros(u64::MAX)
}

fn run(connection: &mut Connection, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
    let sql = CString::new(sql).unwrap();
    let mut rows = Vec::new();
    let mut rest = sql.as_c_str();
    while !rest.is_empty() {
        let (statement, used) = connection.prepare(rest)?;
        rest = CStr::from_bytes_with_nul(&rest.to_bytes_with_nul()[used..]).unwrap();
        let Some(mut statement) = statement else { continue };
        while statement.step(forever())? == Step::Row {
            let columns = 0..statement.columns();
            rows.push(
                columns
                    .map(|column| {
                        String::from_utf8_lossy(statement.text(column).unwrap_or(b"NULL")).into_owned()
                    })
                    .collect(),
            );
        }
    }
    Ok(rows)
}

fn with_engine(test: impl FnOnce(&Engine, Class, Class)) {
    let _session = Session::start(40_000);
    let heap = Class::create(ClassId(1), 1 << 20).unwrap();
    let data = Class::create(ClassId(2), 1 << 20).unwrap();
    let engine = Engine::start(heap, 16 << 20, data, 1 << 20).unwrap();
    test(&engine, heap, data);
}

#[test]
fn connections_share_one_database_and_lock_each_other_out() {
    with_engine(|engine, _, _| {
        let (mut one, mut two) = (engine.connect().unwrap(), engine.connect().unwrap());
        run(&mut one, "CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(run(&mut two, "SELECT a FROM t").unwrap(), [["1"]]);
        run(&mut one, "BEGIN; INSERT INTO t VALUES (2)").unwrap();
        assert!(!one.is_autocommit());
        assert_eq!(run(&mut two, "SELECT count(*) FROM t").unwrap(), [["1"]]);
        let refused = run(&mut two, "INSERT INTO t VALUES (3)").unwrap_err();
        assert_eq!(
            (refused.message.as_str(), refused.code),
            ("database is locked", 5)
        );
        run(&mut one, "COMMIT").unwrap();
        assert_eq!(run(&mut two, "SELECT count(*) FROM t").unwrap(), [["2"]]);
        // A client that goes in the middle of a transaction.
        run(&mut one, "BEGIN; DELETE FROM t").unwrap();
        drop(one);
        run(&mut two, "INSERT INTO t VALUES (3)").unwrap();
        assert_eq!(run(&mut two, "SELECT count(*) FROM t").unwrap(), [["3"]]);
        assert_eq!(run(&mut two, "PRAGMA integrity_check").unwrap(), [["ok"]]);
        run(&mut two, "VACUUM").unwrap();
        let refused = run(&mut two, "ATTACH 'other.db' AS other").unwrap_err();
        assert_eq!(refused.message, "unable to open database: other.db");
    });
}

#[test]
fn all_memory_comes_from_the_classes_and_goes_back() {
    with_engine(|engine, heap, data| {
        let blocks = heap.statistics().blocks;
        let mut connection = engine.connect().unwrap();
        run(
            &mut connection,
            "CREATE TABLE t (a, b TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO t SELECT i, printf('%0200d', i) FROM n;
             CREATE INDEX i ON t (b);",
        )
        .unwrap();
        assert!(heap.statistics().blocks > blocks && data.statistics().blocks > 50);
        drop(connection);
        assert_eq!(heap.statistics().blocks, blocks);
    });
}

#[test]
fn a_full_database_and_a_full_heap_are_said_and_nothing_is_damaged() {
    with_engine(|engine, _, _| {
        let mut connection = engine.connect().unwrap();
        run(&mut connection, "CREATE TABLE t (a)").unwrap();
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                    INSERT INTO t SELECT zeroblob(1000) FROM n";
        let refused = run(&mut connection, fill).unwrap_err();
        assert_eq!(refused.message, "database or disk is full");
        let rows = "SELECT group_concat(printf('%0100000d', value)) FROM
                    (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 300) SELECT value FROM n)";
        let refused = run(&mut connection, rows).unwrap_err();
        assert_eq!(refused.message, "string or blob too big");
        assert_eq!(run(&mut connection, "PRAGMA integrity_check").unwrap(), [["ok"]]);
        assert_eq!(run(&mut connection, "SELECT count(*) FROM t").unwrap(), [["0"]]);
    });
}

#[test]
fn a_statement_without_end_is_ended() {
    with_engine(|engine, _, _| {
        let mut connection = engine.connect().unwrap();
        let endless =
            c"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let mut statement = connection.prepare(endless).unwrap().0.unwrap();
        let error = statement.step(Instant::from_micros(0)).unwrap_err();
        assert_eq!((error.message.as_str(), error.code), ("interrupted", 9));
    });
}

#[test]
fn errors_come_in_sqlites_words_with_their_place() {
    with_engine(|engine, _, _| {
        let mut connection = engine.connect().unwrap();
        let error = connection.prepare(c"SELECT 1 FRM t").unwrap_err();
        assert_eq!(error.message, r#"near "t": syntax error"#);
        assert_eq!((error.code, error.at), (1, Some(13)));
    });
}
