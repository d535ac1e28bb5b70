//! `docs/api.md`, held against the thesis's names, the tests and the sources.
//!
//! The page is a table: what the thesis has, what is there in its place, what differs, and the tests that show it. A row may
//! not be missing, nor name a test or a thing of ours that is not there. What is not checked: that a test shows what its
//! row says. Whoever writes a row reads the test.

use std::collections::{BTreeMap, BTreeSet};

use super::STEPS;
use crate::command::{command, read, root};

/// Whatever the thesis's appendix A promises, in its order.
const NAMES: &[&str] = &[
    // The library
    "libcshs",
    "cshs/cshs.h",
    "sys/cpt.h",
    // cptctl(2)
    "cptctl()",
    "struct cpt_range",
    "cpt_range.addr",
    "cpt_range.len",
    "argument ranges",
    "argument nranges",
    "argument op",
    "CPT_INSTALL",
    "CPT_PURGE",
    "CPT_PURGE_ALL",
    "CPT_QUERY",
    "CPT_QUERY returns the number of dirty ranges",
    "CPT_QUERY with too little space copies nothing",
    "rule: memory must be wired",
    "rule: ranges end at page boundaries",
    "rule: a purge matches exactly",
    "rule: ranges do not overlap and are not merged",
    "rule: a range grows by purge and install",
    "rule: after an error, purge all and start over",
    "cptctl() returns zero",
    "cptctl() returns -1",
    "cptctl() fails with EFAULT",
    "cptctl() fails with EINVAL",
    // cptfork(2)
    "cptfork()",
    "memory in no range, and not stack, is shared",
    "modified pages are found during the call",
    "the child ends with _exit()",
    "init is the child's parent, nobody waits",
    "cptfork() returns 0 to the child",
    "cptfork() returns the child's id to the parent",
    "cptfork() returns -1, no child is created",
    "cptfork() fails with EAGAIN: too many processes",
    "cptfork() fails with EAGAIN: too many of this user (RLIMIT_NPROC)",
    "cptfork() fails with ENOMEM",
    // hs_init(3)
    "hs_init()",
    "arguments argc, argv",
    "the separator --",
    "-a address, of a master",
    "-a address, of a spare",
    "-m",
    "-s",
    "either -m or -s is needed",
    "-n ncon",
    "-p port",
    "hs_detreg() comes before hs_init()",
    "hs_init() returns -1",
    "hs_init() of a master returns the number of arguments",
    "hs_init() of a spare does not return",
    // hs_det(3)
    "hs_detreg()",
    "the detection function's argument",
    "the detection function returns 0 while the master lives",
    "hs_detping4()",
    "hs_detfile()",
    "hs_detfile() unlinks the file",
    "caveat: slow and dead look alike",
    // hs_cpipe(3)
    "hs_cpipe_init()",
    "argument ncon of hs_cpipe_init()",
    "hs_cpipe_load()",
    "hs_cpipe_loadtcp4()",
    "hs_cpipe_loadfile()",
    "any free pipe takes a checkpoint",
    "hs_cpt() needs a pipe",
    "hs_cpipe_*() return non-zero",
    "bug: the abstraction of hs_cpipe_loadtcp4()",
    // hs_malloc(3)
    "hs_malloc_create()",
    "argument class",
    "argument initial",
    "a class doubles",
    "the kernel is told of the ranges",
    "hs_malloc_create() returns non-zero",
    "hs_malloc()",
    "hs_malloc() returns NULL",
    "hs_free()",
    // hs_cpt(3)
    "hs_cpt()",
    "descriptors and signals are part of a checkpoint",
    "HSCPT_ASYNC",
    "without HSCPT_ASYNC it waits for the spare",
    "HSCPT_INCR",
    "HSCPT_INCR has no effect without the kernel's support",
    "hs_cpt() returns zero",
    "hs_cpt() returns non-zero",
    "bug: there should be hooks",
    // hs_fd(3)
    "hs_fdreg_filefd()",
    "argument path of hs_fdreg_filefd()",
    "the seek offset is saved and restored",
    "hs_fdreg_sockudp4()",
    "HSFD_UDP4_GETNAME",
    "HSFD_UDP4_GETPEER",
    "HSFD_UDP4_GETPEER of a socket that is not connected",
    "HSFD_UDP4_CPTREFRESH",
    "advice: bind outside the range of anonymous ports",
    "hs_fdreg_socktcp4_listen()",
    "TCP connections are not preserved",
    "hs_fd_deregister()",
    "restored numbers are those that were registered",
    "a number registered twice is trouble",
    "hs_fd*() return non-zero",
    "bug: parameters cannot be modified",
    "bug: asynchronous checkpoints disagree with the memory",
    "bug: the interface is not properly abstracted",
    // hs_thread(3)
    "hs_threadreg()",
    "argument arg",
    "hs_threaddereg()",
    "function and argument must both match",
    "one worker of a program without threads is called directly",
    "hs_thread*() return non-zero",
    // hs_sig(3)
    "hs_sigreg()",
    "argument signum",
    "hs_sigdereg()",
    "treatment is read when a signal is registered",
    "hs_sig*() return non-zero",
    // gratarp(8)
    "gratarp",
    "argument interface of gratarp",
    "argument MAC_address of gratarp",
    "argument IPv4_address of gratarp",
    "gratarp exits with >0",
    "caveat: gratarp can wreak havoc",
];

