-- Rival of K9: one call of the trigger per statement, over a transition table. What an expert would write: balances are
-- summed first, so that each account is written once, in the order of its keys.
CREATE OR REPLACE FUNCTION rival.apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO rival.account AS a
  SELECT id, sum(change)::bigint FROM (
    SELECT sender, -amount FROM fresh UNION ALL SELECT recipient, amount FROM fresh
  ) AS changes(id, change)
  GROUP BY id ORDER BY id
  ON CONFLICT (id) DO UPDATE SET balance = a.balance + excluded.balance;
  INSERT INTO rival.history SELECT sequence, sender, recipient, amount FROM fresh;
  RETURN NULL;
END $$;
DROP TRIGGER apply ON rival.message;
CREATE TRIGGER apply AFTER INSERT ON rival.message REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION rival.apply();
