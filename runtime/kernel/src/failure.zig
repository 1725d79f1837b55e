//! Why the kernel ended a message or gave up: written before the trap, read by the host after it.

/// What went wrong, for the host: 0 nothing of ours.
pub const Code = struct {
    pub const none: u32 = 0;
    pub const import: u32 = 1; // an import refuses its arguments: the host repeats the call to say why
    pub const alloc: u32 = 2; // scapp_alloc returned a buffer outside the guest's memory; detail: the pointer
    pub const memory: u32 = 3; // the kernel's memory is exhausted
    pub const fuel: u32 = 5; // the message's allowance for the work of imports is used up
    pub const corrupt: u32 = 4; // an invariant is broken: never go on with this instance
};

pub var code: u32 = Code.none;
pub var detail: u32 = 0;

pub fn trap(why: u32) noreturn {
    code = why;
    @trap();
}

pub fn outOfMemory() noreturn {
    trap(Code.memory);
}

pub fn corrupt() noreturn {
    trap(Code.corrupt);
}
