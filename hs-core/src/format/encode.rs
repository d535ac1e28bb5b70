//! Encoding: one pass over the pages, through one buffer that the caller owns.

use crc32fast::Hasher;

use super::header::{HEADER_LEN_MAX, Header, MAGIC, PREAMBLE_LEN};
use super::packing::BLOCK_ROOM;
use super::section::{self, BODY_HEADER_LEN, RUN_LEN, SECTION_HEADER_LEN};
use super::tables::{self, Tables};
use crate::platform::{PAGE_LEN, PageRange};

/// Length of the buffer that an [`Encoder`] needs: 16 pages and what goes with them, and room for what a page is shortened
/// to. A small increment is one write.
pub const BUFFER_BYTES: usize = 17 * PAGE_LEN + BODY_ROOM;

/// Room that a page's shorter form is made in.
const BODY_ROOM: usize = PAGE_LEN + 512;
const _: () = assert!(BLOCK_ROOM <= BODY_ROOM);

/// In which form a page is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As it is.
    Whole,
    /// As a difference of so many bytes: see [`bring_up_to_date`](super::bring_up_to_date).
    Difference(usize),
    /// As an LZ4 block of so many bytes: see [`Packer`](super::Packer).
    Lz4(usize),
}

#[derive(Clone, Copy)]
struct Run {
    /// Where in the buffer its record is.
    at: usize,
    next_page: u32,
    count: u16,
    content: u8,
}

/// Encodes one checkpoint and hands it to `flush` in pieces.
pub struct Encoder<'a, E> {
    buffer: &'a mut [u8],
    /// Where shorter forms are made, out of the way of the page.
    body: &'a mut [u8],
    /// Bytes in the buffer.
    len: usize,
    /// Bytes handed on.
    flushed: u64,
    crc: Hasher,
    window: PageRange,
    /// Where in the buffer the open section of pages is.
    open: Option<usize>,
    run: Option<Run>,
    flush: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
}

impl<'a, E> Encoder<'a, E> {
    /// Begins a checkpoint with everything but its pages.
    ///
    /// # Errors
    /// What `flush` returns.
    ///
    /// # Panics
    /// If the buffer is shorter than [`BUFFER_BYTES`], or `header`'s counts are not those of `tables`: errors of the
    /// caller.
    pub fn begin(
        buffer: &'a mut [u8],
        flush: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
        header: &Header,
        tables: &Tables<'_>,
    ) -> Result<Self, E> {
        assert!(
            buffer.len() >= BUFFER_BYTES,
            "an encoder's buffer has at least {BUFFER_BYTES} bytes"
        );
        assert!(
            tables.are_counted_by(header),
            "a header's counts are those of the sections"
        );
        let window = header.window().expect("a header is of a window");
        let (body, buffer) = buffer.split_at_mut(BODY_ROOM);
        let mut encoder = Self {
            buffer,
            body,
            len: 0,
            flushed: 0,
            crc: Hasher::new(),
            window,
            open: None,
            run: None,
            flush,
        };
        let body = &mut encoder.buffer[PREAMBLE_LEN..PREAMBLE_LEN + HEADER_LEN_MAX];
        let header_len = postcard::to_slice(header, body).expect("a header is short").len();
        encoder.put(&MAGIC)?;
        encoder.put(&super::FORMAT_VERSION.to_le_bytes())?;
        encoder.put(&(header_len as u16).to_le_bytes())?;
        encoder.len += header_len;
        encoder.begin_table(section::THREADS, tables.threads.len())?;
        for worker in tables.threads {
            encoder.put(&tables::thread_record(*worker))?;
        }
        encoder.begin_table(section::DESCRIPTORS, tables.descriptors.len())?;
        for descriptor in tables.descriptors {
            encoder.put(&descriptor.to_record())?;
        }
        encoder.begin_table(section::SIGNALS, tables.signals.len())?;
        for action in tables.signals {
            encoder.put(&tables::signal_record(*action))?;
        }
        encoder.begin_table(section::AREAS, tables.areas.len())?;
        for area in tables.areas {
            encoder.put(&tables::area_record(window, *area))?;
        }
        Ok(encoder)
    }

    fn begin_table(&mut self, kind: u8, count: usize) -> Result<(), E> {
        self.put(&section_header(kind, count * tables::record_len(kind)))
    }

