//! Cuts a stream of bytes into lines, and never holds more than one line and one piece of the stream.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

/// One line that has something in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    /// Counted from 1, blank lines too.
    pub(super) number: i64,
    /// `None` where it is longer than a line may be.
    pub(super) content: Option<Bytes>,
}

/// The stream ended in the middle, or went silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut;

/// The lines of a stream that were not taken yet.
#[derive(Debug)]
pub(super) struct Lines<S> {
    stream: S,
    longest: usize,
    /// What was read and is no complete line yet.
    rest: BytesMut,
    /// How much of `rest` holds no line end.
    searched: usize,
    /// In a line that is too long, whose content is let go.
    is_skipping: bool,
    has_ended: bool,
    number: i64,
    bytes_read: i64,
}

impl<S> Lines<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    /// Lines of up to `longest` bytes.
    pub(super) fn of(stream: S, longest: usize) -> Self {
        Self {
            stream,
            longest,
            rest: BytesMut::new(),
            searched: 0,
            is_skipping: false,
            has_ended: false,
            number: 0,
            bytes_read: 0,
        }
    }

    /// How much of the stream the lines that were taken make up, with what was read ahead.
    pub(super) fn bytes_read(&self) -> i64 {
        self.bytes_read
    }

    /// Between one and `most` lines: those that have come, or the next one. None when the stream has ended.
    ///
    /// # Errors
    /// The stream was cut off.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<Line>, Cut> {
        let mut lines = Vec::new();
        loop {
            while lines.len() < most {
                let Some(line) = self.take() else { break };
                lines.push(line);
            }
            if !lines.is_empty() || (self.has_ended && self.rest.is_empty() && !self.is_skipping) {
                return Ok(lines);
            }
            match tokio::time::timeout(SILENCE, self.stream.next()).await {
                Ok(Some(Ok(piece))) => {
                    self.bytes_read += i64::try_from(piece.len()).unwrap_or(0);
                    self.rest.extend_from_slice(&piece);
                }
                Ok(None) => self.has_ended = true,
                Ok(Some(Err(_))) | Err(_) => return Err(Cut),
            }
        }
    }

    /// The next line with something in it, among what was read.
    fn take(&mut self) -> Option<Line> {
        loop {
            let Some(content) = self.cut() else {
                if self.rest.len() > self.longest {
                    self.is_skipping = true;
                    self.rest.clear();
                    self.searched = 0;
                }
                return None;
            };
            self.number += 1;
            if std::mem::take(&mut self.is_skipping) || content.len() > self.longest {
                return Some(Line { number: self.number, content: None });
            }
            if !content.trim_ascii().is_empty() {
                return Some(Line { number: self.number, content: Some(content) });
            }
        }
    }

    /// Everything up to the next line end; or up to the stream's.
    fn cut(&mut self) -> Option<Bytes> {
        let found = self.rest[self.searched..].iter().position(|byte| *byte == b'\n');
        match found {
            Some(at) => {
                let line = self.rest.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                Some(line.slice(..line.len() - 1))
            }
            None if self.has_ended && (!self.rest.is_empty() || self.is_skipping) => {
                self.searched = 0;
                Some(self.rest.split().freeze())
            }
            None => {
                self.searched = self.rest.len();
                None
            }
        }
    }
}

/// How long a sender may be silent before it counts as gone.
const SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    async fn read(
        pieces: Vec<Result<Bytes, PayloadError>>,
        longest: usize,
    ) -> Result<Vec<(i64, Option<String>)>, Cut> {
        let mut lines = Lines::of(stream::iter(pieces), longest);
        let mut all = Vec::new();
        loop {
            let some = lines.next(2).await?;
            if some.is_empty() {
                return Ok(all);
            }
            assert!(some.len() <= 2);
            all.extend(some.into_iter().map(|line| {
                (line.number, line.content.map(|content| String::from_utf8(content.to_vec()).expect("text")))
            }));
        }
    }

    fn piece(text: &'static str) -> Result<Bytes, PayloadError> {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    fn line(number: i64, text: &str) -> (i64, Option<String>) {
        (number, Some(text.to_owned()))
    }

    #[tokio::test]
    async fn lines_are_the_same_however_the_stream_is_cut_into_pieces() {
        let whole = "one\n\ntwo\r\nthree";
        let expected = vec![line(1, "one"), line(3, "two\r"), line(4, "three")];
        for size in 1..=whole.len() {
            let pieces = whole.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece)));
            assert_eq!(read(pieces.collect(), 10).await, Ok(expected.clone()), "{size}");
        }
        assert_eq!(read(Vec::new(), 10).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_told_by_its_number_and_let_go() {
        let pieces =
            vec![piece("one\n0123456789"), piece("0123456789"), piece("0123456789\ntwo\n01234567890")];
        let expected = vec![line(1, "one"), (2, None), line(3, "two"), (4, None)];
        assert_eq!(read(pieces, 10).await, Ok(expected));
    }

    #[tokio::test]
    async fn a_broken_stream_is_no_end() {
        let pieces = vec![piece("one\ntw"), Err(PayloadError::Incomplete(None))];
        assert_eq!(read(pieces, 10).await, Err(Cut));
    }
}
