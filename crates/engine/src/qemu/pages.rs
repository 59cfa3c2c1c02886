//! The pages of a clone that differ from its image: found, saved, and put back (ENGINE.md section 4).
//!
//! A clone maps the sealed memory file privately, so a page it wrote is an anonymous page of that mapping. The saved file:
//!
//! ```text
//! "hearthpg" | version u32 | page bytes u32 | runs u64 | runs x (first page u64, pages u64) | the pages, in order
//! ```

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use crate::{
    sums::{Sum, Summing},
    sys::{self, Region},
};

const MAGIC: &[u8; 8] = b"hearthpg";
const VERSION: u32 = 1;
const PAGE: u64 = 4096;
/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;
/// Regions per scan. Linux (seen on 6.18) repeats regions when one call returns more than 512, the size of a buffer of its own.
const SCAN_REGIONS: usize = 256;
/// More runs than pages of the largest guest is no file of ours.
const MAX_RUNS: u64 = 1 << 28;

/// Where guest memory lies in the monitor's address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    start: u64,
    end: u64,
}

impl Mapping {
    /// Finds the private, writable mapping of `memory` in the process `pid`.
    pub fn find(pid: u32, memory: &File) -> io::Result<Self> {
        let inode = memory.metadata()?.ino();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        maps.lines()
            .find_map(|line| parse(line, inode))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the monitor does not map the image's memory"))
    }

    /// Runs of written pages, as page numbers within guest memory: `(first, count)`, ascending.
    pub fn written(&self, pid: u32) -> io::Result<Vec<(u64, u64)>> {
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        match self.scan(&pagemap) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => self.read_pagemap(&pagemap),
            // Never trust an answer that contradicts itself: a page too few is a corrupt machine.
            Ok(runs) if !ascending(&runs) => self.read_pagemap(&pagemap),
            result => result,
        }
    }

    fn scan(&self, pagemap: &File) -> io::Result<Vec<(u64, u64)>> {
        let mut runs = Vec::new();
        let mut regions = vec![Region::default(); SCAN_REGIONS];
        let mut at = self.start;
        while at < self.end {
            let (filled, walked) = sys::scan_written(pagemap, at, self.end, &mut regions)?;
            for region in &regions[..filled] {
                push(&mut runs, (region.start - self.start) / PAGE, (region.end - region.start) / PAGE);
            }
            if walked <= at {
                return Err(io::Error::other("the page scan does not advance"));
            }
            at = walked;
        }
        Ok(runs)
    }

    /// The way of kernels before 6.7: one 64-bit entry a page; bit 63 present, 62 swapped, 61 of a file.
    fn read_pagemap(&self, pagemap: &File) -> io::Result<Vec<(u64, u64)>> {
        let mut runs = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let pages = (self.end - self.start) / PAGE;
        let mut page = 0;
        while page < pages {
            let count = (pages - page).min((CHUNK / 8) as u64);
            let entries = &mut buffer[..count as usize * 8];
            pagemap.read_exact_at(entries, (self.start / PAGE + page) * 8)?;
            for (index, entry) in entries.chunks_exact(8).enumerate() {
                let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
                if entry >> 62 != 0 && entry & (1 << 61) == 0 {
                    push(&mut runs, page + index as u64, 1);
                }
            }
            page += count;
        }
        Ok(runs)
    }
}

fn ascending(runs: &[(u64, u64)]) -> bool {
    runs.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
}

fn push(runs: &mut Vec<(u64, u64)>, first: u64, count: u64) {
    match runs.last_mut() {
        Some((start, length)) if *start + *length == first => *length += count,
        _ => runs.push((first, count)),
    }
}

/// A line of `/proc/<pid>/maps`: `start-end perms offset device inode path`.
fn parse(line: &str, inode: u64) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let private_writable = fields.next()? == "rw-p";
    let same = fields.nth(2)?.parse::<u64>().ok()? == inode;
    if !(private_writable && same) {
        return None;
    }
    Some(Mapping { start: u64::from_str_radix(start, 16).ok()?, end: u64::from_str_radix(end, 16).ok()? })
}