/// The four cells of each row, without the heads.
fn rows(page: &str) -> Vec<[String; 4]> {
    let cells = page.lines().filter_map(|line| {
        let inner = line.strip_prefix("| ")?.strip_suffix('|')?;
        let cells: Vec<String> = inner.split('|').map(|cell| cell.trim().to_owned()).collect();
        Some(
            cells
                .try_into()
                .unwrap_or_else(|_| panic!("not four cells: {line}")),
        )
    });
    cells.filter(|cells: &[String; 4]| cells[0] != "thesis").collect()
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// All that a row can point to.
struct Known {
    /// As the page writes them, with their kinds.
    tests: BTreeSet<String>,
    /// Each word of the sources that are no tests, and each option of a kernel's command line.
    words: BTreeSet<String>,
}

impl Known {
    /// What is there in these files, by their paths.
    fn of(files: &BTreeMap<String, String>) -> Self {
        let mut known = Self {
            tests: STEPS.iter().map(|step| format!("step:{}", step.name)).collect(),
            words: BTreeSet::new(),
        };
        for (path, text) in files {
            if path == "guest-apps/ktest/src/main.rs" {
                let tests = assigned(text, "const TESTS", "];").lines();
                let names = tests.filter_map(|line| line.trim().strip_prefix("(\"")?.split_once('"'));
                known.tests.extend(names.map(|(name, _)| format!("ktest:{name}")));
            } else {
                known.add_unit_tests(path, text);
            }
            let is_ours = ["hs-core/src/", "hs-net/src/", "kernel/src/"]
                .iter()
                .any(|place| path.starts_with(place));
            if is_ours && !path.contains("tests") {
                let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
                known.words.extend(words.map(str::to_owned));
                known.words.extend(
                    text.split('"')
                        .filter(|word| word.starts_with("hs."))
                        .map(str::to_owned),
                );
            }
        }
        known
    }

    /// Functions below `#[test]`, and those that a program without a harness calls by name.
    fn add_unit_tests(&mut self, path: &str, text: &str) {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            match line.strip_prefix("fn ") {
                Some(rest) if is_test => {
                    let name = rest.split('(').next().unwrap_or_default();
                    self.tests.insert(format!("unit:{name}"));
                    is_test = false;
                }
                _ => {
                    is_test =
                        line == "#[test]" || (is_test && (line.starts_with("#[") || line.starts_with("//")))
                }
            }
        }
        if path == "hs-net/tests/takeover/main.rs" {
            let called = assigned(text, "let tests:", "];");
            let names = called.split('"').skip(1).step_by(2);
            self.tests.extend(names.map(|name| format!("unit:{name}")));
        }
    }

    /// What is wrong with the page, a line each.
    fn faults(&self, page: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let rows = rows(page);
        let found: Vec<String> = rows.iter().map(|row| row[0].replace('`', "")).collect();
        for name in NAMES {
            match found.iter().filter(|found| found == name).count() {
                0 => faults.push(format!("no row for {name:?}")),
                1 => {}
                count => faults.push(format!("{count} rows for {name:?}")),
            }
        }
        for (name, [_, ours, _, shown]) in found.iter().zip(&rows) {
            if !NAMES.contains(&name.as_str()) {
                faults.push(format!("{name:?} is nothing of the thesis's"));
            }
            if ours.is_empty() {
                faults.push(format!("nothing of ours for {name:?}"));
            }
            // Of a path its last part, of an option its name.
            for thing in quoted(ours) {
                let last = thing.rsplit("::").next().unwrap_or(thing);
                let word = last.split('=').next().unwrap_or(last).trim();
                if word != "--" && !self.words.contains(word) {
                    faults.push(format!("{name:?}: there is no {thing} in our sources"));
                }
            }
            if quoted(shown).next().is_none() {
                faults.push(format!("no test for {name:?}"));
            }
            for test in quoted(shown).filter(|test| !self.tests.contains(*test)) {
                faults.push(format!("{name:?}: there is no test {test}"));
            }
        }
        faults
    }
}

