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

#[cfg(test)]
mod tests {
    use erofs_format::FormatError;

    use super::*;

    /// What is read of these records, which start at byte 1152.
    fn read(algorithms: Algorithms, records: &[&[u8]]) -> Result<Codecs> {
        let mut bytes = vec![0; 1152];
        for record in records {
            bytes.resize(bytes.len().next_multiple_of(4), 0xee);
            bytes.extend(u16::try_from(record.len()).unwrap().to_le_bytes());
            bytes.extend(*record);
        }
        Codecs::read(algorithms, 1152, 4096, &mut |position, buf| {
            let start = usize::try_from(position).unwrap();
            let what = Corruption::PastEnd { blob: 0, needed: buf.len() as u64 };
            let found =
                bytes.get(start..start + buf.len()).ok_or(Error::corrupt(Where::offset(position), what))?;
            buf.copy_from_slice(found);
            Ok(())
        })
    }

    fn field(algorithms: Algorithms, record: &[u8]) -> (&'static str, u64) {
        match read(algorithms, &[record]) {
            Err(Error::Corrupt { what: Corruption::CodecRecord { field, found, .. }, .. }) => (field, found),
            other => panic!("{other:?}"),
        }
    }

    const LZMA: [u8; 14] = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn each_algorithm_has_its_record_in_the_order_of_the_bits() {
        let codecs = read(Algorithms::all(), &[&[0; 15], &LZMA, &[15; 6], &[0, 3, 0, 0, 0, 0]]).unwrap();
        assert_eq!(codecs.get(Algorithm::Lz4), Some(Codec::Lz4));
        assert_eq!(codecs.get(Algorithm::Lzma), Some(Codec::Lzma { dict_size: 65536 }));
        assert_eq!(codecs.get(Algorithm::Deflate), Some(Codec::Deflate { window_bits: 15 }));
        assert_eq!(codecs.get(Algorithm::Zstd), Some(Codec::Zstd { window_log: 13 }));
        let codecs = read(Algorithms::ZSTD, &[&[0, 10, 0, 0, 0, 0]]).unwrap();
        assert_eq!(codecs.get(Algorithm::Zstd), Some(Codec::Zstd { window_log: 20 }));
        assert_eq!(codecs.get(Algorithm::Lz4), None);
        assert_eq!(read(Algorithms::empty(), &[]).unwrap(), Codecs::default());
    }

    #[test]
    fn what_linux_refuses_at_mount_is_refused() {
        assert_eq!(field(Algorithms::LZ4, &[0; 13]), ("length", 13));
        assert_eq!(field(Algorithms::LZMA, &LZMA[1..]), ("length", 13));
        assert_eq!(field(Algorithms::DEFLATE, &[15; 5]), ("length", 5));
        assert_eq!(field(Algorithms::ZSTD, &[0; 5]), ("length", 5));
        assert_eq!(
            field(Algorithms::LZ4, &[0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("max_pclusterblks", 257)
        );
        let lzma = |dict_size: u32, format: u8| {
            let mut record = LZMA;
            record[..4].copy_from_slice(&dict_size.to_le_bytes());
            record[4] = format;
            record
        };
        assert_eq!(field(Algorithms::LZMA, &lzma(65536, 1)), ("format", 1));
        assert_eq!(field(Algorithms::LZMA, &lzma(4095, 0)), ("dict_size", 4095));
        assert_eq!(field(Algorithms::LZMA, &lzma((8 << 20) + 1, 0)), ("dict_size", (8 << 20) + 1));
        assert!(read(Algorithms::LZMA, &[&lzma(8 << 20, 0)]).is_ok());
        assert_eq!(field(Algorithms::ZSTD, &[1, 0, 0, 0, 0, 0]), ("format", 1));
        assert_eq!(field(Algorithms::ZSTD, &[0, 11, 0, 0, 0, 0]), ("windowlog", 11));
        let window = read(Algorithms::DEFLATE, &[&[16, 0, 0, 0, 0, 0]]).unwrap_err();
        assert!(matches!(window, Error::Unsupported { feature: Feature::DeflateWindow { found: 16 }, .. }));
        assert_eq!(Algorithms::try_from(16), Err(FormatError::UnknownAlgorithmBits { unknown: 16 }));
    }

    #[test]
    fn records_behind_the_end_are_an_error() {
        assert_eq!(read(Algorithms::all(), &[&[0; 14], &LZMA]).unwrap_err().errno(), 5);
    }
}
