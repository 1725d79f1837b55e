SELECT channel_id, turn FROM scapp.cursors