/// What is assigned after `begin`, up to the next `end`.
fn assigned<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let value = text
        .split_once(begin)
        .and_then(|(_, rest)| rest.split_once(" = "));
    value
        .and_then(|(_, rest)| rest.split_once(end))
        .map_or("", |(inner, _)| inner)
}

/// All sources.
fn sources() -> BTreeMap<String, String> {
    let listed = read(
        command("git")
            .current_dir(root())
            .args(["ls-files", "-z", "--", "*.rs"]),
    )
    .unwrap();
    let named = listed.split('\0').filter(|name| !name.is_empty());
    named
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)))
        .collect()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/api.md")).unwrap()
}

#[test]
fn each_name_of_the_thesis_has_a_row_with_tests_that_are_there() {
    let faults = Known::of(&sources()).faults(&page());
    assert!(faults.is_empty(), "docs/api.md:\n{}", faults.join("\n"));
}

#[test]
fn what_is_missing_is_found() {
    let (known, page) = (Known::of(&sources()), page());
    let row = "| `HSCPT_ASYNC` | ";
    let start = page.find(row).unwrap();
    let end = start + page[start..].find('\n').unwrap() + 1;
    for (changed, fault) in [
        (
            page.replacen(&page[start..end], "", 1),
            "no row for \"HSCPT_ASYNC\"",
        ),
        (
            page.replacen(&page[start..end], &page[start..end].repeat(2), 1),
            "2 rows for \"HSCPT_ASYNC\"",
        ),
        (
            page.replacen(row, "| `HSCPT_SLOW` | ", 1),
            "\"HSCPT_SLOW\" is nothing of the thesis's",
        ),
        (
            page.replacen("Flags::ASYNC", "Flags::ASINK", 1),
            "there is no hs_core::checkpoint::Flags::ASINK",
        ),
        (
            page.replacen("`hs.ncon`, from", "`hs.nkon`, from", 1),
            "there is no hs.nkon",
        ),
        (
            page.replacen("`ktest:cptctl-rules`", "`ktest:cptctl-laws`", 1),
            "there is no test ktest:cptctl-laws",
        ),
        (
            page.replacen("`step:pair-gate`", "`step:pair-door`", 1),
            "there is no test step:pair-door",
        ),
        // A function, and no test.
        (
            page.replacen("`unit:a_full_table_is_said`", "`unit:range`", 1),
            "there is no test unit:range",
        ),
        (
            page.replacen("`unit:a_full_table_is_said`", "", 1)
                .replacen("`ktest:cptctl-rules`", "", 30),
            "no test for \"cptctl() returns -1\"",
        ),
    ] {
        assert_ne!(changed, page, "{fault}");
        let faults = known.faults(&changed);
        assert!(
            faults.iter().any(|found| found.contains(fault)),
            "{fault}: {faults:?}"
        );
    }
}
