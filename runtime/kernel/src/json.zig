//! Which JSON texts a `json` column takes: RFC 8259's grammar, nesting at most 64, no `\u0000` and no unpaired
//! surrogate escape, which PostgreSQL's JSON operators fail on. The same in Python: json_text.py.

const depth_max = 64;

/// Whether valid UTF-8 is acceptable JSON text.
pub fn allowed(text: []const u8) bool {
    var parser: Parser = .{ .text = text };
    return parser.value() and parser.at == text.len;
}

const Parser = struct {
    text: []const u8,
    at: usize = 0,
    objects: u64 = 0, // bit d: what is open at depth d is an object
    depth: u32 = 0,

    fn peek(self: *const Parser) u8 {
        return if (self.at < self.text.len) self.text[self.at] else 0;
    }

    fn blank(self: *Parser) void {
        while (self.at < self.text.len) : (self.at += 1) {
            switch (self.text[self.at]) {
                ' ', '\t', '\n', '\r' => {},
                else => return,
            }
        }
    }

    /// One value with the blanks around it. Iterative: the depth limit is ours, not the stack's.
    fn value(self: *Parser) bool {
        self.blank();
        while (true) {
            switch (self.peek()) {
                '{', '[' => |opening| {
                    if (self.depth == depth_max) return false;
                    self.at += 1;
                    self.blank();
                    const closing: u8 = if (opening == '{') '}' else ']';
                    if (self.peek() == closing and self.at < self.text.len) {
                        self.at += 1;
                        self.blank();
                    } else {
                        const bit = @as(u64, 1) << @intCast(self.depth);
                        if (opening == '{') self.objects |= bit else self.objects &= ~bit;
                        self.depth += 1;
                        if (opening == '{' and !self.member()) return false;
                        continue;
                    }
                },
                '"' => {
                    if (!self.string()) return false;
                    self.blank();
                },
                else => {
                    if (!self.scalar()) return false;
                    self.blank();
                },
            }
            // What a value may be followed by: the end of what is open, or the next member.
            while (self.depth > 0) {
                const object = self.objects >> @intCast(self.depth - 1) & 1 != 0;
                if (self.peek() == ',') {
                    self.at += 1;
                    self.blank();
                    if (object and !self.member()) return false;
                    break;
                }
                if (self.at >= self.text.len or self.peek() != @as(u8, if (object) '}' else ']')) return false;
                self.depth -= 1;
                self.at += 1;
                self.blank();
            } else return true;
        }
    }

    /// A member's name and colon.
    fn member(self: *Parser) bool {
        if (self.peek() != '"' or !self.string()) return false;
        self.blank();
        if (self.peek() != ':') return false;
        self.at += 1;
        self.blank();
        return true;
    }

    fn scalar(self: *Parser) bool {
        return switch (self.peek()) {
            't' => self.word("true"),
            'f' => self.word("false"),
            'n' => self.word("null"),
            else => self.number(),
        };
    }

    fn word(self: *Parser, comptime expected: []const u8) bool {
        if (self.text.len - self.at < expected.len) return false;
        for (expected, 0..) |byte, i| if (self.text[self.at + i] != byte) return false;
        self.at += expected.len;
        return true;
    }

    fn number(self: *Parser) bool {
        if (self.peek() == '-') self.at += 1;
        if (self.peek() == '0') self.at += 1 else if (!self.digits()) return false;
        // A point or exponent without digits is no part of the number, and nothing can follow one.
        if (self.peek() == '.') {
            self.at += 1;
            if (!self.digits()) return false;
        }
        if (self.peek() == 'e' or self.peek() == 'E') {
            self.at += 1;
            if (self.peek() == '+' or self.peek() == '-') self.at += 1;
            if (!self.digits()) return false;
        }
        return true;
    }

    fn digits(self: *Parser) bool {
        const start = self.at;
        while (self.peek() >= '0' and self.peek() <= '9') self.at += 1;
        return self.at > start;
    }

    fn string(self: *Parser) bool {
        self.at += 1;
        var high = false; // the escape before was the first half of a pair
        while (self.at < self.text.len) {
            const byte = self.text[self.at];
            if (byte == '\\' and self.at + 1 < self.text.len and self.text[self.at + 1] == 'u') {
                const unit = self.escape() orelse return false;
                if (unit == 0 or high != (unit >= 0xdc00 and unit < 0xe000)) return false;
                high = unit >= 0xd800 and unit < 0xdc00;
                continue;
            }
            if (high) return false;
            self.at += 1;
            switch (byte) {
                '"' => return true,
                '\\' => {
                    switch (self.peek()) {
                        '"', '\\', '/', 'b', 'f', 'n', 'r', 't' => self.at += 1,
                        else => return false,
                    }
                },
                else => if (byte < 0x20) return false,
            }
        }
        return false;
    }

    fn escape(self: *Parser) ?u32 {
        if (self.text.len - self.at < 6) return null;
        var unit: u32 = 0;
        for (self.text[self.at + 2 ..][0..4]) |byte| {
            const nibble: u32 = switch (byte) {
                '0'...'9' => byte - '0',
                'a'...'f' => byte - 'a' + 10,
                'A'...'F' => byte - 'A' + 10,
                else => return null,
            };
            unit = unit << 4 | nibble;
        }
        self.at += 6;
        return unit;
    }
};
