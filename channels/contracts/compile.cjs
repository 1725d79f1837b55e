// Compiles standard JSON: node compile.cjs PATH_OF_SOLC <input >output
//
// The package's own command loses data on pipes: it reads and writes them in part. Here both are whole.
const fs = require("fs");
const solc = require(process.argv[2]);

const input = fs.readFileSync(0, "utf8");
const output = Buffer.from(solc.compile(input), "utf8");
for (let written = 0; written < output.length; ) {
  try {
    written += fs.writeSync(1, output, written);
  } catch (error) {
    if (error.code !== "EAGAIN") throw error;
  }
}