    /// Adds the page at `address`, which `fill` copies to where it is told. Pages come in ascending order.
    ///
    /// # Errors
    /// What `fill` or `flush` returns.
    pub fn page(
        &mut self,
        address: usize,
        fill: impl FnOnce(&mut [u8; PAGE_LEN]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.page_in_form(address, |page, _| fill(page).map(|()| Form::Whole))
    }

    /// As [`page`](Self::page), where `fill` may also make a shorter form of the page, in the second buffer. A page of
    /// zeroes is sent as that, whatever it says.
    ///
    /// # Errors
    /// What `fill` or `flush` returns.
    ///
    /// # Panics
    /// If the shorter form is not shorter than the page: an error of the caller.
    pub fn page_in_form(
        &mut self,
        address: usize,
        fill: impl FnOnce(&mut [u8; PAGE_LEN], &mut [u8]) -> Result<Form, E>,
    ) -> Result<(), E> {
        if self.len + SECTION_HEADER_LEN + RUN_LEN + PAGE_LEN > self.buffer.len() {
            self.flush()?;
        }
        if self.open.is_none() {
            self.open = Some(self.len);
            self.len += SECTION_HEADER_LEN;
        }
        let page = ((address - self.window.start()) / PAGE_LEN) as u32;
        // Where the page belongs if it is sent as it is, as most are.
        let at = self.len + self.run_len(page, section::RAW);
        let bytes: &mut [u8; PAGE_LEN] = (&mut self.buffer[at..at + PAGE_LEN])
            .try_into()
            .expect("a page's room");
        let form = fill(bytes, self.body)?;
        if is_zero(bytes) {
            self.add_to_run(page, section::ZERO);
            return Ok(());
        }
        let (content, body_len) = match form {
            Form::Whole => {
                self.add_to_run(page, section::RAW);
                self.len += PAGE_LEN;
                return Ok(());
            }
            Form::Difference(len) => (section::DIFFERENCE, len),
            Form::Lz4(len) => (section::LZ4, len),
        };
        assert!(body_len + BODY_HEADER_LEN < PAGE_LEN, "a shorter form is shorter");
        self.add_to_run(page, content);
        let at = self.len + BODY_HEADER_LEN;
        self.buffer[self.len..at].copy_from_slice(&(body_len as u16).to_le_bytes());
        self.buffer[at..at + body_len].copy_from_slice(&self.body[..body_len]);
        self.len = at + body_len;
        Ok(())
    }

    /// The newest run, if `page` can be its next one.
    fn run_of(&self, page: u32, content: u8) -> Option<Run> {
        self.run
            .filter(|run| run.content == content && run.next_page == page && run.count < u16::MAX)
    }

    /// Bytes that the record of a run takes before `page`.
    fn run_len(&self, page: u32, content: u8) -> usize {
        self.run_of(page, content).map_or(RUN_LEN, |_| 0)
    }

    /// Counts `page` in the newest run, or in one that begins with it.
    fn add_to_run(&mut self, page: u32, content: u8) {
        let run = match self.run_of(page, content) {
            Some(run) => Run {
                next_page: page + 1,
                count: run.count + 1,
                ..run
            },
            None => {
                let at = self.len;
                self.len += RUN_LEN;
                self.buffer[at..at + 4].copy_from_slice(&page.to_le_bytes());
                self.buffer[at + 6] = content;
                self.buffer[at + 7] = 0;
                Run {
                    at,
                    next_page: page + 1,
                    count: 1,
                    content,
                }
            }
        };
        self.buffer[run.at + 4..run.at + 6].copy_from_slice(&run.count.to_le_bytes());
        self.run = Some(run);
    }

    /// Ends the checkpoint. Returns its length in bytes.
    ///
    /// # Errors
    /// What `flush` returns.
    pub fn end(mut self) -> Result<u64, E> {
        if self.len + SECTION_HEADER_LEN + section::END_LEN > self.buffer.len() {
            self.flush()?;
        }
        self.close();
        self.put(&section_header(section::END, section::END_LEN))?;
        let total = self.flushed + (self.len + section::END_LEN) as u64;
        self.put(&total.to_le_bytes())?;
        self.crc.update(&self.buffer[..self.len]);
        let crc = self.crc.clone().finalize();
        self.buffer[self.len..self.len + 4].copy_from_slice(&crc.to_le_bytes());
        self.len += 4;
        (self.flush)(&self.buffer[..self.len])?;
        Ok(total)
    }

    /// Appends a few bytes outside a section of pages.
    fn put(&mut self, bytes: &[u8]) -> Result<(), E> {
        if self.len + bytes.len() > self.buffer.len() {
            self.flush()?;
        }
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Closes the open section of pages, whose length is known only now.
    fn close(&mut self) {
        if let Some(at) = self.open.take() {
            let header = section_header(section::PAGES, self.len - at - SECTION_HEADER_LEN);
            self.buffer[at..at + SECTION_HEADER_LEN].copy_from_slice(&header);
        }
        self.run = None;
    }

    fn flush(&mut self) -> Result<(), E> {
        self.close();
        let bytes = &self.buffer[..self.len];
        self.crc.update(bytes);
        self.flushed += bytes.len() as u64;
        self.len = 0;
        (self.flush)(bytes)
    }
}

fn section_header(kind: u8, len_bytes: usize) -> [u8; SECTION_HEADER_LEN] {
    let mut header = [kind, section::REQUIRED, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&(len_bytes as u32).to_le_bytes());
    header
}

/// Looks at 64 bytes at a time with integer instructions: most pages end it at the first look, and vector instructions
/// are slow under emulation.
pub(super) fn is_zero(page: &[u8; PAGE_LEN]) -> bool {
    page.chunks_exact(64).all(|line| {
        line.chunks_exact(8)
            .fold(0, |all, word| all | section::u64_at(word, 0))
            == 0
    })
}
