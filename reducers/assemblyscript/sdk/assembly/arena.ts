// The runtime under the compiler's own: one arena from the end of the static data upwards, emptied before each message.
// Objects are laid out as the compiler expects (a header of 20 bytes before the data, which is aligned to 16).

const PAGE: usize = 65536;
const SIZE: usize = 4; // before every block
const OBJECT: usize = 16; // before an object's data: two unused words, class id, size

let top: usize = 0;

/** Forget everything allocated; called by the entry points only. */
export function reset(): void {
  top = (__heap_base + 15) & ~15;
}

/** `size` bytes, not zeroed, until the message ends. Traps at the deployment's memory limit. */
export function take(size: usize): usize {
  const start = (top + SIZE + 15) & ~15;
  const end = start + size;
  const have = <usize>memory.size() * PAGE;
  if (end < start) abort("out of memory");
  if (end > have && memory.grow(<i32>((end - have + PAGE - 1) / PAGE)) < 0) abort("out of memory");
  store<u32>(start - SIZE, <u32>size);
  top = end;
  return start;
}

// @ts-ignore: decorator
@global @unsafe
export function __alloc(size: usize): usize {
  return take(size);
}

// @ts-ignore: decorator
@global @unsafe
export function __realloc(block: usize, size: usize): usize {
  const had = <usize>load<u32>(block - SIZE);
  if (size <= had) return block;
  const grown = take(size);
  memory.copy(grown, block, had);
  return grown;
}

// @ts-ignore: decorator
@global @unsafe
export function __free(_block: usize): void {}

// @ts-ignore: decorator
@global @unsafe
export function __new(size: usize, id: u32): usize {
  const object = take(OBJECT + size);
  memory.fill(object, 0, OBJECT + size);
  store<u32>(object + 8, id);
  store<u32>(object + 12, <u32>size);
  return object + OBJECT;
}

// @ts-ignore: decorator
@global @unsafe
export function __renew(old: usize, size: usize): usize {
  const object = __realloc(old - OBJECT, OBJECT + size);
  store<u32>(object + 12, <u32>size);
  return object + OBJECT;
}

// @ts-ignore: decorator
@global @unsafe
export function __link(_parent: usize, _child: usize, _multiple: bool): void {}

// @ts-ignore: decorator
@global @unsafe
export function __pin(object: usize): usize {
  return object;
}

// @ts-ignore: decorator
@global @unsafe
export function __unpin(_object: usize): void {}

// @ts-ignore: decorator
@global @unsafe
export function __visit(_object: usize, _cookie: u32): void {}

// @ts-ignore: decorator
@global @unsafe
export function __collect(): void {}
