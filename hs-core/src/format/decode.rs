//! Decoding: a state machine over bytes as they come.

use alloc::vec::Vec;
use crc32fast::Hasher;

use super::DecodeError;
use super::difference::{BODY_LEN_MAX, Difference};
use super::header::{self, Header, Kind, PREAMBLE_LEN};
use super::item::Item;
use super::limits::Limits;
use super::packing;
use super::section::{
    self, BODY_HEADER_LEN, Content, END_LEN, RUN_LEN, SECTION_HEADER_LEN, TABLES, u16_at, u32_at, u64_at,
};
use super::tables;
use crate::platform::{PAGE_LEN, PageRange};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Preamble,
    Header {
        len: usize,
    },
    Section,
    /// In a table of so many bytes: the next of [`TABLES`].
    Table {
        len: usize,
    },
    /// In a section of pages with so many bytes to go: at a run.
    Run {
        left: u32,
    },
    /// In a run: at byte `offset` of page `page`, the first of `pages`.
    Raw {
        left: u32,
        page: u64,
        pages: u16,
        offset: usize,
    },
    /// In a run of differences or blocks: at the length of the body of page `page`, the first of `pages`.
    BodyLen {
        left: u32,
        page: u64,
        pages: u16,
        content: Content,
    },
    /// At that body.
    Body {
        left: u32,
        page: u64,
        pages: u16,
        content: Content,
        len: usize,
    },
    Skip {
        left: u32,
    },
    End,
    Done,
    Failed,
}

/// What a step found.
enum Found<'a> {
    Item(Item<'a>),
    /// A difference, in the decoder's body.
    Difference {
        page: usize,
    },
    /// A block's page, in the decoder's page.
    Unpacked {
        page: usize,
    },
}

