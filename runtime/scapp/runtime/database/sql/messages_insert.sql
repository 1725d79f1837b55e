INSERT INTO scapp.messages (channel_id, sequence, turn, kind, author, counter, time_ms, payload)
SELECT $1::bytea, u.sequence, u.turn, u.kind, u.author, u.counter::numeric, u.time_ms, u.payload
FROM unnest({0}::int8[], {1}::int8[], {2}::int2[], {3}::int2[], {4}::text[], {5}::int8[], {6}::bytea[])
  AS u(sequence, turn, kind, author, counter, time_ms, payload)
WHERE EXISTS (SELECT FROM moved)
