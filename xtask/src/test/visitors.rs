//! The first application of the documentation, as it is printed there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::inside::{Ground, READY_LIMIT, take_over};
use crate::guest_build::{self, Variant};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Visitors are counted on after the master's death, and the last one's name is known; who was connected before still is.
pub(super) fn takeover(ground: &Ground) -> Result<String> {
    let image = guest_build::image("visitors", Variant::Usual);
    let mut pair = ground.pair_of([image.clone(), image], &[], None)?;
    pair.wait_until_ready(READY_LIMIT)?;
    let service = SocketAddr::from((ground.plan.service.address, ground.plan.app("visitors")?.port));
    let mut visitor = Visitor::come(service)?;
    visitor.expect("Ada\n", "Visitor 1; before you: \r\n")?;
    visitor.expect("Grace\n", "Visitor 2; before you: Ada\r\n")?;
    let took = take_over(&mut pair)?;
    visitor.expect("Barbara\n", "Visitor 3; before you: Grace\r\n")?;
    Visitor::come(service)?.expect("Joan\n", "Visitor 4; before you: Barbara\r\n")?;
    while pair.next(Instant::now()).is_some() {}
    pair.end();
    Ok(took)
}

/// A connection to the guest book.
struct Visitor(TcpStream);

impl Visitor {
    fn come(service: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&service, LIMIT).context("the guest book cannot be reached")?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self(stream))
    }

    fn expect(&mut self, line: &str, answer: &str) -> Result<()> {
        self.0.write_all(line.as_bytes())?;
        let mut found = vec![0; answer.len()];
        self.0
            .read_exact(&mut found)
            .with_context(|| format!("no answer to {line:?}"))?;
        ensure!(
            found == answer.as_bytes(),
            "to {line:?} it answered {:?} rather than {answer:?}",
            String::from_utf8_lossy(&found)
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::command::root;

    /// What the documentation builds step by step is the program that is built and run.
    #[test]
    fn the_documented_code_is_the_applications() {
        let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
        let text = read("docs/your-first-app.md");
        let blocks = text.split("```rust\n").skip(1);
        let parts: Vec<&str> = blocks
            .filter_map(|block| Some(block.split_once("\n```")?.0))
            .collect();
        let program = read("guest-apps/visitors/src/main.rs");
        assert_eq!(parts.join("\n\n") + "\n", program);
        assert!(program.lines().count() < 60, "{} lines", program.lines().count());
    }
}
