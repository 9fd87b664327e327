//! Sealing and opening: zstd frames with checksum and content size, padded to a Padmé size by a
//! skippable frame, in one age file to all recipients.
//!
//! The length of sealed data leaks what was compressed; the padding blurs it. The last frame of every
//! sealed stream is therefore skippable, at least 8 bytes long, and makes the age plaintext's length a
//! Padmé size (Nikitin et al., PETS 2019, section 4).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use zstd::zstd_safe::CParameter;

use super::keys::{Identities, Recipients};
use crate::store::Sha256;

/// Payload at which a segment closes, in bytes.
pub const SEGMENT_PAYLOAD: usize = 16 << 20;
/// The largest zstd window that writers use and readers accept: 8 MiB.
pub const WINDOW_LOG: u32 = 23;
/// No reader unpacks more than this from one segment or log object, in bytes.
pub const MAX_PAYLOAD: u64 = 96 << 20;
/// Magic number of the skippable frame that pads.
const SKIPPABLE: u32 = 0x184D_2A50;
/// Payload of one frame of a long stream, in bytes.
const FRAME: usize = 4 << 20;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Compression failed.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
    /// Sealing failed.
    #[error("cannot seal")]
    Seal(#[source] io::Error),
    /// No recipient can be sealed to.
    #[error("cannot seal to the recipients")]
    Recipients(#[from] age::EncryptError),
    /// No identity at hand opens it.
    #[error("none of the identities opens it")]
    WrongIdentity,
    /// The header is not age's, or damaged.
    #[error("it is not a whole age file")]
    NotAge(#[source] age::DecryptError),
}

/// The Padmé size of a length: the smallest allowed size that is not below it.
pub fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let bits = exponent.ilog2() + 1;
    let mask = (1u64 << exponent.saturating_sub(bits)) - 1;
    (length + mask) & !mask
}

/// The skippable frame that pads `length` bytes of frames.
fn padding(length: u64) -> Vec<u8> {
    let total = padme(length + 8);
    let fill = total - length - 8;
    let mut frame = Vec::with_capacity(8 + usize::try_from(fill).unwrap_or(0));
    frame.extend(SKIPPABLE.to_le_bytes());
    frame.extend(u32::try_from(fill).unwrap_or(u32::MAX).to_le_bytes());
    frame.resize(frame.len() + usize::try_from(fill).unwrap_or(0), 0);
    frame
}

/// Compresses single frames, over and over.
pub struct Frames {
    compressor: zstd::bulk::Compressor<'static>,
}

/// How hard, and for what, to compress.
///
/// Records of an estate are full of ids and digests that never repeat; every short match among them costs
/// more than it saves. So matches are at least seven bytes long. Measured on eleven segments of 16 MiB, bytes
/// and seconds of one core: level 3 15.4 MB 0.28 s; `Records` 14.5 MB 0.28 s; level 9 and above smaller by
/// little and slower by much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Many small JSON documents.
    Records,
    /// Lines of a manifest: a path, a digest, and little else.
    Lines,
    /// Log events.
    Events,
    /// One of zstd's own levels, 1 to 19.
    Level(i32),
}

impl Tuning {
    /// A level where one is said, else what fits the data.
    pub fn of(level: Option<i32>, data: Self) -> Self {
        level.map_or(data, Self::Level)
    }

    fn parameters(self) -> Vec<CParameter> {
        use zstd::zstd_safe::Strategy::ZSTD_fast;
        let long_matches = |hash_log| {
            vec![CParameter::Strategy(ZSTD_fast), CParameter::MinMatch(7), CParameter::HashLog(hash_log), CParameter::WindowLog(WINDOW_LOG)]
        };
        match self {
            Self::Records | Self::Events => long_matches(17),
            Self::Lines => long_matches(10),
            Self::Level(level) if level > 16 => vec![CParameter::WindowLog(WINDOW_LOG)],
            Self::Level(_) => vec![],
        }
    }

    fn level(self) -> i32 {
        if let Self::Level(level) = self { level } else { 3 }
    }
}

