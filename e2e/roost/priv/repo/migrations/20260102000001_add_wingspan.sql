ALTER TABLE birds ADD COLUMN wingspan_cm integer;
