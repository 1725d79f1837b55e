//! Bare keccak256 of 65 bytes, the size of an inner node, in a loop: what K7 is compared with.

const keccak = @import("keccak");

export fn hashes(count: u32) u32 {
    var input: [65]u8 = @splat(1);
    var digest: keccak.Digest = undefined;
    var i: u32 = 0;
    while (i < count) : (i += 1) {
        keccak.hash(&input, &digest);
        input[1..33].* = digest;
    }
    return digest[0];
}
