//! The ELF kernel inside a bzImage, as the boot protocol lays it out (Documentation/arch/x86/boot.rst).
//!
//! The guest boots it through PVH, which skips the decompressor: 0.6 s under TCG.

/// A kernel is at most this large unpacked; Debian's is 60 MiB.
const MAX_KERNEL_BYTES: usize = 512 << 20;
/// `LZ4_legacy_compress` frames hold blocks of at most this size unpacked (lz4_Block_format, "legacy frame").
const LZ4_BLOCK_BYTES: usize = 8 << 20;
/// Magic number of an LZ4 legacy frame.
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// Unpacks the kernel. The error says what is wrong, for people.
pub(crate) fn vmlinux(image: &[u8]) -> Result<Vec<u8>, String> {
    let payload = payload(image)?;
    let (magic, rest) = payload.split_first_chunk::<4>().ok_or("its payload is empty")?;
    if *magic != LZ4_LEGACY {
        return Err(format!("its payload is {}, only LZ4 can be unpacked", compression(magic)));
    }
    // The kernel's build appends the unpacked size (scripts/Makefile.lib, size_append).
    let (blocks, size) = rest.split_last_chunk::<4>().ok_or("its payload is cut short")?;
    let size = u32::from_le_bytes(*size) as usize;
    if size > MAX_KERNEL_BYTES {
        return Err(format!("it claims {size} bytes unpacked, more than {MAX_KERNEL_BYTES}"));
    }
    let kernel = unpack_blocks(blocks, size)?;
    if !kernel.starts_with(b"\x7fELF") {
        return Err("its payload is not an ELF file".to_owned());
    }
    Ok(kernel)
}

/// The compressed kernel: setup header fields at fixed offsets, all little-endian.
fn payload(image: &[u8]) -> Result<&[u8], String> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err("it is not a bzImage (no setup header)".to_owned());
    }
    let version = image.get(0x206..0x208).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    if version < 0x0208 {
        return Err(format!("its boot protocol {version:#06x} is older than 2.08"));
    }
    // Zero means four, for historical reasons; the boot sector itself is not counted.
    let sectors = match image[0x1f1] {
        0 => 4,
        count => usize::from(count),
    };
    let (offset, length) = (field(image, 0x248)?, field(image, 0x24c)?);
    let start = ((sectors + 1) * 512).checked_add(offset);
    let range = start.and_then(|start| Some(start..start.checked_add(length)?));
    range.and_then(|range| image.get(range)).ok_or_else(|| {
        format!("its payload ({length} bytes at {offset}) reaches past the end of {} bytes", image.len())
    })
}

fn field(image: &[u8], at: usize) -> Result<usize, String> {
    let bytes = image.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or("its setup header is cut short")?;
    Ok(u32::from_le_bytes(*bytes) as usize)
}

/// A legacy frame: compressed size (u32) and block, again and again.
fn unpack_blocks(mut blocks: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut kernel = vec![0; size];
    let mut filled = 0;
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let block = rest.get(..length).ok_or_else(|| format!("a block of {length} bytes is cut short"))?;
        let end = size.min(filled + LZ4_BLOCK_BYTES);
        filled += lz4_flex::block::decompress_into(block, &mut kernel[filled..end])
            .map_err(|error| format!("a block cannot be unpacked: {error}"))?;
        blocks = &rest[length..];
    }
    if filled != size || !blocks.is_empty() {
        return Err(format!("it unpacks to {filled} bytes instead of {size}"));
    }
    Ok(kernel)
}

/// The name of a compression from its first bytes (lib/decompress.c of the kernel).
fn compression(magic: &[u8; 4]) -> String {
    match magic {
        [0x1f, 0x8b, ..] => "gzip".to_owned(),
        [0xfd, b'7', b'z', b'X'] => "xz".to_owned(),
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd".to_owned(),
        [b'B', b'Z', b'h', _] => "bzip2".to_owned(),
        [0x89, b'L', b'Z', b'O'] => "LZO".to_owned(),
        [0x5d, 0, 0, _] => "LZMA".to_owned(),
        [a, b, c, d] => format!("of an unknown kind (magic {a:02x} {b:02x} {c:02x} {d:02x})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage around `kernel`, in blocks of `block` bytes.
    fn image(kernel: &[u8], block: usize) -> Vec<u8> {
        let mut payload = LZ4_LEGACY.to_vec();
        for chunk in kernel.chunks(block) {
            let packed = lz4_flex::block::compress(chunk);
            payload.extend((packed.len() as u32).to_le_bytes());
            payload.extend(packed);
        }
        payload.extend((kernel.len() as u32).to_le_bytes());
        wrap(&payload)
    }

    fn wrap(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 512 * 3 + 16];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image.extend([0xff; 100]);
        image
    }

    fn kernel(len: usize) -> Vec<u8> {
        let mut kernel = b"\x7fELF".to_vec();
        kernel.extend((0..len).map(|i| (i / 7) as u8));
        kernel
    }

    #[test]
    fn a_kernel_of_several_blocks_is_unpacked() {
        let kernel = kernel(LZ4_BLOCK_BYTES * 2 + 5);
        assert!(vmlinux(&image(&kernel, LZ4_BLOCK_BYTES)).unwrap() == kernel);
    }

    #[test]
    fn every_truncation_is_an_error_and_none_panics() {
        let whole = image(&kernel(3000), 1 << 20);
        let needed = whole.len() - 100;
        for cut in 0..needed {
            assert!(vmlinux(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(vmlinux(&whole[..needed]).is_ok());
    }

    #[test]
    fn no_flipped_byte_panics() {
        let whole = image(&kernel(300), 1 << 20);
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 0xff;
            let _ = vmlinux(&bent);
        }
    }

    #[test]
    fn hostile_sizes_are_refused() {
        let with = |at: usize, value: u32| {
            let mut image = image(&kernel(100), 1 << 20);
            image[at..at + 4].copy_from_slice(&value.to_le_bytes());
            vmlinux(&image).unwrap_err()
        };
        assert!(with(0x248, u32::MAX).contains("reaches past"));
        assert!(with(0x24c, u32::MAX).contains("reaches past"));
        let mut payload = LZ4_LEGACY.to_vec();
        payload.extend(u32::MAX.to_le_bytes());
        assert!(vmlinux(&wrap(&payload)).unwrap_err().contains("more than"));
        payload.extend(100_u32.to_le_bytes());
        assert!(vmlinux(&wrap(&payload)).unwrap_err().contains("cut short"));
    }

    #[test]
    fn other_compressions_are_named() {
        assert!(vmlinux(&wrap(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0])).unwrap_err().contains("zstd"));
        assert!(vmlinux(&wrap(&[1, 2, 3, 4, 0, 0, 0, 0])).unwrap_err().contains("01 02 03 04"));
        assert!(vmlinux(b"MZ").unwrap_err().contains("not a bzImage"));
        let mut not_elf = kernel(100);
        not_elf[0] = 0;
        assert!(vmlinux(&image(&not_elf, 1 << 20)).unwrap_err().contains("ELF"));
    }
}
