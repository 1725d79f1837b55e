-- $1 channel id, $2 deployment, $3 participants, $4 assets, $5 destinations, $6 prefund amounts as text[].
-- The cursor starts before entry 0. Registering again changes nothing.
WITH fresh AS (
  INSERT INTO scapp.channels (channel_id, deployment, participants, assets, destinations)
  VALUES ($1::bytea, $2::bytea, $3::bytea[], $4::bytea[], $5::bytea[])
  ON CONFLICT (channel_id) DO NOTHING
)
INSERT INTO scapp.cursors (channel_id, sequence, turn, state_root, log_root, amounts, time_ms, is_final, position)
VALUES ($1::bytea, 0, -1, decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'), $6::text[]::numeric[],
        0, false, 0)
ON CONFLICT (channel_id) DO NOTHING
