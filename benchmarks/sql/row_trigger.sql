-- Rival of K2, K3 and K4: the same transfers in PL/pgSQL, one call of the trigger per message.
-- Written to win: no channel in the keys, integers instead of anything wider, the message kept as its three numbers, no
-- checks, room in the pages for HOT updates, the two balances in one statement in the order of their keys.
DROP SCHEMA IF EXISTS rival CASCADE;
CREATE SCHEMA rival;
CREATE TABLE rival.message (sequence bigint PRIMARY KEY, sender int NOT NULL, recipient int NOT NULL, amount bigint NOT NULL);
CREATE TABLE rival.account (id int PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE rival.history (sequence bigint PRIMARY KEY, sender int NOT NULL, recipient int NOT NULL, amount bigint NOT NULL);
CREATE FUNCTION rival.apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO rival.account AS a VALUES (new.sender, -new.amount), (new.recipient, new.amount)
  ON CONFLICT (id) DO UPDATE SET balance = a.balance + excluded.balance;
  INSERT INTO rival.history VALUES (new.sequence, new.sender, new.recipient, new.amount);
  RETURN NULL;
END $$;
CREATE TRIGGER apply AFTER INSERT ON rival.message FOR EACH ROW EXECUTE FUNCTION rival.apply();
