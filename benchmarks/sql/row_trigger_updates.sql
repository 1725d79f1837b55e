-- Another row trigger, for accounts that are there: two plain updates cost less than one insert that always conflicts.
-- The faster of the two is the rival.
CREATE OR REPLACE FUNCTION rival.apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE rival.account SET balance = balance - new.amount WHERE id = new.sender;
  IF NOT FOUND THEN INSERT INTO rival.account VALUES (new.sender, -new.amount); END IF;
  UPDATE rival.account SET balance = balance + new.amount WHERE id = new.recipient;
  IF NOT FOUND THEN INSERT INTO rival.account VALUES (new.recipient, new.amount); END IF;
  INSERT INTO rival.history VALUES (new.sequence, new.sender, new.recipient, new.amount);
  RETURN NULL;
END $$;
