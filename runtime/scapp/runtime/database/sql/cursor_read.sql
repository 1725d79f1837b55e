-- $1 channel id. Amounts travel as text: they use all 256 bits.
SELECT sequence, turn, state_root, log_root, amounts::text[], time_ms, is_final, position, batch_position, event_root
FROM scapp.cursors WHERE channel_id = $1
