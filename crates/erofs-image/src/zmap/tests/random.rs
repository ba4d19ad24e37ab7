use erofs_format::compression::{PCLUSTER_MAX_DSIZE, PCLUSTER_MAX_SIZE};
use proptest::prelude::*;

use super::*;

/// An index in which much fits: entries near each other, so that walks get somewhere.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    let full =
        (0..4_u16, 0..5000_u16, 0..8_u16, 0..8_u16, any::<u8>()).prop_map(|(kind, ofs, back, ahead, odd)| {
            let kind = kind | if odd < 10 { 3 << 14 } else { 0 };
            let back = if odd > 200 { back | LI_D0_CBLKCNT } else { back };
            [kind, ofs, back, ahead].map(u16::to_le_bytes).concat()
        });
    let pack = (any::<[u8; 8]>(), 0..16_u8).prop_map(|(mut pack, kinds)| {
        // Small distances and offsets, all types.
        pack[1] = pack[1] & 9 | (kinds & 3) << 4;
        pack[3] = pack[3] & 9 | (kinds >> 2) << 4;
        pack.to_vec()
    });
    let any = any::<[u8; 8]>().prop_map(|bytes| bytes.to_vec());
    let list = |one| proptest::collection::vec(one, 0..120).prop_map(|list: Vec<Vec<u8>>| list.concat());
    prop_oneof![list(full.boxed()), list(pack.boxed()), list(any.boxed())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_map_panic_or_break_its_word(
        index in entries(),
        header in any::<(u32, u8, u8)>(),
        advise in 0..64_u16,
        clusterbits in prop_oneof![Just(0_u8), 0..16_u8, any::<u8>()],
        size in prop_oneof![1..600_000_u64, any::<u64>()],
        is_full in any::<bool>(),
        blkszbits in prop_oneof![Just(12_u8), 9..13_u8],
        packed in any::<bool>(),
    ) {
        let size = size & i64::MAX.cast_unsigned();
        let layout = if is_full { DataLayout::CompressedFull } else { DataLayout::CompressedCompact };
        let mut mapped = Mapped::new(layout, size, advise, index);
        mapped.blkszbits = blkszbits;
        mapped.header.h_u = header.0.into();
        mapped.header.h_algorithmtype = if header.1 < 128 { header.1 & 0x33 } else { header.1 };
        mapped.header.h_clusterbits = clusterbits;
        if packed {
            mapped = mapped.with_packed();
        }
        let image = mapped.open();
        let inode = image.inode(NID).unwrap();
        if let Ok(mut map) = ZMap::new(&image, &inode) {
            let mut offset = 0;
            for _ in 0..200 {
                match map.at(offset) {
                    Ok(extent) if offset < size => {
                        check(&mapped, extent, offset);
                        offset = extent.la + extent.llen;
                    }
                    Ok(extent) => assert_eq!(extent, hole(size, 0)),
                    Err(error) => {
                        assert_eq!(error.nid(), Some(NID));
                        offset = offset.saturating_add(4096);
                    }
                }
            }
            for offset in [size / 2, size.saturating_sub(1), size, u64::MAX] {
                if let Ok(extent) = map.at(offset) && offset < size {
                    check(&mapped, extent, offset);
                }
            }
        }
    }
}

fn check(mapped: &Mapped, extent: ZExtent, offset: u64) {
    assert!(extent.la <= offset && offset - extent.la < extent.llen, "{extent:?} {offset}");
    assert!(extent.llen <= mapped.size - extent.la, "{extent:?}");
    if let ZPlace::Pcluster { plen, at, format, .. } = extent.place {
        assert!((1..=PCLUSTER_MAX_SIZE).contains(&plen), "{extent:?}");
        assert!(extent.llen <= u64::from(PCLUSTER_MAX_DSIZE), "{extent:?}");
        assert!(matches!(format, ZFormat::Coded(_)) || extent.llen <= u64::from(plen), "{extent:?}");
        if let ZAt::Inline { position, .. } = at {
            let block_size = 1 << mapped.blkszbits;
            assert!(position % block_size + u64::from(plen) <= block_size, "{extent:?}");
        }
    }
}
