-- One row, and nobody else moves the cursor until the transaction ends, if it stands where we believe it does:
-- $1 channel id, $2 sequence, $3 log root, $4 turn.
SELECT 1 FROM scapp.cursors
WHERE channel_id = $1::bytea AND sequence = $2::int8 AND log_root = $3::bytea AND turn = $4::int8
FOR NO KEY UPDATE
