//! PURE. A zip file of a few texts, stored as they are: no compression, so no dependency.
//!
//! The format: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, sections 4.3.7, 4.3.12 and 4.3.16.

/// A file too large for the format without its 64-bit extension: 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the report would be larger than a zip file may be (4 GiB, 65,535 files)")]
pub struct TooLarge;

/// Version 2.0 of the format is needed to read it.
const VERSION: u16 = 20;
/// Names are UTF-8: bit 11 of the flags.
const UTF8: u16 = 1 << 11;
/// The first day that MS-DOS knows: 1980-01-01.
const DATE: u16 = 0x21;

/// Packs files, by name and content.
///
/// # Errors
/// [`TooLarge`].
pub fn zip(files: &[(String, String)]) -> Result<Vec<u8>, TooLarge> {
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in files {
        let offset = u32::try_from(archive.len()).map_err(|_| TooLarge)?;
        let facts = facts(name, content)?;
        archive.extend(0x0403_4b50_u32.to_le_bytes());
        archive.extend(&facts);
        archive.extend(name.as_bytes());
        archive.extend(content.as_bytes());
        directory.extend(0x0201_4b50_u32.to_le_bytes());
        directory.extend(VERSION.to_le_bytes());
        directory.extend(&facts);
        // no comment, first disk, no attributes
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let offset = u32::try_from(archive.len()).map_err(|_| TooLarge)?;
    let size = u32::try_from(directory.len()).map_err(|_| TooLarge)?;
    let count = u16::try_from(files.len()).map_err(|_| TooLarge)?;
    archive.extend(directory);
    archive.extend(0x0605_4b50_u32.to_le_bytes());
    archive.extend([0; 4]);
    archive.extend(count.to_le_bytes());
    archive.extend(count.to_le_bytes());
    archive.extend(size.to_le_bytes());
    archive.extend(offset.to_le_bytes());
    archive.extend([0; 2]);
    Ok(archive)
}

/// What both headers say of a file, from the version to the length of the extra field.
fn facts(name: &str, content: &str) -> Result<Vec<u8>, TooLarge> {
    let size = u32::try_from(content.len()).map_err(|_| TooLarge)?;
    let length = u16::try_from(name.len()).map_err(|_| TooLarge)?;
    let mut facts = Vec::new();
    // version, flags, stored, time
    for number in [VERSION, UTF8, 0, 0, DATE] {
        facts.extend(number.to_le_bytes());
    }
    for number in [crc32(content.as_bytes()), size, size] {
        facts.extend(number.to_le_bytes());
    }
    facts.extend(length.to_le_bytes());
    facts.extend([0; 2]);
    Ok(facts)
}

/// CRC-32 as in ISO 3309, bit by bit: reports are small.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn an_archive_leads_to_each_of_its_files() {
        let files = [("a.txt".to_owned(), "hello".to_owned()), ("b/ü.yaml".to_owned(), String::new())];
        let archive = zip(&files).unwrap();
        let number = |at: usize, bytes: usize| {
            archive[at..at + bytes].iter().rev().fold(0, |sum, byte| sum * 256 + usize::from(*byte))
        };
        let end = archive.len() - 22;
        assert_eq!((number(end, 4), number(end + 10, 2)), (0x0605_4b50, 2));
        let (mut entry, last) = (number(end + 16, 4), number(end + 16, 4) + number(end + 12, 4));
        for (name, content) in &files {
            assert_eq!(number(entry, 4), 0x0201_4b50);
            let local = number(entry + 42, 4);
            assert_eq!(number(local, 4), 0x0403_4b50);
            assert_eq!((number(local + 22, 4), number(local + 26, 2)), (content.len(), name.len()));
            assert_eq!(&archive[local + 30..local + 30 + name.len()], name.as_bytes());
            let start = local + 30 + name.len();
            assert_eq!(&archive[start..start + content.len()], content.as_bytes());
            entry += 46 + name.len();
        }
        assert_eq!((entry, last), (end, end));
    }
}
