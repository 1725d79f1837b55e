-- Version 2: what a kernel needs to start from the tables instead of the whole log.

ALTER TABLE scapp.cursors
  ADD COLUMN batch_position bigint NOT NULL DEFAULT 0,
  ADD COLUMN event_root scapp.bytes32;

-- Whether the app's secondary indexes are made: that comes after its first rows.
ALTER TABLE scapp.deployments ADD COLUMN indexed boolean NOT NULL DEFAULT true;