impl Frames {
    /// A compressor.
    pub fn new(tuning: Tuning) -> Result<Self, SealError> {
        let make = || {
            let mut compressor = zstd::bulk::Compressor::new(tuning.level())?;
            compressor.set_parameter(CParameter::ChecksumFlag(true))?;
            compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
            for parameter in tuning.parameters() {
                compressor.set_parameter(parameter)?;
            }
            Ok(compressor)
        };
        Ok(Self { compressor: make().map_err(SealError::Compress)? })
    }

    /// One frame with checksum and content size.
    pub fn frame(&mut self, payload: &[u8]) -> Result<Vec<u8>, SealError> {
        self.compressor.compress(payload).map_err(SealError::Compress)
    }
}

/// A sealed object in memory.
pub struct Sealed {
    /// The stored bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub sha256: Sha256,
}

/// Seals one payload as one frame.
pub fn seal(payload: &[u8], frames: &mut Frames, recipients: &Recipients) -> Result<Sealed, SealError> {
    let frame = frames.frame(payload)?;
    let mut bytes = Vec::with_capacity(frame.len() + frame.len() / 8 + 4096);
    encrypt(&mut bytes, recipients, frame.len() as u64, |out| out.write_all(&frame))?;
    let sha256 = Sha256::of(&bytes);
    Ok(Sealed { bytes, sha256 })
}

fn encrypt<W: Write>(
    out: W,
    recipients: &Recipients,
    length: u64,
    write: impl FnOnce(&mut age::stream::StreamWriter<W>) -> io::Result<()>,
) -> Result<W, SealError> {
    let mut sealed = recipients.encryptor()?.wrap_output(out).map_err(SealError::Seal)?;
    write(&mut sealed).and_then(|()| sealed.write_all(&padding(length))).and_then(|()| sealed.finish()).map_err(SealError::Seal)
}

/// Lines on their way into a sealed stream whose first line is known only at the end.
///
/// The lines are compressed frame by frame into an unnamed file; [`LineSpool::seal`] puts the header's
/// frame before them. Memory is one frame.
pub struct LineSpool {
    frames: Frames,
    buffer: Vec<u8>,
    file: File,
    length: u64,
}

impl LineSpool {
    /// A spool in an unnamed file of `directory`.
    pub fn new(directory: &std::path::Path, tuning: Tuning) -> Result<Self, SealError> {
        let file = tempfile::tempfile_in(directory).map_err(SealError::Compress)?;
        Ok(Self { frames: Frames::new(tuning)?, buffer: Vec::with_capacity(FRAME + 4096), file, length: 0 })
    }

