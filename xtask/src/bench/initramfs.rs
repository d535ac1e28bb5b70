//! The initial file system of the Linux guest: a cpio archive of one program, a console and some directories.
//!
//! Written here and not by `cpio`, because making a device node takes root on a file system, but none in an archive. The format
//! is "newc": for each entry a header of hexadecimal numbers, its name and its contents, each filled up to four bytes.

use std::fmt::Write;

/// Directory, regular file, character device: the type bits of a mode.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;

/// One entry.
struct Entry<'a> {
    name: &'a str,
    mode: u32,
    /// Major and minor number, of a device.
    device: (u32, u32),
    contents: &'a [u8],
}

/// The archive whose `/init` is `program`.
pub(super) fn archive(program: &[u8]) -> Vec<u8> {
    let entry = |name, mode| Entry {
        name,
        mode,
        device: (0, 0),
        contents: &[],
    };
    let entries = [
        entry("dev", DIRECTORY | 0o755),
        entry("proc", DIRECTORY | 0o755),
        entry("sys", DIRECTORY | 0o755),
        entry("tmp", DIRECTORY | 0o755),
        Entry {
            // Without it the kernel has nothing to give to init as its standard files.
            device: (5, 1),
            ..entry("dev/console", DEVICE | 0o600)
        },
        Entry {
            contents: program,
            ..entry("init", FILE | 0o755)
        },
        entry("TRAILER!!!", 0),
    ];
    let mut bytes = Vec::with_capacity(program.len() + 4096);
    for (index, entry) in entries.iter().enumerate() {
        put(&mut bytes, index, entry);
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, index: usize, entry: &Entry<'_>) {
    let mut header = String::from("070701");
    let fields = [
        index as u32 + 1, // inode: each its own
        entry.mode,
        0, // user: root
        0, // group: root
        1, // links
        0, // time of change: the same program gives the same archive
        u32::try_from(entry.contents.len()).expect("a program has less than 4 GiB"),
        0, // device that it lies on
        0,
        entry.device.0,
        entry.device.1,
        entry.name.len() as u32 + 1,
        0, // checksum: none in this format
    ];
    for field in fields {
        let _ = write!(header, "{field:08x}");
    }
    bytes.extend(header.as_bytes());
    bytes.extend(entry.name.as_bytes());
    bytes.push(0);
    fill(bytes);
    bytes.extend(entry.contents);
    fill(bytes);
}

fn fill(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::archive;
    use crate::command::find;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// An entry as it is read back: name, mode, device numbers, contents.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive as its format is described.
    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, len, name_len) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[110..110 + name_len - 1])
                .unwrap()
                .to_owned();
            assert_eq!(bytes[110 + name_len - 1], 0);
            let begin = (110 + name_len).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), begin, "nothing after it");
                return entries;
            }
            let contents = bytes[begin..begin + len].to_vec();
            entries.push((name, mode, (field(9), field(10)), contents));
            bytes = &bytes[(begin + len).next_multiple_of(4)..];
        }
    }

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        for len in 0..9 {
            let program: Vec<u8> = (1..=len).collect();
            let entries = read(&archive(&program));
            let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
            assert_eq!(names, ["dev", "proc", "sys", "tmp", "dev/console", "init"]);
            assert_eq!(entries[4].1, 0o020_600);
            assert_eq!(entries[4].2, (5, 1));
            assert_eq!((entries[5].1, &entries[5].3), (0o100_755, &program));
        }
    }

    #[test]
    fn a_header_is_as_cpio_writes_it() {
        let golden = "070701\
            00000001000041ed00000000000000000000000100000000\
            0000000000000000000000000000000000000000\
            0000000400000000dev\0\0\0";
        let bytes = archive(b"x");
        assert_eq!(&bytes[..golden.len()], golden.as_bytes());
        assert_eq!(golden.len() % 4, 0);
    }

    #[test]
    fn cpio_itself_lists_it() {
        // Where it is installed; the other tests hold without it.
        let Some(cpio) = find("cpio") else { return };
        let mut child = Command::new(cpio)
            .args(["--list", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&archive(b"abcde")).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"dev\nproc\nsys\ntmp\ndev/console\ninit\n");
    }
}
