-- As `statement_trigger.sql`, in the tables of `same_tables.sql`.
CREATE OR REPLACE FUNCTION rival.apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO rival.account AS a
  SELECT channel, id, sum(change)::bigint FROM (
    SELECT channel, sender, -amount FROM fresh UNION ALL SELECT channel, recipient, amount FROM fresh
  ) AS changes(channel, id, change)
  GROUP BY channel, id ORDER BY channel, id
  ON CONFLICT (channel, id) DO UPDATE SET balance = a.balance + excluded.balance;
  INSERT INTO rival.history SELECT channel, sequence, sender, recipient, amount FROM fresh;
  RETURN NULL;
END $$;
DROP TRIGGER apply ON rival.message;
CREATE TRIGGER apply AFTER INSERT ON rival.message REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION rival.apply();