/// Decodes one checkpoint.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    state: State,
    /// What has come of a header, a section header, a run or a table; bounded by the longest table that the limits allow.
    pending: Vec<u8>,
    /// The newest body.
    body: Vec<u8>,
    /// What the newest block was made into: a page, once there was one.
    unpacked: Vec<u8>,
    crc: Hasher,
    consumed: u64,
    header: Option<Header>,
    /// Of [`TABLES`], so many have come.
    tables_seen: usize,
    areas: Vec<PageRange>,
    /// The area of the newest page.
    area: usize,
    /// The first page that may come next.
    next_page: u64,
    pages: u64,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Preamble,
            pending: Vec::new(),
            body: Vec::new(),
            unpacked: Vec::new(),
            crc: Hasher::new(),
            consumed: 0,
            header: None,
            tables_seen: 0,
            areas: Vec::new(),
            area: 0,
            next_page: 0,
            pages: 0,
        }
    }

    /// Takes from the front of `input` until something was found; `None` when all of it was taken.
    ///
    /// # Errors
    /// See [`DecodeError`]. The checkpoint is refused from then on.
    pub fn next<'d, 'i: 'd>(&'d mut self, input: &mut &'i [u8]) -> Result<Option<Item<'d>>, DecodeError> {
        let found = match self.step(input) {
            Ok(found) => found,
            Err(error) => {
                self.state = State::Failed;
                return Err(error);
            }
        };
        Ok(found.map(|found| match found {
            Found::Item(item) => item,
            Found::Difference { page } => Item::Difference {
                page,
                difference: Difference::new(&self.body).expect("looked at when it came"),
            },
            Found::Unpacked { page } => Item::Bytes {
                page,
                offset: 0,
                bytes: &self.unpacked,
            },
        }))
    }

    /// How many bytes of the checkpoint were taken.
    pub const fn position(&self) -> u64 {
        self.consumed
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// The checkpoint is not whole.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.state {
            State::Done => Ok(()),
            State::Failed => Err(DecodeError::Refused),
            _ => Err(DecodeError::Truncated),
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Found<'a>>, DecodeError> {
        loop {
            let found = match self.state {
                State::Failed => return Err(DecodeError::Refused),
                State::Done if input.is_empty() => return Ok(None),
                State::Done => return Err(DecodeError::TrailingBytes),
                State::Raw {
                    left,
                    page,
                    pages,
                    offset,
                } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = self.take(input, PAGE_LEN - offset)?;
                    let end = offset + bytes.len();
                    let left = left - bytes.len() as u32;
                    self.state = match (end < PAGE_LEN, pages) {
                        (true, _) => State::Raw {
                            left,
                            page,
                            pages,
                            offset: end,
                        },
                        (false, 1) => self.after_run(left),
                        (false, _) => State::Raw {
                            left,
                            page: page + 1,
                            pages: pages - 1,
                            offset: 0,
                        },
                    };
                    Some(Found::Item(Item::Bytes {
                        page: self.address(page),
                        offset,
                        bytes,
                    }))
                }
                State::Skip { left } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let taken = self.take(input, left as usize)?.len() as u32;
                    self.state = if taken < left {
                        State::Skip { left: left - taken }
                    } else {
                        State::Section
                    };
                    None
                }
                _ => {
                    if !self.gather(input, self.needed())? {
                        return Ok(None);
                    }
                    let mut pending = core::mem::take(&mut self.pending);
                    let found = self.gathered(&mut pending);
                    pending.clear();
                    self.pending = pending;
                    found?
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// How many bytes the state needs in one piece.
    fn needed(&self) -> usize {
        match self.state {
            State::Preamble => PREAMBLE_LEN,
            State::Header { len } | State::Table { len } | State::Body { len, .. } => len,
            State::BodyLen { .. } => BODY_HEADER_LEN,
            State::Section => SECTION_HEADER_LEN,
            State::Run { .. } => RUN_LEN,
            State::End => END_LEN,
            State::Raw { .. } | State::Skip { .. } | State::Done | State::Failed => 0,
        }
    }

    /// Takes up to `most` bytes from the input, counted and in the checksum.
    fn take<'a>(&mut self, input: &mut &'a [u8], most: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = input.split_at(most.min(input.len()));
        *input = rest;
        self.consumed += bytes.len() as u64;
        let limit = self.limits.total_bytes();
        if self.consumed > limit {
            return Err(DecodeError::TooLong { limit });
        }
        // The checksum itself is not in the checksum.
        let own = if self.state == State::End {
            self.pending.len() + bytes.len()
        } else {
            0
        }
        .saturating_sub(END_LEN - 4)
        .min(bytes.len());
        self.crc.update(&bytes[..bytes.len() - own]);
        Ok(bytes)
    }

    /// Whether `len` bytes are pending now.
    fn gather(&mut self, input: &mut &[u8], len: usize) -> Result<bool, DecodeError> {
        let missing = len - self.pending.len();
        self.pending
            .try_reserve(missing)
            .map_err(|_| DecodeError::OutOfMemory)?;
        let bytes = self.take(input, missing)?;
        self.pending.extend_from_slice(bytes);
        Ok(self.pending.len() == len)
    }

    fn gathered<'a>(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Found<'a>>, DecodeError> {
        match self.state {
            State::Preamble => {
                self.state = State::Header {
                    len: header::header_len(bytes)?,
                };
                Ok(None)
            }
            State::Header { .. } => {
                let header = self.check_header(bytes)?;
                self.header = Some(header.clone());
                self.state = State::Section;
                Ok(Some(Found::Item(Item::Header(header))))
            }
            State::Section => Ok(self.begin_section(bytes)?.map(Found::Item)),
            State::Table { .. } => {
                let item = self.table(bytes)?;
                self.tables_seen += 1;
                self.state = State::Section;
                Ok(Some(Found::Item(item)))
            }
            State::Run { left } => self.begin_run(bytes, left).map(|run| Some(Found::Item(run))),
            State::BodyLen {
                left,
                page,
                pages,
                content,
            } => {
                let len = u16_at(bytes, 0);
                if usize::from(len) > BODY_LEN_MAX {
                    return Err(bad_body(content, page));
                }
                let after = left.checked_sub((BODY_HEADER_LEN as u32) + u32::from(len));
                let left = after.ok_or(DecodeError::SectionLength {
                    kind: section::PAGES,
                    len_bytes: left,
                })?;
                self.state = State::Body {
                    left,
                    page,
                    pages,
                    content,
                    len: usize::from(len),
                };
                Ok(None)
            }
            State::Body {
                left,
                page,
                pages,
                content,
                ..
            } => {
                core::mem::swap(&mut self.body, bytes);
                self.state = match pages {
                    1 => self.after_run(left),
                    _ => State::BodyLen {
                        left,
                        page: page + 1,
                        pages: pages - 1,
                        content,
                    },
                };
                self.look_at_body(content, page).map(Some)
            }
            State::End => {
                let (total, stated) = (u64_at(bytes, 0), u32_at(bytes, 8));
                let found = self.crc.clone().finalize();
                if stated != found {
                    return Err(DecodeError::Checksum { stated, found });
                }
                if total != self.consumed {
                    return Err(DecodeError::TotalLength {
                        stated: total,
                        found: self.consumed,
                    });
                }
                self.state = State::Done;
                Ok(Some(Found::Item(Item::End { total_bytes: total })))
            }
            State::Raw { .. } | State::Skip { .. } | State::Done | State::Failed => Ok(None),
        }
    }

    fn check_header(&self, bytes: &[u8]) -> Result<Header, DecodeError> {
        let header = Header::of_bytes(bytes)?;
        if header.window() != Some(self.limits.window) {
            return Err(DecodeError::WrongWindow);
        }
        let counts = [
            ("workers", section::THREADS),
            ("descriptors", section::DESCRIPTORS),
            ("signals", section::SIGNALS),
            ("memory areas", section::AREAS),
        ]
        .map(|(what, kind)| {
            let count = tables::count(&header, kind);
            (what, u64::from(count), u64::from(self.limits.of(kind)))
        });
        let pages = ("pages", header.pages, self.limits.pages);
        match counts
            .into_iter()
            .chain([pages])
            .find(|(_, count, limit)| count > limit)
        {
            Some((what, count, limit)) => Err(DecodeError::TooMany { what, count, limit }),
            None => Ok(header),
        }
    }

    /// At the next section. One that is not known and may be skipped is an item of its own.
    fn begin_section<'a>(&mut self, bytes: &[u8]) -> Result<Option<Item<'a>>, DecodeError> {
        let (kind, flags, reserved, len_bytes) = (bytes[0], bytes[1], u16_at(bytes, 2), u32_at(bytes, 4));
        if flags & !section::REQUIRED != 0 || reserved != 0 {
            return Err(DecodeError::Reserved);
        }
        let header = self.header.as_ref().expect("the header comes before any section");
        let in_place = match kind {
            section::PAGES | section::END => self.tables_seen == TABLES.len(),
            _ if TABLES.contains(&kind) => TABLES.get(self.tables_seen) == Some(&kind),
            _ => true,
        };
        if !in_place {
            return Err(DecodeError::SectionOrder(kind));
        }
        let (fits, next) = match kind {
            _ if TABLES.contains(&kind) => {
                let len = tables::count(header, kind) as usize * tables::record_len(kind);
                (len_bytes as usize == len, State::Table { len })
            }
            section::PAGES => (len_bytes as usize >= RUN_LEN, State::Run { left: len_bytes }),
            section::END => {
                if self.pages != header.pages {
                    return Err(DecodeError::PageCount {
                        stated: header.pages,
                        found: self.pages,
                    });
                }
                (len_bytes as usize == END_LEN, State::End)
            }
            _ if flags & section::REQUIRED != 0 => return Err(DecodeError::UnknownSection(kind)),
            _ if len_bytes == 0 => (true, State::Section),
            _ => (true, State::Skip { left: len_bytes }),
        };
        if !fits {
            return Err(DecodeError::SectionLength { kind, len_bytes });
        }
        self.state = next;
        let skipped = matches!(next, State::Section | State::Skip { .. });
        Ok(skipped.then_some(Item::Skipped { kind, len_bytes }))
    }

    /// The table that comes next, of these bytes.
    fn table<'a>(&mut self, bytes: &[u8]) -> Result<Item<'a>, DecodeError> {
        Ok(match TABLES[self.tables_seen] {
            section::THREADS => Item::Threads(tables::threads_of(bytes)?),
            section::DESCRIPTORS => Item::Descriptors(tables::descriptors_of(bytes)?),
            section::SIGNALS => Item::Signals(tables::signals_of(bytes)?),
            _ => {
                let header = self.header.as_ref().expect("the header comes before any section");
                self.areas = tables::areas_of(&self.limits, header, bytes)?;
                Item::Areas(self.areas.clone())
            }
        })
    }

    /// Whether the body that has come is what it should be.
    fn look_at_body<'a>(&mut self, content: Content, page: u64) -> Result<Found<'a>, DecodeError> {
        let address = self.address(page);
        if content == Content::Difference {
            return match Difference::new(&self.body) {
                Some(_) => Ok(Found::Difference { page: address }),
                None => Err(bad_body(content, page)),
            };
        }
        let missing = PAGE_LEN - self.unpacked.len();
        self.unpacked
            .try_reserve_exact(missing)
            .map_err(|_| DecodeError::OutOfMemory)?;
        self.unpacked.resize(PAGE_LEN, 0);
        if packing::unpack(&self.body, &mut self.unpacked) {
            Ok(Found::Unpacked { page: address })
        } else {
            Err(bad_body(content, page))
        }
    }

    fn begin_run<'a>(&mut self, bytes: &[u8], left: u32) -> Result<Item<'a>, DecodeError> {
        let (page, count, code, reserved) = (u32_at(bytes, 0), u16_at(bytes, 4), bytes[6], bytes[7]);
        let left = left
            .checked_sub(RUN_LEN as u32)
            .ok_or(DecodeError::SectionLength {
                kind: section::PAGES,
                len_bytes: left,
            })?;
        if reserved != 0 {
            return Err(DecodeError::Reserved);
        }
        let content = Content::of(code).filter(|_| count != 0);
        let content = content.ok_or(DecodeError::BadRun(page))?;
        let kind = self.header.as_ref().map(|header| header.kind);
        if content == Content::Difference && kind == Some(Kind::Full) {
            return Err(DecodeError::Contradiction("a full checkpoint has no differences"));
        }
        let (first, end) = (u64::from(page), u64::from(page) + u64::from(count));
        if first < self.next_page {
            return Err(DecodeError::PageOrder(first));
        }
        let mut listed = first;
        while listed < end {
            listed = self
                .listed_until(listed)
                .ok_or(DecodeError::PageUnlisted(listed))?;
        }
        self.next_page = end;
        self.pages += u64::from(count);
        let stated = self.header.as_ref().map_or(0, |header| header.pages);
        if self.pages > stated {
            return Err(DecodeError::PageCount {
                stated,
                found: self.pages,
            });
        }
        let len_bytes = match content {
            Content::Zero => 0,
            Content::Raw => u64::from(count) * PAGE_LEN as u64,
            Content::Difference | Content::Lz4 => u64::from(count) * BODY_HEADER_LEN as u64,
        };
        if u64::from(left) < len_bytes {
            return Err(DecodeError::SectionLength {
                kind: section::PAGES,
                len_bytes: left,
            });
        }
        self.state = match content {
            Content::Zero => self.after_run(left),
            Content::Raw => State::Raw {
                left,
                page: first,
                pages: count,
                offset: 0,
            },
            Content::Difference | Content::Lz4 => State::BodyLen {
                left,
                page: first,
                pages: count,
                content,
            },
        };
        let range = PageRange::new(self.address(first), usize::from(count)).expect("pages of an area");
        Ok(Item::Run(range, content))
    }

    /// The end of the area that `page` is in, if it is in one. Pages come in ascending order.
    fn listed_until(&mut self, page: u64) -> Option<u64> {
        loop {
            let area = self.areas.get(self.area)?;
            let first = ((area.start() - self.limits.window.start()) / PAGE_LEN) as u64;
            let end = first + area.pages() as u64;
            if page < end {
                return (first <= page).then_some(end);
            }
            self.area += 1;
        }
    }

    /// What follows a run that leaves `left` bytes of its section.
    fn after_run(&self, left: u32) -> State {
        if left == 0 {
            State::Section
        } else {
            State::Run { left }
        }
    }

    fn address(&self, page: u64) -> usize {
        self.limits.window.start() + page as usize * PAGE_LEN
    }
}

fn bad_body(content: Content, page: u64) -> DecodeError {
    match content {
        Content::Difference => DecodeError::BadDifference(page),
        _ => DecodeError::BadBlock(page),
    }
}
