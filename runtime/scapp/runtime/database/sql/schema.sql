-- The current `scapp` schema, as a fresh database gets it. sql/migrations/ leads older ones to the same; a test
-- compares the two. Everything but `node` and `rejections` is a function of the supported log.

CREATE SCHEMA scapp;

CREATE DOMAIN scapp.bytes32 AS bytea CHECK (octet_length(VALUE) = 32);
CREATE DOMAIN scapp.address AS bytea CHECK (octet_length(VALUE) = 20);

CREATE TABLE scapp.schema_version (
  version    integer     PRIMARY KEY,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- The one node whose log this database follows.
CREATE TABLE scapp.node (
  singleton boolean       PRIMARY KEY DEFAULT true CHECK (singleton),
  address   scapp.address NOT NULL
);

CREATE TABLE scapp.deployments (
  deployment  scapp.bytes32 PRIMARY KEY,
  schema_name text COLLATE "C" NOT NULL UNIQUE,
  app         text COLLATE "C" NOT NULL,
  version     text COLLATE "C" NOT NULL,
  abi         text COLLATE "C" NOT NULL,
  reducer     scapp.bytes32 NOT NULL,
  manifest    json          NOT NULL,
  indexed     boolean       NOT NULL DEFAULT true -- whether its secondary indexes are made: after its first rows
);

-- Slot i pays destinations[i] in assets[i]; the amounts stand in cursors.
CREATE TABLE scapp.channels (
  channel_id   scapp.bytes32 PRIMARY KEY,
  deployment   scapp.bytes32 NOT NULL REFERENCES scapp.deployments,
  participants bytea[]       NOT NULL,
  assets       bytea[]       NOT NULL,
  destinations bytea[]       NOT NULL
);

-- How far each channel is derived; it moves in the same statement as the rows. `position` and `batch_position` are
-- places in this node's own log, after the last batch and before it, and mean nothing elsewhere. `event_root` is the end
-- of the event chain, which is under the state root.
CREATE TABLE scapp.cursors (
  channel_id scapp.bytes32 PRIMARY KEY REFERENCES scapp.channels,
  sequence   bigint        NOT NULL,
  turn       bigint        NOT NULL,
  state_root scapp.bytes32 NOT NULL,
  log_root   scapp.bytes32 NOT NULL,
  amounts    numeric[]     NOT NULL,
  time_ms    bigint        NOT NULL,
  is_final   boolean       NOT NULL,
  position   bigint        NOT NULL,
  batch_position bigint    NOT NULL DEFAULT 0,
  event_root scapp.bytes32
);

-- The entries; kind 0 open, 1 message, 2 tick, 3 close. `counter` is the author's own and may use all 64 bits.
CREATE TABLE scapp.messages (
  channel_id scapp.bytes32 NOT NULL,
  sequence   bigint        NOT NULL,
  turn       bigint        NOT NULL,
  kind       smallint      NOT NULL,
  author     smallint      NOT NULL,
  counter    numeric       NOT NULL,
  time_ms    bigint        NOT NULL,
  payload    bytea         NOT NULL,
  PRIMARY KEY (channel_id, sequence)
);

CREATE TABLE scapp.events (
  channel_id scapp.bytes32 NOT NULL,
  sequence   bigint        NOT NULL,
  index      integer       NOT NULL,
  topic      text COLLATE "C" NOT NULL,
  data       bytea         NOT NULL,
  PRIMARY KEY (channel_id, sequence, index)
);

-- What this node's admission refused: local diagnostics, bounded by age and number, not derived from the log.
CREATE TABLE scapp.rejections (
  id         bigint        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at         timestamptz   NOT NULL DEFAULT now(),
  channel_id scapp.bytes32 NOT NULL,
  author     smallint      NOT NULL,
  counter    numeric       NOT NULL,
  code       text COLLATE "C" NOT NULL,
  reason     text COLLATE "C" NOT NULL
);
CREATE INDEX rejections_by_channel ON scapp.rejections (channel_id, id);