/// Writes the pages of the (stopped) process `pid` that differ from its image to the new file `path`, fsync included.
/// Returns the bytes of pages written, and the sum of the file.
pub fn save(pid: u32, mapping: Mapping, path: &Path) -> io::Result<(u64, Sum)> {
    let runs = mapping.written(pid)?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let file = File::options().write(true).create_new(true).open(path)?;
    let mut out = Summing::new(BufWriter::with_capacity(CHUNK, &file));
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&(PAGE as u32).to_le_bytes())?;
    out.write_all(&(runs.len() as u64).to_le_bytes())?;
    for (first, count) in &runs {
        out.write_all(&first.to_le_bytes())?;
        out.write_all(&count.to_le_bytes())?;
    }
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    for (first, count) in runs {
        copy_run(mapping.start + first * PAGE, count * PAGE, &mut buffer, |address, chunk| {
            memory.read_exact_at(chunk, address)?;
            out.write_all(chunk)
        })?;
        bytes += count * PAGE;
    }
    out.flush()?;
    let sum = out.sum();
    drop(out);
    file.sync_data()?;
    Ok((bytes, sum))
}

/// Puts the pages of `path` into the guest memory of the process `pid`, which has not run yet. The file is checked as it is
/// read; after an error, or if the sum that is returned is not the right one, the process must not run.
pub fn inject(pid: u32, mapping: Mapping, path: &Path) -> io::Result<Sum> {
    let mut file = Summing::new(BufReader::with_capacity(CHUNK, File::open(path)?));
    let runs = read_runs(&mut file, (mapping.end - mapping.start) / PAGE)?;
    let memory = File::options().write(true).open(format!("/proc/{pid}/mem"))?;
    let mut buffer = vec![0; CHUNK];
    for (first, count) in runs {
        copy_run(mapping.start + first * PAGE, count * PAGE, &mut buffer, |address, chunk| {
            file.read_exact(chunk)?;
            memory.write_all_at(chunk, address)
        })?;
    }
    io::copy(&mut file, &mut io::sink())?;
    Ok(file.sum())
}

fn read_runs(file: &mut impl Read, pages: u64) -> io::Result<Vec<(u64, u64)>> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("saved pages are damaged: {what}"));
    let mut header = [0; 24];
    file.read_exact(&mut header)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if &header[..8] != MAGIC || word(8) != VERSION || u64::from(word(12)) != PAGE {
        return Err(damaged("not a page file of this version"));
    }
    let count = u64::from(word(16)) | u64::from(word(20)) << 32;
    if count > MAX_RUNS.min(pages) {
        return Err(damaged("more runs than guest memory has pages"));
    }
    let mut runs = Vec::with_capacity(count as usize);
    let mut entry = [0; 16];
    let mut next_free = 0;
    for _ in 0..count {
        file.read_exact(&mut entry)?;
        let (first, length) = entry.split_at(8);
        let first = u64::from_le_bytes(first.try_into().unwrap_or_default());
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        let end = first.checked_add(length).filter(|end| *end <= pages && first >= next_free && length > 0);
        next_free = end.ok_or_else(|| damaged("a run lies outside guest memory"))?;
        runs.push((first, length));
    }
    Ok(runs)
}

