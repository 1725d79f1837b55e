//! One arena from the end of the static data upwards, emptied before each message: nothing allocated can outlive it.

use core::fmt::{Arguments, Write};

const PAGE_BYTES: usize = 65536;
const TEXT_BYTES_MAX: usize = 4096;
static mut TOP: usize = 0;

extern "C" {
    static __heap_base: u8;
}

/// Forget everything allocated; called by the entry points only.
pub fn reset() {
    unsafe { TOP = (core::ptr::addr_of!(__heap_base) as usize + 15) & !15 }
}

/// Where the arena stands, for `release`.
pub fn mark() -> usize {
    unsafe { TOP }
}

/// Give back everything allocated since `mark`; no reference into it may be left.
pub fn release(position: usize) {
    unsafe { TOP = position }
}

/// `count` bytes, uninitialised, until the message ends. Panics at the deployment's memory limit.
pub fn take(count: usize, alignment: usize) -> *mut u8 {
    let start = (mark() + alignment - 1) & !(alignment - 1);
    let end = start.checked_add(count).expect("out of memory");
    let have = core::arch::wasm32::memory_size(0) * PAGE_BYTES;
    if end > have {
        let pages = (end - have + PAGE_BYTES - 1) / PAGE_BYTES;
        if core::arch::wasm32::memory_grow(0, pages) == usize::MAX {
            panic!("out of memory");
        }
    }
    release(end);
    start as *mut u8
}

/// `count` zero bytes until the message ends.
pub fn alloc(count: usize) -> &'static mut [u8] {
    let start = take(count, 16);
    unsafe {
        core::ptr::write_bytes(start, 0, count);
        core::slice::from_raw_parts_mut(start, count)
    }
}

/// Append bytes at the top.
pub fn push(bytes: &[u8]) {
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), take(bytes.len(), 1), bytes.len()) }
}

/// Everything pushed since `start`.
pub fn since(start: usize) -> &'static [u8] {
    unsafe { core::slice::from_raw_parts(start as *const u8, mark() - start) }
}

struct Top;

impl Write for Top {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        push(text.as_bytes());
        Ok(())
    }
}

/// Text of a format, cut at 4096 bytes.
pub fn format(arguments: Arguments) -> &'static str {
    let start = mark();
    let _ = Top.write_fmt(arguments);
    let mut text = unsafe { core::str::from_utf8_unchecked(since(start)) };
    if text.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text = &text[..end];
    }
    text
}
