// Whole numbers that trap where the language wraps round: wrong amounts are worse than a refused message.

/** a + b, or a trap. */
export function add<T extends number>(a: T, b: T): T {
  const sum = <T>(a + b);
  if (isSigned<T>()) {
    if (b < <T>0 ? sum > a : sum < a) abort("integer overflow");
  } else if (sum < a) abort("integer overflow");
  return sum;
}

/** a - b, or a trap. */
export function subtract<T extends number>(a: T, b: T): T {
  const rest = <T>(a - b);
  if (isSigned<T>()) {
    if (b < <T>0 ? rest < a : rest > a) abort("integer overflow");
  } else if (b > a) abort("integer overflow");
  return rest;
}

/** a * b, or a trap. */
export function multiply<T extends number>(a: T, b: T): T {
  if (a == <T>0 || b == <T>0) return <T>0;
  const product = <T>(a * b);
  if (isSigned<T>()) {
    // The least number has no opposite: dividing it by -1 would trap by itself, and -1 times it wraps to itself.
    if ((a == <T>-1 && b == product && b < <T>0) || (b == <T>-1 && a == product && a < <T>0)) abort("integer overflow");
    if (b != <T>-1 && product / b != a) abort("integer overflow");
  } else if (product / b != a) abort("integer overflow");
  return product;
}