fn copy_run(
    address: u64,
    bytes: u64,
    buffer: &mut [u8],
    mut copy: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes {
        let chunk = (bytes - done).min(buffer.len() as u64);
        copy(address + done, &mut buffer[..chunk as usize])?;
        done += chunk;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_together() {
        let mut runs = Vec::new();
        for (first, count) in [(1, 1), (2, 3), (9, 1), (10, 1)] {
            push(&mut runs, first, count);
        }
        assert_eq!(runs, [(1, 4), (9, 2)]);
    }

    #[test]
    fn only_the_private_writable_mapping_of_that_file_counts() {
        let line = "7f842bfff000-7f844bfff000 rw-p 00000000 fe:00 10166310                   /image/memory";
        assert_eq!(parse(line, 10166310), Some(Mapping { start: 0x7f84_2bff_f000, end: 0x7f84_4bff_f000 }));
        assert_eq!(parse(line, 7), None);
        assert_eq!(parse(&line.replace("rw-p", "r--s"), 10166310), None);
    }

    fn file(runs: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(PAGE as u32).to_le_bytes());
        bytes.extend_from_slice(&(runs.len() as u64).to_le_bytes());
        for (first, count) in runs {
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn damaged_files_are_refused() {
        assert_eq!(read_runs(&mut file(&[(0, 2), (5, 1)]).as_slice(), 10).expect("whole"), [(0, 2), (5, 1)]);
        for (bytes, what) in [
            (file(&[(9, 2)]), "past the end"),
            (file(&[(5, 1), (0, 1)]), "descending"),
            (file(&[(u64::MAX, 2)]), "overflow"),
            (file(&[(1, 0)]), "empty run"),
            (file(&[(1, 1)])[..30].to_vec(), "cut short"),
            (b"not a page file, not at all, no.".to_vec(), "magic"),
        ] {
            assert!(read_runs(&mut bytes.as_slice(), 10).is_err(), "{what}");
        }
    }

    /// Both ways see the same, whatever the pattern of written, read and untouched pages.
    #[test]
    fn both_ways_agree_on_many_pages() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("memory");
        let pages = 1u64 << 19;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).expect("open");
        file.set_len(pages * PAGE).expect("length");
        let map = sys::tests_support::private_map(&file, (pages * PAGE) as usize);
        let mapping = Mapping::find(std::process::id(), &file).expect("mapped");
        let pagemap = File::open("/proc/self/pagemap").expect("pagemap");
        let mut seed = 7u64;
        for round in 0..25 {
            for _ in 0..400 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let page = (seed >> 33) % pages;
                let address = (page * PAGE) as usize;
                if seed >> 20 & 1 == 0 {
                    map[address] = 1
                } else {
                    std::hint::black_box(map[address]);
                }
            }
            assert_eq!(
                mapping.scan(&pagemap).expect("scan"),
                mapping.read_pagemap(&pagemap).expect("pagemap"),
                "{round}"
            );
        }
    }

    /// The mechanism on this very process: a private mapping of a file, some pages written, found by both scanners.
    #[test]
    fn written_pages_of_a_private_mapping_are_found_by_both_ways() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("memory");
        std::fs::write(&path, vec![7; 64 * PAGE as usize]).expect("write");
        let file = File::options().read(true).open(&path).expect("open");
        let map = sys::tests_support::private_map(&file, 64 * PAGE as usize);
        let _read_only = std::hint::black_box(map[20 * PAGE as usize]);
        map[3 * PAGE as usize] = 1;
        map[4 * PAGE as usize + 5] = 1;
        map[40 * PAGE as usize] = 1;
        let mapping = Mapping::find(std::process::id(), &file).expect("mapped");
        let pagemap = File::open("/proc/self/pagemap").expect("pagemap");
        assert_eq!(mapping.read_pagemap(&pagemap).expect("pagemap"), [(3, 2), (40, 1)]);
        assert_eq!(mapping.written(std::process::id()).expect("written"), [(3, 2), (40, 1)]);

        let saved = dir.path().join("pages");
        let (bytes, sum) = save(std::process::id(), mapping, &saved).expect("save");
        assert_eq!(bytes, 3 * PAGE);
        map[3 * PAGE as usize] = 9;
        assert_eq!(inject(std::process::id(), mapping, &saved).expect("inject"), sum);
        assert_eq!(map[3 * PAGE as usize], 1);
    }
}
