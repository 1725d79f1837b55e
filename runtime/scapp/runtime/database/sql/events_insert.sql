INSERT INTO scapp.events (channel_id, sequence, index, topic, data)
SELECT $1::bytea, u.sequence, u.index, u.topic, u.data
FROM unnest({0}::int8[], {1}::int4[], {2}::text[], {3}::bytea[]) AS u(sequence, index, topic, data)
WHERE EXISTS (SELECT FROM moved)
