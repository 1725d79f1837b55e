-- $1 channel id, $2 how many are kept, $3 age in seconds up to which they are kept
DELETE FROM scapp.rejections
WHERE channel_id = $1::bytea
  AND (at < now() - make_interval(secs => $3::float8)
       OR id <= (SELECT id FROM scapp.rejections WHERE channel_id = $1::bytea ORDER BY id DESC OFFSET $2::int8 LIMIT 1))
