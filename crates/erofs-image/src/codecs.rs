//! The records behind the superblock that say with which parameters each algorithm was used.

use erofs_codec::Codec;
use erofs_format::compression::{
    Algorithm, Algorithms, DEFLATE_MAX_WINDOWBITS, DeflateCfgs, LZMA_MAX_DICT_SIZE, LZMA_MIN_DICT_SIZE,
    Lz4Cfgs, LzmaCfgs, PCLUSTER_MAX_SIZE, ZSTD_MAX_WINDOWLOG, ZstdCfgs,
};
use zerocopy::FromBytes;

use crate::error::{Corruption, Error, Feature, Result, Where};

/// Bytes of the longest record.
const MAX_SIZE: usize = size_of::<Lz4Cfgs>();
/// Bytes of the length before each record.
const LENGTH_SIZE: u64 = size_of::<u16>() as u64;
/// `windowlog` of Zstandard counts from here.
const ZSTD_WINDOWLOG_BASE: u8 = 10;

/// The parameters of each algorithm that the image may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Codecs {
    by_number: [Option<Codec>; 4],
}

impl Codecs {
    /// Those of an image without records, which may use LZ4 alone.
    pub(crate) fn lz4_only() -> Self {
        Self { by_number: [Some(Codec::Lz4), None, None, None] }
    }

    /// Reads the record of each algorithm from byte `position` on, as strictly as Linux.
    pub(crate) fn read(
        algorithms: Algorithms,
        mut position: u64,
        block_size: u32,
        read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        let mut codecs = Self::default();
        for (number, codec) in (0..).zip(&mut codecs.by_number) {
            let Some(algorithm) = Algorithm::try_from(number).ok().filter(|it| it.is_in(algorithms)) else {
                continue;
            };
            // The superblock ends below 4096, and no length is above 65536.
            position = position.next_multiple_of(4);
            let mut length = [0; size_of::<u16>()];
            read(position, &mut length)?;
            let length = match u16::from_le_bytes(length) {
                0 => 1 << 16,
                length => usize::from(length),
            };
            position += LENGTH_SIZE;
            let record = Record { algorithm, length, position };
            *codec = Some(record.codec(block_size, read)?);
            position += length as u64;
        }
        Ok(codecs)
    }

    /// The parameters of `algorithm`, if the image may use it.
    pub(crate) fn get(&self, algorithm: Algorithm) -> Option<Codec> {
        self.by_number.get(algorithm as usize).copied().flatten()
    }
}

struct Record {
    algorithm: Algorithm,
    length: usize,
    position: u64,
}

impl Record {
    fn codec(&self, block_size: u32, read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>) -> Result<Codec> {
        let needed = match self.algorithm {
            Algorithm::Lz4 => size_of::<Lz4Cfgs>(),
            Algorithm::Lzma => size_of::<LzmaCfgs>(),
            Algorithm::Deflate => size_of::<DeflateCfgs>(),
            Algorithm::Zstd => size_of::<ZstdCfgs>(),
        };
        if self.length < needed {
            return Err(self.corrupt("length", self.length as u64));
        }
        let mut bytes = [0; MAX_SIZE];
        let bytes = bytes.get_mut(..needed).unwrap_or_default();
        read(self.position, bytes)?;
        match self.algorithm {
            Algorithm::Lz4 => {
                let raw = Lz4Cfgs::read_from_bytes(bytes).unwrap_or_default();
                let blocks = u32::from(raw.max_pclusterblks.get());
                self.check("max_pclusterblks", blocks, blocks <= PCLUSTER_MAX_SIZE / block_size)?;
                Ok(Codec::Lz4)
            }
            Algorithm::Lzma => {
                let raw = LzmaCfgs::read_from_bytes(bytes).unwrap_or_default();
                let (format, dict_size) = (u32::from(raw.format.get()), raw.dict_size.get());
                self.check("format", format, format == 0)?;
                let sizes = LZMA_MIN_DICT_SIZE..=LZMA_MAX_DICT_SIZE;
                self.check("dict_size", dict_size, sizes.contains(&dict_size))?;
                Ok(Codec::Lzma { dict_size })
            }
            Algorithm::Deflate => {
                let raw = DeflateCfgs::read_from_bytes(bytes).unwrap_or_default();
                let window_bits = raw.windowbits;
                if window_bits > DEFLATE_MAX_WINDOWBITS {
                    let feature = Feature::DeflateWindow { found: window_bits };
                    return Err(Error::unsupported(Where::offset(self.position), feature));
                }
                Ok(Codec::Deflate { window_bits })
            }
            Algorithm::Zstd => {
                let raw = ZstdCfgs::read_from_bytes(bytes).unwrap_or_default();
                self.check("format", raw.format.into(), raw.format == 0)?;
                self.check("windowlog", raw.windowlog.into(), raw.windowlog <= ZSTD_MAX_WINDOWLOG)?;
                Ok(Codec::Zstd { window_log: raw.windowlog + ZSTD_WINDOWLOG_BASE })
            }
        }
    }

    fn check(&self, field: &'static str, found: u32, is_right: bool) -> Result<()> {
        if is_right { Ok(()) } else { Err(self.corrupt(field, found.into())) }
    }

    fn corrupt(&self, field: &'static str, found: u64) -> Error {
        let what = Corruption::CodecRecord { algorithm: self.algorithm, field, found };
        Error::corrupt(Where::offset(self.position), what)
    }
}
