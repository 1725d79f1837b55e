"""The kernel as a WebAssembly module: source in runtime/kernel, how it is wired here.

Reading order: `modules` (what is instantiated), `assembly` (one Store with all of it), `layout` (bytes that cross),
`kernel` (the port), `explain` (why an import refused).
"""
