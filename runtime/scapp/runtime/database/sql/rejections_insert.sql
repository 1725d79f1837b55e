-- $1 channel id, $2 author, $3 counter as text, $4 code, $5 reason
INSERT INTO scapp.rejections (channel_id, author, counter, code, reason)
VALUES ($1::bytea, $2::int2, $3::text::numeric, $4::text, $5::text)
