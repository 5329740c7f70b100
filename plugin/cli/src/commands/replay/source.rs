//! The log as a stream of its text: a file or standard input, unpacked where it is compressed with gzip, without a
//! byte-order mark. Other compressions are not known here; `zstdcat LOG | tidegate replay -` reads them.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, IsTerminal as _, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;

/// What a gzip member begins with (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// U+FEFF in UTF-8, which some editors put before a text.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// Fewer calls to the system than the usual 8 KiB need.
const BUFFER: usize = 1 << 16;

/// Opens the log; the bar shows how much of it was read.
pub(super) fn open(path: &Path) -> Result<(Box<dyn BufRead>, ProgressBar), Failure> {
    let failed = |error| Failure::file("read", path, error);
    let (source, length): (Box<dyn Read>, _) = if path == Path::new("-") {
        (Box::new(std::io::stdin().lock()), None)
    } else {
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        (Box::new(file), (length > 0).then_some(length))
    };
    let progress = progress(length);
    let text = text(BufReader::with_capacity(BUFFER, progress.wrap_read(source))).map_err(failed)?;
    Ok((text, progress))
}

fn text(source: impl BufRead + 'static) -> std::io::Result<Box<dyn BufRead>> {
    let (begin, source) = begun(source, GZIP.len())?;
    let text: Box<dyn BufRead> = if begin == GZIP {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(Cursor::new(begin).chain(source))))
    } else {
        Box::new(Cursor::new(begin).chain(source))
    };
    let (begin, text) = begun(text, BYTE_ORDER_MARK.len())?;
    Ok(if begin == BYTE_ORDER_MARK { Box::new(text) } else { Box::new(Cursor::new(begin).chain(text)) })
}

/// The first bytes, fewer where there are no more, and what follows them.
fn begun<R: Read>(mut source: R, length: usize) -> std::io::Result<(Vec<u8>, R)> {
    let mut begin = Vec::new();
    source.by_ref().take(length as u64).read_to_end(&mut begin)?;
    Ok((begin, source))
}

/// A bar on a terminal, nothing elsewhere.
fn progress(length: Option<u64>) -> ProgressBar {
    let Some(length) = length.filter(|_| std::io::stderr().is_terminal()) else { return ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {percent}%  {binary_bytes_per_sec}  {eta} left");
    let bar = ProgressBar::new(length);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