    /// The buffer to which whole lines may be appended; call [`LineSpool::advance`] afterwards.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Passes the buffer on when it is full.
    pub fn advance(&mut self) -> Result<(), SealError> {
        if self.buffer.len() >= FRAME { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SealError> {
        if !self.buffer.is_empty() {
            let frame = self.frames.frame(&self.buffer)?;
            self.file.write_all(&frame).map_err(SealError::Compress)?;
            self.length += frame.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Seals header and lines into a new unnamed-until-stored file; gives its digest and size.
    pub fn seal(mut self, header: &[u8], recipients: &Recipients, out: File) -> Result<(Sha256, u64), SealError> {
        self.flush()?;
        let header = self.frames.frame(header)?;
        let mut hashed = HashingWriter { inner: out, hasher: sha2::Digest::new(), bytes: 0 };
        let length = header.len() as u64 + self.length;
        self.file.seek(SeekFrom::Start(0)).map_err(SealError::Seal)?;
        encrypt(&mut hashed, recipients, length, |sealed| {
            sealed.write_all(&header)?;
            io::copy(&mut self.file, sealed).map(drop)
        })?;
        Ok((Sha256::finish(hashed.hasher), hashed.bytes))
    }
}

struct HashingWriter<W> {
    inner: W,
    hasher: sha2::Sha256,
    bytes: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        sha2::Digest::update(&mut self.hasher, &buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The plain stream of a sealed object. Windows over 8 MiB are refused.
pub fn open<'a, R: Read + 'a>(sealed: R, identities: &Identities) -> Result<impl Read + use<'a, R>, SealError> {
    let plain = decrypt(sealed, identities)?;
    let mut decoder = zstd::stream::read::Decoder::new(plain).map_err(SealError::Compress)?;
    decoder.window_log_max(WINDOW_LOG).map_err(SealError::Compress)?;
    Ok(decoder)
}

/// The age plaintext: zstd frames and the padding.
pub fn decrypt<'a, R: Read + 'a>(sealed: R, identities: &Identities) -> Result<impl Read + use<'a, R>, SealError> {
    let decryptor = age::Decryptor::new_buffered(BufReader::with_capacity(1 << 16, sealed)).map_err(SealError::NotAge)?;
    decryptor.decrypt(identities.as_dyn()).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => SealError::WrongIdentity,
        other => SealError::NotAge(other),
    })
}

/// What is wrong with the outer form of a sealed object's plaintext, if anything.
pub fn check_frames(plain: &[u8]) -> Result<(), String> {
    if padme(plain.len() as u64) != plain.len() as u64 {
        return Err(format!("its length of {} bytes is not a Padmé size", plain.len()));
    }
    let mut at = 0;
    let mut padded = false;
    while at < plain.len() {
        if padded {
            return Err("something follows the padding".into());
        }
        let rest = &plain[at..];
        let length = zstd::zstd_safe::find_frame_compressed_size(rest).map_err(|_| format!("no whole zstd frame at byte {at}"))?;
        let magic = rest.first_chunk::<4>().map_or(0, |m| u32::from_le_bytes(*m));
        padded = magic & 0xFFFF_FFF0 == SKIPPABLE;
        if !padded {
            let descriptor = rest.get(4).copied().unwrap_or(0);
            if descriptor & 0b100 == 0 {
                return Err(format!("the frame at byte {at} has no checksum"));
            }
            if descriptor & 0b11 != 0 {
                return Err(format!("the frame at byte {at} wants a dictionary"));
            }
            if !matches!(zstd::zstd_safe::get_frame_content_size(rest), Ok(Some(_))) {
                return Err(format!("the frame at byte {at} does not say its size"));
            }
        }
        at += length;
    }
    if padded { Ok(()) } else { Err("the padding is missing".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recipients() -> (Recipients, Identities, tempfile::NamedTempFile) {
        let (text, recipient) = super::super::keys::new_identity(jiff::Timestamp::UNIX_EPOCH);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let identities = Identities::load(&[file.path().to_owned()]).unwrap();
        (Recipients::parse(&[recipient]).unwrap(), identities, file)
    }

    #[test]
    fn padme_sizes_are_the_papers() {
        for (length, size) in
            [(0, 0), (1, 1), (8, 8), (9, 10), (100, 104), (1000, 1024), (1 << 20, 1 << 20), ((1 << 20) + 1, (1 << 20) + (1 << 15))]
        {
            assert_eq!(padme(length), size, "{length}");
        }
    }

    proptest! {
        #[test]
        fn padding_is_small_and_stable(length in 1u64..1 << 40) {
            let size = padme(length);
            prop_assert!(size >= length);
            prop_assert_eq!(padme(size), size);
            prop_assert!((size - length) as f64 <= length as f64 * 0.12 + 1.0);
        }

        #[test]
        fn what_is_sealed_opens(payload in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let (recipients, identities, _file) = recipients();
            let sealed = seal(&payload, &mut Frames::new(Tuning::Records).unwrap(), &recipients).unwrap();
            let mut plain = Vec::new();
            decrypt(sealed.bytes.as_slice(), &identities).unwrap().read_to_end(&mut plain).unwrap();
            prop_assert_eq!(check_frames(&plain), Ok(()));
            let mut back = Vec::new();
            open(sealed.bytes.as_slice(), &identities).unwrap().read_to_end(&mut back).unwrap();
            prop_assert_eq!(back, payload);
        }
    }

    #[test]
    fn the_form_of_frames_is_checked() {
        let mut frames = Frames::new(Tuning::Records).unwrap();
        let frame = frames.frame(b"hello").unwrap();
        let with = |tail: &[u8]| [frame.as_slice(), tail].concat();
        let good = with(&padding(frame.len() as u64));
        assert_eq!(check_frames(&good), Ok(()));
        assert!(check_frames(&frame).is_err());
        assert!(check_frames(&good[..good.len() - 1]).is_err());
        let plain = zstd::bulk::compress(b"hello", 3).unwrap();
        let unchecked = [plain.as_slice(), &padding(plain.len() as u64)].concat();
        assert!(check_frames(&unchecked).unwrap_err().contains("no checksum"));
    }
}
