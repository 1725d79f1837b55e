-- Rival of K3t and K9t: the transfers of `row_trigger.sql` in tables with the keys and columns of ours: rows of many
-- channels, and the whole message, with its three numbers in place of the payload, so that nobody has to take it apart.
-- Written to win where that leaves room: no domain to check, room in the pages for HOT updates.
DROP SCHEMA IF EXISTS rival CASCADE;
CREATE SCHEMA rival;
CREATE TABLE rival.message (
  channel bytea NOT NULL, sequence bigint NOT NULL, turn bigint NOT NULL, kind smallint NOT NULL,
  author smallint NOT NULL, counter numeric NOT NULL, time_ms bigint NOT NULL,
  sender int NOT NULL, recipient int NOT NULL, amount bigint NOT NULL, PRIMARY KEY (channel, sequence)
);
CREATE TABLE rival.account (
  channel bytea NOT NULL, id int NOT NULL, balance bigint NOT NULL, PRIMARY KEY (channel, id)
) WITH (fillfactor = 50);
CREATE TABLE rival.history (
  channel bytea NOT NULL, sequence bigint NOT NULL, sender int NOT NULL, recipient int NOT NULL, amount bigint NOT NULL,
  PRIMARY KEY (channel, sequence)
);
CREATE FUNCTION rival.apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO rival.account AS a VALUES (new.channel, new.sender, -new.amount), (new.channel, new.recipient, new.amount)
  ON CONFLICT (channel, id) DO UPDATE SET balance = a.balance + excluded.balance;
  INSERT INTO rival.history VALUES (new.channel, new.sequence, new.sender, new.recipient, new.amount);
  RETURN NULL;
END $$;
CREATE TRIGGER apply AFTER INSERT ON rival.message FOR EACH ROW EXECUTE FUNCTION rival.apply();
