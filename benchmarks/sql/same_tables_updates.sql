-- As `row_trigger_updates.sql`, in the tables of `same_tables.sql`.
CREATE OR REPLACE FUNCTION rival.apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE rival.account SET balance = balance - new.amount WHERE channel = new.channel AND id = new.sender;
  IF NOT FOUND THEN INSERT INTO rival.account VALUES (new.channel, new.sender, -new.amount); END IF;
  UPDATE rival.account SET balance = balance + new.amount WHERE channel = new.channel AND id = new.recipient;
  IF NOT FOUND THEN INSERT INTO rival.account VALUES (new.channel, new.recipient, new.amount); END IF;
  INSERT INTO rival.history VALUES (new.channel, new.sequence, new.sender, new.recipient, new.amount);
  RETURN NULL;
END $$;
