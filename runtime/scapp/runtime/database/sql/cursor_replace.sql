-- A channel's cursor becomes what {source} says. An update: whoever waits to move the cursor sees the new one.
UPDATE scapp.cursors AS c
SET sequence = r.sequence, turn = r.turn, state_root = r.state_root, log_root = r.log_root, amounts = r.amounts,
    time_ms = r.time_ms, is_final = r.is_final, position = r.position,
    batch_position = r.batch_position, event_root = r.event_root
FROM {source} AS r
WHERE c.channel_id = r.channel_id AND c.channel_id = %s
