-- First part of a batch's statement (write.py adds the rest): move the cursor only from where we believe it is.
-- $1 channel id; $2 sequence and $3 log root expected; $4 … $11 the new cursor;
-- $12 turn expected, because a batch without entries changes neither sequence nor log root; $13 and $14 are new, too.
WITH moved AS (
  UPDATE scapp.cursors
  SET sequence = $4::int8, turn = $5::int8, state_root = $6::bytea, log_root = $7::bytea,
      amounts = $8::text[]::numeric[], time_ms = $9::int8, is_final = $10::bool, position = $11::int8,
      batch_position = $13::int8, event_root = $14::bytea
  WHERE channel_id = $1::bytea AND sequence = $2::int8 AND log_root = $3::bytea AND turn = $12::int8
  RETURNING channel_id, sequence
)
