// Runs PGlite on a directory behind one Unix socket; scapp starts it through pglite_host.py.
//
// It listens only once the database is ready, so that whoever can connect can also query, and it ends when its
// standard input does: that pipe is held by the scapp process, so a killed parent leaves nothing running.
const { PGlite } = require('@electric-sql/pglite');
const { PGLiteSocketServer } = require('@electric-sql/pglite-socket');
const { unlinkSync } = require('fs');

const [DATA_DIR, SOCKET_PATH] = [process.env.SCAPP_PGLITE_DATA, process.env.SCAPP_PGLITE_SOCKET];

async function main() {
  const db = new PGlite(DATA_DIR);
  await db.waitReady;
  try {
    unlinkSync(SOCKET_PATH);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  const server = new PGLiteSocketServer({ db, path: SOCKET_PATH, maxConnections: 8 });
  await server.start();

  let ending = false;
  const end = async () => {
    if (ending) return;
    ending = true;
    try {
      await server.stop();
      await db.close();
    } finally {
      process.exit(0);
    }
  };
  process.on('SIGINT', end);
  process.on('SIGTERM', end);
  process.stdin.on('end', end);
  process.stdin.on('error', end);
  process.stdin.resume();
  console.log(`PGlite on ${DATA_DIR} listens on ${SOCKET_PATH}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
